"""The economics of paths, read of what was reported: money, tokens, fallbacks, reviews, routes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from approvals.expansions.evidence import rung_shares
from approvals.expansions.policy import TaskShare
from rollout_console.catalog.models import Segment, WorkflowPath
from rollout_console.economics.rows import (
    Cost,
    Flow,
    ModeUse,
    PathEconomics,
    Period,
    Projection,
    Reviews,
    Route,
    Tokens,
)
from rollout_console.economics.spend import (
    HOUR_S,
    burn,
    hourly_count,
    hourly_sum,
    hours_to_clear,
    mean_of,
    projected,
    share_of,
    times,
)
from rollout_console.rollouts.ladder import NextRung
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import EXPOSING, RolloutState
from signals.buckets.beside import Backlog, open_reviews
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE, MODE_NORMAL, MODES
from signals.buckets.measures import Measures, total
from signals.buckets.parts import (
    Found,
    Place,
    RouteTotal,
    place_measures,
    reported_before,
    route_totals,
)
from signals.catalogue import signal_of
from signals.guards.decide import DEFAULT_MIN_N, CellState, cell_state
from signals.ingest.reviewing import ReviewTimes, review_times
from signals.stats.estimate import Estimate, estimate

# Rates, shares and means are of so long, or since a path's first task if that is later.
WINDOW: Final = timedelta(hours=1)
REVIEW_WINDOW: Final = timedelta(hours=24)
_LEAST_SPAN_S: Final = 60.0
_MINUTE: Final = timedelta(minutes=1)
# Clients' clocks may be so far ahead.
_AHEAD: Final = timedelta(minutes=6)
OWN_FALLBACK: Final = "own"
_MODE_NAMES: Final = {code: name for name, code in MODES.items()}
Pick = Callable[[Place], bool]


@dataclass(frozen=True, slots=True)
class _Read:
    """Everything read for the paths, in as many queries for one as for many."""

    now: datetime
    since: datetime
    found: Found
    older: set[int]
    periods: Mapping[str, tuple[datetime, Found]]
    routes: Mapping[tuple[int, str], RouteTotal]
    backlog: Mapping[int, Backlog]
    took: Mapping[int, ReviewTimes]
    segments: Mapping[int, str]
    rung: NextRung | None
    shares: Mapping[str, TaskShare]


def rollout_economics(
    rollout: Rollout, *, now: datetime, window: timedelta = WINDOW
) -> list[PathEconomics]:
    """Return the economics of a rollout's paths, with what the next stage would make of them."""
    paths = [row.path for row in rollout.rollout_paths.select_related("path").order_by("pk")]
    rung: NextRung | None = None
    shares: Mapping[str, TaskShare] = {}
    if RolloutState(rollout.state) in EXPOSING:
        rung, shares = rung_shares(rollout, now=now)
    return _economics(
        paths, rollout.workflow_id, now=now, window=window, rung=rung, shares=shares, widens=True
    )


def workflow_economics(
    paths: Sequence[WorkflowPath],
    *,
    workflow_id: int,
    now: datetime,
    window: timedelta = WINDOW,
) -> list[PathEconomics]:
    """Return the economics of paths of a workflow, whether anything is rolled out or not."""
    return _economics(
        paths, workflow_id, now=now, window=window, rung=None, shares={}, widens=False
    )


def routes_of(
    paths: Sequence[WorkflowPath], *, since: datetime, until: datetime
) -> dict[int, list[Route]]:
    """Return by path id its routes in the minutes that begin in [since, until), busiest first."""
    found = route_totals(path_ids=[path.pk for path in paths], since=since, until=until)
    return {
        path.pk: _routes(path.pk, found, _number(path.limits.get("slow_path_ms"))) for path in paths
    }


def _economics(
    paths: Sequence[WorkflowPath],
    workflow_id: int,
    *,
    now: datetime,
    window: timedelta,
    rung: NextRung | None,
    shares: Mapping[str, TaskShare],
    widens: bool,
) -> list[PathEconomics]:
    ids = [path.pk for path in paths]
    since = (now - window).replace(second=0, microsecond=0)
    hour = now.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    until = now + _AHEAD
    waiting = open_reviews((pk, None) for pk in ids)
    read = _Read(
        now=now,
        since=since,
        found=place_measures(path_ids=ids, since=since, until=until),
        older=reported_before(path_ids=ids, before=since),
        periods={
            "hour": (hour, place_measures(path_ids=ids, since=hour, until=until)),
            "day": (day, place_measures(path_ids=ids, since=day, until=until)),
        },
        routes=route_totals(path_ids=ids, since=since, until=until),
        backlog={pk: sum(scopes.values(), Backlog()) for (pk, _), scopes in waiting.items()},
        took=review_times(
            workflow_id=workflow_id, path_ids=ids, since=now - REVIEW_WINDOW, until=now
        ),
        segments=dict(Segment.objects.filter(workflow=workflow_id).values_list("pk", "slug")),
        rung=rung,
        shares=shares,
    )
    return [_path(path, read, widens=widens) for path in paths]


def _path(path: WorkflowPath, read: _Read, *, widens: bool) -> PathEconomics:
    found = {
        place: measures
        for place, measures in read.found.by_place.items()
        if place.path_id == path.pk
    }
    since, span_s = read.since, (read.now - read.since).total_seconds()
    first_at = read.found.first_at.get(path.pk)
    if first_at is not None and path.pk not in read.older:
        since = first_at
        span_s = max(_LEAST_SPAN_S, (read.now - first_at).total_seconds())
    whole = _sum(found)
    candidate = _sum(found, lambda place: place.arm == ARM_CANDIDATE)
    stable = _sum(found, lambda place: place.arm == ARM_STABLE)
    others = _sum(found, lambda place: place.arm != ARM_CANDIDATE)
    per_hour = hourly_count(whole.n, span_s=span_s)
    exposed = candidate.n / whole.n if whole.n else None
    capacity = _number(path.review.get("capacity_per_hour"))
    budget = _number(path.limits.get("spend_usd_per_hour"))
    slow_ms = _number(path.limits.get("slow_path_ms"))
    reviews = _reviews(path.pk, whole, read, span_s=span_s, capacity=capacity)
    spend = hourly_sum(whole.cost_n, whole.cost_sum, whole.cost_sq, span_s=span_s)
    steps = _steps(path.slug, read) if widens else []
    return PathEconomics(
        path=path.slug,
        name=path.name,
        since=since,
        until=read.now,
        span_s=span_s,
        last_at=read.found.last_at.get(path.pk),
        tasks=whole.n,
        tasks_per_hour=per_hour,
        exposed_share=exposed,
        cost=_cost(whole),
        candidate_cost=_cost(_sum(found, _normal(ARM_CANDIDATE))),
        stable_cost=_cost(_sum(found, _normal(ARM_STABLE))),
        spend=spend,
        spend_all=None if spend is None else times(spend, whole.n / whole.cost_n),
        budget_per_hour=budget,
        periods=[
            _period(path.pk, name, *read.periods[name], read.now, budget) for name in read.periods
        ],
        projections=[
            _projection(step, per_hour, candidate=candidate, others=others) for step in steps
        ],
        flow=_flow(path, found, candidate if widens else whole, stable, read, widens=widens),
        tokens=_tokens(found, read),
        reviews=reviews,
        slow_limit_ms=slow_ms,
        routes=_routes(path.pk, read.routes, slow_ms),
    )


def _normal(arm: int) -> Pick:
    return lambda place: place.arm == arm and place.mode == MODE_NORMAL


def _sum(found: Mapping[Place, Measures], pick: Pick | None = None) -> Measures:
    return total(m for place, m in found.items() if pick is None or pick(place))


def _cost(measures: Measures) -> Cost:
    per_task = mean_of(measures.cost_n, measures.cost_sum, measures.cost_sq)
    return Cost(per_task, measures.cost_sum, measures.n)


def _period(
    path_id: int, name: str, since: datetime, found: Found, now: datetime, budget: float | None
) -> Period:
    spent = total(m for place, m in found.by_place.items() if place.path_id == path_id)
    period_s = HOUR_S if name == "hour" else 24 * HOUR_S
    return Period(
        name=name,
        since=since,
        burn=burn(
            # Known to be nothing only where no task came; unknown where none told its cost.
            spent=spent.cost_sum if spent.cost_n or spent.n == 0 else None,
            budget_per_hour=budget,
            elapsed_s=(now - since).total_seconds(),
            period_s=period_s,
        ),
        known=spent.cost_n,
        of=spent.n,
    )


# --- After widening ---

_Step = tuple[str, int | None, TaskShare]


def _steps(path: str, read: _Read) -> list[_Step]:
    steps: list[_Step] = []
    if read.rung is not None:
        share = read.shares.get(path, TaskShare(None, "unknown"))
        steps.append(("next", read.rung.position, share))
    steps.append(("full", None, TaskShare(1.0, "planned")))
    return steps


def _projection(
    step: _Step, per_hour: Estimate, *, candidate: Measures, others: Measures
) -> Projection:
    name, stage, share = step
    spend = reviews = None
    if share.share is not None and per_hour.n:
        spend = projected(
            per_hour,
            share=share.share,
            exposed=mean_of(candidate.cost_n, candidate.cost_sum, candidate.cost_sq),
            others=mean_of(others.cost_n, others.cost_sum, others.cost_sq),
        )
        reviews = projected(
            per_hour,
            share=share.share,
            exposed=share_of(candidate.review_requested, candidate.n),
            others=share_of(others.review_requested, others.n),
        )
    return Projection(name, stage, share.share, share.basis, spend, reviews)


# --- Fallbacks ---


def _flow(
    path: WorkflowPath,
    found: Mapping[Place, Measures],
    whole: Measures,
    stable: Measures,
    read: _Read,
    *,
    widens: bool,
) -> Flow:
    cap = _number(path.limits.get("fallback_cost_per_task_usd"))
    mine = {place: m for place, m in found.items() if not widens or place.arm == ARM_CANDIDATE}
    normal = _sum(mine, lambda place: place.mode == MODE_NORMAL)
    by_segment: list[ModeUse] = []
    for segment_id in sorted({place.segment_id for place in mine}):
        here = {place: m for place, m in mine.items() if place.segment_id == segment_id}
        by_segment += _modes(here, cap, segment=read.segments.get(segment_id))
    return Flow(
        n=whole.n,
        answered=normal.n - normal.n_fallback,
        answered_escalated=normal.n_escalated,
        modes=_modes(mine, cap),
        by_segment=by_segment,
        stable_share=share_of(stable.fallback_n, stable.n) if widens else None,
    )


def _modes(
    found: Mapping[Place, Measures], cap: float | None, segment: str | None = None
) -> list[ModeUse]:
    """Return the fallbacks used, by mode in their order, the workflow's own last."""
    of = _sum(found).n
    uses = []
    for code in sorted({place.mode for place in found} - {MODE_NORMAL}):
        used = _sum(found, lambda place, code=code: place.mode == code)  # type: ignore[misc]
        cost = _cost(used)
        uses.append(
            ModeUse(
                mode=_MODE_NAMES[code],
                segment=segment,
                n=used.n,
                of=of,
                share=share_of(used.n, of),
                escalated=used.n_escalated,
                cost=cost,
                cap=cap,
                cost_state=_against(cost, cap),
            )
        )
    own = _sum(found, lambda place: place.mode == MODE_NORMAL).n_fallback
    if own:
        share = share_of(own, of)
        uses.append(ModeUse(OWN_FALLBACK, segment, own, of, share, 0, None, None, None))
    return [use for use in uses if use.n]


def _against(cost: Cost, cap: float | None) -> CellState | None:
    """Return where a fallback's cost lies against its cap, None without one."""
    if cap is None:
        return None
    found = cost.per_task
    return cell_state(
        word="",
        signal=signal_of("fallback_cost_per_task_usd"),
        limit=cap,
        value=None if found is None else found.value,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        n=cost.known,
        min_n=DEFAULT_MIN_N,
    )


# --- Tokens, reviews, routes ---


def _tokens(found: Mapping[Place, Measures], read: _Read) -> list[Tokens]:
    by_segment: dict[int, Measures] = {}
    for place, measures in found.items():
        by_segment[place.segment_id] = by_segment.get(place.segment_id, Measures()) + measures
    # Tasks of no segment stand last.
    order = sorted(by_segment, key=lambda pk: (read.segments.get(pk) is None, pk))
    return [
        Tokens(
            segment=read.segments.get(pk),
            tasks=m.n,
            input=mean_of(m.input_tokens_n, m.input_tokens_sum, m.input_tokens_sq),
            input_total=m.input_tokens_sum,
            output=mean_of(m.output_tokens_n, m.output_tokens_sum, m.output_tokens_sq),
            output_total=m.output_tokens_sum,
        )
        for pk in order
        if (m := by_segment[pk]).n
    ]


def _reviews(
    path_id: int, whole: Measures, read: _Read, *, span_s: float, capacity: float | None
) -> Reviews:
    # Without a task nobody could ask: no arrivals are known, rather than none.
    arrivals = hourly_count(whole.review_requested, span_s=span_s) if whole.n else None
    backlog = read.backlog.get(path_id, Backlog())
    took = read.took.get(path_id)
    oldest = None
    if backlog.oldest_at is not None:
        oldest = max(0.0, (read.now - backlog.oldest_at).total_seconds())
    return Reviews(
        arrivals=arrivals,
        backlog=backlog.n,
        oldest_s=oldest,
        capacity_per_hour=capacity,
        load=times(arrivals, 1 / capacity) if arrivals is not None and capacity else None,
        hours_to_clear=hours_to_clear(
            backlog.n,
            capacity_per_hour=capacity,
            arrivals_per_hour=None if arrivals is None else arrivals.value,
        ),
        rejected=share_of(whole.reviews_rejected, whole.reviews_n),
        took_ms=None if took is None else mean_of(took.n, took.total, took.squares),
    )


def _routes(
    path_id: int, found: Mapping[tuple[int, str], RouteTotal], slow_ms: float | None
) -> list[Route]:
    mine = {route: t for (pk, route), t in found.items() if pk == path_id}
    return [
        _route(route, mine[route], slow_ms)
        for route in sorted(mine, key=lambda name: (-mine[name].n, name))
    ]


def _route(route: str, found: RouteTotal, slow_ms: float | None) -> Route:
    measures = Measures(
        n=found.n,
        latency_n=found.latency.n,
        cost_n=found.cost_n,
        cost_sum=found.cost_sum,
        cost_sq=found.cost_sq,
        latency_max=found.latency.largest,
        latency=found.latency,
    )

    def seen(slug: str) -> Estimate | None:
        return estimate(signal_of(slug), measures, span_s=HOUR_S, slow_ms=slow_ms)

    return Route(
        route=route,
        n=found.n,
        errors=found.n_error,
        p50=seen("latency_p50_ms"),
        p95=seen("latency_p95_ms"),
        p99=seen("latency_p99_ms"),
        slow=seen("slow_path_rate"),
        cost=_cost(measures),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
