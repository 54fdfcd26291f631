"""A candidate's tasks and its stable release's on one path, over the time that compares them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from django.db import connection

from signals.buckets.event_time import ceiling, event_rows, floor, least_step
from signals.buckets.folds import ARRIVALS, HOUR_S
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE, MODE_NORMAL
from signals.buckets.measures import Measures, total
from signals.buckets.selectors import histograms_read, sums_read
from signals.stats.compare import Side

Basis = Literal["concurrent", "sequential", "apart"]
# At least so much of a candidate's tasks lies in the time that both served, or the rest is not
# left out for it.
_MOST: Final = 0.5
# A task that a fallback gave to the stable release still counts with the candidate's arm.
_IS_CANDIDATE: Final = (
    f"(l.release_id = %s or (l.release_id = %s and l.arm = {ARM_CANDIDATE}"
    f" and l.mode <> {MODE_NORMAL}))"
)


class Span(NamedTuple):
    """What one side served in one segment (0: none): tasks, and when in [first, end).

    `assigned` counts those whose arm the console gave out.
    """

    n: int
    assigned: int
    first_at: datetime
    end_at: datetime

    def __or__(self, other: "Span") -> "Span":
        return Span(
            self.n + other.n,
            self.assigned + other.assigned,
            min(self.first_at, other.first_at),
            max(self.end_at, other.end_at),
        )


@dataclass(frozen=True, slots=True)
class Window:
    """Which tasks are compared: minutes in [start, end) and segments, None for all of them.

    `concurrent`: both served these segments in this time, assigned by the console. `sequential`:
    the same segments, but one after the other, or as somebody chose. `apart`: no segment was
    served by both, so who was served differs too.
    """

    basis: Basis
    start: datetime
    end: datetime
    segment_ids: frozenset[int] | None


class Times(NamedTuple):
    """The steps, by their starts, of a side's first and newest task that is compared."""

    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides, over what, and when they had tasks; times None for one without any.

    `steps_both` of the `steps` of `step_s` seconds that had a task had one of each side.
    """

    window: Window
    candidate: Side
    stable: Side
    candidate_times: Times | None
    stable_times: Times | None
    step_s: int
    steps_both: int
    steps: int

    @property
    def sentence(self) -> str:
        """Say how far the difference may be put down to the release."""
        word = "minutes" if self.step_s < HOUR_S else "hours"
        together = f"Both had tasks in {self.steps_both:,} of {self.steps:,} {word} with tasks."
        if not self.candidate.n or not self.stable.n:
            return "There is nothing to compare: not both had tasks in this time."
        if self.window.basis == "concurrent":
            return f"Concurrent: the console gave both to the same segments at once. {together}"
        if self.window.basis == "apart":
            return (
                "Observed, not randomised: they served different segments, so who was served"
                f" differs too. {together}"
            )
        if self.steps_both:
            return (
                "Observed, not randomised: nobody assigned them by chance at the same time."
                f" {together}"
            )
        return (
            "Observed, not randomised: one served after the other, so whatever else changed"
            " between them shows here too."
        )


class _Pair(NamedTuple):
    """Which releases are read, and by which steps of time."""

    candidate_id: int
    stable_id: int
    step_s: int

    @property
    def step(self) -> timedelta:
        return timedelta(seconds=self.step_s)


def comparison_read(
    *, path_id: int, candidate_id: int, stable_id: int, since: datetime, until: datetime
) -> Comparison:
    """Return both releases' tasks in [since, until), by the minutes in which they happened.

    Where minutes are kept no longer the hours around `since` and `until` are read. A task that a
    fallback gave to the stable release stands with the candidate, on whose arm it is: its people
    would have got the candidate.
    """
    return comparisons_read(
        path_ids=[path_id],
        candidate_id=candidate_id,
        stable_id=stable_id,
        since=since,
        until=until,
    )[path_id]


def comparisons_read(
    *,
    path_ids: Sequence[int],
    candidate_id: int,
    stable_id: int,
    since: datetime,
    until: datetime,
) -> dict[int, Comparison]:
    """Return `comparison_read` of each path, in four queries for them all."""
    if not path_ids:
        return {}
    pair = _Pair(candidate_id, stable_id, least_step(since, until))
    since, until = floor(since, pair.step_s), ceiling(until, pair.step_s)
    spans = _spans(pair, path_ids, since, until)
    windows = {
        path_id: window_of(of[True], of[False], since=since, until=until)
        for path_id, of in spans.items()
    }
    sides = _sides(pair, windows)
    steps = _steps(pair, windows)
    return {
        path_id: _comparison(pair, spans[path_id], window, sides[path_id], steps[path_id])
        for path_id, window in windows.items()
    }


def _comparison(
    pair: _Pair,
    spans: Mapping[bool, Mapping[int, Span]],
    window: Window,
    sides: Mapping[bool, Side],
    steps: tuple[int, int],
) -> Comparison:
    def times(is_candidate: bool) -> Times | None:
        span = _within(spans[is_candidate], window.segment_ids)
        if span is None:
            return None
        return Times(max(span.first_at, window.start), min(span.end_at, window.end) - pair.step)

    return Comparison(
        window=window,
        candidate=sides[True],
        stable=sides[False],
        candidate_times=times(True),
        stable_times=times(False),
        step_s=pair.step_s,
        steps_both=steps[0],
        steps=steps[1],
    )


def window_of(
    candidate: Mapping[int, Span], stable: Mapping[int, Span], *, since: datetime, until: datetime
) -> Window:
    """Return which tasks compare best, from what each side served by segment. Pure."""
    shared = candidate.keys() & stable.keys()
    if not shared:
        return Window("apart", since, until, None)
    # All of both: a filter that filters nothing would only look like a choice.
    chosen = None if shared == candidate.keys() | stable.keys() else frozenset(shared)
    left = _within(candidate, shared)
    right = _within(stable, shared)
    assert left is not None
    assert right is not None
    start, end = max(left.first_at, right.first_at), min(left.end_at, right.end_at)
    assigned = left.assigned > left.n / 2 and right.assigned > right.n / 2
    if not assigned or start >= end:
        return Window("sequential", since, until, chosen)
    # By segment, what began before or ended after counts for its part of the time.
    inside = sum(_part(candidate[key], start, end) for key in shared)
    if inside < _MOST * left.n:
        return Window("sequential", since, until, chosen)
    return Window("concurrent", max(since, start), min(until, end), chosen)


def _part(span: Span, start: datetime, end: datetime) -> float:
    held = min(end, span.end_at) - max(start, span.first_at)
    return span.n * max(0.0, held / (span.end_at - span.first_at))


def _within(spans: Mapping[int, Span], segments: Collection[int] | None) -> Span | None:
    found: Span | None = None
    for segment_id, span in spans.items():
        if segments is None or segment_id in segments:
            found = span if found is None else found | span
    return found


def _spans(
    pair: _Pair, path_ids: Sequence[int], since: datetime, until: datetime
) -> dict[int, dict[bool, dict[int, Span]]]:
    """Return by path, by whether it is the candidate's, and by segment, what was served."""
    source, arguments = event_rows(
        ARRIVALS, path_ids=path_ids, start=since, end=until, step_s=pair.step_s
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"select l.path_id, {_IS_CANDIDATE}, l.segment_id, sum(l.n)::bigint,"  # noqa: S608  # our own words
            " coalesce(sum(l.n) filter (where l.arm = any(%s)), 0)::bigint,"
            f" min(l.minute), max(l.minute) from {source}"
            " where l.release_id in (%s, %s) and l.n > 0 group by 1, 2, 3",
            [
                *(pair.candidate_id, pair.stable_id, [ARM_CANDIDATE, ARM_STABLE]),
                *arguments,
                *(pair.candidate_id, pair.stable_id),
            ],
        )
        rows = cursor.fetchall()
    found: dict[int, dict[bool, dict[int, Span]]] = {
        path_id: {True: {}, False: {}} for path_id in path_ids
    }
    for path_id, is_candidate, segment_id, n, assigned, first_at, last_at in rows:
        found[path_id][is_candidate][segment_id] = Span(
            int(n), int(assigned), first_at, last_at + pair.step
        )
    return found


def _of_both(pair: _Pair, windows: Mapping[int, Window], *, step_s: int) -> tuple[str, list[Any]]:
    """Return SQL of both releases' buckets `l`, of each path in its window, and its parameters."""
    # By name: what a longer window reads has the columns in another order.
    columns = ", ".join(f"l.{name}" for name in ARRIVALS.columns)
    parts, arguments = [], []
    for path_id, window in windows.items():
        source, given = event_rows(
            ARRIVALS, path_ids=[path_id], start=window.start, end=window.end, step_s=step_s
        )
        where = "l.release_id in (%s, %s)"
        given = [*given, pair.candidate_id, pair.stable_id]
        if window.segment_ids is not None:
            where += " and l.segment_id = any(%s)"
            given.append(sorted(window.segment_ids))
        parts.append(f"select {columns} from {source} where {where}")  # noqa: S608  # our own words
        arguments += given
    return f"({' union all '.join(parts)}) as l", arguments


def _sides(pair: _Pair, windows: Mapping[int, Window]) -> dict[int, dict[bool, Side]]:
    source, arguments = _of_both(pair, windows, step_s=HOUR_S)
    key = f"l.path_id, l.release_id, l.arm, (l.mode <> {MODE_NORMAL})::int"
    counts = histograms_read(source, "true", key, arguments)
    by_key = sums_read(source, "true", key, arguments, counts)

    def side(path_id: int, is_candidate: bool, moved: int) -> Measures:
        return total(
            measures
            for (path, release_id, arm, mode), measures in by_key.items()
            if path == path_id
            and mode == moved
            and is_candidate
            == (release_id == pair.candidate_id or (bool(mode) and arm == ARM_CANDIDATE))
        )

    return {
        path_id: {
            each: Side(side(path_id, each, 0), side(path_id, each, 1)) for each in (True, False)
        }
        for path_id in windows
    }


def _steps(pair: _Pair, windows: Mapping[int, Window]) -> dict[int, tuple[int, int]]:
    """Return by path in how many steps both sides had a task, and in how many either had."""
    source, arguments = _of_both(pair, windows, step_s=pair.step_s)
    with connection.cursor() as cursor:
        cursor.execute(
            "select path_id, count(*) filter (where sides = 2), count(*) from ("  # noqa: S608  # our own words
            f"select l.path_id, floor(extract(epoch from l.minute) / {pair.step_s}),"
            f" count(distinct {_IS_CANDIDATE}) as sides"
            f" from {source} where l.n > 0 group by 1, 2) as m group by 1",
            [pair.candidate_id, pair.stable_id, *arguments],
        )
        found = {path_id: (int(both), int(either)) for path_id, both, either in cursor.fetchall()}
    return {path_id: found.get(path_id, (0, 0)) for path_id in windows}
