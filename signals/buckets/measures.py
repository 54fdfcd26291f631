"""What ledger rows add up to: frozen, addable counts, sums and histograms. Pure: no Django."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from math import inf
from typing import Final

# OpenTelemetry's base-2 exponential histogram at this scale: bucket `i` holds values in
# (2^(i/32), 2^((i+1)/32)], so that a bucket's middle is within 1.1 % of everything in it.
HISTOGRAM_SCALE: Final = 5
_PER_DOUBLING: Final = 2**HISTOGRAM_SCALE


def bucket_bounds(index: int) -> tuple[float, float]:
    """Return the half-open range (low, high] of bucket `index`, in the measured unit."""
    return 2.0 ** (index / _PER_DOUBLING), 2.0 ** ((index + 1) / _PER_DOUBLING)


def bucket_middle(index: int) -> float:
    """Return the value whose relative error is least over the bucket: at most 1.1 %."""
    low, high = bucket_bounds(index)
    return 2.0 * low * high / (low + high)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts by bucket, zeros apart; `largest` is the exact greatest value, 0 when empty."""

    zero: int = 0
    largest: float = 0.0
    counts: Mapping[int, int] = field(default_factory=dict)

    def __add__(self, other: "Histogram") -> "Histogram":
        counts = dict(self.counts)
        for index, count in other.counts.items():
            counts[index] = counts.get(index, 0) + count
        return Histogram(self.zero + other.zero, max(self.largest, other.largest), counts)

    @property
    def n(self) -> int:
        return self.zero + sum(self.counts.values())

    def above(self, limit: float) -> float:
        """Return how many values lie above `limit`; the bucket that holds it counts by share."""
        found = 0.0
        for index, count in self.counts.items():
            low, high = bucket_bounds(index)
            if low >= limit:
                found += count
            elif high > limit:
                found += count * (high - limit) / (high - low)
        return found


@dataclass(frozen=True, slots=True)
class Part:
    """How many tasks told it, their sum, and for a measure also squares, ends and histograms.

    `negative` holds the magnitudes of negative values; its `zero` is always 0. An empty part is
    the neutral element of `+`.
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    least: float = inf
    largest: float = -inf
    positive: Histogram = field(default_factory=Histogram)
    negative: Histogram = field(default_factory=Histogram)

    def __add__(self, other: "Part") -> "Part":
        return Part(
            self.n + other.n,
            self.total + other.total,
            self.squares + other.squares,
            min(self.least, other.least),
            max(self.largest, other.largest),
            self.positive + other.positive,
            self.negative + other.negative,
        )

    def above(self, limit: float) -> int:
        """Return how many values lie above `limit`.

        Those in the bucket that holds the limit do not count, so that a value at the limit never
        does: nothing below the limit counts, and everything more than 2.2 % beyond it.
        """
        if limit >= 0:
            return sum(n for i, n in self.positive.counts.items() if bucket_bounds(i)[0] >= limit)
        nearer = sum(n for i, n in self.negative.counts.items() if bucket_bounds(i)[1] < -limit)
        return self.positive.n + nearer

    def ordered(self) -> list[tuple[float, float, int]]:
        """Return (low, high, count) of every bucket, from the least values to the greatest."""
        found = [
            (-bucket_bounds(i)[1], -bucket_bounds(i)[0], n)
            for i, n in sorted(self.negative.counts.items(), reverse=True)
        ]
        if self.positive.zero:
            found.append((0.0, 0.0, self.positive.zero))
        found += [(*bucket_bounds(i), n) for i, n in sorted(self.positive.counts.items())]
        return found


NOTHING: Final = Part()


def merged(first: Mapping[str, Part], second: Mapping[str, Part]) -> Mapping[str, Part]:
    """Return both by key, added where both have one."""
    if not first or not second:
        return first or second
    return {key: first.get(key, NOTHING) + second.get(key, NOTHING) for key in {*first, *second}}


@dataclass(frozen=True, slots=True)
class Measures:
    """Sums over runs; an empty one is the neutral element of `+`.

    Fields ending in `_n` count the runs that reported the measure, `_sum` and `_sq` are its sum
    and sum of squares. Latency in milliseconds, cost in US dollars, scores in 0-1. `fallback_n`
    counts runs in a fallback mode or with that outcome, `labelled` and the feedback tasks.
    """

    n: int = 0
    n_ok: int = 0
    n_error: int = 0
    n_fallback: int = 0
    n_escalated: int = 0
    n_abandoned: int = 0
    n_blocked: int = 0
    n_critical: int = 0
    review_requested: int = 0
    quality_n: int = 0
    quality_passed: int = 0
    score_n: int = 0
    score_sum: float = 0.0
    score_sq: float = 0.0
    latency_n: int = 0
    latency_sum: float = 0.0
    latency_sq: float = 0.0
    cost_n: int = 0
    cost_sum: float = 0.0
    cost_sq: float = 0.0
    input_tokens_n: int = 0
    input_tokens_sum: float = 0.0
    input_tokens_sq: float = 0.0
    output_tokens_n: int = 0
    output_tokens_sum: float = 0.0
    output_tokens_sq: float = 0.0
    context_tokens_n: int = 0
    context_tokens_sum: float = 0.0
    retries_n: int = 0
    retries_sum: float = 0.0
    retries_sq: float = 0.0
    steps_n: int = 0
    steps_sum: float = 0.0
    tool_calls_n: int = 0
    tool_calls_sum: float = 0.0
    retrieved_n: int = 0
    retrieved_empty: int = 0
    retrieval_score_n: int = 0
    retrieval_score_sum: float = 0.0
    retrieval_score_sq: float = 0.0
    confidence_n: int = 0
    confidence_sum: float = 0.0
    confidence_sq: float = 0.0
    fallback_n: int = 0
    labelled: int = 0
    reviews_n: int = 0
    reviews_edited: int = 0
    reviews_rejected: int = 0
    feedback_positive: int = 0
    feedback_negative: int = 0
    latency_max: float = 0.0
    cost_max: float = 0.0
    latency: Histogram = field(default_factory=Histogram)
    # What stands beside the ledger, by `Feed.key`.
    parts: Mapping[str, Part] = field(default_factory=dict)

    def __add__(self, other: "Measures") -> "Measures":
        summed = {name: getattr(self, name) + getattr(other, name) for name in SUMMED}
        return Measures(
            **summed,
            latency_max=max(self.latency_max, other.latency_max),
            cost_max=max(self.cost_max, other.cost_max),
            latency=self.latency + other.latency,
            parts=merged(self.parts, other.parts),
        )


# The ledger's columns that add up, in one order for reading and adding.
SUMMED: Final = tuple(
    item.name
    for item in fields(Measures)
    if item.name not in {"latency_max", "cost_max", "latency", "parts"}
)
COUNTED: Final = frozenset(item.name for item in fields(Measures) if isinstance(item.default, int))


def total(parts: Iterable[Measures]) -> Measures:
    """Return the sum of `parts`, empty for none."""
    result = Measures()
    for part in parts:
        result = result + part
    return result
