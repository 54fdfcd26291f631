"""Drain accepted batches into rows and ledger entries, each exactly once."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from rollout_console.catalog.models import Release, Segment, WorkflowPath
from signals.buckets.retention import days_fill
from signals.ingest import drain_sql
from signals.ingest.ahead import BatchRuns, BatchText, ReadAhead, batch_runs, short_turns, unpacked
from signals.ingest.labels import observations_keep
from signals.ingest.models import BatchKind, BatchState, IngestBatch
from signals.ingest.observations import Observation
from signals.ingest.rows import Names, PathRoles
from signals.ingest.segments import SegmentRules
from signals.ingest.sources import Brought, Named, sources_note

log = structlog.get_logger()

# Runs drained in one transaction, unless one batch alone holds more.
GROUP_RUNS: Final = 10_000
ATTEMPTS: Final = 5

_observations_decode: Final = msgspec.json.Decoder(list[Observation]).decode
_json_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Picked:
    seq: int
    kind: str
    body: bytes
    n_accepted: int
    token_name: str
    received_at: datetime


def batches_drain(*, now: datetime, for_s: float | None = None) -> int:
    """Turn waiting batches into runs and ledger entries; return how many were drained.

    Observations are kept until `observations_attribute` counts them with their runs.

    Safe to run many at once: each claims batches with a row lock, and a run that two batches
    carry is kept by whichever commits first. A batch that fails is tried again later, and set
    aside with its error after some attempts, so that the queue moves on.

    Args:
        for_s: begin with no further batch after so many seconds; None goes on until none waits.
    """
    until = None if for_s is None else time.monotonic() + for_s
    drained = 0
    ahead = ReadAhead()
    with short_turns():
        while (some := _next_drain(ahead, backfill=False, now=now)) is not None:
            drained += some
            if until is not None and time.monotonic() >= until:
                break
    # Of history one group a round: neither reports nor guards wait behind it.
    return drained + backfill_drain(now=now)


def backfill_drain(*, now: datetime) -> int:
    """Drain the next group of backfilled batches; return how many there were."""
    return _next_drain(None, backfill=True, now=now) or 0


def _next_drain(ahead: ReadAhead | None, *, backfill: bool, now: datetime) -> int | None:
    """Drain the oldest free batches together; None where none waits.

    Meanwhile the next ones are read ahead, where somebody will come for them. 0 stands for a
    batch that failed and waits for another attempt, or was set aside.
    """
    limit = GROUP_RUNS
    while True:
        picked: list[_Picked] = []
        try:
            with transaction.atomic():
                picked = _pick(limit, backfill=backfill, now=now)
                if not picked:
                    return None
                _group_drain(picked, ahead, backfill=backfill, now=now)
        except (OperationalError, InterfaceError):
            # Postgres, not the batch: whoever called tries again.
            raise
        except Exception as error:  # noqa: BLE001  # logged where it is set aside
            # The outer edge of a batch's work: whatever is in it must not stop the others.
            if len(picked) > 1:
                limit = 0
                continue
            _batch_set_aside(picked[0].seq if picked else None, error=error, now=now)
            return 0
        return len(picked)


def _pick(limit: int, *, backfill: bool, now: datetime) -> list[_Picked]:
    """Lock the oldest free batch, and small ones of its kind after it up to `limit` items."""
    picked = _lock_batches(1, kind=None, after=0, at_most=None, backfill=backfill, now=now)
    if not picked:
        return []
    first = picked[0]
    more = (limit - first.n_accepted) // max(first.n_accepted, 20)
    if more > 0:
        at_most = max(first.n_accepted, 20)
        picked += _lock_batches(
            more, kind=first.kind, after=first.seq, at_most=at_most, backfill=backfill, now=now
        )
    return picked


def _lock_batches(
    count: int,
    *,
    kind: str | None,
    after: int,
    at_most: int | None,
    backfill: bool,
    now: datetime,
) -> list[_Picked]:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            select seq, kind, body, n_accepted, token_name, received_at from ingest_batch
            where state = 'pending' and backfill = %s and (retry_at is null or retry_at <= %s)
                and (%s::text is null or kind = %s) and seq > %s
                and (%s::int is null or n_accepted <= %s)
            order by seq limit %s for update skip locked
            """,
            [backfill, now, kind, kind, after, at_most, at_most, count],
        )
        return [
            _Picked(seq, kind, bytes(body), *rest) for seq, kind, body, *rest in cursor.fetchall()
        ]


def _group_drain(
    picked: Sequence[_Picked], ahead: ReadAhead | None, *, backfill: bool, now: datetime
) -> None:
    named = Named()
    if picked[0].kind == BatchKind.RUNS:
        texts = _texts(picked, ahead, now=now)
        for seq, text in texts.items():
            named.add(seq, text.unknown_segments, clients=text.clients, places=text.places)
        brought = _runs_keep(list(texts.values()), backfill=backfill, now=now)
    else:
        brought = observations_keep(
            [(batch.seq, _observations_decode(unpacked(batch.body))) for batch in picked]
        )
    fresh: dict[int, int] = {}
    for each in brought:
        fresh[each.drain] = fresh.get(each.drain, 0) + each.fresh
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            update ingest_batch set state = 'drained', drained_at = %s, duplicates = %s,
                unknown_segments = %s, body = null, body_bytes = 0, error = ''
            where seq = %s
            """,
            [
                (
                    now,
                    batch.n_accepted - fresh.get(batch.seq, 0),
                    _json_encode(named.segments_of(batch.seq)).decode(),
                    batch.seq,
                )
                for batch in picked
            ],
        )
    # The last statements: what they lock is every drain's, and is held for the commit alone.
    sources_note(
        {batch.seq: (batch.token_name, batch.received_at) for batch in picked},
        brought,
        kind=picked[0].kind,
        backfill=backfill,
        named=named,
    )


def _texts(
    picked: Sequence[_Picked], ahead: ReadAhead | None, *, now: datetime
) -> dict[int, BatchText]:
    """Return the batches' text by seq, and begin with the batches that come after them."""
    ready = {} if ahead is None else ahead.take([batch.seq for batch in picked])
    fresh = [batch_runs(b.seq, b.body) for b in picked if b.seq not in ready]
    named: list[BatchText | BatchRuns] = [*ready.values(), *fresh]
    names = _names_read(
        frozenset().union(*(each.slugs for each in named)),
        frozenset().union(*(each.versions for each in named)),
        now=now,
    )
    ready |= {batch.seq: batch.text(names) for batch in fresh}
    if ahead is not None and ahead.worth:
        ahead.start(_peek(picked, now=now), names)
    return {batch.seq: ready[batch.seq] for batch in picked}


def _peek(picked: Sequence[_Picked], *, now: datetime) -> list[tuple[int, bytes]]:
    """Return some batches after the picked ones, of their size; nobody is kept from them."""
    largest = max(batch.n_accepted for batch in picked)
    with connection.cursor() as cursor:
        cursor.execute(
            "select seq, body from ingest_batch where state = 'pending' and not backfill"
            " and (retry_at is null or retry_at <= %s) and kind = 'runs' and seq > %s"
            " and n_accepted <= %s order by seq limit %s",
            [now, picked[-1].seq, largest, max(1, GROUP_RUNS // max(largest, 20))],
        )
        return [(seq, bytes(body)) for seq, body in cursor.fetchall()]


def _runs_keep(texts: Sequence[BatchText], *, backfill: bool, now: datetime) -> list[Brought]:
    """Keep the batches' new runs with their ledger entries; return what each brought."""
    days = sorted(frozenset().union(*(text.days for text in texts)))
    if backfill:
        days_fill(days, now=now)
    with connection.cursor() as cursor:
        cursor.execute(
            "select run_day_ensure(day) from unnest(%s::date[]) as day order by day", [days]
        )
        cursor.execute(drain_sql.STAGING)
        with cursor.copy(drain_sql.COPY) as copy:
            for text in texts:
                copy.write(text.text)
        cursor.execute(drain_sql.KEEP_BACKFILL if backfill else drain_sql.KEEP)
        brought = [Brought(*row) for row in cursor.fetchall()]
        cursor.execute(drain_sql.AWAITED)
    return brought


def _names_read(
    slugs: Collection[str], versions: Collection[tuple[str, str]], *, now: datetime
) -> Names:
    """Look up workflows and releases; a release nobody registered is added as such."""
    paths = {
        (workflow, path): PathRoles(workflow_id, path_id, stable_id or 0, candidate_id or 0)
        for workflow, path, workflow_id, path_id, stable_id, candidate_id in (
            WorkflowPath.objects.filter(workflow__slug__in=slugs).values_list(
                "workflow__slug", "slug", "workflow_id", "pk", "stable_id", "candidate_id"
            )
        )
    }
    workflow_ids = {workflow: roles.workflow_id for (workflow, _), roles in paths.items()}
    segments: dict[tuple[int, str], int] = {}
    rules: dict[int, list[tuple[int, Any]]] = {pk: [] for pk in workflow_ids.values()}
    for pk, workflow_id, slug, rule in (
        Segment.objects.filter(workflow_id__in=rules)
        .order_by("pk")
        .values_list("pk", "workflow_id", "slug", "rule")
    ):
        segments[workflow_id, slug] = pk
        rules[workflow_id].append((pk, rule))
    wanted = sorted((workflow_ids[workflow], version) for workflow, version in versions)
    return Names(
        paths=paths,
        releases=releases_ensure(wanted, now=now),
        segments=segments,
        rules={pk: SegmentRules(found) for pk, found in rules.items()},
    )


def releases_ensure(
    wanted: Sequence[tuple[int, str]], *, now: datetime
) -> dict[tuple[int, str], int]:
    """Return releases by (workflow id, version); one nobody registered is added as such."""
    found = _releases_read(wanted)
    missing = [key for key in wanted if key not in found]
    if missing:
        # Sorted, like everything that two drains may both insert.
        Release.objects.bulk_create(
            [
                Release(workflow_id=pk, version=version, registered=False, created_at=now)
                for pk, version in missing
            ],
            ignore_conflicts=True,
        )
        found = _releases_read(wanted)
    return found


def _releases_read(wanted: Sequence[tuple[int, str]]) -> dict[tuple[int, str], int]:
    rows = Release.objects.filter(
        workflow_id__in={workflow_id for workflow_id, _ in wanted},
        version__in={version for _, version in wanted},
    ).values_list("workflow_id", "version", "pk")
    return {(workflow_id, version): pk for workflow_id, version, pk in rows}


def _batch_set_aside(seq: int | None, *, error: Exception, now: datetime) -> None:
    """Note a failed attempt: try again later, or give up and keep the batch with its error."""
    if seq is None:
        raise error
    batch = IngestBatch.objects.only("attempts").get(pk=seq)
    attempts = batch.attempts + 1
    state = BatchState.FAILED if attempts >= ATTEMPTS else BatchState.PENDING
    IngestBatch.objects.filter(pk=seq, state=BatchState.PENDING).update(
        attempts=attempts,
        state=state,
        error=f"{type(error).__name__}: {error}".replace("\0", "")[:2000],
        retry_at=now + timedelta(seconds=2**attempts),
    )
    log.error("ingest.batch_failed", seq=seq, attempts=attempts, exc_info=error)
