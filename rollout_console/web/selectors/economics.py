"""The economics of paths as their page shows them: every number as text, with what it stands on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rollout_console.catalog.models import WorkflowPath
from rollout_console.containment.policy import MODE_NAMES
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
from rollout_console.economics.selectors import OWN_FALLBACK, routes_of
from rollout_console.web.drawing import Bar, limit_bar
from rollout_console.web.flow import BarPair, Branch, Map, bar_pairs, flow_map
from rollout_console.web.words import SIGNALS, Shown, duration_text, share_text
from signals.catalogue import Unit, signal_of
from signals.format import MISSING, bare_text, unit_range_text, unit_text
from signals.guards.decide import CellState
from signals.stats.estimate import Estimate

_OWN: Final = "A fallback of its own"
_BASES: Final = {
    "measured": "measured traffic of its segments",
    "planned": "tasks a day as planned",
    "unknown": "not known",
}


@dataclass(frozen=True, slots=True)
class Number:
    """A value with its range, and `n`: what it stands on; `state` only where it has a limit."""

    value: str
    range: str
    n: str
    shown: Shown | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure of a card: its name, its number, and a note that says what it is of."""

    name: str
    slug: str
    number: Number
    note: str
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class StepRow:
    name: str
    share: str
    basis: str
    spend: Number
    reviews: Number


@dataclass(frozen=True, slots=True)
class UseRow:
    where: str
    mode: str
    name: str
    share: Number
    escalated: str
    cost: Number
    cap: str


@dataclass(frozen=True, slots=True)
class TokenRow:
    segment: str
    tasks: int
    input: Number
    input_total: str
    output: Number
    output_total: str


@dataclass(frozen=True, slots=True)
class RouteRow:
    route: str
    n: int
    errors: int
    p50: Number
    p95: Number
    p99: Number
    slow: Number
    cost: Number


@dataclass(frozen=True, slots=True)
class PathView:
    path: str
    name: str
    since: datetime
    until: datetime
    window: str
    last_at: datetime | None
    tasks: int
    money: list[Fact]
    steps: list[StepRow]
    uses: list[UseRow]
    use_segments: list[UseRow]
    flow_note: str
    map: Map | None
    tokens: list[TokenRow]
    reviews: list[Fact]
    slow_limit: str
    routes: list[RouteRow]


def path_views(found: Sequence[PathEconomics], *, escalates_to: str) -> list[PathView]:
    """Return the paths as text; `escalates_to` is who takes an escalation first."""
    return [_view(each, escalates_to) for each in found]


def route_rows(
    paths: Sequence[WorkflowPath], *, since: datetime, until: datetime
) -> dict[int, list[RouteRow]]:
    """Return by path id how fast each route was in the minutes that begin in [since, until)."""
    found = routes_of(paths, since=since, until=until)
    return {path_id: [_route(each) for each in routes] for path_id, routes in found.items()}


def limit_said(limit_ms: float | None) -> str:
    """Return a path's slow limit, empty where none is set."""
    return "" if limit_ms is None else bare_text(signal_of("latency_p95_ms"), float(limit_ms))


def cost_bars(found: Sequence[PathEconomics]) -> list[BarPair]:
    """Return the cost per task of each path: stable's before, the candidate's now."""
    return bar_pairs(
        [
            (
                each.name,
                _value(each.stable_cost),
                _cost_text(each.stable_cost),
                _value(each.candidate_cost),
                _cost_text(each.candidate_cost),
            )
            for each in found
        ]
    )


def _view(found: PathEconomics, escalates_to: str) -> PathView:
    return PathView(
        path=found.path,
        name=found.name,
        since=found.since,
        until=found.until,
        window=duration_text(found.span_s),
        last_at=found.last_at,
        tasks=found.tasks,
        money=_money(found),
        steps=[_step(each, found) for each in found.projections],
        uses=[_use(each, "") for each in found.flow.modes],
        use_segments=[
            _use(each, each.segment or "in no segment") for each in found.flow.by_segment
        ],
        flow_note=_flow_note(found.flow),
        map=_map(found, escalates_to) if found.flow.n else None,
        tokens=[_token(each) for each in found.tokens],
        reviews=_reviews(found.reviews, found.span_s, found.projections),
        slow_limit=limit_said(found.slow_limit_ms),
        routes=[_route(each) for each in found.routes],
    )


# --- Money ---


def _money(found: PathEconomics) -> list[Fact]:
    # What nobody told the cost of is not free, so the budget is held against all tasks.
    spend, budget = found.spend_all, found.budget_per_hour
    note = _of_limit(spend, budget, "its budget", "usd/h")
    if found.spend is not None and found.cost.known < found.cost.of:
        known = unit_text("usd/h", found.spend.value)
        note = f"{known} is known, the rest as if it cost the same; {note}"
    facts = [
        Fact(
            "Spend an hour",
            "spend",
            _number("usd/h", spend, _known(found.cost), _against(spend, budget)),
            note,
            _bar(spend, budget),
        )
    ]
    facts += [_period(each) for each in found.periods]
    facts += [
        Fact(name, slug, _cost(cost), note)
        for name, slug, cost, note in (
            ("Cost per task, all", "cost", found.cost, "every arm and mode"),
            ("Candidate", "candidate-cost", found.candidate_cost, "normal mode"),
            ("Stable", "stable-cost", found.stable_cost, "normal mode"),
        )
    ]
    return facts


def _period(period: Period) -> Fact:
    burn = period.burn
    name = "Budget of this hour" if period.name == "hour" else "Budget of today"
    passed = f"since {period.since:%H:%M} UTC, {share_text(burn.elapsed_share)} of it has passed"
    told = f"cost known for {period.known:,} of {period.of:,} tasks"
    shown = None
    if burn.used_share is not None:
        over = burn.used_share > 1
        # Without a task nothing is spent, and nothing is known to hold.
        known = period.known == period.of > 0
        shown = SIGNALS["over" if over else "inside" if known else "too_few"]
    value = MISSING if burn.used_share is None else share_text(burn.used_share)
    if burn.used_share is not None and period.known < period.of:
        value = f"at least {value}"
    spent = MISSING if burn.spent is None else unit_text("usd", burn.spent)
    of = ", no budget is set" if burn.budget is None else f" of {unit_text('usd', burn.budget)}"
    return Fact(
        name,
        f"burn-{period.name}",
        Number(value, f"{spent}{of}", told, shown),
        passed,
        limit_bar(burn.used_share),
    )


def _step(step: Projection, found: PathEconomics) -> StepRow:
    name = "Full exposure" if step.stage is None else f"Stage {step.stage}"
    capacity = found.reviews.capacity_per_hour
    return StepRow(
        name=name,
        share=MISSING if step.share is None else share_text(step.share),
        basis="everybody" if step.stage is None else _BASES[step.basis],
        spend=_number(
            "usd/h",
            step.spend,
            "" if step.spend is None else f"n {step.spend.n:,}",
            _against(step.spend, found.budget_per_hour),
        ),
        reviews=_number(
            "/h",
            step.reviews,
            "" if step.reviews is None else f"n {step.reviews.n:,}",
            _against(step.reviews, capacity),
        ),
    )


# --- Fallbacks ---


def _use(use: ModeUse, where: str) -> UseRow:
    cost = Number(MISSING, "", "counted with its release")
    if use.cost is not None:
        cost = _cost(use.cost, None if use.cost_state is None else SIGNALS[use.cost_state])
    return UseRow(
        where=where,
        mode=use.mode,
        name=_mode_name(use.mode),
        share=_number("share", use.share, f"{use.n:,} of {use.of:,}"),
        escalated=f"{use.escalated:,}",
        cost=cost,
        cap="" if use.cap is None else f"≤ {unit_text('usd', use.cap)}",
    )


def _mode_name(mode: str) -> str:
    return _OWN if mode == OWN_FALLBACK else MODE_NAMES[mode]


def _flow_note(flow: Flow) -> str:
    used = sum(use.n for use in flow.modes)
    note = f"{used:,} of {flow.n:,} tasks used a fallback"
    if flow.stable_share is not None:
        note += (
            f"; {share_text(flow.stable_share.value)} of {flow.stable_share.n:,} on the stable"
            " release"
        )
    return note


def _map(found: PathEconomics, escalates_to: str) -> Map:
    flow = found.flow
    escalated = flow.answered_escalated + sum(use.escalated for use in flow.modes)
    waiting = found.reviews
    note = f"{escalated:,} tasks"
    if waiting.backlog:
        note = f"{note} · {waiting.backlog:,} reviews wait"
    answered = share_text(flow.answered / flow.n)
    return flow_map(
        path=(found.name, f"n {flow.n:,}"),
        answers=Branch(
            answered,
            f"{flow.answered:,} tasks",
            flow.answered / flow.n,
            flow.answered_escalated / flow.n,
        ),
        fallbacks=[
            Branch(
                _mode_name(use.mode),
                f"{share_text(use.n / flow.n)} · {use.n:,} tasks",
                use.n / flow.n,
                use.escalated / flow.n,
                use.cost_state == "over",
            )
            for use in flow.modes
        ],
        escalation=(escalates_to, note),
    )


# --- Tokens, reviews, routes ---


def _token(row: Tokens) -> TokenRow:
    return TokenRow(
        segment=row.segment or "in no segment",
        tasks=row.tasks,
        input=_number("tokens", row.input, _n_of(row.input, row.tasks)),
        input_total=f"{row.input_total:,.0f}" if row.input is not None else MISSING,
        output=_number("tokens", row.output, _n_of(row.output, row.tasks)),
        output_total=f"{row.output_total:,.0f}" if row.output is not None else MISSING,
    )


def _reviews(reviews: Reviews, span_s: float, projections: Sequence[Projection]) -> list[Fact]:
    capacity = reviews.capacity_per_hour
    arrivals = reviews.arrivals
    clear = "never at this rate: as many come as can be done, or more"
    if capacity is None:
        clear = "no capacity is set"
    elif arrivals is None:
        clear = "how many come is not known"
    elif reviews.hours_to_clear is not None:
        clear = f"cleared in {duration_text(reviews.hours_to_clear * 3600)} at this rate"
    asked = "no task" if arrivals is None else f"n {arrivals.n:,}"
    facts = [
        Fact(
            "Reviews asked for",
            "review-arrivals",
            _number("/h", arrivals, asked, _against(arrivals, capacity)),
            _of_limit(arrivals, capacity, "capacity", "/h"),
            _bar(arrivals, capacity),
        ),
        Fact(
            "Load",
            "review-load",
            _number("share", reviews.load, asked, _against(reviews.load, 1.0)),
            "arrivals over capacity" if capacity else "no capacity is set",
        ),
        Fact(
            "Waiting",
            "review-backlog",
            Number(f"{reviews.backlog:,}", "", "now"),
            clear if reviews.backlog else "nothing waits",
        ),
        Fact(
            "Oldest",
            "review-age",
            Number(
                MISSING if reviews.oldest_s is None else duration_text(reviews.oldest_s), "", "now"
            ),
            "since its task asked for it",
        ),
        Fact(
            "Rejected",
            "review-rejected",
            _number(
                "share",
                reviews.rejected,
                "no review" if reviews.rejected is None else f"n {reviews.rejected.n:,} reviews",
            ),
            duration_text(span_s),
        ),
        Fact(
            "A review took",
            "review-took",
            _number(
                "ms",
                reviews.took_ms,
                "none said" if reviews.took_ms is None else f"n {reviews.took_ms.n:,} reviews",
            ),
            "mean, last 24 h",
        ),
    ]
    for step in projections:
        if step.reviews is not None and step.stage is not None:
            facts.append(
                Fact(
                    f"At stage {step.stage}",
                    "review-next",
                    _number(
                        "/h",
                        step.reviews,
                        f"n {step.reviews.n:,}",
                        _against(step.reviews, capacity),
                    ),
                    _of_limit(step.reviews, capacity, "capacity", "/h"),
                    _bar(step.reviews, capacity),
                )
            )
    return facts


def _route(row: Route) -> RouteRow:
    return RouteRow(
        route=row.route,
        n=row.n,
        errors=row.errors,
        p50=_number("ms", row.p50, _n_of(row.p50, row.n)),
        p95=_number("ms", row.p95, _n_of(row.p95, row.n)),
        p99=_number("ms", row.p99, _n_of(row.p99, row.n)),
        slow=_number("share", row.slow, _n_of(row.slow, row.n)),
        cost=_cost(row.cost),
    )


# --- Numbers as text ---


def _number(unit: Unit, found: Estimate | None, n: str, state: CellState | None = None) -> Number:
    if found is None:
        return Number(MISSING, "", n)
    shown = None if state is None else SIGNALS[state]
    return Number(
        unit_text(unit, found.value),
        unit_range_text(unit, found.low, found.high) or "no range yet",
        n,
        shown,
    )


def _cost(cost: Cost, shown: Shown | None = None) -> Number:
    found = _number("usd", cost.per_task, _known(cost))
    return Number(found.value, found.range, found.n, shown)


def _known(cost: Cost) -> str:
    return f"cost known for {cost.known:,} of {cost.of:,} tasks"


def _n_of(found: Estimate | None, of: int) -> str:
    n = 0 if found is None else found.n
    return f"n {n:,}" if n == of else f"n {n:,} of {of:,}"


def _value(cost: Cost) -> float | None:
    return None if cost.per_task is None else cost.per_task.value


def _cost_text(cost: Cost) -> str:
    if cost.per_task is None:
        return "not known"
    return f"{unit_text('usd', cost.per_task.value)} · n {cost.known:,}"


def _against(found: Estimate | None, limit: float | None) -> CellState | None:
    """Return where a figure of which less is better lies against what is allowed."""
    if found is None or limit is None:
        return None
    if found.low is None or found.high is None:
        return "too_few"
    if found.low > limit:
        return "over"
    return "inside" if found.high <= limit else "near"


def _of_limit(found: Estimate | None, limit: float | None, word: str, unit: Unit) -> str:
    if limit is None:
        return f"{word} is not set" if word.startswith("its") else f"no {word} is set"
    of = f"{word} {unit_text(unit, limit)}"
    if found is None or limit <= 0:
        return of
    return f"{share_text(found.value / limit)} of {of}"


def _bar(found: Estimate | None, limit: float | None) -> Bar | None:
    if limit is None or limit <= 0:
        return None
    if found is None:
        return limit_bar(None)
    low = None if found.low is None else found.low / limit
    high = None if found.high is None else found.high / limit
    return limit_bar(found.value / limit, low=low, high=high)
