"""When the first run that was bad by itself happened, by signal: what time to detect counts from.

Only where one run can be bad by itself: it failed, or its value lies beyond the agreed limit. For
a difference between two arms no single run is, and nothing is told.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.db import DatabaseError, connection, transaction

from signals.ingest.worst import LABELS, WORST

# Searching takes no longer than this: time to detect is worth no more.
TIMEOUT_S: Final = 2
# A run is bad when it is one of these at all.
_FLAGS: Final = frozenset(
    {
        *("quality_pass_rate", "critical_failures", "error_rate", "fallback_rate"),
        *("escalation_rate", "review_reject_rate", "trust_negative_rate", "repeated_failures"),
    }
)
# A run is bad when its own value is above the limit, or (negated in WORST) below it.
_ABOVE: Final = frozenset(
    {
        *("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "cost_per_task_usd"),
        *("fallback_cost_per_task_usd", "input_tokens_per_task", "output_tokens_per_task"),
    }
)
_BELOW: Final = frozenset({"quality_score", "retrieval_score", "confidence_mean"})


def damage_first(
    *,
    signal: str,
    limit: float | None,
    workflow_id: int,
    path_id: int,
    release_id: int,
    segment_id: int | None,
    start: datetime,
    end: datetime,
) -> datetime | None:
    """Return when the first run in [start, end] that was bad by itself happened.

    None where no run is by this signal, none was, or looking took too long.

    Args:
        limit: the agreed one, in the signal's unit; None where there is none.
    """
    bad = _bad(signal, limit)
    if bad is None:
        return None
    worst = WORST[signal]
    condition, values = bad
    given: dict[str, Any] = {
        "workflow": workflow_id,
        "path": path_id,
        "release": release_id,
        "segment": segment_id,
        "start": start,
        "end": end,
        **values,
    }
    segment = "" if segment_id is None else " and r.segment_id = %(segment)s"
    sql = (
        f"select min(r.occurred_at) from run r{LABELS if worst.labels else ''}"  # noqa: S608
        " where r.workflow_id = %(workflow)s and r.occurred_at >= %(start)s"
        " and r.occurred_at <= %(end)s and r.path_id = %(path)s"
        f" and r.release_id = %(release)s and r.drill is null{segment} and {condition}"
    )
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("select set_config('statement_timeout', %s, true)", [f"{TIMEOUT_S}s"])
            cursor.execute(sql, given)
            found: datetime | None = cursor.fetchone()[0]
    except DatabaseError:
        return None
    return found


def _bad(signal: str, limit: float | None) -> tuple[str, Mapping[str, float]] | None:
    if signal in _FLAGS:
        return f"({WORST[signal].sql}) >= 1", {}
    if limit is None:
        return None
    if signal in _ABOVE:
        return f"({WORST[signal].sql}) > %(limit)s", {"limit": limit}
    if signal in _BELOW:
        return f"({WORST[signal].sql}) > -(%(limit)s)::float8", {"limit": limit}
    return None
