"""The economics of a path as frozen rows: numbers with ranges, what each stands on, and when."""

from dataclasses import dataclass
from datetime import datetime

from rollout_console.economics.spend import Burn
from signals.guards.decide import CellState
from signals.stats.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars a task: `per_task.n` of the `of` tasks had a known cost; `total` is those tasks'."""

    per_task: Estimate | None
    total: float
    of: int

    @property
    def known(self) -> int:
        return 0 if self.per_task is None else self.per_task.n


@dataclass(frozen=True, slots=True)
class Period:
    """A clock hour or day (UTC) and its budget so far; `known` of `of` tasks had a cost."""

    name: str
    since: datetime
    burn: Burn
    known: int
    of: int


@dataclass(frozen=True, slots=True)
class Projection:
    """An hour of the path at another exposed share; None where a needed figure is not known.

    `basis` says whether the share is measured or the plan's.
    """

    step: str
    stage: int | None
    share: float | None
    basis: str
    spend: Estimate | None
    reviews: Estimate | None


@dataclass(frozen=True, slots=True)
class ModeUse:
    """Tasks that used a fallback: by its mode, or `own` for one of the workflow's own choosing.

    `share` is of `of` tasks, and `cost` the fallback's own beside its cap. A task of one's own
    choosing has no cost of its own: its cost stands with its release's.
    """

    mode: str
    segment: str | None
    n: int
    of: int
    share: Estimate | None
    escalated: int
    cost: Cost | None
    cap: float | None
    cost_state: CellState | None


@dataclass(frozen=True, slots=True)
class Flow:
    """Where a path's tasks went: `answered` without a fallback, the rest by mode; escalations."""

    n: int
    answered: int
    answered_escalated: int
    modes: list[ModeUse]
    by_segment: list[ModeUse]
    stable_share: Estimate | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens a task in a segment (None: in none of them), and their sums."""

    segment: str | None
    tasks: int
    input: Estimate | None
    input_total: float
    output: Estimate | None
    output_total: float


@dataclass(frozen=True, slots=True)
class Reviews:
    """What reviewers are asked for. `load` is arrivals over capacity; times are in milliseconds.

    `hours_to_clear` is None where the backlog never ends, no capacity is set or no task came;
    `arrivals` is None where none did.
    """

    arrivals: Estimate | None
    backlog: int
    oldest_s: float | None
    capacity_per_hour: float | None
    load: Estimate | None
    hours_to_clear: float | None
    rejected: Estimate | None
    took_ms: Estimate | None


@dataclass(frozen=True, slots=True)
class Route:
    """Latency and cost of the tasks that took a route; `slow` is over the path's slow limit."""

    route: str
    n: int
    errors: int
    p50: Estimate | None
    p95: Estimate | None
    p99: Estimate | None
    slow: Estimate | None
    cost: Cost


@dataclass(frozen=True, slots=True)
class PathEconomics:
    """One path, over the span from `since` to `until`; `last_at` is the newest task's minute.

    `spend` is what is known to be spent an hour, `spend_all` that with the tasks whose cost
    nobody told taken to cost as much as the others.
    """

    path: str
    name: str
    since: datetime
    until: datetime
    span_s: float
    last_at: datetime | None
    tasks: int
    tasks_per_hour: Estimate
    exposed_share: float | None
    cost: Cost
    candidate_cost: Cost
    stable_cost: Cost
    spend: Estimate | None
    spend_all: Estimate | None
    budget_per_hour: float | None
    periods: list[Period]
    projections: list[Projection]
    flow: Flow
    tokens: list[Tokens]
    reviews: Reviews
    slow_limit_ms: float | None
    routes: list[Route]
