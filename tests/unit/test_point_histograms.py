"""Histograms of metric points merge exactly, by OpenTelemetry's definition of their buckets."""

import random
from collections import Counter
from math import ceil, isclose, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.points.histograms import Explicit, Exponential, merged

VALUES = st.lists(st.floats(min_value=-1e6, max_value=1e6).filter(lambda v: abs(v) > 1e-6))


def index_of(value: float, scale: int) -> int:
    """Return the bucket of a value by the definition, with logarithms instead of shifts."""
    return ceil(log2(value) * 2.0**scale) - 1


def sketch(values: list[float], scale: int) -> Exponential:
    return Exponential(
        scale,
        sum(value == 0 for value in values),
        0.0,
        Counter(index_of(value, scale) for value in values if value > 0),
        Counter(index_of(-value, scale) for value in values if value < 0),
    )


@given(VALUES, VALUES, st.integers(-3, 6), st.integers(-3, 6))
def test_merging_scales_equals_sketching_at_the_coarser(
    one: list[float], two: list[float], scale: int, other: int
) -> None:
    found = sketch(one, scale) + sketch(two, other)

    assert found == sketch(one + two, min(scale, other))


@given(st.lists(VALUES, max_size=6), st.randoms(use_true_random=False))
def test_order_does_not_matter(parts: list[list[float]], chance: random.Random) -> None:
    sketches = [sketch(part, chance.randint(-2, 5)) for part in parts]
    shuffled = list(sketches)
    chance.shuffle(shuffled)

    assert merged(sketches) == merged(shuffled)


def test_wider_zero_threshold_swallows_whole_buckets_only() -> None:
    # At scale 0 bucket 0 is (1, 2], bucket 1 is (2, 4], bucket -1 is (0.5, 1].
    fine = Exponential(0, 1, 0.0, {-1: 4, 0: 3, 1: 2}, {0: 5, 3: 1})
    coarse = Exponential(0, 7, 1.5, {1: 1}, {})

    found = fine + coarse

    # 1.5 cuts (1, 2], so the threshold rises to 2.
    assert found == Exponential(0, 1 + 4 + 3 + 5 + 7, 2.0, {1: 3}, {3: 1})
    assert found == coarse + fine


def test_quantile_is_within_the_scale_s_error() -> None:
    chance = random.Random(7)
    values = [chance.lognormvariate(2, 1.5) for _ in range(5_000)]
    ordered = sorted(values)

    for q in (0.01, 0.5, 0.95, 0.999):
        found = sketch(values, 5).quantile(q, smallest=ordered[0], largest=ordered[-1])
        assert found is not None
        assert isclose(found, ordered[ceil(q * 5_000) - 1], rel_tol=0.011)


def test_quantile_of_values_on_both_sides_of_zero() -> None:
    found = sketch([-8.0, -4.0, 0.0, 4.0, 8.0], 5)

    assert found.quantile(0.5, smallest=-8.0, largest=8.0) == 0.0
    low = found.quantile(0.1, smallest=-8.0, largest=8.0)
    assert low is not None
    assert isclose(low, -8.0, rel_tol=0.011)


def test_explicit_ones_merge_on_the_bounds_they_share() -> None:
    one = Explicit((1.0, 2.0, 5.0), (1, 2, 3, 4))
    two = Explicit((2.0, 5.0, 9.0), (10, 20, 30, 40))

    # (-inf, 2], (2, 5], (5, inf)
    assert one + two == Explicit((2.0, 5.0), (1 + 2 + 10, 3 + 20, 4 + 30 + 40))
    assert one + Explicit((7.0,), (1, 1)) == Explicit((), (12,))
    assert one.quantile(0.5, smallest=0.5, largest=9.0) == pytest.approx(2 * 2 * 5 / 7)


def test_the_two_kinds_do_not_mix() -> None:
    assert merged([Exponential(0, 1), Explicit((1.0,), (1, 1))]) is None
    assert merged([]) is None
