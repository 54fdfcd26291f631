"""Metric data of every kind as points; cumulative streams add up to what was recorded."""

from itertools import pairwise
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from signals.otlp.metrics import (
    Before,
    Told,
    added,
    points_read,
    value_document,
    value_of,
)
from signals.otlp.spans import Source
from signals.points.histograms import Explicit, Exponential
from signals.points.kinds import Distribution, Gauge, Sum

DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
SOURCE = Source(UUID(int=1), {}, {})


def told(value: Any, *, start: int, at: int) -> Told:
    kind: Any = "sum" if isinstance(value, Sum) else "histogram"
    return Told("m", "", kind, value, start, at, True, {}, SOURCE)


def before(one: Told) -> Before:
    assert isinstance(one.value, Sum | Distribution)
    # As it is kept in between.
    return Before(one.start_ns, one.time_ns, value_of(value_document(one.value)))


def test_every_kind_is_read() -> None:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    metrics.add(name="g").gauge.data_points.add(time_unix_nano=5, as_double=1.5)
    delta = metrics.add(name="d").sum
    delta.aggregation_temporality, delta.is_monotonic = DELTA, True
    delta.data_points.add(time_unix_nano=5, as_int=3)
    level = metrics.add(name="level").sum
    level.aggregation_temporality = CUMULATIVE
    level.data_points.add(time_unix_nano=5, as_int=4)
    explicit = metrics.add(name="h").histogram
    explicit.aggregation_temporality = DELTA
    explicit.data_points.add(
        time_unix_nano=5, count=3, sum=6.0, bucket_counts=[1, 2], explicit_bounds=[2.0], min=1.0
    )
    fine = metrics.add(name="e").exponential_histogram
    fine.aggregation_temporality = DELTA
    point = fine.data_points.add(time_unix_nano=5, count=4, sum=9.0, scale=3, zero_count=1)
    point.positive.offset = -2
    point.positive.bucket_counts.extend([1, 0, 2])
    summary = metrics.add(name="s").summary.data_points.add(time_unix_nano=5, count=2, sum=7.0)
    summary.quantile_values.add(quantile=0.5, value=3.0)
    # A stream that says that nothing was recorded, one without a time, one without temporality.
    metrics.add(name="gone").gauge.data_points.add(time_unix_nano=5, flags=1)
    metrics.add(name="when").gauge.data_points.add(as_int=1)
    metrics.add(name="what").sum.data_points.add(time_unix_nano=5, as_int=1)

    points, faults = points_read(request)

    assert {point.name: (point.value, point.cumulative) for point in points} == {
        "g": (Gauge.of(1.5), False),
        "d": (Sum(3), False),
        "level": (Gauge.of(4), False),
        "h": (Distribution(3, 6.0, 1.0, None, Explicit((2.0,), (1, 2))), False),
        "e": (Distribution(4, 9.0, None, None, Exponential(3, 1, 0.0, {-2: 1, 0: 2})), False),
        "s": (Distribution(2, 7.0, None, None, None), True),
        "s.quantile_0.5": (Gauge.of(3.0), False),
    }
    assert [fault.split("'")[1] for fault in faults] == ["when", "what"]


def test_a_stream_whose_start_nobody_knows_begins_at_its_first_point() -> None:
    first = told(Sum(100), start=0, at=10)
    assert added(first, None) is None
    assert added(told(Sum(130), start=0, at=20), before(first)) == Sum(30)
    # Less than before: it began again, and all it holds is new.
    assert added(told(Sum(5), start=0, at=30), before(first)) == Sum(5)


@given(
    lives=st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=6), min_size=1, max_size=5)
)
def test_cumulative_sums_add_up_over_resets(lives: list[list[int]]) -> None:
    stream: list[Told] = []
    clock = 1
    for life in lives:
        start, total = clock, 0
        for recorded in life:
            clock += 1
            total += recorded
            stream.append(told(Sum(total), start=start, at=clock))
    found = added(stream[0], None)
    assert isinstance(found, Sum)
    sums = [found.total]
    for one, two in pairwise(stream):
        new = added(two, before(one))
        assert isinstance(new, Sum)
        sums.append(new.total)
    assert sum(sums) == sum(sum(life) for life in lives)


@given(
    parts=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.dictionaries(st.integers(-40, 40), st.integers(1, 9), max_size=8),
            st.integers(0, 5),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_exponential_histograms_that_coarsen_add_up_at_the_coarsest(
    parts: list[tuple[int, dict[int, int], int]],
) -> None:
    """Against counts kept by hand at the finest scale, where a bucket's home is a shift."""
    finest = 8
    scales = [finest]
    counts: list[dict[int, int]] = [{}]
    zeros = [0]
    for coarser, more, zero in parts:
        scales.append(scales[-1] - coarser)
        counts.append(
            {key: counts[-1].get(key, 0) + more.get(key, 0) for key in {*counts[-1], *more}}
        )
        zeros.append(zeros[-1] + zero)

    def at(fine: dict[int, int], scale: int) -> dict[int, int]:
        homes: dict[int, int] = {}
        for index, count in fine.items():
            home = index // 2 ** (finest - scale)
            homes[home] = homes.get(home, 0) + count
        return homes

    stream = []
    for number, (scale, fine, zero) in enumerate(zip(scales, counts, zeros, strict=True)):
        n = sum(fine.values()) + zero
        histogram = Exponential(scale, zero, 0.0, at(fine, scale))
        value = Distribution(n, float(n), None, None, histogram)
        stream.append(told(value, start=1, at=number + 2))
    summed: dict[int, int] = {}
    total = zero_total = 0
    for one, two in pairwise(stream):
        new = added(two, before(one))
        assert isinstance(new, Distribution)
        assert isinstance(new.histogram, Exponential)
        assert new.histogram.n == new.n
        for index, count in new.histogram.at_scale(scales[-1]).positive.items():
            summed[index] = summed.get(index, 0) + count
        total += new.n
        zero_total += new.histogram.zero
    assert summed == at(counts[-1], scales[-1])
    assert (total, zero_total) == (sum(counts[-1].values()) + zeros[-1], zeros[-1])
