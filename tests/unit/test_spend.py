"""Spend against budgets and after widening: ranges that hold, and nothing unknown for nothing."""

import random
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_console.economics.spend import (
    burn,
    hourly_count,
    hours_to_clear,
    mean_of,
    projected,
    share_of,
    times,
)
from signals.stats.estimate import Estimate

shares = st.floats(0, 1)
amounts = st.builds(
    lambda low, a, b: Estimate(low + a, low, low + a + b, 50),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 100),
)


def test_projected_is_the_weighted_mean_times_the_traffic() -> None:
    found = projected(
        Estimate(100.0, 80.0, 125.0, 100),
        share=0.25,
        exposed=Estimate(0.4, 0.3, 0.5, 60),
        others=Estimate(0.2, 0.18, 0.24, 80),
    )
    assert found is not None
    assert found.value == pytest.approx(25.0)
    mean, below, above = 0.25, sqrt(0.025**2 + 0.015**2), sqrt(0.025**2 + 0.03**2)
    assert found.low == pytest.approx(25 - sqrt((mean * 20) ** 2 + (100 * below) ** 2))
    assert found.high == pytest.approx(25 + sqrt((mean * 25) ** 2 + (100 * above) ** 2))
    assert found.n == 60


@given(amounts, shares, amounts, amounts)
def test_a_projection_lies_inside_its_range_and_between_both_amounts(
    traffic: Estimate, share: float, exposed: Estimate, others: Estimate
) -> None:
    found = projected(traffic, share=share, exposed=exposed, others=others)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value * (1 + 1e-9)
    assert found.value <= found.high * (1 + 1e-9) + 1e-9
    least, most = sorted((exposed.value, others.value))
    assert traffic.value * least * (1 - 1e-9) - 1e-9 <= found.value
    assert found.value <= traffic.value * most * (1 + 1e-9) + 1e-9


@given(amounts, shares)
def test_what_is_needed_and_not_known_makes_the_whole_unknown(
    traffic: Estimate, share: float
) -> None:
    known = Estimate(1.0, 0.5, 2.0, 10)
    for exposed, others in ((None, known), (known, None), (None, None)):
        found = projected(traffic, share=share, exposed=exposed, others=others)
        needs = (share > 0 and exposed is None) or (share < 1 and others is None)
        assert (found is None) == needs


def test_an_amount_without_a_range_leaves_the_end_open() -> None:
    found = projected(
        Estimate(10.0, 8.0, 12.0, 9), share=1.0, exposed=Estimate(2.0, None, None, 1), others=None
    )
    assert found == Estimate(20.0, None, None, 1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        projected(Estimate(1.0, 1.0, 1.0, 1), share=1.1, exposed=found, others=found)


def test_projected_ranges_hold_their_level() -> None:
    rng = random.Random(3)
    share, per_hour, hits, rounds = 0.3, 900.0, 0, 600
    true = per_hour * (share * 0.06 + (1 - share) * 0.04)
    for _ in range(rounds):
        # Poisson traffic of an hour, a tenth of it exposed.
        n, waited = 0, rng.expovariate(per_hour)
        while waited < 1:
            n, waited = n + 1, waited + rng.expovariate(per_hour)
        costs: tuple[list[float], list[float]] = ([], [])
        for _ in range(n):
            exposed = rng.random() < 0.1
            costs[not exposed].append(rng.gammavariate(4, (0.06 if exposed else 0.04) / 4))
        found = projected(
            hourly_count(n, span_s=3600),
            share=share,
            exposed=mean_of(len(costs[0]), sum(costs[0]), sum(c * c for c in costs[0])),
            others=mean_of(len(costs[1]), sum(costs[1]), sum(c * c for c in costs[1])),
        )
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= true <= found.high
    assert 0.95 - 3 * sqrt(0.95 * 0.05 / rounds) <= hits / rounds <= 0.99


@given(st.floats(0, 1e6), st.floats(0.01, 1e4), st.floats(0, 86_400))
def test_a_budget_burns_by_what_is_spent(spent: float, budget: float, elapsed_s: float) -> None:
    found = burn(spent=spent, budget_per_hour=budget, elapsed_s=elapsed_s, period_s=86_400)
    assert found.used_share == pytest.approx(spent / (24 * budget))
    assert found.elapsed_share == pytest.approx(elapsed_s / 86_400)
    unknown = burn(spent=None, budget_per_hour=budget, elapsed_s=elapsed_s, period_s=86_400)
    assert unknown.used_share is None


@given(st.integers(0, 10_000), st.floats(0, 100), st.floats(0, 100))
def test_a_backlog_ends_only_where_more_can_be_done_than_comes(
    backlog: int, capacity: float, arrivals: float
) -> None:
    found = hours_to_clear(backlog, capacity_per_hour=capacity, arrivals_per_hour=arrivals)
    if backlog == 0:
        assert found == 0
    elif capacity <= arrivals:
        assert found is None
    else:
        assert found is not None
        assert found * (capacity - arrivals) == pytest.approx(backlog)


def test_parts_of_nothing_and_squares_that_were_not_kept() -> None:
    assert share_of(0, 0) is None
    assert mean_of(0, 0.0, 0.0) is None
    assert mean_of(2, 10.0, 0.0) == Estimate(5.0, None, None, 2)
    assert times(Estimate(2.0, None, 3.0, 4), 2) == Estimate(4.0, None, 6.0, 4)
