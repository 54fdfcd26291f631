"""How long reviewers took, by what their reviews reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection

from signals.ingest.observations import KINDS


@dataclass(frozen=True, slots=True)
class ReviewTimes:
    """Milliseconds a review took: how many reported it, their sum and sum of squares."""

    n: int
    total: float
    squares: float


_READ: Final = f"""
select q.path_id, count(*), sum(o.duration_ms), sum(o.duration_ms * o.duration_ms)
from observation as o join requested_review as q
    on q.workflow_id = o.workflow_id and q.run_hash = o.run_hash
    and (o.run_occurred_at is null or q.asked_at = o.run_occurred_at)
where o.workflow_id = %s and o.kind = {KINDS["review"]} and o.duration_ms is not null
    and o.occurred_at >= %s and o.occurred_at < %s and q.path_id = any(%s)
group by 1
"""  # noqa: S608  # of our own constants


def review_times(
    *, workflow_id: int, path_ids: Sequence[int], since: datetime, until: datetime
) -> dict[int, ReviewTimes]:
    """Return by path id what reviews in [since, until) took, of those that a run asked for."""
    with connection.cursor() as cursor:
        cursor.execute(_READ, [workflow_id, since, until, list(path_ids)])
        return {path_id: ReviewTimes(*found) for path_id, *found in cursor.fetchall()}
