"""OTLP's metric data as points: every kind, and what cumulative ones added since the last. Pure."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)

from signals.otlp.spans import LAST_NS, Source, digest_of, source_of
from signals.otlp.values import attributes_plain, text_clean
from signals.points.histograms import Explicit, Exponential
from signals.points.kinds import Distribution, Gauge, Kind, Sum, Value

# The data model's flag of a point that only says: nothing was recorded.
_NOTHING: Final = 1
_CUMULATIVE: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_DELTA: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


@dataclass(frozen=True, slots=True)
class Told:
    """A data point as told. A cumulative one holds all since `start_ns`; 0 is unknown."""

    name: str
    unit: str
    kind: Kind
    value: Value
    start_ns: int
    time_ns: int
    cumulative: bool
    attributes: Mapping[str, Any]
    source: Source

    def stream(self) -> UUID:
        """Return what tells its sender and attributes apart from others'."""
        return digest_of(str(self.source.id), self.name, self.unit, self.kind, self.attributes)


@dataclass(frozen=True, slots=True)
class Before:
    """The cumulative point of a stream that was seen last."""

    start_ns: int
    time_ns: int
    value: Sum | Distribution


def points_read(request: ExportMetricsServiceRequest) -> tuple[list[Told], list[str]]:
    """Return the data points of a request, and what is wrong with those that are none."""
    told: list[Told] = []
    faults: list[str] = []
    for group in request.resource_metrics:
        for scoped in group.scope_metrics:
            source = source_of(group.resource, group.schema_url, scoped.scope, scoped.schema_url)
            for metric in scoped.metrics:
                for one in _points(metric, source):
                    if isinstance(one, str):
                        faults.append(one)
                    else:
                        told.append(one)
    return told, faults


def added(now: Told, before: Before | None) -> Sum | Distribution | None:
    """Return what a cumulative point adds to the one before; None where nobody can know.

    A later start, or less than before, is a sender that began again: all it holds is new. The
    first point of a stream holds what was added since its start, where it says when that was.
    """
    value = now.value
    assert isinstance(value, Sum | Distribution)
    if before is None:
        return value if now.start_ns else None
    if now.start_ns > before.start_ns and now.start_ns >= before.time_ns:
        return value
    less = _less(value, before.value)
    return value if less is None else less


def _less(now: Sum | Distribution, before: Sum | Distribution) -> Sum | Distribution | None:
    """Return the difference, None where it would be less than nothing."""
    if isinstance(now, Sum) and isinstance(before, Sum):
        return Sum(now.total - before.total) if now.total >= before.total else None
    if not (isinstance(now, Distribution) and isinstance(before, Distribution)):
        return None
    if now.n < before.n:
        return None
    histogram = None
    if now.histogram is not None:
        histogram = _histogram_less(now.histogram, before.histogram)
        if histogram is None:
            return None
    total = None
    if now.total is not None and before.total is not None:
        total = now.total - before.total
    # Of what was added alone, nobody told the extremes.
    return Distribution(now.n - before.n, total, None, None, histogram)


def _histogram_less(
    now: Explicit | Exponential, before: Explicit | Exponential | None
) -> Explicit | Exponential | None:
    if isinstance(now, Explicit) and isinstance(before, Explicit):
        if now.bounds != before.bounds:
            return None
        counts = tuple(one - two for one, two in zip(now.counts, before.counts, strict=True))
        return Explicit(now.bounds, counts) if min(counts) >= 0 else None
    if not (isinstance(now, Exponential) and isinstance(before, Exponential)):
        return None
    if now.zero_threshold != before.zero_threshold:
        return None
    # A sender lowers its scale as its values spread; the finer of the two is made as coarse.
    scale = min(now.scale, before.scale)
    now, before = now.at_scale(scale), before.at_scale(scale)
    positive = _counts_less(now.positive, before.positive)
    negative = _counts_less(now.negative, before.negative)
    zero = now.zero - before.zero
    if positive is None or negative is None or zero < 0:
        return None
    return Exponential(scale, zero, now.zero_threshold, positive, negative)


def _counts_less(now: Mapping[int, int], before: Mapping[int, int]) -> dict[int, int] | None:
    counts = {index: now.get(index, 0) - before.get(index, 0) for index in {*now, *before}}
    if any(count < 0 for count in counts.values()):
        return None
    return {index: count for index, count in counts.items() if count}


def _points(metric: Metric, source: Source) -> Iterator[Told | str]:
    name, unit = text_clean(metric.name), text_clean(metric.unit)
    match metric.WhichOneof("data"):
        case "gauge":
            for number in metric.gauge.data_points:
                yield from _number(number, name, unit, source, temporality=None)
        case "sum":
            # What may fall again is a level: of a cumulative one, the last is what holds.
            level = not metric.sum.is_monotonic
            of_sum: int | None = metric.sum.aggregation_temporality
            if level and of_sum == _CUMULATIVE:
                of_sum = None
            for number in metric.sum.data_points:
                yield from _number(number, name, unit, source, temporality=of_sum)
        case "histogram":
            temporality = metric.histogram.aggregation_temporality
            for explicit in metric.histogram.data_points:
                value = _explicit(explicit)
                yield from _told(explicit, name, unit, "histogram", value, source, temporality)
        case "exponential_histogram":
            temporality = metric.exponential_histogram.aggregation_temporality
            for fine in metric.exponential_histogram.data_points:
                value = _exponential(fine)
                yield from _told(fine, name, unit, "histogram", value, source, temporality)
        case "summary":
            for summary in metric.summary.data_points:
                value = Distribution(summary.count, summary.sum, None, None, None)
                yield from _told(summary, name, unit, "histogram", value, source, _CUMULATIVE)
                for quantile in summary.quantile_values:
                    gauge = Gauge.of(quantile.value)
                    named = f"{name}.quantile_{quantile.quantile:g}"
                    yield from _told(summary, named, unit, "gauge", gauge, source, None)


def _number(
    point: NumberDataPoint, name: str, unit: str, source: Source, *, temporality: int | None
) -> Iterator[Told | str]:
    kind = point.WhichOneof("value")
    if kind is None and not point.flags & _NOTHING:
        yield f"A point of {name[:80]!r} holds no value."
        return
    number = float(getattr(point, kind)) if kind is not None else 0.0
    if temporality is None:
        yield from _told(point, name, unit, "gauge", Gauge.of(number), source, None)
    else:
        yield from _told(point, name, unit, "sum", Sum(number), source, temporality)


def _told(
    point: Any,
    name: str,
    unit: str,
    kind: Kind,
    value: Value,
    source: Source,
    temporality: int | None,
) -> Iterator[Told | str]:
    if point.flags & _NOTHING:
        return
    if temporality not in (None, _CUMULATIVE, _DELTA):
        yield f"{name[:80]!r} does not say its temporality."
        return
    if not 0 < point.time_unix_nano <= LAST_NS or point.start_time_unix_nano > LAST_NS:
        yield f"A point of {name[:80]!r} has no time, in nanoseconds since 1970."
        return
    yield Told(
        name=name,
        unit=unit,
        kind=kind,
        value=value,
        start_ns=point.start_time_unix_nano,
        time_ns=point.time_unix_nano,
        cumulative=temporality == _CUMULATIVE,
        attributes=attributes_plain(point.attributes),
        source=source,
    )


def _explicit(point: HistogramDataPoint) -> Distribution:
    histogram = None
    if point.bucket_counts:
        histogram = Explicit(tuple(point.explicit_bounds), tuple(point.bucket_counts))
    return _distribution(point, histogram)


def _exponential(point: ExponentialHistogramDataPoint) -> Distribution:
    histogram = Exponential(
        point.scale,
        point.zero_count,
        point.zero_threshold,
        _buckets(point.positive),
        _buckets(point.negative),
    )
    return _distribution(point, histogram)


def _buckets(buckets: ExponentialHistogramDataPoint.Buckets) -> dict[int, int]:
    return {
        buckets.offset + number: count
        for number, count in enumerate(buckets.bucket_counts)
        if count
    }


def _distribution(point: Any, histogram: Explicit | Exponential | None) -> Distribution:
    def optional(name: str) -> float | None:
        value = getattr(point, name) if point.HasField(name) else None
        # An empty histogram's extremes are sometimes told as infinities.
        return value if value is not None and math.isfinite(value) else None

    return Distribution(point.count, optional("sum"), optional("min"), optional("max"), histogram)


# --- A cumulative value as JSON, to compare the next one with ---


def value_document(value: Sum | Distribution) -> dict[str, Any]:
    if isinstance(value, Sum):
        return {"total": value.total}
    document: dict[str, Any] = {"n": value.n, "total": value.total}
    match value.histogram:
        case Explicit(bounds=bounds, counts=counts):
            document |= {"bounds": list(bounds), "counts": list(counts)}
        case Exponential() as found:
            document |= {
                "scale": found.scale,
                "zero": found.zero,
                "zero_threshold": found.zero_threshold,
                "positive": {str(index): count for index, count in found.positive.items()},
                "negative": {str(index): count for index, count in found.negative.items()},
            }
    return document


def value_of(document: Mapping[str, Any]) -> Sum | Distribution:
    if "n" not in document:
        return Sum(document["total"])
    histogram: Explicit | Exponential | None = None
    if "bounds" in document:
        histogram = Explicit(tuple(document["bounds"]), tuple(document["counts"]))
    elif "scale" in document:
        histogram = Exponential(
            document["scale"],
            document["zero"],
            document["zero_threshold"],
            {int(index): count for index, count in document["positive"].items()},
            {int(index): count for index, count in document["negative"].items()},
        )
    return Distribution(document["n"], document["total"], None, None, histogram)


def delta_told(now: Told, value: Sum | Distribution) -> Told:
    return replace(now, value=value, cumulative=False)
