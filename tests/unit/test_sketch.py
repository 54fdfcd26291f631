"""The sketch holds its stated error on heavy tails, however it is split and merged."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.buckets.measures import Histogram
from tests.tails import STATED_ERROR, TAILS, sketched, worst_error


def test_the_stated_error_is_1_1_percent() -> None:
    assert 0.0108 < STATED_ERROR < 0.011


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_quantile_is_near_a_value_that_occurred(tail: str, seed: int) -> None:
    rng = random.Random(seed)
    values = [TAILS[tail](rng) for _ in range(5000)]
    parts = [sketched(values[start : start + 37]) for start in range(0, 5000, 37)]
    rng.shuffle(parts)
    merged = Histogram()
    for part in parts:
        merged = merged + part

    assert merged == sketched(values)
    assert worst_error(values, merged) <= STATED_ERROR + 1e-9


@settings(max_examples=200)
@given(st.lists(st.floats(1e-9, 1e12) | st.just(0.0), min_size=1, max_size=60))
def test_the_error_holds_for_any_values(values: list[float]) -> None:
    assert worst_error(values, sketched(values)) <= STATED_ERROR + 1e-9


def test_one_call_of_9000_dollars_is_the_largest_and_moves_no_other_quantile() -> None:
    rng = random.Random(4)
    cents = [rng.lognormvariate(-4, 0.5) for _ in range(2000)]
    calm, struck = sketched(cents), sketched([*cents, 9000.0])

    assert struck.largest == 9000.0
    assert struck.above(100.0) == 1.0
    assert worst_error([*cents, 9000.0], struck) <= STATED_ERROR + 1e-9
    assert calm.n + 1 == struck.n
