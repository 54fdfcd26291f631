"""One signal of a workflow's path, parted by something, and the failures of a path by category."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.urls import reverse

from approvals.authority.principals import Principal
from rollout_console.catalog.models import Release, Segment, Workflow, WorkflowPath
from rollout_console.containment.policy import MODE_NAMES
from rollout_console.core.errors import NotFound
from rollout_console.rollouts.models import Mark
from rollout_console.web.figures import ChartMark, Drill
from rollout_console.web.selectors.runs import runs_href
from rollout_console.web.selectors.shell import readable_ids
from rollout_console.web.split_figures import LINES_MAX, Line, split_figure
from signals.buckets.keys import ARMS, INPUT_CONDITIONS, MODES, RISKS, SUBJECTS_MAX
from signals.buckets.measures import Measures, total
from signals.buckets.selectors import Point
from signals.buckets.splits import FailureTotal, Split, failure_totals, split_measures
from signals.buckets.splits import splits_of as splits_of_signal
from signals.catalogue import Signal, shown_at
from signals.format import MISSING, range_text, value_text
from signals.guards.selectors import limit_drawn
from signals.ingest.drill import CODES, MODE_OF_REACH, NONE
from signals.ingest.worst import WORST
from signals.own.selectors import signals_in
from signals.stats.estimate import Estimate, estimate


@dataclass(frozen=True, slots=True)
class Span:
    """How far back a page looks; a step is whole minutes long."""

    slug: str
    name: str
    span_s: int
    step_s: int


SPANS: Final = {
    span.slug: span
    for span in (
        Span("1h", "1 h", 3600, 60),
        Span("24h", "24 h", 86_400, 900),
        Span("7d", "7 d", 604_800, 7200),
        Span("30d", "30 d", 2_592_000, 28_800),
    )
}
FIRST_SIGNAL: Final = "quality_pass_rate"
_NOT_SAID: Final = "not said"


@dataclass(frozen=True, slots=True)
class SplitRow:
    """One value of the split over the whole span; `href` leads to its runs."""

    name: str
    value: str
    range: str
    n: int
    share: float
    newest_at: datetime
    drawn: bool
    href: str


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step as text: a cell for each line drawn, and where it leads: to its runs."""

    at: datetime
    until: datetime
    cells: list[str]
    hrefs: list[str]

    @property
    def linked(self) -> list[tuple[str, str]]:
        return list(zip(self.cells, self.hrefs, strict=True))


@dataclass(frozen=True, slots=True)
class SignalView:
    """What the page shows. `share` of a row is its part of the tasks that reported the signal."""

    workflow: Workflow
    path: WorkflowPath
    paths: list[WorkflowPath]
    signal: Signal
    signals: list[Signal]
    split: Split
    splits: list[Split]
    span: Span
    rows: list[SplitRow]
    lines: list[str]
    steps: list[StepRow]
    figure: dict[str, Any]
    limit: float | None
    n: int
    start: datetime
    end: datetime

    @property
    def chart_key(self) -> str:
        return f"{self.path.slug}.{self.signal.slug}"


@dataclass(frozen=True, slots=True)
class FailureRow:
    """A failure category on a path; `by_release` has the newest release first.

    `href` leads to the runs that were reported with it.
    """

    category: str
    n: int
    by_release: list[tuple[str, int]]
    subjects: str
    first_at: datetime
    first_release: str
    first_is_candidate: bool
    newest_at: datetime
    href: str


@dataclass(frozen=True, slots=True)
class FailurePath:
    slug: str
    name: str
    rows: list[FailureRow]


@dataclass(frozen=True, slots=True)
class FailuresView:
    workflow: Workflow
    span: Span
    paths: list[FailurePath]
    read_at: datetime


def splittable(workflow: Workflow) -> list[Signal]:
    """Return a workflow's signals that can be parted, in the order of charts, its own last."""
    return sorted(
        (signal for signal in signals_in(workflow.pk).values() if splits_of_signal(signal)),
        key=lambda signal: shown_at(signal.slug),
    )


def workflow_get(slug: str, principal: Principal) -> Workflow:
    """Return a workflow that `principal` may read.

    Raises:
        NotFound: there is none, or it is not theirs to read.
    """
    query = Workflow.objects.select_related("owner", "deputy")
    ids = readable_ids(principal)
    if ids is not None:
        query = query.filter(pk__in=ids)
    found = query.filter(slug=slug).first() if "\x00" not in slug else None
    if found is None:
        raise NotFound(f"There is no workflow “{slug}” in yours. Nothing is affected.")
    return found


def signal_view(
    slug: str,
    *,
    asked: Mapping[str, str],
    principal: Principal,
    now: datetime,
) -> SignalView:
    """Return a signal of one path by the values of a split; what is not asked for is chosen.

    Args:
        asked: `path`, `signal`, `split` and `span`, each where it is asked for.

    Raises:
        NotFound: there is no such workflow to read, or it has no path yet.
    """
    workflow = workflow_get(slug, principal)
    paths = list(workflow.paths.select_related("workflow").order_by("slug"))
    if not paths:
        raise NotFound(f"{workflow.name} has no path yet, so no signal either.")
    path = next((each for each in paths if each.slug == asked.get("path")), paths[0])
    signals = splittable(workflow)
    known = {signal.slug: signal for signal in signals}
    signal = known.get(asked.get("signal", ""), known[FIRST_SIGNAL])
    splits = splits_of_signal(signal)
    split = next((each for each in splits if each.slug == asked.get("split")), splits[0])
    span = SPANS.get(asked.get("span", ""), SPANS["24h"])
    # Whole steps, so that the last one fills up instead of the window moving under the reader.
    end_s = (int(now.timestamp()) // span.step_s + 1) * span.step_s
    end = datetime.fromtimestamp(end_s, tz=UTC)
    start = end - timedelta(seconds=span.span_s)
    parted = split_measures(
        split,
        signal=signal,
        path_id=path.pk,
        start=start,
        end=end,
        step_s=span.step_s,
    )
    slow = path.limits.get("slow_path_ms")
    slow_ms = float(slow) if slow is not None else None
    names = _names(split, workflow)
    words = _asked(split, workflow)
    whole: list[tuple[str, Estimate, datetime, Line]] = []
    for value, steps in parted.items():
        name = str(value) if split.column is None else names.get(int(value), _NOT_SAID)
        seen = estimate(
            signal, total(each for _, each in steps), span_s=span.span_s, slow_ms=slow_ms
        )
        if seen is not None:
            points = _points(signal, steps, step_s=span.step_s, slow_ms=slow_ms)
            drill = _drill(
                signal,
                path,
                split,
                str(value) if split.column is None else words.get(int(value), ""),
                step_s=span.step_s,
                end=end,
            )
            whole.append((name, seen, steps[-1][0], Line(name, points, drill)))
    whole.sort(key=lambda each: (-each[1].n, each[0]))
    n = sum(seen.n for _, seen, _, _ in whole)
    lines = [line for *_, line in whole[:LINES_MAX]]
    limit = limit_drawn(path, signal.slug)
    return SignalView(
        workflow=workflow,
        path=path,
        paths=paths,
        signal=signal,
        signals=signals,
        split=split,
        splits=splits,
        span=span,
        rows=[
            SplitRow(
                name=name,
                value=value_text(signal, seen.value),
                range=range_text(signal, seen.low, seen.high),
                n=seen.n,
                share=seen.n / n if n else 0.0,
                newest_at=newest_at,
                drawn=place < LINES_MAX,
                href=line.drill.href(start, until=end) if line.drill else "",
            )
            for place, (name, seen, newest_at, line) in enumerate(whole)
        ],
        lines=[line.name for line in lines],
        steps=_steps(signal, lines, span),
        figure=split_figure(
            signal,
            lines,
            limit=limit,
            marks=_marks(path, start, end),
            start=start,
            end=end,
            step_s=span.step_s,
        ),
        limit=limit,
        n=n,
        start=start,
        end=end,
    )


def failures_view(slug: str, *, span: str, principal: Principal, now: datetime) -> FailuresView:
    """Return a workflow's failures by path and category over `span`, a key of `SPANS`.

    Raises:
        NotFound: there is no such workflow to read.
    """
    workflow = workflow_get(slug, principal)
    chosen = SPANS.get(span, SPANS["24h"])
    paths = list(workflow.paths.order_by("slug"))
    found = failure_totals(
        path_ids=[path.pk for path in paths],
        since=now - timedelta(seconds=chosen.span_s),
        until=now + timedelta(minutes=6),
        subjects_max=SUBJECTS_MAX,
    )
    versions = dict(Release.objects.filter(workflow=workflow).values_list("pk", "version"))
    return FailuresView(
        workflow=workflow,
        span=chosen,
        paths=[
            FailurePath(
                slug=path.slug,
                name=path.name,
                rows=[
                    _failure(
                        each,
                        path,
                        versions,
                        href=runs_href(
                            workflow=workflow.slug,
                            path=path.slug,
                            failure_category=each.category,
                            from_=(now - timedelta(seconds=chosen.span_s)).isoformat(),
                        ),
                    )
                    for each in found.get(path.pk, [])
                ],
            )
            for path in paths
        ],
        read_at=now,
    )


def _failure(
    found: FailureTotal, path: WorkflowPath, versions: Mapping[int, str], *, href: str
) -> FailureRow:
    least = "at least " if found.subjects_cut else ""
    return FailureRow(
        category=found.category,
        n=found.n,
        by_release=[
            (versions.get(pk, "no release"), found.by_release[pk])
            for pk in sorted(found.by_release, reverse=True)
        ],
        subjects=f"{least}{found.subjects:,}" if found.subjects else MISSING,
        first_at=found.first_at,
        first_release=versions.get(found.first_release_id, "no release"),
        first_is_candidate=found.first_release_id == path.candidate_id,
        newest_at=found.newest_at,
        href=href,
    )


def _names(split: Split, workflow: Workflow) -> dict[int, str]:
    """Return what the codes of a split are called."""
    match split.slug:
        case "segment":
            rows = Segment.objects.filter(workflow=workflow).values_list("pk", "name")
            return {0: "no segment", **dict(rows)}
        case "release":
            versions = Release.objects.filter(workflow=workflow).values_list("pk", "version")
            return {0: "no release", **dict(versions)}
        case "arm":
            return {code: name for name, code in ARMS.items()}
        case "mode":
            return {code: MODE_NAMES[name] for name, code in MODES.items()}
        case "input_condition":
            return {code: name for name, code in INPUT_CONDITIONS.items()}
        case _:
            return {code: name for name, code in RISKS.items()}


def _asked(split: Split, workflow: Workflow) -> dict[int, str]:
    """Return by what value of its filter the drill-down knows the codes of a split."""
    match split.slug:
        case "segment":
            return {
                0: NONE,
                **dict(Segment.objects.filter(workflow=workflow).values_list("pk", "slug")),
            }
        case "release":
            versions = Release.objects.filter(workflow=workflow).values_list("pk", "version")
            return {0: NONE, **dict(versions)}
        case "mode":
            return {code: name for name, code in MODES.items()}
        case _:
            return {code: name for name, code in CODES.get(split.slug, {}).items()}


def _drill(
    signal: Signal, path: WorkflowPath, split: Split, value: str, *, step_s: int, end: datetime
) -> Drill | None:
    if not value or signal.slug not in WORST:
        return None
    asked = {
        "workflow": path.workflow.slug,
        "path": path.slug,
        "order": "worst",
        "signal": signal.slug,
        split.slug: value,
    }
    if split.slug != "mode" and (mode := MODE_OF_REACH.get(signal.reach)):
        asked["mode"] = mode
    return Drill(page=reverse("web:runs"), asked=asked, step_s=step_s, end=end)


def _points(
    signal: Signal,
    steps: list[tuple[datetime, Measures]],
    *,
    step_s: int,
    slow_ms: float | None,
) -> list[Point]:
    points = []
    for at, measures in steps:
        seen = estimate(signal, measures, span_s=step_s, slow_ms=slow_ms, always=True)
        if seen is not None:
            points.append(Point(at, seen.value, seen.low, seen.high, seen.n))
    return points


def _steps(signal: Signal, lines: list[Line], span: Span) -> list[StepRow]:
    by_line = [{point.t: point for point in line.points} for line in lines]
    moments = sorted({at for points in by_line for at in points}, reverse=True)
    return [
        StepRow(
            at=at,
            until=at + timedelta(seconds=span.step_s),
            cells=[
                f"{value_text(signal, points[at].value)} (n {points[at].n:,})"
                if at in points
                else MISSING
                for points in by_line
            ],
            hrefs=[
                line.drill.href(at) if line.drill and at in points else ""
                for line, points in zip(lines, by_line, strict=True)
            ],
        )
        for at in moments
    ]


def _marks(path: WorkflowPath, start: datetime, end: datetime) -> list[ChartMark]:
    rows = Mark.objects.filter(
        workflow=path.workflow_id, at__gte=start, at__lt=end, rollout__rollout_paths__path=path
    )
    return [
        ChartMark(at=at, kind=kind, text=text)
        for at, kind, text in rows.order_by("at", "pk").values_list("at", "kind", "text")
    ]
