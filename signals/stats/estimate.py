"""A signal's value and 95 % range from measures. Pure: no Django."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from signals.buckets.measures import HISTOGRAM_SCALE, NOTHING, Measures, Part
from signals.catalogue import Signal
from signals.stats.intervals import (
    Interval,
    count_interval,
    difference_interval,
    histogram_quantile,
    mean_interval,
    ordered_quantile,
    quantile_ranks,
    rate_interval,
)
from signals.stats.sequences import mean_sequence, quantile_sequence_ranks, rate_sequence

_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value in the signal's unit with its range; an end is None where the data sets none."""

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def interval(self) -> Interval | None:
        """The range with open ends as infinity, None where nothing at all is known of it."""
        if self.low is None and self.high is None:
            return None
        return Interval(
            -inf if self.low is None else self.low, inf if self.high is None else self.high
        )


def estimate(
    signal: Signal,
    measures: Measures,
    *,
    span_s: float,
    slow_ms: float | None = None,
    always: bool = False,
) -> Estimate | None:
    """Return what `measures` say of `signal`; None without a single task that reported it.

    Args:
        signal: a signal that is made of measures; any other gives None.
        measures: the runs looked at.
        span_s: seconds they cover, for signals that are per hour.
        slow_ms: the path's slow limit, for the rate of slow tasks; None gives None.
        always: return ranges that are right at every look, for what is looked at all the time.
    """
    rate_range = rate_sequence if always else rate_interval
    mean_range = mean_sequence if always else mean_interval
    ranks = quantile_sequence_ranks if always else quantile_ranks
    n, part = reported(signal, measures), part_of(signal, measures)
    total = part.total + sum(
        getattr(measures, name) for name in (signal.total_of, *signal.also) if name
    )
    if n == 0:
        # A rare event that is told of later is one, without a task beside it.
        told = signal.source == "count" and total > 0
        return Estimate(total, total, total, 0) if told else None
    squares = _squares(signal, measures, n=n, total=total)
    match signal.source:
        case "share":
            # Labels of earlier tasks arrive too, so a short window may hold more of them.
            part = min(total, n)
            return _with(part / n, rate_range(part, n), n)
        case "missing_share":
            missing = max(0.0, n - total)
            return _with(missing / n, rate_range(missing, n), n)
        case "slow_share":
            if slow_ms is None:
                return None
            slow = min(float(n), measures.latency.above(slow_ms))
            return _with(slow / n, rate_range(slow, n), n)
        case "mean":
            interval = None if squares is None else mean_range(n, total, squares)
            return _with(total / n, interval, n)
        case "per_task":
            counted = count_interval(total)
            return _with(total / n, Interval(counted.low / n, counted.high / n), n)
        case "above_share":
            assert signal.above is not None
            over = part.above(signal.above)
            return _with(over / n, rate_range(over, n), n)
        case "quantile" if signal.feed is not None:
            exact = ordered_quantile(
                part.ordered(), part.least, part.largest, signal.q, ranks=ranks
            )
            return None if exact is None else _with(*exact, n)
        case "quantile":
            found = histogram_quantile(
                measures.latency.zero,
                measures.latency.counts,
                measures.latency.largest,
                signal.q,
                scale=HISTOGRAM_SCALE,
                ranks=ranks,
            )
            return None if found is None else _with(*found, n)
        case "count":
            return Estimate(total, total, total, n)
        case "hourly":
            scale = _HOUR_S / max(span_s, 1.0)
            counted = count_interval(total, squares)
            return _with(total * scale, Interval(counted.low * scale, counted.high * scale), n)
        case _:
            return None


def reported(signal: Signal, measures: Measures) -> int:
    """Return how many tasks reported a signal; none did where its feed alone was silent."""
    n: int = getattr(measures, signal.n_of) if signal.n_of else 0
    if signal.feed is None or (signal.feed.kind != "measure" and signal.n_of):
        return n
    told = part_of(signal, measures).n
    return n if signal.n_of and told else told


def part_of(signal: Signal, measures: Measures) -> Part:
    """Return what the feed of a team's own signal adds, nothing for any other signal."""
    if signal.feed is None:
        return NOTHING
    return measures.parts.get(signal.feed.key, NOTHING)


def _squares(signal: Signal, measures: Measures, *, n: int, total: float) -> float | None:
    """Return the sum of squares, None where it is not kept or was not yet when they arrived."""
    if signal.feed is not None:
        return part_of(signal, measures).squares
    if not signal.squares_of:
        return None
    squares: float = getattr(measures, signal.squares_of)
    return squares if squares >= total * total / n * (1 - 1e-9) else None


def repeats(categories: Mapping[str, int], *, n: int) -> Estimate | None:
    """Return how many tasks failed in the commonest of `categories`, among `n` tasks."""
    most = float(max(categories.values(), default=0))
    return Estimate(most, most, most, n) if n or most else None


def largest(signal: Signal, measures: Measures) -> Estimate | None:
    """Return the greatest single run's value, for a hard cap; None where runs have none.

    Of a team's own measure the least one counts where higher is better.
    """
    if signal.own:
        part = part_of(signal, measures)
        if signal.feed is None or signal.feed.kind != "measure" or part.n == 0:
            return None
        value = part.least if signal.better == "higher" else part.largest
        return Estimate(value, value, value, part.n)
    if signal.unit == "ms" and signal.source == "quantile":
        value = measures.latency_max
    elif signal.unit == "usd" and signal.source == "mean":
        value = measures.cost_max
    else:
        return None
    n: int = getattr(measures, signal.n_of)
    return None if n == 0 else Estimate(value, value, value, n)


def difference(first: Estimate, second: Estimate) -> Interval | None:
    """Return the range of first - second; None where either range is not known."""
    left, right = first.interval, second.interval
    if left is None or right is None:
        return None
    return difference_interval(first.value, left, second.value, right)


def _with(value: float, interval: Interval | None, n: int) -> Estimate:
    if interval is None:
        return Estimate(value, None, None, n)
    return Estimate(
        value,
        None if interval.low == -inf else interval.low,
        None if interval.high == inf else interval.high,
        n,
    )
