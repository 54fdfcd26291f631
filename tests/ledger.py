"""Ledger and bucket rows for tests, in the columns that the drain writes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import ceil, log2
from typing import Any

from rollout_console.catalog.models import WorkflowPath
from signals.buckets.event_time import floor
from signals.buckets.folds import COARSE_S
from signals.buckets.keys import ARM_CANDIDATE, BLOCK_S
from signals.buckets.models import ArrivalLedger, Measures, MinuteBucket, StaleBucket
from signals.ingest.ids import uuid7
from signals.ingest.models import IngestBatch


def bucket_of(value: float) -> int:
    """Return the histogram bucket of a value above 0, by the contract's formula."""
    return ceil(log2(value) * 32) - 1


def arrive(
    path: WorkflowPath,
    at: datetime,
    *,
    release_id: int | None,
    arm: int = ARM_CANDIDATE,
    segment_id: int | None = 0,
    mode: int = 0,
    drain: int | None = None,
    passed: int = 0,
    failed: int = 0,
    latencies: Sequence[float] = (),
    costs: Sequence[float] = (),
    **measures: Any,
) -> ArrivalLedger:
    """Add one ledger row that arrived at `at`; `n` follows from what is given.

    It is brought by a batch of its own, or by the drain that is given, which no evidence block
    takes in.
    """
    if drain is None:
        drain = drained(at).seq
    row = ArrivalLedger(
        **_values(path, passed, failed, latencies, costs, measures),
        minute=at.replace(second=0, microsecond=0),
        release_id=release_id or 0,
        arm=arm,
        segment_id=segment_id or 0,
        mode=mode,
        drain=drain,
        block=int(at.timestamp()) // BLOCK_S,
        arrived_at=at,
    )
    row.save(force_insert=True)
    return row


def drained(at: datetime) -> IngestBatch:
    """Add a batch that is drained and folded, of the evidence block before `at`: that is over."""
    return IngestBatch.objects.create(
        id=uuid7(),
        received_at=at - timedelta(seconds=BLOCK_S),
        token_name="test",
        n_accepted=1,
        n_rejected=0,
        body_bytes=0,
        state="drained",
        drained_at=at,
        folded_at=at,
        duplicates=0,
        evidence_due=True,
    )


def over(moment: datetime) -> datetime:
    """Return when the evidence block that holds a moment is over, so that a look takes it in."""
    return datetime.fromtimestamp((int(moment.timestamp()) // BLOCK_S + 1) * BLOCK_S, tz=UTC)


def bucket(
    path: WorkflowPath,
    minute: datetime,
    *,
    release_id: int | None,
    arm: int = ARM_CANDIDATE,
    segment_id: int | None = 0,
    mode: int = 0,
    passed: int = 0,
    failed: int = 0,
    latencies: Sequence[float] = (),
    costs: Sequence[float] = (),
    **measures: Any,
) -> MinuteBucket:
    """Add one minute bucket, which the longer ones do not hold yet."""
    row = MinuteBucket(
        **_values(path, passed, failed, latencies, costs, measures),
        minute=minute.astimezone(UTC),
        release_id=release_id or 0,
        arm=arm,
        segment_id=segment_id or 0,
        mode=mode,
    )
    row.save(force_insert=True)
    for length_s in COARSE_S:
        StaleBucket.objects.get_or_create(
            length_s=length_s,
            path_id=path.pk,
            minute=floor(row.minute, length_s),
            defaults={"since": row.minute},
        )
    return row


def _values(
    path: WorkflowPath,
    passed: int,
    failed: int,
    latencies: Sequence[float],
    costs: Sequence[float],
    measures: dict[str, Any],
) -> dict[str, Any]:
    values: dict[str, Any] = {
        field.attname: 0
        for field in Measures._meta.get_fields()
        if hasattr(field, "attname") and field.attname not in {"id", "minute"}
    }
    n = max(passed + failed, len(latencies), len(costs))
    values |= {
        "workflow_id": path.workflow_id,
        "path_id": path.pk,
        "input_condition": 0,
        "risk": 0,
        "n": n,
        "n_ok": n,
        "quality_n": passed + failed,
        "quality_passed": passed,
    }
    for name, found in (("latency", latencies), ("cost", costs)):
        positive = [value for value in found if value > 0]
        counts: dict[int, int] = {}
        for value in positive:
            counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
        values |= {
            f"{name}_n": len(found),
            f"{name}_sum": sum(found),
            f"{name}_sq": sum(value * value for value in found),
            f"{name}_max": max(found) if found else None,
            f"{name}_zero": len(found) - len(positive),
            f"{name}_idx": sorted(counts),
            f"{name}_cnt": [counts[index] for index in sorted(counts)],
        }
    values.pop("minute", None)
    for key in ("release_id", "arm", "segment_id", "mode"):
        values.pop(key, None)
    return {**values, **measures}
