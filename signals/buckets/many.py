"""Many charts at once: the series of several paths and signals in a few queries for them all."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from signals.buckets.event_time import event_rows
from signals.buckets.folds import ARRIVALS
from signals.buckets.keys import BLOCK_S
from signals.buckets.measures import Measures
from signals.buckets.scopes import MODES_OF_REACH
from signals.buckets.selectors import (
    Point,
    Served,
    between,
    histograms_read,
    is_live,
    rounded_step,
    served_around,
    signal_series,
    sums_read,
)
from signals.catalogue import Reach, Signal, Source, signal_of
from signals.stats.estimate import estimate

# What is made of a bucket's measures alone, without a look at anything beside them.
_PLAIN: Final[frozenset[Source]] = frozenset(
    {
        "share",
        "missing_share",
        "mean",
        "quantile",
        "slow_share",
        "count",
        "per_task",
        "hourly",
    }
)


class Asked(NamedTuple):
    """One line of one chart; `slow_ms` is its path's slow limit."""

    path_id: int
    signal: str | Signal
    slow_ms: float | None = None


def many_series(
    asked: Sequence[Asked],
    *,
    workflow_id: int,
    arms: Sequence[int],
    segment_ids: Sequence[int] | None,
    start: datetime,
    end: datetime,
    step_s: int,
    served_until: datetime | None = None,
) -> dict[Asked, list[Point]]:
    """Return what `signal_series` returns for each of `asked`; the arguments are the same."""
    (lines,) = arm_series(
        asked,
        sides=[arms],
        workflow_id=workflow_id,
        segment_ids=segment_ids,
        start=start,
        end=end,
        step_s=step_s,
        served_until=served_until,
    )
    return lines


def arm_series(
    asked: Sequence[Asked],
    *,
    sides: Sequence[Sequence[int]],
    workflow_id: int,
    segment_ids: Sequence[int] | None,
    start: datetime,
    end: datetime,
    step_s: int,
    served_until: datetime | None = None,
) -> list[dict[Asked, list[Point]]]:
    """Return `many_series` of each of `sides`, which are arms that have none in common.

    With `served_until` there is one side. What reads the same rows is read together: two queries
    for all paths and sides, most often.
    """
    span: dict[str, Any] = {"start": start, "end": end, "step_s": step_s}
    whose: dict[str, Any] = {"segment_ids": segment_ids, "workflow_id": workflow_id}
    found: list[dict[Asked, list[Point]]] = [{} for _ in sides]
    groups: dict[tuple[Reach, bool], list[tuple[Asked, Signal]]] = {}
    for line in dict.fromkeys(asked):
        signal = line.signal if isinstance(line.signal, Signal) else signal_of(line.signal)
        if signal.source in _PLAIN and signal.feed is None:
            groups.setdefault((signal.reach, signal.by_event), []).append((line, signal))
        else:
            for lines_of, arms in zip(found, sides, strict=True):
                lines_of[line] = signal_series(
                    signal=line.signal,
                    path_id=line.path_id,
                    slow_ms=line.slow_ms,
                    arms=arms,
                    served_until=served_until,
                    **span,
                    **whose,
                )
    for (reach, by_event), lines in groups.items():
        length_s = rounded_step(**span, by_event=by_event)
        parts = [Served([], reach)]
        if served_until is not None and served_until < end:
            parts = served_around(served_until, reach=reach, step_s=length_s)
        for part in parts:
            steps = _measures(
                path_ids={line.path_id for line, _ in lines},
                drawn={line.path_id for line, signal in lines if signal.reads_histogram},
                fields=frozenset().union(*(signal.fields for _, signal in lines)),
                reach=part.reach,
                sides=[part.arms] if part.arms else sides,
                live=is_live(start, end, by_event=by_event),
                **{**span, "step_s": length_s},
                **whose,
            )
            for place, lines_of in enumerate(found):
                for line, signal in lines:
                    read = steps.get((line.path_id, place), [])
                    shown = between(read, start=part.since, end=part.until)
                    points = _points(signal, line, shown, step_s=length_s)
                    lines_of.setdefault(line, []).extend(points)
    return found


def _points(
    signal: Signal, line: Asked, steps: Iterable[tuple[datetime, Measures]], *, step_s: int
) -> Iterable[Point]:
    for moment, measures in steps:
        value = estimate(signal, measures, span_s=step_s, slow_ms=line.slow_ms, always=True)
        if value is not None:
            yield Point(moment, value.value, value.low, value.high, value.n)


def _measures(
    *,
    path_ids: Collection[int],
    drawn: Collection[int],
    fields: Collection[str],
    reach: str,
    live: bool,
    sides: Sequence[Sequence[int]],
    workflow_id: int,
    segment_ids: Sequence[int] | None,
    start: datetime,
    end: datetime,
    step_s: int,
) -> dict[tuple[int, int], list[tuple[datetime, Measures]]]:
    """Return measures by step of each path and side (its place), with histograms of `drawn`."""
    where = "l.workflow_id = %s and l.arm = any(%s)"
    given: list[Any] = [workflow_id, [arm for arms in sides for arm in arms]]
    if segment_ids is not None:
        where += " and l.segment_id = any(%s)"
        given.append(list(segment_ids))
    where += MODES_OF_REACH.get(reach, "")

    def rows(paths: Collection[int]) -> tuple[str, list[Any]]:
        if not live:
            return event_rows(ARRIVALS, path_ids=sorted(paths), start=start, end=end, step_s=step_s)
        source = (
            "(select * from arrival_ledger where path_id = any(%s) and backfill in (false, true)"
            " and arrived_at >= %s and arrived_at < %s) as l"
        )
        return source, [sorted(paths), start, end]

    moment = f"(l.block * {BLOCK_S})" if live else "floor(extract(epoch from l.minute))::bigint"
    side = "case " + " ".join(
        f"when {' or '.join(f'l.arm = {int(arm)}' for arm in arms)} then {place}"
        for place, arms in enumerate(sides)
    )
    key = f"l.path_id, {side} end, {moment} / %s"
    counts: dict[tuple[int, ...], dict[int, int]] = {}
    if drawn:
        source, found_by = rows(drawn)
        counts = histograms_read(source, where, key, [step_s, *found_by, *given])
    source, found_by = rows(path_ids)
    sums = sums_read(source, where, key, [step_s, *found_by, *given], counts, fields=fields)
    result: dict[tuple[int, int], list[tuple[datetime, Measures]]] = {}
    for (path_id, place, step), measures in sorted(sums.items()):
        at = datetime.fromtimestamp(step * step_s, tz=UTC)
        result.setdefault((path_id, place), []).append((at, measures))
    return result
