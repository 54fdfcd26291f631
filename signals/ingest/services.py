"""Accept batches of runs or observations durably."""

import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, ClassVar, Final
from uuid import UUID

import msgspec
import structlog
from django.conf import settings
from django.db import connection

from approvals.authority.principals import Principal
from rollout_console.catalog.models import WorkflowPath
from rollout_console.core.errors import DomainError
from signals.ingest import framing
from signals.ingest.ids import uuid7
from signals.ingest.models import BatchKind, BatchState
from signals.ingest.nudging import nudger
from signals.ingest.observations import observation_read
from signals.ingest.places import Places, forget, places
from signals.ingest.retention import dropped_days
from signals.ingest.runs import (
    SLUG_WITHOUT_DOT,
    ItemError,
    ItemRefused,
    Run,
    run_read,
    time_bounds,
)
from signals.ingest.selectors import queue_state

log = structlog.get_logger()

# Paths that reports alone may add to a workflow.
DISCOVERED_PATHS: Final = 200
# How long a process trusts its last look at the backlog.
BACKLOG_FRESH_S: Final = 0.5


class _OfWorkflow(msgspec.Struct):
    workflow: str = ""


_workflow_decode: Final = msgspec.json.Decoder(_OfWorkflow).decode
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
    backlog_check(now=now)
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
        if whole and body.startswith(framing.GZIP_MAGIC):
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


def backlog_check(*, now: datetime) -> None:
    """Raise BacklogFull where more waits to be drained than the setting allows."""
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
            errors.append(_item_error(index, refused, item, principal=principal))
        else:
            good.append(item)
    return good, errors


def _item_error(
    index: int, refused: ItemRefused, item: bytes, *, principal: Principal
) -> ItemError:
    """Return what is wrong with an item, and whose concern that is."""
    try:
        workflow_id = places().workflows.get(_workflow_decode(item).workflow, 0)
    except msgspec.DecodeError:
        workflow_id = 0
    if not principal.reaches(workflow_id):
        workflow_id = 0
    return ItemError(index, refused.pointer, refused.detail, workflow_id)


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
            errors.append(_item_error(index, refused, item, principal=principal))
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
                    id, kind, received_at, token_name, n_accepted, n_rejected, errors, rejected_in,
                    body, body_bytes, backfill, state, attempts, error, drained_at, folded_at,
                    duplicates, unknown_segments, health_due, evidence_due
                ) values (
                    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, '', %s, %s, %s, '{}', %s,
                    %s
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
                [error.workflow_id for error in errors],
                packed,
                0 if packed is None else len(packed),
                backfill,
                BatchState.DRAINED if done else BatchState.PENDING,
                now if done else None,
                now if done else None,
                0 if done else None,
                *[kind == BatchKind.RUNS and not backfill and not done] * 2,
            ],
        )
