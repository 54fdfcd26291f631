from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rollout_console.rollouts.models import Rollout
from signals.buckets.selectors import traffic

TRAFFIC_WINDOW_S: Final = 300


@dataclass(frozen=True, slots=True)
class ExposedRow:
    """A segment that is exposed now; `share` (0-1) of its units, `people` where known."""

    slug: str
    name: str
    share: float
    people: int | None


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """What is reachable now. Rates are tasks of the candidate; the window is in seconds.

    `exposed_share` is the measured part (0-1) of the paths' tasks, None without traffic.
    `people` is None where a segment's size is not known.
    """

    tasks_per_min: float
    tasks_per_day: float
    exposed_share: float | None
    window_s: int
    segments: list[ExposedRow]
    people: int | None
    action_routes: list[str]
    last_arrival_at: datetime | None
    read_at: datetime


def blast_radius(rollout: Rollout, *, now: datetime) -> BlastRadius:
    """Return what a containment of `rollout` reaches, by the last five minutes' traffic."""
    path_ids = list(rollout.rollout_paths.values_list("path_id", flat=True))
    flows = traffic(workflow_ids=[rollout.workflow_id], now=now)
    here = [flows[path_id] for path_id in path_ids if path_id in flows]
    total = sum(flow.tasks_per_min for flow in here)
    candidate = sum(flow.candidate_per_min for flow in here)
    arrivals = [flow.last_arrival_at for flow in here if flow.last_arrival_at is not None]
    segments = [
        ExposedRow(
            slug=row.segment.slug,
            name=row.segment.name,
            share=float(row.share),
            people=row.segment.people,
        )
        for row in rollout.exposed.select_related("segment").order_by("pk")
    ]
    known = [row.people for row in segments if row.people is not None]
    return BlastRadius(
        tasks_per_min=candidate,
        tasks_per_day=candidate * 1440,
        exposed_share=candidate / total if total else None,
        window_s=TRAFFIC_WINDOW_S,
        segments=segments,
        people=sum(known) if segments and len(known) == len(segments) else None,
        action_routes=list(
            rollout.workflow.action_routes.order_by("slug").values_list("slug", flat=True)
        ),
        last_arrival_at=max(arrivals, default=None),
        read_at=now,
    )
