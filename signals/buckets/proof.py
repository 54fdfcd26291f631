"""Folds counted again from the ledger: to prove that they are equal, or to make them so."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction

from signals.buckets import fold_sql
from signals.buckets.folds import FOLDS, HOUR_S, MINUTE_S, Fold
from signals.buckets.models import StoredDay
from signals.buckets.services import folds_lock

HOUR: Final = timedelta(seconds=HOUR_S)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first key at which a table does not hold what it is made of."""

    table: str
    key: dict[str, Any]
    measures: list[str]

    def __str__(self) -> str:
        key = ", ".join(
            f"{name} {value:%Y-%m-%d %H:%M}" if name == "minute" else f"{name} {value}"
            for name, value in self.key.items()
        )
        return f"{self.table} at {key}: {'; '.join(self.measures)}"


@dataclass(frozen=True, slots=True)
class Proof:
    """How many hours were looked at, and the first difference found; None where they are equal."""

    hours: int
    difference: Difference | None


def folds_verify(
    *, since: datetime, until: datetime, told: Callable[[int], None] = lambda _: None
) -> Proof:
    """Compare every fold of the hours in [since, until) with its ledger, key by key.

    Each look is one statement, so that what is folded meanwhile disturbs none. Buckets that wait
    to be made anew are left out, as every reader does; whose ledger was pruned, too.
    """
    hours = hours_held(since=since, until=until)
    for number, hour in enumerate(hours):
        kept = hour_kept(hour)
        for fold in FOLDS:
            for length_s, table in fold.tables.items():
                if length_s < HOUR_S and not kept.minutes:
                    continue
                if (found := _differs(fold, length_s, table, kept)) is not None:
                    return Proof(number + 1, found)
        told(number + 1)
    return Proof(len(hours), None)


def folds_rebuild(
    *, since: datetime, until: datetime, told: Callable[[int], None] = lambda _: None
) -> int:
    """Make every fold of the hours in [since, until) anew from its ledger; return how many.

    An hour at a time with the folders' lock: folding waits for that long, accepting and draining
    do not. What is drained and not yet folded is folded afterwards, as ever.
    """
    hours = hours_held(since=since, until=until)
    for number, hour in enumerate(hours):
        hour_rebuild(hour)
        told(number + 1)
    return len(hours)


@transaction.atomic
def hour_rebuild(hour: datetime) -> None:
    """Make an hour's folds anew from the ledger."""
    folds_lock(wait=True)
    kept = hour_kept(hour)
    with connection.cursor() as cursor:
        for fold in FOLDS:
            for length_s, table in fold.tables.items():
                if length_s < HOUR_S and not kept.minutes:
                    continue
                cursor.execute(
                    f"delete from {table} where minute >= %(since)s and minute < %(until)s"  # noqa: S608
                    " and path_id <> all(%(without)s::int[])",
                    kept.given,
                )
                cursor.execute(fold_sql.recounted(fold, length_s), kept.given)
        cursor.execute(
            "delete from stale_bucket where minute >= %(since)s and minute < %(until)s"
            " and path_id <> all(%(without)s::int[])",
            kept.given,
        )


@dataclass(frozen=True, slots=True)
class HourKept:
    """An hour as far as it can be counted again; `given` are the statements' parameters."""

    minutes: bool
    given: dict[str, Any]


def hour_kept(hour: datetime) -> HourKept:
    day = StoredDay.objects.filter(day=hour.astimezone(UTC).date()).first()
    without = [] if day is None else day.ledger_path_ids
    return HourKept(
        minutes=day is None or day.minutes_pruned_at is None,
        given={"since": hour, "until": hour + HOUR, "without": without},
    )


def hours_held(*, since: datetime, until: datetime) -> list[datetime]:
    """Return the hours that begin in [since, until) of which a ledger or a fold holds anything."""
    tables = sorted({table for fold in FOLDS for table in (fold.ledger, *fold.tables.values())})
    held = " union ".join(
        f"select {fold_sql.bin_of('minute', HOUR_S)} from {table}"  # noqa: S608
        " where minute >= %(since)s and minute < %(until)s"
        for table in tables
    )
    with connection.cursor() as cursor:
        cursor.execute(f"{held} order by 1", {"since": since, "until": until})
        return [hour for (hour,) in cursor.fetchall() if since <= hour]


def _differs(fold: Fold, length_s: int, table: str, kept: HourKept) -> Difference | None:
    where = (
        "l.minute >= %(since)s and l.minute < %(until)s and l.path_id <> all(%(without)s::int[])"
    )
    expected = fold_sql.ledger_parts(fold, length_s)
    if length_s > MINUTE_S:
        fresh = (
            "not exists (select from stale_bucket as s where s.path_id = l.path_id"
            f" and s.length_s = {length_s} and s.minute = {fold_sql.bin_of('l.minute', length_s)})"
        )
        where = f"{where} and {fresh}"
        expected = f"{expected[:-1]} and {fresh})"
    actual = fold_sql.table_parts(fold, table, where=where)
    return first_difference(fold, table, fold_sql.difference(fold, expected, actual), kept.given)


def first_difference(
    fold: Fold, table: str, query: str, given: dict[str, Any]
) -> Difference | None:
    """Return what a query of `fold_sql.difference` finds."""
    with connection.cursor() as cursor:
        cursor.execute(query, given)
        row = cursor.fetchone()
    if row is None:
        return None
    return Difference(table, dict(zip(fold.key, row[:-1], strict=True)), row[-1])
