"""What the comparison of two releases shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rollout_console.catalog.models import Release, Workflow, WorkflowPath
from rollout_console.core.errors import DomainError, InvalidInput
from rollout_console.rollouts.release_rows import pair_of
from rollout_console.web.drawing import Floating, waterfall
from rollout_console.web.words import COMPARED, Shown
from signals.buckets.comparison import Comparison, Times, comparison_read
from signals.catalogue import Signal, signal_of
from signals.format import MISSING, gap_text, range_text, value_text
from signals.stats.compare import (
    LEAST_N,
    Compared,
    CostCompared,
    Side,
    compare_all,
    compare_cost,
)
from signals.stats.cost_change import Part
from signals.stats.estimate import Estimate

NEVER: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
# The minute that goes on now, and those of clocks that run ahead.
AHEAD: Final = timedelta(minutes=6)
_COST: Final = signal_of("cost_per_task_usd")
_PARTS: Final[dict[Part, tuple[str, str]]] = {
    "input_tokens": ("Input tokens", "how much a task reads"),
    "output_tokens": ("Output tokens", "how much a task writes"),
    "price": ("Price", "what a token costs"),
    "tokens_and_price": ("Tokens and price", "not reported apart"),
    "retries": ("Retries", "attempts a task"),
    "fallback": ("Fallback", "how often, and what one costs"),
}


@dataclass(frozen=True, slots=True)
class SideRow:
    """One release's tasks that are compared."""

    release: str
    registered: bool
    n: int
    fallback_n: int
    times: Times | None


@dataclass(frozen=True, slots=True)
class Number:
    """A value as text with its range and the number of tasks that it stands on."""

    value: str
    range: str
    n: int


@dataclass(frozen=True, slots=True)
class ComparedRow:
    signal: str
    title: str
    candidate: Number
    stable: Number
    gap: str
    range: str
    word: str
    shown: Shown
    note: str


@dataclass(frozen=True, slots=True)
class PartRow:
    """A row of the waterfall: a release's whole cost, or a part of the change."""

    name: str
    note: str
    value: str
    bar: Floating
    whole: bool


@dataclass(frozen=True, slots=True)
class CostView:
    """The change in cost per task; `word` says whether it is more, less or the same."""

    rows: list[PartRow]
    word: str
    change: str
    range: str
    percent: str
    n: int
    stable_n: int
    tokens_known: bool
    retries_known: bool


@dataclass(frozen=True, slots=True)
class CompareView:
    """A comparison; `read` None where there is none to show, and `refusal` says why."""

    workflow: Workflow
    path: WorkflowPath | None
    candidate: str
    stable: str
    paths: list[WorkflowPath]
    releases: list[str]
    refusal: str
    read: Comparison | None
    segments: list[str]
    sides: list[SideRow]
    rows: list[ComparedRow]
    cost: CostView | None
    cost_missing: str
    read_at: datetime


def compare_view(
    workflow: Workflow,
    *,
    path: str,
    candidate: str,
    stable: str,
    length: timedelta | None,
    now: datetime,
) -> CompareView:
    """Return two releases beside each other; those that play the roles unless named.

    Args:
        path: a path's slug, "" for the first one that has both roles.
        length: how far back, None for all there is.
    """
    paths = list(workflow.paths.select_related("workflow", "candidate", "stable").order_by("slug"))
    chosen = _path(paths, path)
    refusal, first, second = "", None, None
    try:
        if chosen is None:
            raise InvalidInput(f"{workflow.name} has no such path: choose one.")
        first, second = pair_of(chosen, candidate=candidate or None, stable=stable or None)
    except DomainError as told:
        refusal = told.detail
    read = None
    if chosen is not None and first is not None and second is not None:
        read = comparison_read(
            path_id=chosen.pk,
            candidate_id=first.pk,
            stable_id=second.pk,
            since=NEVER if length is None else now - length,
            until=now + AHEAD,
        )
    names = dict(workflow.segments.values_list("pk", "name"))
    found = None if read is None else compare_cost(read.candidate, read.stable)
    return CompareView(
        workflow=workflow,
        path=chosen,
        candidate=first.version if first else candidate,
        stable=second.version if second else stable,
        paths=paths,
        releases=list(workflow.releases.order_by("-pk").values_list("version", flat=True)[:200]),
        refusal=refusal,
        read=read,
        segments=_segments(read, names),
        sides=[] if read is None or not first or not second else _sides(read, first, second),
        rows=[] if read is None else compared_rows(read, chosen),
        cost=None if found is None or not first or not second else _cost(found, first, second),
        cost_missing="" if read is None or found is not None else _cost_missing(read),
        read_at=now,
    )


def compared_rows(read: Comparison, path: WorkflowPath | None) -> list[ComparedRow]:
    """Return every signal that either release reported, as text."""
    slow = path.limits.get("slow_path_ms") if path else None
    return [compared_row(row) for row in compare_all(read.candidate, read.stable, slow_ms=slow)]


def compared_row(row: Compared) -> ComparedRow:
    shown = COMPARED[row.word]
    note = row.note
    if row.word == "too_few" and row.candidate and row.stable:
        note = f"{note} A word takes {LEAST_N} tasks on each side.".strip()
    elif row.word == "not_known" and row.gap is not None and row.low is row.high is None:
        note = f"{note} The range of the difference is not known.".strip()
    return ComparedRow(
        signal=row.signal.slug,
        title=row.signal.title,
        candidate=_number(row.signal, row.candidate),
        stable=_number(row.signal, row.stable),
        gap=MISSING if row.gap is None else gap_text(row.signal, row.gap),
        range=_gap_range(row.signal, row.low, row.high),
        word=row.word,
        shown=shown,
        note=note,
    )


def _path(paths: Sequence[WorkflowPath], slug: str) -> WorkflowPath | None:
    if slug:
        return next((path for path in paths if path.slug == slug), None)
    both = [path for path in paths if path.candidate_id and path.stable_id]
    return next(iter([*both, *paths]), None)


def _segments(read: Comparison | None, names: dict[int, str]) -> list[str]:
    if read is None or read.window.segment_ids is None:
        return []
    return [names.get(pk, "no segment") for pk in sorted(read.window.segment_ids)]


def _sides(read: Comparison, first: Release, second: Release) -> list[SideRow]:
    def row(release: Release, side: Side, times: Times | None) -> SideRow:
        return SideRow(release.version, release.registered, side.n, side.fallback.n, times)

    return [
        row(first, read.candidate, read.candidate_times),
        row(second, read.stable, read.stable_times),
    ]


def _number(signal: Signal, found: Estimate | None) -> Number:
    if found is None:
        return Number(MISSING, "", 0)
    return Number(
        value_text(signal, found.value), range_text(signal, found.low, found.high), found.n
    )


def _gap_range(signal: Signal, low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if low is None or high is None:
        known, side = (high, "up to") if low is None else (low, "from")
        return f"{side} {gap_text(signal, known or 0.0)}"
    return f"{gap_text(signal, low)} to {gap_text(signal, high)}"


def _cost(found: CostCompared, first: Release, second: Release) -> CostView:
    change = found.change
    parts = list(change.parts.items())
    bars = waterfall(change.stable, [value for _, value in parts])
    rows = [PartRow(second.version, "stable", value_text(_COST, change.stable), bars[0], True)]
    rows += [
        PartRow(*_PARTS[part], gap_text(_COST, value), bar, False)
        for (part, value), bar in zip(parts, bars[1:-1], strict=True)
    ]
    rows.append(
        PartRow(first.version, "candidate", value_text(_COST, change.candidate), bars[-1], True)
    )
    percent = ""
    if change.stable > 0:
        percent = f"{change.change / change.stable:+.0%}".replace("%", " %").replace(
            "-", "\N{MINUS SIGN}"
        )
    return CostView(
        rows=rows,
        word="more" if change.change > 0 else "less" if change.change < 0 else "the same",
        change=gap_text(_COST, change.change),
        range=_gap_range(_COST, found.low, found.high),
        percent=percent,
        n=found.n,
        stable_n=found.stable_n,
        tokens_known=change.tokens_known,
        retries_known=change.retries_known,
    )


def _cost_missing(read: Comparison) -> str:
    told = []
    for name, side in (("candidate", read.candidate), ("stable", read.stable)):
        known = side.normal.cost_n + side.fallback.cost_n
        told.append(f"{known:,} of {side.n:,} {name} tasks")
    return f"Cost known for {told[0]} and {told[1]}. What is not known is no saving."
