"""Histograms that merge exactly: base-2 exponential ones of any scale, and explicit ones. Pure.

Sources: OpenTelemetry metrics data model, "Exponential Histogram" and its "Zero Count and Zero
Threshold"; Prometheus native histograms use the same buckets.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from math import ceil, inf
from operator import add
from typing import Final

# OpenTelemetry's own bounds of a scale.
SCALE_MIN: Final = -10
SCALE_MAX: Final = 20


def downscaled(counts: Mapping[int, int], by: int) -> dict[int, int]:
    """Return counts by bucket at a scale lower by `by` >= 0: 2^by neighbours become one bucket.

    Bucket i at scale s holds (b^i, b^(i+1)] with b = 2^(2^-s), so its home one scale lower is
    floor(i / 2): no count ever straddles two.
    """
    merged: dict[int, int] = {}
    for index, count in counts.items():
        merged[index >> by] = merged.get(index >> by, 0) + count
    return merged


@dataclass(frozen=True, slots=True)
class Exponential:
    """Counts by bucket of values above `zero_threshold` and, mirrored, below minus it.

    `zero` counts what lies within the threshold of 0, ends included.
    """

    scale: int
    zero: int = 0
    zero_threshold: float = 0.0
    positive: Mapping[int, int] = field(default_factory=dict)
    negative: Mapping[int, int] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return self.zero + sum(self.positive.values()) + sum(self.negative.values())

    def at_scale(self, scale: int) -> "Exponential":
        """Return the same counts at a scale that is lower or equal.

        Raises:
            ValueError: a higher scale would need what is no longer known.
        """
        if scale > self.scale:
            raise ValueError(f"A histogram of scale {self.scale} has no scale {scale}.")
        by = self.scale - scale
        return Exponential(
            scale,
            self.zero,
            self.zero_threshold,
            downscaled(self.positive, by),
            downscaled(self.negative, by),
        )

    def __add__(self, other: "Exponential") -> "Exponential":
        scale = min(self.scale, other.scale)
        one, two = self.at_scale(scale), other.at_scale(scale)
        threshold = max(one.zero_threshold, two.zero_threshold)
        # Widening one's threshold may raise it to the end of a bucket, which the other then needs.
        while True:
            one, two = one._widened(threshold), two._widened(threshold)
            raised = max(one.zero_threshold, two.zero_threshold)
            if one.zero_threshold == two.zero_threshold:
                break
            threshold = raised
        return Exponential(
            scale,
            one.zero + two.zero,
            one.zero_threshold,
            _summed(one.positive, two.positive),
            _summed(one.negative, two.negative),
        )

    def _widened(self, threshold: float) -> "Exponential":
        """Return it with at least this zero threshold, raised to the end of a bucket it cuts."""
        if threshold <= self.zero_threshold:
            return self
        cut = [i for counts in (self.positive, self.negative) for i in counts]
        within = {i for i in cut if self.bounds(i)[0] < threshold}
        for i in within:
            threshold = max(threshold, self.bounds(i)[1])
        parts = []
        zero = self.zero
        for counts in (self.positive, self.negative):
            zero += sum(count for i, count in counts.items() if i in within)
            parts.append({i: count for i, count in counts.items() if i not in within})
        return Exponential(self.scale, zero, threshold, *parts)

    def bounds(self, index: int) -> tuple[float, float]:
        """Return the half-open range (low, high] of a positive bucket, in the measured unit."""
        return _power(index, self.scale), _power(index + 1, self.scale)

    def quantile(self, q: float, *, smallest: float | None, largest: float | None) -> float | None:
        """Return the q-quantile, q in (0, 1): the middle of the bucket of the ceil(q n)-th value.

        Within the scale's relative error of it (1.1 % at scale 5), and never outside the exact
        `smallest` and `largest` where they are known. None without a value.
        """
        rank = min(self.n, max(1, ceil(q * self.n)))
        for low, high, count in self._ascending():
            rank -= count
            if rank <= 0 < count:
                return _middle(low, high, smallest, largest)
        return None

    def _ascending(self) -> Iterable[tuple[float, float, int]]:
        for index in sorted(self.negative, reverse=True):
            low, high = self.bounds(index)
            yield -high, -low, self.negative[index]
        yield -self.zero_threshold, self.zero_threshold, self.zero
        for index in sorted(self.positive):
            yield *self.bounds(index), self.positive[index]


@dataclass(frozen=True, slots=True)
class Explicit:
    """Counts between ascending bounds: (-inf, b0], (b0, b1], …, (b_last, inf)."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def n(self) -> int:
        return sum(self.counts)

    def __add__(self, other: "Explicit") -> "Explicit":
        """Merge on the bounds that both have: coarser where they differ, but exact."""
        if self.bounds == other.bounds:
            counts = tuple(map(add, self.counts, other.counts))
            return Explicit(self.bounds, counts)
        shared = tuple(bound for bound in self.bounds if bound in set(other.bounds))
        one, two = self._on(shared), other._on(shared)
        return Explicit(shared, tuple(map(add, one, two)))

    def _on(self, bounds: tuple[float, ...]) -> list[int]:
        counts = [0] * (len(bounds) + 1)
        for bound, count in zip((*self.bounds, inf), self.counts, strict=True):
            counts[bisect_left(bounds, bound)] += count
        return counts

    def quantile(self, q: float, *, smallest: float | None, largest: float | None) -> float | None:
        """Return the q-quantile, q in (0, 1): the middle of the bucket of the ceil(q n)-th value.

        An open bucket ends at the exact `smallest` or `largest`, or at its one bound without it.
        """
        rank = min(self.n, max(1, ceil(q * self.n)))
        lows, highs = (-inf, *self.bounds), (*self.bounds, inf)
        for low, high, count in zip(lows, highs, self.counts, strict=True):
            rank -= count
            if rank <= 0 < count:
                return _middle(low, high, smallest, largest)
        return None


Histogram = Exponential | Explicit


def merged(histograms: Iterable[Histogram]) -> Histogram | None:
    """Return the sum of all; None without one, or where the two kinds meet and none is exact."""
    found = list(histograms)
    exponential = [each for each in found if isinstance(each, Exponential)]
    explicit = [each for each in found if isinstance(each, Explicit)]
    if exponential and explicit:
        return None
    if exponential:
        return reduce(add, exponential)
    return reduce(add, explicit) if explicit else None


def _summed(one: Mapping[int, int], two: Mapping[int, int]) -> dict[int, int]:
    counts = dict(one)
    for index, count in two.items():
        counts[index] = counts.get(index, 0) + count
    return counts


def _power(index: int, scale: int) -> float:
    try:
        return float(2.0 ** (index * 2.0**-scale))
    except OverflowError:
        return inf


def _middle(low: float, high: float, smallest: float | None, largest: float | None) -> float | None:
    """Return the middle of (low, high] as far as it lies within what is known of the extremes."""
    low = max(low, -inf if smallest is None else smallest)
    high = min(high, inf if largest is None else largest)
    if low == -inf or high == inf:
        return next((end for end in (low, high) if end not in (-inf, inf)), None)
    if low >= high:
        return high
    # The least relative error where both ends have one sign, else the half way.
    return 2 * low * high / (low + high) if low * high > 0 else (low + high) / 2
