"""What the queue of accepted batches looks like, and what became of one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from approvals.authority.principals import Principal
from rollout_console.core.errors import NotFound
from signals.ingest.models import (
    BatchKind,
    BatchState,
    IngestBatch,
    Observation,
    ObservationState,
)


@dataclass(frozen=True, slots=True)
class QueueState:
    """Batches accepted and not yet drained; `oldest_age_s` is None where no live one waits.

    History that waits to be filled in makes nothing late.
    """

    pending: int
    oldest_age_s: float | None
    body_bytes: int = 0


def queue_state(*, now: datetime) -> QueueState:
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*), min(received_at) filter (where not backfill),"
            " coalesce(sum(body_bytes), 0)"
            " from ingest_batch where state = 'pending'"
        )
        pending, oldest, body_bytes = cursor.fetchone()
    age_s = None if oldest is None else max(0.0, (now - oldest).total_seconds())
    return QueueState(pending=pending, oldest_age_s=age_s, body_bytes=int(body_bytes))


def labels_waiting(*, drain: int | None = None) -> int:
    """Return how many labels are without a run as yet; of one drained batch, or of all."""
    waiting = Observation.objects.filter(state=ObservationState.WAITING)
    return waiting.filter(drain=drain).count() if drain is not None else waiting.count()


@dataclass(frozen=True, slots=True)
class StorageState:
    """Days of runs that are kept, what retention dropped so far, and longer buckets to refold."""

    run_days: int
    days_dropped: int
    runs_dropped: int
    stale_buckets: int


def storage_state() -> StorageState:
    with connection.cursor() as cursor:
        cursor.execute(
            "select (select count(*) from pg_inherits where inhparent = 'run'::regclass),"
            " (select count(*) from stored_day where runs_dropped_at is not null),"
            " (select coalesce(sum(runs_dropped), 0)::bigint from stored_day),"
            " (select count(*) from stale_bucket)"
        )
        return StorageState(*cursor.fetchone())


def batch_document(*, batch_id: UUID, principal: Principal) -> dict[str, Any]:
    """Return what the API answers for a batch.

    A token limited to workflows sees its own batches only. Of observations, `waiting` are those
    whose run has not come, `unknown` those that waited in vain.

    Raises:
        NotFound: there is no such batch, or it is another token's.
    """
    batch = (
        IngestBatch.objects.filter(id=batch_id).exclude(kind=BatchKind.LABELS).defer("body").first()
    )
    reachable = principal.workflow_ids is None
    if batch is None or not (reachable or batch.token_name == principal.name):
        raise NotFound(f"There is no batch {batch_id}.")
    document: dict[str, Any] = {
        "batch_id": str(batch.id),
        "kind": batch.kind,
        "state": batch.state,
        "received_at": batch.received_at,
        "accepted": batch.n_accepted,
        "rejected": batch.n_rejected,
        "errors": batch.errors,
        "drained_at": batch.drained_at,
        "duplicates": batch.duplicates,
    }
    if batch.kind == BatchKind.RUNS:
        document["unknown_segments"] = batch.unknown_segments
    else:
        document["waiting"] = labels_waiting(drain=batch.seq)
        document["unknown"] = batch.unknown_runs
    if batch.state == BatchState.FAILED:
        document["error"] = batch.error
    return document
