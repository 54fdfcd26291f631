"""Ranges that are right at every look: error by simulation, and against independent sums."""

from math import comb, log, pi

import numpy as np
import pytest

from signals.stats.intervals import rate_interval
from signals.stats.sequences import mean_sequence, quantile_sequence_ranks, rate_sequence


def test_a_rates_range_is_where_a_mixture_does_not_win() -> None:
    """Jeffreys' mixture of 7 of 20, summed over a grid of rates, against each end."""
    found = rate_sequence(7, 20)
    assert found is not None
    rates = (np.arange(200_000) + 0.5) / 200_000
    prior = 1 / (pi * np.sqrt(rates * (1 - rates)))
    mixed = float(np.mean(prior * rates**7 * (1 - rates) ** 13))
    for end in (found.low, found.high):
        assert log(mixed / (end**7 * (1 - end) ** 13)) == pytest.approx(log(20), abs=2e-3)
    assert comb(20, 7) > 0


def test_no_bound_where_nothing_bounds() -> None:
    none, all_ = rate_sequence(0, 30), rate_sequence(30, 30)
    assert none is not None
    assert all_ is not None
    assert (none.low, all_.high) == (0.0, 1.0)
    assert 0.05 < none.high < 0.25
    assert all_.low == pytest.approx(1 - none.high)
    assert rate_sequence(0, 0) is None
    assert mean_sequence(1, 4.0, 16.0) is None
    with pytest.raises(ValueError, match="between 0 and n"):
        rate_sequence(5, 4)


def test_a_rate_lies_in_its_range_at_every_look() -> None:
    rng = np.random.default_rng(6)
    missed = fixed = 0
    for _ in range(200):
        seen = np.cumsum(rng.random(400) < 0.1)
        looks = range(20, 401, 4)
        ranges = [
            (rate_sequence(int(seen[n - 1]), n), rate_interval(int(seen[n - 1]), n)) for n in looks
        ]
        missed += any(a and not a.low <= 0.1 <= a.high for a, _ in ranges)
        fixed += any(one and not one.low <= 0.1 <= one.high for _, one in ranges)
    assert missed / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    # That is what looking often does to a range for one look.
    assert fixed / 200 > 0.15


def test_a_mean_lies_in_its_range_at_every_look() -> None:
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(300):
        values = rng.exponential(2.0, 2000)
        sums, squares = np.cumsum(values), np.cumsum(values**2)
        for n in range(30, 2001, 10):
            found = mean_sequence(n, float(sums[n - 1]), float(squares[n - 1]))
            assert found is not None
            if not found.low <= 2.0 <= found.high:
                missed += 1
                break
    assert missed / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_a_quantile_lies_between_its_ranks_at_every_look() -> None:
    rng = np.random.default_rng(8)
    missed = 0
    for _ in range(200):
        values = rng.random(1500)
        for n in range(50, 1501, 25):
            low, high = quantile_sequence_ranks(n, 0.95)
            ordered = np.sort(values[:n])
            below = low > 0 and ordered[low - 1] > 0.95
            above = high <= n and ordered[high - 1] < 0.95
            if below or above:
                missed += 1
                break
    assert missed / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert quantile_sequence_ranks(10, 0.95)[1] == 11
    assert quantile_sequence_ranks(100_000, 0.5)[0] > 48_500
