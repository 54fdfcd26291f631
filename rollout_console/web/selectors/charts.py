"""The charts of a rollout: which ones, over which span, with which limits and marks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.urls import reverse

from rollout_console.catalog.models import WorkflowPath
from rollout_console.rollouts.models import Mark, Rollout, StageSegment
from rollout_console.web.figures import ChartMark, Drill, Series, TableRow, figure, table_rows
from rollout_console.web.selectors.rollouts import Whole
from signals.alerts.models import Alert
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE
from signals.buckets.many import Asked, arm_series, many_series
from signals.buckets.selectors import (
    Point,
    reads_arrivals,
    rounded_step,
    served_from,
)
from signals.catalogue import STATES, Signal
from signals.guards.models import Guard
from signals.guards.selectors import guards_now
from signals.ingest.drill import MODE_OF_REACH
from signals.ingest.worst import WORST
from signals.own.selectors import signals_in

# The charts that every path has; signals that a guard watches join them.
BASE_SIGNALS: Final = ("quality_pass_rate", "latency_p95_ms", "cost_per_task_usd")
CHARTS_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class Window:
    slug: str
    name: str
    span_s: int
    step_s: int


WINDOWS: Final = {
    window.slug: window
    for window in (
        Window("15m", "15 min", 900, 10),
        Window("1h", "1 h", 3600, 60),
        Window("12h", "12 h", 43_200, 600),
        Window("7d", "7 d", 604_800, 7200),
    )
}
_YOUNG: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: `figure` in Plotly's form, and the same numbers as a table."""

    key: str
    path: str
    path_name: str
    signal: str
    title: str
    figure: dict[str, Any]
    rows: list[TableRow]


class Trip(NamedTuple):
    """That a guard of a signal tripped on a path."""

    path_id: int
    signal: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ChartPlan:
    """A chart that a page has room for, before its numbers are read."""

    key: str
    path_id: int
    path: str
    path_name: str
    signal: str
    title: str
    of: Signal
    limit: float | None
    slow_ms: float | None


def window_chosen(asked: str, rollout: Rollout, now: datetime) -> Window:
    """Return the window asked for; else the shortest for a rollout younger than an hour."""
    if asked in WINDOWS:
        return WINDOWS[asked]
    since = rollout.live_at or rollout.created_at
    return WINDOWS["15m"] if now - since < _YOUNG else WINDOWS["1h"]


def chart_plans(
    rollout: Rollout, *, path: str = "", signals: Sequence[str] = ()
) -> list[ChartPlan]:
    """Return the charts of a rollout's paths, or of one, or only those of `signals`."""
    paths = WorkflowPath.objects.filter(rollout_paths__rollout=rollout).order_by("pk")
    return plans_on(rollout, paths, guards_now([rollout.slug]), path=path, signals=signals)


def plans_on(
    rollout: Rollout,
    paths: Iterable[WorkflowPath],
    guards: Iterable[Guard],
    *,
    path: str = "",
    signals: Sequence[str] = (),
) -> list[ChartPlan]:
    """Return `chart_plans` of a rollout whose paths and current guards have been read."""
    limited = [guard for guard in guards if guard.limit is not None]
    # A rollout's pages show what it was judged by, though its team defines that otherwise now.
    judged_by = {guard.definition_id for guard in limited if guard.definition_id is not None}
    known_here = signals_in(rollout.workflow_id, judged_by=judged_by)
    own = [slug for slug, signal in known_here.items() if signal.own]
    plans = []
    for each in paths:
        if path and each.slug != path:
            continue
        here = [guard for guard in limited if guard.path_id == each.pk]
        watched = [guard.signal for guard in here]
        chosen = signals or [*BASE_SIGNALS, *watched, *own]
        for slug in list(dict.fromkeys(chosen))[:CHARTS_MAX]:
            known = known_here.get(slug)
            if known is None or not known.collected:
                continue
            limits = [
                (guard.compare == "hard_cap", guard.kind != "trigger", guard.limit)
                for guard in here
                if guard.signal == slug
            ]
            limit = min(limits)[2] if limits else each.limits.get(slug)
            slow = each.limits.get("slow_path_ms")
            plans.append(
                ChartPlan(
                    key=f"{each.slug}.{slug}",
                    path_id=each.pk,
                    path=each.slug,
                    path_name=each.name,
                    signal=slug,
                    title=known.title,
                    of=known,
                    limit=float(limit) if limit is not None else None,
                    slow_ms=float(slow) if slow is not None else None,
                )
            )
    return plans


@dataclass(frozen=True, slots=True)
class Ground:
    """What all charts of a rollout stand on: its stage's segments (id to slug), and its trips."""

    segments: dict[int, str]
    trips: list[Trip]


def ground_read(rollout: Rollout) -> Ground:
    segments = StageSegment.objects.filter(stage__rollout=rollout, stage__position=rollout.stage)
    trips = Alert.objects.filter(rollout=rollout.slug, guard__isnull=False)
    return Ground(
        dict(segments.order_by("position").values_list("segment_id", "segment__slug")),
        [
            Trip(*row)
            for row in trips.order_by("opened_at", "pk").values_list(
                "guard__path_id", "guard__signal", "opened_at"
            )
        ],
    )


def ground_of(whole: Whole) -> Ground:
    """Return `ground_read` of a rollout that has been read with every alert of it."""
    return Ground(
        {row.segment_id: row.segment.slug for row in whole.parts.rung(whole.rollout.stage)},
        [
            Trip(alert.guard.path_id, alert.guard.signal, alert.opened_at)
            for alert in sorted(whole.alerts, key=lambda alert: (alert.opened_at, alert.pk))
            if alert.guard is not None
        ],
    )


def charts(
    rollout: Rollout,
    plans: Sequence[ChartPlan],
    *,
    window: Window,
    now: datetime,
    ground: Ground | None = None,
) -> list[Chart]:
    """Read the numbers of the charts, and what they stand on unless that has been read.

    After the rollout ended a line goes on with what the same segments were served instead.
    """
    if not plans:
        return []
    end = now
    start = _start(rollout, window, now)
    ground = ground or ground_read(rollout)
    segments = ground.segments
    marks = [
        ChartMark(at=at, kind=kind, text=text)
        for at, kind, text in Mark.objects.filter(rollout=rollout, at__gte=start)
        .order_by("at", "pk")
        .values_list("at", "kind", "text")
    ]
    reading: dict[str, Any] = {
        "workflow_id": rollout.workflow_id,
        "segment_ids": list(segments),
        "start": start,
        "end": end,
        "step_s": window.step_s,
    }
    asked = [Asked(plan.path_id, plan.of, plan.slow_ms) for plan in plans]
    ended = rollout.ended_at if rollout.live_at else None
    if ended:
        stable_lines: dict[Asked, list[Point]] = {}
        candidate_lines = many_series(asked, arms=[ARM_CANDIDATE], served_until=ended, **reading)
    else:
        sides = [[ARM_CANDIDATE], [ARM_STABLE]]
        candidate_lines, stable_lines = arm_series(asked, sides=sides, **reading)
    found = []
    for plan, line in zip(plans, asked, strict=True):
        candidate, stable = candidate_lines[line], stable_lines.get(line, [])
        signal = plan.of
        step_s = rounded_step(start=start, end=end, step_s=window.step_s, by_event=signal.by_event)
        series = Series(
            signal=plan.of,
            candidate=candidate,
            stable=stable,
            limit=plan.limit,
            marks=[
                *marks,
                *(
                    ChartMark(at=at, kind="action", text=f"tripped {at:%H:%M:%S}")
                    for path_id, slug, at in ground.trips
                    if path_id == plan.path_id and slug == plan.signal and at >= start
                ),
            ],
            start=start,
            end=end,
            step_s=step_s,
            drill=_drill(
                rollout,
                plan,
                signal,
                segments=list(segments.values()),
                arrivals=reads_arrivals(signal=signal, start=start, end=end),
                step_s=step_s,
                end=end,
                ended=ended,
            ),
        )
        found.append(
            Chart(
                key=plan.key,
                path=plan.path,
                path_name=plan.path_name,
                signal=plan.signal,
                title=plan.title,
                figure=figure(series),
                rows=table_rows(series),
            )
        )
    return found


def _drill(
    rollout: Rollout,
    plan: ChartPlan,
    signal: Signal,
    *,
    segments: list[str],
    arrivals: bool,
    step_s: int,
    end: datetime,
    ended: datetime | None,
) -> Drill | None:
    """Return the way from a chart's points to their runs: what the points were counted from."""
    if signal.source in STATES or plan.signal not in WORST:
        # What waits at a moment is of no step's runs.
        return None
    asked: dict[str, str | list[str]] = {
        "workflow": rollout.workflow.slug,
        "path": plan.path,
        "segment": segments,
        "order": "worst",
        "signal": plan.signal,
    }
    if arrivals:
        asked["clock"] = "arrival"
    mode = MODE_OF_REACH.get(signal.reach, "")
    moded = {**asked, "mode": mode} if mode else asked
    return Drill(
        page=reverse("web:runs"),
        asked={**moded, "arm": "candidate"},
        stable={**(asked if ended else moded), "arm": "stable"},
        step_s=step_s,
        end=end,
        served_from=served_from(ended, step_s) if ended else None,
    )


def _start(rollout: Rollout, window: Window, now: datetime) -> datetime:
    """Return where a chart begins: a young rollout gets no hour of emptiness before it."""
    start = now - timedelta(seconds=window.span_s)
    if rollout.live_at is None or window.span_s > WINDOWS["1h"].span_s:
        return start
    age = now - rollout.live_at
    before = rollout.live_at - max(timedelta(seconds=60), age / 4)
    return max(start, before)
