import random

from hypothesis import given
from hypothesis import strategies as st

from signals.buckets.measures import (
    COUNTED,
    SUMMED,
    Histogram,
    Measures,
    bucket_bounds,
    bucket_middle,
    total,
)
from signals.catalogue import SIGNALS
from signals.stats.estimate import Estimate, difference, estimate, largest, repeats
from tests.ledger import bucket_of

PARTS = st.builds(
    Measures,
    n=st.integers(0, 50),
    quality_n=st.integers(0, 50),
    latency_max=st.floats(0, 1e6),
    latency=st.builds(
        Histogram,
        zero=st.integers(0, 9),
        largest=st.floats(0, 1e6),
        counts=st.dictionaries(st.integers(-50, 600), st.integers(1, 9), max_size=6),
    ),
)


@given(st.lists(PARTS, max_size=8), st.randoms())
def test_measures_add_up_in_any_order(parts: list[Measures], rng: random.Random) -> None:
    shuffled = parts[:]
    rng.shuffle(shuffled)
    assert total(shuffled) == total(parts)
    assert total(parts).latency.n == sum(part.latency.n for part in parts)


@given(st.floats(1e-3, 1e9))
def test_a_bucket_holds_its_value_and_its_middle_is_near(value: float) -> None:
    low, high = bucket_bounds(bucket_of(value))
    assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12)
    assert abs(bucket_middle(bucket_of(value)) / value - 1) <= 0.0109


def test_what_lies_above_a_limit_is_counted_by_share_of_its_bucket() -> None:
    low, high = bucket_bounds(320)
    found = Histogram(counts={300: 4, 320: 10, 330: 3})
    assert found.above((low + high) / 2) == 3 + 5
    assert found.above(high) == 3
    assert found.above(1e9) == 0


def test_every_signal_reads_fields_that_exist() -> None:
    for signal in SIGNALS.values():
        assert signal.n_of in COUNTED, signal.slug
        assert signal.total_of in {*SUMMED, ""}, signal.slug
        assert signal.squares_of in {*SUMMED, ""}, signal.slug
        assert signal.phrase.count("{}") == 1, signal.slug


def test_estimates_of_each_source() -> None:
    found = Measures(
        n=200,
        quality_n=100,
        quality_passed=90,
        n_critical=2,
        latency_n=100,
        latency_max=9000.0,
        latency=Histogram(largest=9000.0, counts={bucket_of(1000): 90, bucket_of(9000): 10}),
        cost_n=100,
        cost_sum=5.0,
        cost_sq=0.26,
        cost_max=0.4,
        input_tokens_n=10,
        input_tokens_sum=500.0,
        retries_n=200,
        retries_sum=20.0,
    )

    def value(slug: str, slow_ms: float | None = None) -> Estimate | None:
        return estimate(SIGNALS[slug], found, span_s=60, slow_ms=slow_ms)

    quality = value("quality_pass_rate")
    assert quality is not None
    assert (quality.value, quality.n) == (0.9, 100)
    assert round(quality.low or 0, 3) == 0.826
    p95 = value("latency_p95_ms")
    assert p95 is not None
    assert abs(p95.value / 9000 - 1) < 0.011
    slow = value("slow_path_rate", 5000)
    assert slow is not None
    assert slow.value == 0.1
    assert value("slow_path_rate") is None
    cost = value("cost_per_task_usd")
    assert cost is not None
    assert (cost.value, cost.n) == (0.05, 100)
    spend = value("spend_usd_per_hour")
    assert spend is not None
    assert spend.value == 300.0
    critical = value("critical_failures")
    assert critical == Estimate(2, 2, 2, 200)
    assert value("input_tokens_per_task") == Estimate(50.0, None, None, 10)
    retries = value("retry_rate")
    assert retries is not None
    assert retries.value == 0.1
    assert value("repeated_failures") is None
    assert value("quality_score") is None


def test_a_hard_cap_reads_the_greatest_single_task() -> None:
    found = Measures(n=3, latency_n=3, latency_max=900.0, cost_n=2, cost_max=2.5)
    assert largest(SIGNALS["cost_per_task_usd"], found) == Estimate(2.5, 2.5, 2.5, 2)
    assert largest(SIGNALS["latency_p95_ms"], found) == Estimate(900.0, 900.0, 900.0, 3)
    assert largest(SIGNALS["quality_pass_rate"], found) is None


def test_an_unbounded_end_leaves_the_difference_unbounded() -> None:
    gap = difference(Estimate(10, 8, None, 20), Estimate(5, 4, 6, 20))
    assert gap is not None
    assert gap.high == float("inf")
    assert difference(Estimate(10, None, None, 20), Estimate(5, 4, 6, 20)) is None


def test_a_share_of_tasks_is_at_most_all_of_them() -> None:
    """Labels of earlier tasks arrive in the window too."""
    trust = estimate(SIGNALS["trust_negative_rate"], Measures(n=3, feedback_negative=5), span_s=60)
    assert trust is not None
    assert (trust.value, trust.n) == (1.0, 3)
    missing = estimate(SIGNALS["label_missing_rate"], Measures(n=3, labelled=5), span_s=60)
    assert missing is not None
    assert (missing.value, missing.low, missing.n) == (0.0, 0.0, 3)


def test_a_critical_failure_counts_without_a_task_beside_it() -> None:
    critical = SIGNALS["critical_failures"]
    assert estimate(critical, Measures(n_critical=1), span_s=60) == Estimate(1, 1, 1, 0)
    assert estimate(critical, Measures(), span_s=60) is None


def test_repeats_count_the_commonest_category() -> None:
    assert repeats({"loop": 4, "misread": 7}, n=50) == Estimate(7, 7, 7, 50)
    assert repeats({}, n=50) == Estimate(0, 0, 0, 50)
    assert repeats({}, n=0) is None
