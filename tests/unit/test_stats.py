"""Ranges against published values and by seeded simulation of their error rate."""

import random
from math import inf

import pytest

from signals.buckets.measures import HISTOGRAM_SCALE
from signals.stats.intervals import (
    Interval,
    count_interval,
    difference_interval,
    histogram_quantile,
    mean_interval,
    quantile_ranks,
    rate_interval,
    t_quantile,
)
from tests.ledger import bucket_of


def test_wilson_range_is_the_published_one() -> None:
    # Newcombe 1998, Stat. Med. 17, table I: 81 of 263 and 15 of 148, method 3.
    found = rate_interval(81, 263)
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    found = rate_interval(15, 148)
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (0.0624, 0.1605)


def test_a_rate_without_failures_is_not_certain() -> None:
    found = rate_interval(20, 20)
    assert found is not None
    assert found.high == 1.0
    assert round(found.low, 3) == 0.839


def test_no_tasks_give_no_range() -> None:
    assert rate_interval(0, 0) is None
    assert mean_interval(1, 5.0, 25.0) is None
    assert histogram_quantile(0, {}, 0.0, 0.95, scale=HISTOGRAM_SCALE) is None


def test_more_successes_than_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and n"):
        rate_interval(3, 2)


@pytest.mark.parametrize(
    ("df", "expected"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (5, 2.5706),
        (10, 2.2281),
        (30, 2.0423),
        (1000, 1.9623),
    ],
)
def test_student_quantiles_are_those_of_the_tables(df: int, expected: float) -> None:
    assert t_quantile(0.975, df) == pytest.approx(expected, abs=2e-4)


def test_mean_range_of_a_worked_example() -> None:
    values = [4.0, 6.0, 8.0]
    found = mean_interval(3, sum(values), sum(v * v for v in values))
    assert found is not None
    # mean 6, s = 2, t(0.975, 2) = 4.3027
    assert found.low == pytest.approx(6 - 4.3027 * 2 / 3**0.5, abs=1e-3)
    assert found.high == pytest.approx(6 + 4.3027 * 2 / 3**0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 3.69), (1, 0.025, 5.57), (10, 4.80, 18.39)]
)
def test_count_range_is_near_the_exact_poisson_one(count: int, low: float, high: float) -> None:
    found = count_interval(count)
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.05)


def test_difference_of_rates_is_newcombes() -> None:
    # Newcombe 1998, Stat. Med. 17, 873-890, table II, method 10: 56 of 70 against 48 of 80.
    first, second = rate_interval(56, 70), rate_interval(48, 80)
    assert first is not None
    assert second is not None
    found = difference_interval(56 / 70, first, 48 / 80, second)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_few_values_do_not_bound_a_high_quantile() -> None:
    assert quantile_ranks(20, 0.95) == (17, 21)
    assert quantile_ranks(71, 0.95)[1] == 72
    assert quantile_ranks(73, 0.95)[1] == 73


def test_ranks_by_the_normal_approximation_join_the_exact_ones() -> None:
    exact, close = quantile_ranks(1000, 0.95), quantile_ranks(1001, 0.95)
    assert abs(exact[0] - close[0]) <= 2
    assert abs(exact[1] - close[1]) <= 2


def histogram(values: list[float]) -> tuple[int, dict[int, int], float]:
    counts: dict[int, int] = {}
    for value in values:
        if value > 0:
            counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    return sum(value == 0 for value in values), counts, max(values)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantiles_stay_within_the_sketch_error_in_heavy_tails(q: float) -> None:
    rng = random.Random(7)
    for _ in range(20):
        values = sorted(rng.lognormvariate(7, 1.5) for _ in range(500))
        zero, counts, largest = histogram(values)
        found = histogram_quantile(zero, counts, largest, q, scale=HISTOGRAM_SCALE)
        assert found is not None
        exact = values[-int(-(q * 500) // 1) - 1]
        assert abs(found[0] / exact - 1) <= 0.0109
        assert found[1].low <= found[0] <= found[1].high


def test_an_unbounded_end_is_infinite() -> None:
    zero, counts, largest = histogram([100.0] * 10)
    found = histogram_quantile(zero, counts, largest, 0.95, scale=HISTOGRAM_SCALE)
    assert found is not None
    assert found[1].high == inf


def test_zeros_count_as_the_smallest_values() -> None:
    zero, counts, largest = histogram([0.0] * 99 + [100.0])
    found = histogram_quantile(zero, counts, largest, 0.5, scale=HISTOGRAM_SCALE)
    assert found == (0.0, Interval(0.0, 0.0))


def test_ranges_miss_the_truth_about_one_time_in_twenty() -> None:
    rng = random.Random(11)
    trials, n = 1500, 200
    missed = {"rate": 0, "mean": 0, "quantile": 0}
    true_p95 = 3000 * 2.995732273553991  # of an exponential with mean 3,000
    for _ in range(trials):
        passed = sum(rng.random() < 0.9 for _ in range(n))
        rate = rate_interval(passed, n)
        values = [rng.expovariate(1 / 3000) for _ in range(n)]
        mean = mean_interval(n, sum(values), sum(v * v for v in values))
        quantile = histogram_quantile(*histogram(values), 0.95, scale=HISTOGRAM_SCALE)
        assert rate is not None
        assert mean is not None
        assert quantile is not None
        missed["rate"] += not rate.low <= 0.9 <= rate.high
        missed["mean"] += not mean.low <= 3000 <= mean.high
        missed["quantile"] += not quantile[1].low <= true_p95 <= quantile[1].high
    noise = 3 * (0.05 * 0.95 / trials) ** 0.5
    assert missed["rate"] / trials <= 0.05 + noise
    # Student's range is too narrow for skewed values; 200 of them bring it near.
    assert missed["mean"] / trials <= 0.07 + noise
    assert missed["quantile"] / trials <= 0.05 + noise
