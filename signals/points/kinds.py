"""What one metric point is, and what is said of one that does not fit. Pure."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from itertools import chain, pairwise
from math import isfinite
from typing import Final, Literal
from uuid import UUID

from signals.points.histograms import SCALE_MAX, SCALE_MIN, Explicit, Exponential, Histogram

Kind = Literal["gauge", "sum", "histogram"]
KINDS: Final[tuple[Kind, ...]] = ("gauge", "sum", "histogram")

# Beyond this a sum of squares over many points would not stay finite.
VALUE_MAX: Final = 1e140
COUNT_MAX: Final = 2**62
BUCKETS_MAX: Final = 10_000
NAME_MAX: Final = 255
UNIT_MAX: Final = 63
SOURCE_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Series:
    """What a metric point belongs to; 0 where no segment, release or arm is known.

    `source` says who sends it (`otlp`, `pull:<name>`, `replay:<mapping>`): the same measurement
    from two sources is two series, so that neither hides in the other's sum.
    """

    workflow_id: int
    path_id: int
    name: str
    kind: Kind
    source: str
    unit: str = ""
    segment_id: int = 0
    release_id: int = 0
    arm: int = 0


@dataclass(frozen=True, slots=True)
class Gauge:
    """What was measured: usually one value, else several together; `last` is the newest."""

    n: int
    total: float
    squares: float
    low: float
    high: float
    last: float

    @staticmethod
    def of(value: float) -> "Gauge":
        return Gauge(1, value, value * value, value, value, value)


@dataclass(frozen=True, slots=True)
class Sum:
    """What was added since the point before (delta temporality)."""

    total: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values since the point before: their sum and, where told, extremes and buckets."""

    n: int
    total: float | None
    low: float | None
    high: float | None
    histogram: Histogram | None


Value = Gauge | Sum | Distribution
_KIND_OF: Final[dict[type, Kind]] = {Gauge: "gauge", Sum: "sum", Distribution: "histogram"}


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value of a series at a time.

    `at` is when it was measured, of one that covers a time its end. `stream` tells apart those
    who measure the same series at the same time: what the resource and the attributes that the
    series does not hold say, in any stable text. Series, stream and time are its identity.
    """

    series: Series
    at: datetime
    value: Value
    stream: str = ""

    def stream_hash(self) -> UUID:
        return UUID(bytes=blake2b(self.stream.encode(), digest_size=16).digest())


def point_fault(point: MetricPoint) -> str | None:
    """Return what is wrong with a point, in a sentence; None where it fits."""
    series, value = point.series, point.value
    if series.kind != _KIND_OF[type(value)]:
        return f"A {series.kind} series takes no {_KIND_OF[type(value)]}."
    for what, text, most in (
        ("name", series.name, NAME_MAX),
        ("unit", series.unit, UNIT_MAX),
        ("source", series.source, SOURCE_MAX),
    ):
        if len(text) > most or "\0" in text:
            return f"The {what} is longer than {most} characters or holds a NUL."
    if not series.name or not series.source:
        return "A series needs a name and a source."
    if point.at.tzinfo is None:
        return "The time has no offset."
    return _value_fault(value)


def _value_fault(value: Value) -> str | None:
    match value:
        case Gauge():
            numbers: list[float | None] = [value.total, value.low, value.high, value.last]
            if value.n < 1 or not isfinite(value.squares) or value.squares < 0:
                return "A gauge counts at least one value, and their squares."
        case Sum():
            numbers = [value.total]
        case Distribution():
            numbers = [value.total, value.low, value.high]
    if any(n is not None and not (isfinite(n) and abs(n) <= VALUE_MAX) for n in numbers):
        return "A value is not finite, or too large to be added."
    if isinstance(value, Sum):
        return None
    if not 0 <= value.n <= COUNT_MAX:
        return "The count is negative or too large."
    if isinstance(value, Distribution) and value.histogram is not None:
        return _histogram_fault(value.histogram, n=value.n)
    return None


def _histogram_fault(histogram: Histogram, *, n: int) -> str | None:
    match histogram:
        case Exponential():
            if not SCALE_MIN <= histogram.scale <= SCALE_MAX:
                return f"The scale lies outside {SCALE_MIN} to {SCALE_MAX}."
            if not (isfinite(histogram.zero_threshold) and histogram.zero_threshold >= 0):
                return "The zero threshold is negative or not finite."
            buckets = [*histogram.positive, *histogram.negative]
            if any(abs(index) >= 2**31 for index in buckets):
                return "A bucket's index does not fit 32 bits."
            counts = chain(
                [histogram.zero], histogram.positive.values(), histogram.negative.values()
            )
        case Explicit():
            bounds = histogram.bounds
            if len(histogram.counts) != len(bounds) + 1:
                return "An explicit histogram has one count more than bounds."
            if any(not isfinite(bound) for bound in bounds):
                return "A bound is not finite."
            if any(one >= two for one, two in pairwise(bounds)):
                return "The bounds do not ascend."
            buckets, counts = list(range(len(bounds))), chain(histogram.counts)
    if len(buckets) > BUCKETS_MAX:
        return f"A histogram has at most {BUCKETS_MAX:,} buckets."
    if any(count < 0 for count in counts):
        return "A bucket counts less than nothing."
    if histogram.n != n:
        return f"The buckets hold {histogram.n} values, the count says {n}."
    return None
