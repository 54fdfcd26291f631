"""A name of metric points over time, in the form of any signal's series."""

from datetime import datetime
from typing import Any, Final

from rollout_console.catalog.models import WorkflowPath
from signals.points.selectors import PointStep, point_names, point_steps

QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def names_of(path: WorkflowPath, *, now: datetime) -> list[str]:
    """Return the names of metric points that this path has."""
    found = point_names(workflow_ids=[path.workflow_id], since=now, until=now, path_id=path.pk)
    return list(dict.fromkeys(each.name for each in found))


def point_document(
    path: WorkflowPath,
    name: str,
    *,
    start: datetime,
    end: datetime,
    step_s: int,
    segment_ids: list[int] | None,
    release_id: int | None,
    arms: list[int] | None,
) -> dict[str, Any] | None:
    """Return a series of points; None where nothing was ever stored under this name.

    `value` is a gauge's or histogram's mean and a sum's total over the step. Measurements are not
    independent tasks, so there is no 95 % range; `least` and `most` are what was measured.
    """
    found = point_steps(
        workflow_id=path.workflow_id,
        path_id=path.pk,
        name=name,
        start=start,
        end=end,
        step_s=step_s,
        segment_ids=segment_ids,
        release_id=release_id,
        arms=arms,
    )
    if found is None:
        return None
    return {
        "signal": name,
        "unit": found.unit,
        "step_s": step_s,
        "kind": found.kind,
        "sources": list(found.sources),
        # A histogram that told only its count has no value to draw.
        "points": [_point(step) for step in found.steps if step.value is not None],
        "marks": [],
        "limit": None,
        "baseline": None,
    }


def _point(step: PointStep) -> dict[str, Any]:
    made = {
        "t": step.t,
        "value": step.value,
        "low": None,
        "high": None,
        "n": step.n,
        "least": step.low,
        "most": step.high,
        "newest_at": step.newest_at,
    }
    if step.histogram is not None:
        made |= {name: step.quantile(q) for name, q in QUANTILES.items()}
    return made
