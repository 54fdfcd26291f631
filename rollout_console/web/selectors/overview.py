from dataclasses import dataclass
from datetime import datetime

from approvals.authority.principals import Principal
from rollout_console.web.selectors.rollouts import RolloutRow, rollout_rows

FILTERS = {"all": "All", "decide": "Needs a decision", "mine": "Mine"}

_DECIDE = {"now", "soon"}


@dataclass(frozen=True, slots=True)
class Filter:
    slug: str
    name: str
    count: int
    current: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """What is exposed right now. Rates are tasks a minute over the last 5 minutes."""

    needing: list[RolloutRow]
    looking: list[RolloutRow]
    calm: list[RolloutRow]
    idle: list[RolloutRow]
    filters: list[Filter]
    exposing: int
    candidate_per_min: float
    tasks_per_min: float
    exposed_share: float | None
    signals: int
    over: int
    near: int
    unknown: int
    alerts: int
    unanswered: int
    paused: int
    empty: bool


def overview(*, principal: Principal, show: str, now: datetime) -> Overview:
    """Return the rollouts that `principal` may read, filtered by `show`, the urgent ones first."""
    everything = rollout_rows(principal=principal, now=now)
    exposing = [row for row in everything if row.exposing]
    chosen = {
        "decide": [row for row in everything if row.urgency in _DECIDE],
        "mine": [row for row in everything if row.mine],
    }
    rows = chosen.get(show, everything)
    cells = [cell for row in exposing for cell in row.cells]
    alerts = [alert for row in exposing for alert in row.alerts]
    total = sum(row.tasks_per_min for row in exposing)
    candidate = sum(row.candidate_per_min for row in exposing)
    current = show if show in chosen else "all"
    return Overview(
        needing=[row for row in rows if row.urgency in _DECIDE],
        looking=[row for row in rows if row.urgency == "look"],
        calm=[row for row in rows if row.exposing and not row.urgency],
        idle=[row for row in rows if not row.exposing],
        filters=[
            Filter(slug, name, len(chosen.get(slug, everything)), slug == current)
            for slug, name in FILTERS.items()
        ],
        exposing=len(exposing),
        candidate_per_min=candidate,
        tasks_per_min=total,
        exposed_share=candidate / total if total else None,
        signals=len(cells),
        over=sum(cell.state == "over" for cell in cells),
        near=sum(cell.state == "near" for cell in cells),
        unknown=sum(cell.state in {"too_few", "stale"} for cell in cells),
        alerts=len(alerts),
        unanswered=sum(alert.state == "open" for alert in alerts),
        paused=sum(row.state == "paused" for row in exposing),
        empty=not everything,
    )
