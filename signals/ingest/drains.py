"""Numbers for what is counted in the ledger without a request of its own."""

from datetime import datetime

from signals.ingest.ids import uuid7
from signals.ingest.models import BatchKind, BatchState, IngestBatch


def drain_open(count: int, *, now: datetime) -> int:
    """Return a drain number for `count` things counted now, which the fold takes like any.

    Runs in the caller's transaction, with the ledger rows that carry the number.
    """
    return IngestBatch.objects.create(
        id=uuid7(),
        kind=BatchKind.LABELS,
        received_at=now,
        token_name="",
        n_accepted=count,
        n_rejected=0,
        body_bytes=0,
        state=BatchState.DRAINED,
        drained_at=now,
        duplicates=0,
        health_due=True,
        evidence_due=True,
    ).seq
