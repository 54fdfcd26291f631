"""Accept batches of runs or observations durably; drain them into rows and ledger entries."""

import gzip
import time
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import UUID

import msgspec
import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from approvals.authority.principals import Principal
from rollout_console.catalog.models import Release, Segment, WorkflowPath
from rollout_console.core.errors import DomainError
from signals.buckets.retention import days_fill
from signals.ingest import drain_sql, framing
from signals.ingest.ids import uuid7
from signals.ingest.labels import observations_keep
from signals.ingest.models import BatchKind, BatchState, IngestBatch
from signals.ingest.nudging import nudger
from signals.ingest.observations import Observation, observation_read
from signals.ingest.places import Places, forget, places
from signals.ingest.retention import dropped_days
from signals.ingest.rows import Names, PathRoles, run_line
from signals.ingest.runs import (
    SLUG_WITHOUT_DOT,
    ItemError,
    ItemRefused,
    Run,
    run_read,
    time_bounds,
)
from signals.ingest.segments import SegmentRules
from signals.ingest.selectors import queue_state

log = structlog.get_logger()

# Runs drained in one transaction, unless one batch alone holds more.
GROUP_RUNS: Final = 10_000
ATTEMPTS: Final = 5
# Paths that reports alone may add to a workflow.
DISCOVERED_PATHS: Final = 200
# How long a process trusts its last look at the backlog.
BACKLOG_FRESH_S: Final = 0.5
GZIP_MAGIC: Final = b"\x1f\x8b"

_runs_decode: Final = msgspec.json.Decoder(list[Run]).decode
_observations_decode: Final = msgspec.json.Decoder(list[Observation]).decode
_json_encode: Final = msgspec.json.Encoder().encode


class BacklogFull(DomainError):
    code = "backlog-full"
    title = "Too much waits already"
    status = 429
    retry_after_s: ClassVar[int] = 5


@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """What the reporter is told once the batch is durable."""

    batch_id: UUID
    accepted: int
    rejected: int
    errors: list[ItemError] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return {
            "batch_id": str(self.batch_id),
            "accepted": self.accepted,
            "rejected": self.rejected,
            "errors": [error.document() for error in self.errors],
        }


def batch_store(
    *,
    body: bytes,
    content_type: str | None,
    content_encoding: str | None,
    principal: Principal,
    now: datetime,
    kind: BatchKind = BatchKind.RUNS,
    any_age: bool = False,
    backfill: bool = False,
) -> BatchReceipt:
    """Keep the good items of a request durably and say what is wrong with the others.

    Args:
        kind: what the items are.
        any_age: take what is older than seven days too, as `replay` does.
        backfill: they are history: charts read them, guards and traffic do not.

    Raises:
        Unreadable, TooLarge, MediaTypeUnsupported: the request as a whole is at fault.
        BacklogFull: more waits to be drained than the setting allows.
        django.db.OperationalError, InterfaceError: it could not be made durable.
    """
    _backlog_check(now)
    text = framing.unpacked(body, content_encoding)
    items = framing.items_split(text, content_type)
    bounds = time_bounds(now, any_age=any_age)
    if kind == BatchKind.RUNS:
        dropped = dropped_days() if any_age else {}
        good, errors = _items_check(items, principal=principal, bounds=bounds, dropped=dropped)
    else:
        good, errors = _observations_check(items, principal=principal, bounds=bounds)
    packed = None
    if good:
        whole = len(good) == len(items) and text.lstrip(b" \t\r\n").startswith(b"[")
        if whole and body.startswith(GZIP_MAGIC):
            packed = body
        else:
            packed = zlib.compress(text if whole else b"[" + b",".join(good) + b"]", 1)
    batch_id = uuid7()
    _batch_insert(
        batch_id=batch_id,
        kind=kind,
        principal=principal,
        n_accepted=len(good),
        errors=errors,
        packed=packed,
        backfill=backfill,
        now=now,
    )
    if good and not backfill:
        nudger.nudge()
    return BatchReceipt(batch_id, len(good), len(errors), errors)


@dataclass(slots=True)
class _Backlog:
    """This process's last look at the queue."""

    read_at: float = float("-inf")  # time.monotonic()
    full: bool = False


_backlog: Final = _Backlog()


def _backlog_check(now: datetime) -> None:
    if time.monotonic() - _backlog.read_at >= BACKLOG_FRESH_S:
        _backlog.full = queue_state(now=now).body_bytes >= settings.INGEST_BACKLOG_BYTES
        _backlog.read_at = time.monotonic()
    if _backlog.full:
        raise BacklogFull("More runs wait than we keep. Send this batch again in a moment.")


def caches_forget() -> None:
    """Drop what this process remembers of catalogue and queue."""
    forget()
    _backlog.read_at = float("-inf")


def _items_check(
    items: Sequence[bytes],
    *,
    principal: Principal,
    bounds: tuple[datetime, datetime],
    dropped: Mapping[date, Collection[int]],
) -> tuple[list[bytes], list[ItemError]]:
    """Return the items that fit, and what is wrong with the others.

    Args:
        dropped: by day, the workflows whose runs retention dropped.
    """
    began = time.monotonic()
    known = places()
    paths = known.paths
    limited = principal.workflow_ids
    earliest, latest = bounds
    good: list[bytes] = []
    errors: list[ItemError] = []
    for index, item in enumerate(items):
        try:
            run = run_read(item, earliest=earliest, latest=latest)
            place = paths.get((run.workflow, run.path))
            if place is None:
                known = _place_find(run, principal=principal, not_before=began)
                paths = known.paths
            elif limited is not None and place.workflow_id not in limited:
                raise _unknown_workflow(run.workflow)
            elif dropped and place.workflow_id in dropped.get(
                day := run.occurred_at.astimezone(UTC).date(), ()
            ):
                raise ItemRefused(
                    "/occurred_at",
                    f"Runs of {day} are not kept any more, so that it cannot be told whether this "
                    "one was counted.",
                )
        except ItemRefused as refused:
            errors.append(ItemError(index, refused.pointer, refused.detail))
        else:
            good.append(item)
    return good, errors


def _observations_check(
    items: Sequence[bytes], *, principal: Principal, bounds: tuple[datetime, datetime]
) -> tuple[list[bytes], list[ItemError]]:
    """Return the observations that fit, and what is wrong with the others."""
    began = time.monotonic()
    workflows = places().workflows
    earliest, latest = bounds
    good: list[bytes] = []
    errors: list[ItemError] = []
    for index, item in enumerate(items):
        try:
            slug = observation_read(item, earliest=earliest, latest=latest).workflow
            if slug not in workflows:
                workflows = places(not_before=began).workflows
            if slug not in workflows or not principal.reaches(workflows[slug]):
                raise _unknown_workflow(slug)
        except ItemRefused as refused:
            errors.append(ItemError(index, refused.pointer, refused.detail))
        else:
            good.append(item)
    return good, errors


def _place_find(run: Run, *, principal: Principal, not_before: float) -> Places:
    """Return places that hold the run's path, looking again or adding it where that is allowed.

    Raises:
        ItemRefused: there is no such workflow or path for this token.
    """
    known = places(not_before=not_before)
    workflow_id = known.workflows.get(run.workflow)
    if workflow_id is None or not principal.reaches(workflow_id):
        raise _unknown_workflow(run.workflow)
    if (run.workflow, run.path) in known.paths:
        return known
    if run.workflow not in known.discovering:
        raise ItemRefused("/path", f"Workflow {run.workflow!r} has no path {run.path[:100]!r}.")
    if not SLUG_WITHOUT_DOT.fullmatch(run.path):
        raise ItemRefused("/path", "`path` must be a slug: [a-z0-9][a-z0-9_-]{0,79}.")
    if sum(workflow == run.workflow for workflow, _ in known.paths) >= DISCOVERED_PATHS:
        raise ItemRefused("/path", f"Reports may add at most {DISCOVERED_PATHS} paths.")
    # Two reports may meet here; the unique constraint lets one of them add it.
    WorkflowPath.objects.bulk_create(
        [WorkflowPath(workflow_id=workflow_id, slug=run.path, name=run.path)],
        ignore_conflicts=True,
    )
    return places(not_before=time.monotonic())


def _unknown_workflow(slug: str) -> ItemRefused:
    # The same words for another token's workflow: its name is not for this one to learn.
    return ItemRefused("/workflow", f"There is no workflow {slug[:100]!r} for this token.")


def _batch_insert(
    *,
    batch_id: UUID,
    kind: BatchKind,
    principal: Principal,
    n_accepted: int,
    errors: list[ItemError],
    packed: bytes | None,
    backfill: bool,
    now: datetime,
) -> None:
    done = packed is None
    with connection.cursor() as cursor:
        # One statement is one transaction and one round trip, and carries the notification.
        cursor.execute(
            """
            with stored as (
                insert into ingest_batch (
                    id, kind, received_at, token_name, n_accepted, n_rejected, errors, body,
                    body_bytes, backfill, state, attempts, error, drained_at, folded_at, duplicates,
                    unknown_segments, health_due
                ) values (
                    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, '', %s, %s, %s, '{}', %s
                )
                returning seq
            )
            select seq, pg_notify('ingest', '') from stored
            """,
            [
                batch_id,
                kind,
                now,
                principal.name[:150],
                n_accepted,
                len(errors),
                _json_encode([error.document() for error in errors]).decode(),
                packed,
                0 if packed is None else len(packed),
                backfill,
                BatchState.DRAINED if done else BatchState.PENDING,
                now if done else None,
                now if done else None,
                0 if done else None,
                kind == BatchKind.RUNS and not backfill and not done,
            ],
        )


# --- Drain ---


@dataclass(frozen=True, slots=True)
class _Picked:
    seq: int
    kind: str
    body: bytes
    n_accepted: int


def batches_drain(*, now: datetime) -> int:
    """Turn every waiting batch into runs and ledger entries; return how many were drained.

    Observations are kept until `observations_attribute` counts them with their runs.

    Safe to run many at once: each claims batches with a row lock, and a run that two batches
    carry is kept by whichever commits first. A batch that fails is tried again later, and set
    aside with its error after some attempts, so that the queue moves on.
    """
    drained = 0
    while (some := _next_drain(backfill=False, now=now)) is not None:
        drained += some
    # Of history one group a round: neither reports nor guards wait behind it.
    return drained + backfill_drain(now=now)


def backfill_drain(*, now: datetime) -> int:
    """Drain the next group of backfilled batches; return how many there were."""
    return _next_drain(backfill=True, now=now) or 0


def _next_drain(*, backfill: bool, now: datetime) -> int | None:
    """Drain the oldest free batches together; None where none waits.

    0 stands for a batch that failed and waits for another attempt, or was set aside.
    """
    limit = GROUP_RUNS
    while True:
        picked: list[_Picked] = []
        try:
            with transaction.atomic():
                picked = _pick(limit, backfill=backfill, now=now)
                if not picked:
                    return None
                _group_drain(picked, backfill=backfill, now=now)
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
            select seq, kind, body, n_accepted from ingest_batch
            where state = 'pending' and backfill = %s and (retry_at is null or retry_at <= %s)
                and (%s::text is null or kind = %s) and seq > %s
                and (%s::int is null or n_accepted <= %s)
            order by seq limit %s for update skip locked
            """,
            [backfill, now, kind, kind, after, at_most, at_most, count],
        )
        return [_Picked(seq, kind, bytes(body), n) for seq, kind, body, n in cursor.fetchall()]


def _group_drain(picked: Sequence[_Picked], *, backfill: bool, now: datetime) -> None:
    unknown: dict[int, dict[str, int]] = {}
    if picked[0].kind == BatchKind.RUNS:
        fresh = _runs_keep(picked, backfill=backfill, unknown_segments=unknown, now=now)
    else:
        fresh = observations_keep(
            [(batch.seq, _observations_decode(_unpacked(batch.body))) for batch in picked]
        )
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
                    _json_encode(unknown.get(batch.seq, {})).decode(),
                    batch.seq,
                )
                for batch in picked
            ],
        )


def _runs_keep(
    picked: Sequence[_Picked],
    *,
    backfill: bool,
    unknown_segments: dict[int, dict[str, int]],
    now: datetime,
) -> dict[int, int]:
    """Keep the batches' new runs with their ledger entries; return how many each brought.

    Segment names nobody knows are counted in `unknown_segments`, by batch.
    """
    batches = [(batch, _runs_decode(_unpacked(batch.body))) for batch in picked]
    runs = [run for _, batch_runs in batches for run in batch_runs]
    names = _names_read(runs, now=now)
    lines: list[str] = []
    for batch, batch_runs in batches:
        seen = unknown_segments[batch.seq] = {}
        lines.extend(
            run_line(run, drain=batch.seq, names=names, unknown_segments=seen) for run in batch_runs
        )
    lines.append("")
    days = sorted({run.occurred_at.astimezone(UTC).date() for run in runs})
    if backfill:
        days_fill(days, now=now)
    with connection.cursor() as cursor:
        cursor.execute(
            "select run_day_ensure(day) from unnest(%s::date[]) as day order by day", [days]
        )
        cursor.execute(drain_sql.STAGING)
        with cursor.copy(drain_sql.COPY) as copy:
            copy.write("\n".join(lines))
        cursor.execute(drain_sql.KEEP_BACKFILL if backfill else drain_sql.KEEP)
        fresh = dict(cursor.fetchall())
        cursor.execute(drain_sql.AWAITED)
    return fresh


def _unpacked(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(GZIP_MAGIC) else zlib.decompress(body)


def _names_read(runs: Iterable[Run], *, now: datetime) -> Names:
    """Look up what the runs name; a release nobody registered is added as such."""
    slugs: set[str] = set()
    versions: set[tuple[str, str]] = set()
    for run in runs:
        slugs.add(run.workflow)
        if run.release is not None:
            versions.add((run.workflow, run.release))
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
        releases=_releases_ensure(wanted, now=now),
        segments=segments,
        rules={pk: SegmentRules(found) for pk, found in rules.items()},
    )


def _releases_ensure(
    wanted: Sequence[tuple[int, str]], *, now: datetime
) -> dict[tuple[int, str], int]:
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
