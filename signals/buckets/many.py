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
    histograms_read,
    is_live,
    rounded_step,
    signal_series,
    sums_read,
)
from signals.catalogue import Signal, Source, signal_of
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
) -> dict[Asked, list[Point]]:
    """Return what `signal_series` returns for each of `asked`; the arguments are the same.

    What reads the same rows is read together: two queries for all paths, most often.
    """
    span: dict[str, Any] = {"start": start, "end": end, "step_s": step_s}
    whose: dict[str, Any] = {"arms": arms, "segment_ids": segment_ids, "workflow_id": workflow_id}
    found: dict[Asked, list[Point]] = {}
    groups: dict[tuple[str, bool], list[tuple[Asked, Signal]]] = {}
    for line in dict.fromkeys(asked):
        signal = line.signal if isinstance(line.signal, Signal) else signal_of(line.signal)
        if signal.source in _PLAIN and signal.feed is None:
            groups.setdefault((signal.reach, signal.by_event), []).append((line, signal))
        else:
            found[line] = signal_series(
                signal=line.signal, path_id=line.path_id, slow_ms=line.slow_ms, **span, **whose
            )
    for (reach, by_event), lines in groups.items():
        length_s = rounded_step(**span, by_event=by_event)
        steps = _measures(
            path_ids={line.path_id for line, _ in lines},
            drawn={line.path_id for line, signal in lines if signal.reads_histogram},
            fields=frozenset().union(*(signal.fields for _, signal in lines)),
            reach=reach,
            live=is_live(start, end, by_event=by_event),
            **{**span, "step_s": length_s},
            **whose,
        )
        for line, signal in lines:
            found[line] = list(_points(signal, line, steps.get(line.path_id, []), step_s=length_s))
    return found


def _points(
    signal: Signal, line: Asked, steps: Iterable[tuple[datetime, Measures]], *, step_s: int
) -> Iterable[Point]:
    for moment, measures in steps:
        value = estimate(signal, measures, span_s=step_s, slow_ms=line.slow_ms)
        if value is not None:
            yield Point(moment, value.value, value.low, value.high, value.n)


def _measures(
    *,
    path_ids: Collection[int],
    drawn: Collection[int],
    fields: Collection[str],
    reach: str,
    live: bool,
    workflow_id: int,
    arms: Sequence[int],
    segment_ids: Sequence[int] | None,
    start: datetime,
    end: datetime,
    step_s: int,
) -> dict[int, list[tuple[datetime, Measures]]]:
    """Return each path's measures by step, with histograms of the paths `drawn`."""
    where = "l.workflow_id = %s and l.arm = any(%s)"
    given: list[Any] = [workflow_id, list(arms)]
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
    key = f"l.path_id, {moment} / %s"
    counts: dict[tuple[int, ...], dict[int, int]] = {}
    if drawn:
        source, found_by = rows(drawn)
        counts = histograms_read(source, where, key, [step_s, *found_by, *given])
    source, found_by = rows(path_ids)
    sums = sums_read(source, where, key, [step_s, *found_by, *given], counts, fields=fields)
    result: dict[int, list[tuple[datetime, Measures]]] = {}
    for (path_id, step), measures in sorted(sums.items()):
        at = datetime.fromtimestamp(step * step_s, tz=UTC)
        result.setdefault(path_id, []).append((at, measures))
    return result
