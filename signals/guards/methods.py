"""By which method a guard's evidence is made, and what a block means to it. Pure: no Django."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from signals.buckets.arrivals import Arrivals
from signals.buckets.measures import NOTHING, Measures, Part, bucket_bounds, total
from signals.catalogue import FACTS, STATES, Signal
from signals.stats.estimate import part_of, reported

Word = Literal[
    "exact", "limit", "past", "shape", "exceedances", "bets", "hourly", "normal", "categories"
]
_SHARES: Final = frozenset({"share", "missing_share", "slow_share", "above_share"})
_MEANS: Final = frozenset({"mean", "per_task"})


@dataclass(frozen=True, slots=True)
class Spec:
    """What a guard asks of evidence, in the signal's unit.

    Attributes:
        holds: whether evidence of being fine is wanted too, as a criterion does.
        slow_ms: the path's slow limit, None where it has none.
        has_past: whether the path's past says what is usual.
    """

    signal: Signal
    compare: str
    limit: float | None
    margin: float
    holds: bool
    slow_ms: float | None = None
    has_past: bool = False

    def limited(self, limit: float) -> "Spec":
        """Return it with a limit that its past gives it."""
        return replace(self, limit=limit)

    @property
    def method(self) -> Word | None:
        """How its evidence is made, None for what is a fact and for what has no method."""
        source = self.signal.source
        if source is None or source in STATES or source in {"age", "assignment"}:
            return None
        if self.compare == "stable":
            return self._against_stable()
        if self.compare == "limit" and source not in FACTS and self.limit is not None:
            return self._against_limit()
        return "past" if self.reads_past and self.has_past else None

    @property
    def reads_past(self) -> bool:
        """Whether what the path did before is worth reading."""
        if self.signal.feed is not None or not self._counts:
            return False
        if self.compare == "history":
            return self.signal.source in _SHARES or bool(histogram_of(self.signal))
        return self.compare == "stable" and (
            self.signal.source in _SHARES or bool(histogram_of(self.signal))
        )

    @property
    def two_arms(self) -> bool:
        return self.compare == "stable"

    @property
    def _counts(self) -> bool:
        return self.signal.source != "slow_share" or self.slow_ms is not None

    def _against_stable(self) -> Word | None:
        source = self.signal.source
        if source == "repeats":
            return "categories"
        if source in _SHARES or source == "count":
            return "exact" if self._counts else None
        if histogram_of(self.signal):
            return "shape"
        return "normal" if source in _MEANS else None

    def _against_limit(self) -> Word | None:
        source = self.signal.source
        if source in _SHARES:
            return "limit" if self._counts else None
        if source == "quantile":
            return "exceedances"
        if source in _MEANS and self.signal.better == "lower" and (self.limit or 0) > 0:
            # A team's own measure may be negative, which no bet allows.
            own = self.signal.feed is not None and self.signal.feed.kind == "measure"
            return None if own else "bets"
        if source in _MEANS and self.signal.unit == "score":
            return "bets"
        if source == "hourly" and (self.limit or 0) > 0 and not self.holds:
            return "hourly"
        return None


def histogram_of(signal: Signal) -> str:
    """Return which of the ledger's histograms a signal reads as evidence, "" for none."""
    if signal.feed is not None:
        return ""
    if signal.unit == "ms" and signal.source in {"quantile", "slow_share"}:
        return "latency"
    return "cost" if signal.source == "mean" and signal.n_of == "cost_n" else ""


def tail_of(signal: Signal) -> float:
    """Return the quantile by which a signal's values are held: a mean by its tail."""
    return signal.q or 0.9


def bad_counts(spec: Spec, arrivals: Arrivals, *, lenient: bool) -> tuple[int, int]:
    """Return how many tasks count and how many of them are bad, in the worse direction.

    Args:
        lenient: what lies in the histogram's bucket of a threshold is no harm; else it is.
    """
    signal, measures, latency = spec.signal, arrivals.measures, arrivals.latency
    n = reported(signal, measures)
    match signal.source:
        case "slow_share":
            assert spec.slow_ms is not None
            bad = above(latency, spec.slow_ms, lenient=lenient)
        case "mean" if histogram_of(signal):
            assert spec.limit is not None
            bad = above(arrivals.cost, spec.limit, lenient=lenient)
        case "quantile":
            if spec.limit is None:
                return n, 0
            if signal.feed is not None:
                return _part_beyond(part_of(signal, measures), spec, n, lenient=lenient)
            bad = above(latency, spec.limit, lenient=lenient)
        case "above_share":
            assert signal.above is not None
            bad = part_of(signal, measures).above(signal.above)
        case _:
            part = part_of(signal, measures)
            told = part.total + sum(
                getattr(measures, name) for name in (signal.total_of, *signal.also) if name
            )
            bad = round(told)
            if (signal.source == "missing_share") != (signal.better == "higher"):
                bad = n - bad
            return n, min(max(bad, 0), n)
    return n, min(bad if signal.better == "lower" else n - bad, n)


def above(counts: Mapping[int | None, int], limit: float, *, lenient: bool) -> int:
    """Return how many values lie above a limit, by whole buckets."""
    found = 0
    for index, count in counts.items():
        if index is None:
            continue
        low, high = bucket_bounds(index)
        if (low if lenient else high * (1 - 1e-12)) >= limit:
            found += count
    return found


def moments(spec: Spec, measures: Measures) -> tuple[int, float, float]:
    """Return how many tasks told a value, their sum and the sum of squares.

    Of retries, which are counted, the square is taken to be what was told of it.
    """
    signal = spec.signal
    n, part = reported(signal, measures), part_of(signal, measures)
    if signal.feed is not None:
        squares = part.squares if part is not NOTHING else 0.0
    elif signal.squares_of:
        squares = getattr(measures, signal.squares_of)
    else:
        squares = getattr(measures, signal.total_of.removesuffix("_sum") + "_sq", 0.0)
    value = part.total + sum(
        getattr(measures, name) for name in (signal.total_of, *signal.also) if name
    )
    return n, value, squares


def fields_of(signal: Signal) -> frozenset[str]:
    """Return the fields of `Measures` that evidence of a signal is made of."""
    return signal.fields | (
        {signal.total_of.removesuffix("_sum") + "_sq"} if signal.source == "per_task" else set()
    )


def summed(parts: Iterable[Measures]) -> Measures:
    found = list(parts)
    return found[0] if len(found) == 1 else total(found)


def _part_beyond(part: Part, spec: Spec, n: int, *, lenient: bool) -> tuple[int, int]:
    """Return a team's own values beyond a limit, which may be negative."""
    assert spec.limit is not None
    higher = spec.signal.better == "higher"
    bad = 0
    for low, high, count in part.ordered():
        best, worst = (high, low) if higher else (low, high)
        end = best if lenient else worst
        bad += count if (end < spec.limit if higher else end > spec.limit) else 0
    return n, min(bad, n)
