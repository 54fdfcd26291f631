"""Ledgers counted again from the runs and observations that are kept: docs/storage.md."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection, transaction
from django.utils import timezone

from rollout_console.core.errors import DomainError
from signals.buckets import fold_sql
from signals.buckets.folds import FOLDS, HOUR_S
from signals.buckets.models import StoredDay
from signals.buckets.proof import (
    Difference,
    HourKept,
    Proof,
    first_difference,
    hour_kept,
    hour_rebuild,
    hours_held,
)
from signals.buckets.services import folds_lock
from signals.ingest import drain_sql, label_sql
from signals.ingest.ids import uuid7
from signals.ingest.models import BatchKind, BatchState, IngestBatch
from signals.ingest.retention import run_days

# The drain's own statements count, into temporary tables that stand before the real ones.
_LEDGERS: Final = tuple(fold.ledger for fold in FOLDS)
_SHADOWED: Final = (*_LEDGERS, "requested_review", "task_fact")
# What became of actions stands beside, and comes of neither runs nor labels: kept as it is.
_ACTIONS: Final = "(actions_n > 0 or actions_undone > 0)"


class ArrivalUnknown(DomainError):
    code = "arrival-unknown"
    title = "It is not known when these runs arrived"
    status = 409


def ledger_verify(
    *, since: datetime, until: datetime, told: Callable[[int], None] = lambda _: None
) -> Proof:
    """Compare the ledgers of the hours in [since, until) with what runs and labels add up to.

    Per key and event minute, of days whose runs are kept; in one snapshot, which what comes in
    meanwhile does not disturb.
    """
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read")
        hours = _hours(since=since, until=until)
        _shadow()
        for number, hour in enumerate(hours):
            found = _hour_recount(hour_kept(hour))
            if found is not None:
                return Proof(number + 1, found)
            told(number + 1)
        return Proof(len(hours), None)


def ledger_rebuild(
    *, since: datetime, until: datetime, told: Callable[[int], None] = lambda _: None
) -> list[datetime]:
    """Put right the ledgers of the hours in [since, until) that differ; return those hours.

    Their folds are made anew with them. An hour at a time, for which drains wait.

    Raises:
        ArrivalUnknown: a batch of an hour that differs is not kept any more.
    """
    changed = []
    for number, hour in enumerate(_hours(since=since, until=until)):
        if _hour_put_right(hour):
            changed.append(hour)
        told(number + 1)
    return changed


@transaction.atomic
def _hour_put_right(hour: datetime) -> bool:
    folds_lock(wait=True)
    with connection.cursor() as cursor:
        cursor.execute(f"lock table {', '.join(_LEDGERS)} in share row exclusive mode")
        _shadow()
        kept = hour_kept(hour)
        differs = _hour_recount(kept) is not None
        if differs:
            _arrivals_check(kept)
            # The labels' rows get a drain of their own: which one counted each is not kept.
            drain = _labels_drain(now=timezone.now())
            for ledger in _LEDGERS:
                columns = _columns(ledger)
                cursor.execute(
                    f"delete from public.{ledger} where minute >= %(since)s"  # noqa: S608
                    " and minute < %(until)s and path_id <> all(%(without)s::int[])",
                    kept.given,
                )
                values = ", ".join("coalesce(drain, %s)" if c == "drain" else c for c in columns)
                cursor.execute(
                    f"insert into public.{ledger} ({', '.join(columns)})"  # noqa: S608
                    f" select {values} from pg_temp.{ledger} where path_id <> all(%s::int[])",
                    [drain, kept.given["without"]],
                )
        for table in _SHADOWED:
            cursor.execute(f"drop table pg_temp.{table}")
    if differs:
        hour_rebuild(hour)
    return differs


def _hour_recount(kept: HourKept) -> Difference | None:
    """Count an hour again into the temporary ledgers; return where the real ones differ."""
    given: dict[str, Any] = {**kept.given, "drain": None}
    with connection.cursor() as cursor:
        cursor.execute(f"truncate {', '.join(f'pg_temp.{table}' for table in _SHADOWED)}")
        for statement in drain_sql.RECOUNT:
            cursor.execute(statement, given)
        cursor.execute(label_sql.MATCHING)
        cursor.execute(label_sql.MATCH_AGAIN, given)
        if cursor.rowcount:
            cursor.execute("analyze matching")
            cursor.execute(label_sql.ATTRIBUTED)
            cursor.execute(label_sql.ATTRIBUTE)
            cursor.execute(label_sql.RECOUNT, given)
        columns = ", ".join(_columns("arrival_ledger"))
        cursor.execute(
            f"insert into pg_temp.arrival_ledger ({columns}) select {columns}"  # noqa: S608
            " from public.arrival_ledger where minute >= %(since)s and minute < %(until)s"
            f" and path_id <> all(%(without)s::int[]) and {_ACTIONS}",
            kept.given,
        )
    where = "l.path_id <> all(%(without)s::int[])"
    for fold in FOLDS:
        counted = fold_sql.table_parts(fold, f"pg_temp.{fold.ledger}", where=where)
        held = fold_sql.table_parts(
            fold,
            f"public.{fold.ledger}",
            where=f"l.minute >= %(since)s and l.minute < %(until)s and {where}",
        )
        query = fold_sql.difference(fold, counted, held)
        if (found := first_difference(fold, fold.ledger, query, kept.given)) is not None:
            return found
    return None


def _shadow() -> None:
    with connection.cursor() as cursor:
        for table in _SHADOWED:
            cursor.execute(
                f"create temp table {table} (like public.{table} including defaults"
                " including identity including indexes) on commit drop"
            )
        for ledger in _LEDGERS:
            # Labels are counted without one.
            cursor.execute(f"alter table pg_temp.{ledger} alter column drain drop not null")


def _hours(*, since: datetime, until: datetime) -> list[datetime]:
    """Return the hours of days whose runs are kept in which there is a run or a ledger row."""
    gone = StoredDay.objects.exclude(runs_dropped_at=None).values_list("day", flat=True)
    days = set(run_days()) - set(gone)
    with connection.cursor() as cursor:
        cursor.execute(
            f"select distinct {fold_sql.bin_of('occurred_at', HOUR_S)} from run"  # noqa: S608
            " where occurred_at >= %s and occurred_at < %s",
            [since, until],
        )
        hours = {hour for (hour,) in cursor.fetchall() if hour >= since}
    hours |= set(hours_held(since=since, until=until))
    return sorted(hour for hour in hours if hour.astimezone(UTC).date() in days)


def _arrivals_check(kept: HourKept) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*) from run as r where occurred_at >= %(since)s"
            " and occurred_at < %(until)s and not exists (select from ingest_batch as b"
            " where b.seq = r.drain)",
            kept.given,
        )
        (unknown,) = cursor.fetchone()
    if unknown:
        raise ArrivalUnknown(
            f"{unknown:,} runs of the hour {kept.given['since']:%Y-%m-%d %H:%M} came in batches "
            "that are not kept any more, so that their ledger cannot be made anew."
        )


def _labels_drain(*, now: datetime) -> int:
    return IngestBatch.objects.create(
        id=uuid7(),
        kind=BatchKind.LABELS,
        received_at=now,
        token_name="",
        n_accepted=0,
        n_rejected=0,
        body_bytes=0,
        state=BatchState.DRAINED,
        drained_at=now,
        folded_at=now,
        # Of nothing accepted: the block that takes it in lets evidence be made anew.
        evidence_due=True,
        duplicates=0,
    ).seq


def _columns(table: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
            " and not attisdropped and attname <> 'id' order by attnum",
            [f"public.{table}"],
        )
        return [name for (name,) in cursor.fetchall()]
