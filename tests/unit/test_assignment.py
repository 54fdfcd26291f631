"""The test of the planned share: exact values, its error under continuous looking, its power."""

import random
from collections.abc import Iterator
from math import comb, exp, isclose, log, log1p, sqrt
from statistics import median

import pytest

from signals.stats.assignment import (
    BUDGET,
    CONCENTRATION,
    assignment,
    log_e_value,
    share_range,
)


def walk(rng: random.Random, true_share: float, share: float, people: int) -> Iterator[float]:
    """Yield the log e-value after each person, by the product of the mixture's predictions."""
    exposed, total = 0, 0.0
    for before in range(people):
        chance = (CONCENTRATION * share + exposed) / (CONCENTRATION + before)
        on = rng.random() < true_share
        total += log(chance / share) if on else log((1 - chance) / (1 - share))
        exposed += on
        yield total


def alarmed_at(rng: random.Random, true_share: float, share: float, people: int) -> int | None:
    most = log(1 / BUDGET)
    for n, total in enumerate(walk(rng, true_share, share, people), start=1):
        if total >= most:
            return n
    return None


def test_the_closed_form_is_the_product_of_the_predictions() -> None:
    walked = list(walk(random.Random(3), 0.3, 0.4, 500))
    rng, exposed = random.Random(3), 0

    for n in range(1, 501):
        exposed += rng.random() < 0.3
        assert isclose(log_e_value(exposed, n, 0.4), walked[n - 1], abs_tol=1e-9)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_it_is_a_fair_bet_under_the_plan(share: float) -> None:
    n = 40
    mean = sum(
        comb(n, x) * exp(x * log(share) + (n - x) * log1p(-share) + log_e_value(x, n, share))
        for x in range(n + 1)
    )

    assert isclose(mean, 1.0, rel_tol=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_looking_after_every_person_keeps_the_error(share: float) -> None:
    rng, times = random.Random(11), 1500
    tops = [max(walk(rng, share, share, 1000)) for _ in range(times)]

    for budget in (BUDGET, 0.05):
        found = sum(top >= log(1 / budget) for top in tops) / times
        assert found <= budget + 3 * sqrt(budget * (1 - budget) / times), budget


def test_a_share_of_45_where_half_was_planned_is_found() -> None:
    rng = random.Random(5)
    found = [alarmed_at(rng, 0.45, 0.5, 5000) for _ in range(200)]

    assert sum(at is not None for at in found) >= 198
    assert median(at for at in found if at is not None) < 2500


def test_the_range_holds_the_true_share_at_every_look() -> None:
    rng, times, missed = random.Random(7), 200, 0
    for _ in range(times):
        exposed, ranges = 0, []
        for n in range(1, 501):
            exposed += rng.random() < 0.37
            if n % 10 == 0:
                ranges.append(share_range(exposed, n, 0.5))
        missed += any(not seen.low <= 0.37 <= seen.high for seen in ranges)

    assert missed / times <= 0.05 + 3 * sqrt(0.05 * 0.95 / times)


def test_the_value_is_the_distance_from_the_plan() -> None:
    inside = assignment(52, 100, 0.5)
    outside = assignment(300, 1000, 0.5)
    none_yet = assignment(0, 30, 0.5)
    assert inside is not None
    assert outside is not None
    assert none_yet is not None

    assert inside.low == 0.0
    assert inside.value == pytest.approx(0.02)
    assert outside.value == pytest.approx(0.2)
    assert 0 < outside.low < 0.2 < outside.high
    assert outside.e_value > 1 / BUDGET > inside.e_value
    assert (none_yet.value, none_yet.high) == (0.5, 0.5)
    assert assignment(0, 0, 0.5) is None


@pytest.mark.parametrize(("exposed", "n", "share"), [(1, 0, 0.5), (0, 1, 0.0), (0, 1, 1.0)])
def test_arguments_outside_their_range_are_refused(exposed: int, n: int, share: float) -> None:
    with pytest.raises(ValueError, match="share must lie"):
        log_e_value(exposed, n, share)
