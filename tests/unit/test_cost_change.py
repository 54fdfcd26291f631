"""The change in cost per task: its parts sum to it, and are the averages over all orders."""

from itertools import permutations
from math import fsum, isclose
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.buckets.measures import Measures
from signals.stats.cost_change import OUTPUT_WEIGHT, CostChange, Spent, cost_change

COUNT = st.integers(0, 5)
MONEY = st.floats(0, 1e4, allow_subnormal=False)
TOKENS = st.one_of(st.just(0.0), st.integers(0, 10**7).map(float))


@st.composite
def tasks(draw: st.DrawFn) -> Measures:
    n = draw(COUNT)

    def of() -> int:
        # Reported of all tasks, of none, or of some.
        return draw(st.sampled_from([n, 0, n // 2]))

    def total(count: int, values: st.SearchStrategy[float]) -> float:
        return draw(values) if count else 0.0

    cost_n, in_n, out_n, retries_n = n, of(), of(), of()
    return Measures(
        n=n,
        cost_n=cost_n,
        cost_sum=total(cost_n, MONEY),
        input_tokens_n=in_n,
        input_tokens_sum=total(in_n, TOKENS),
        output_tokens_n=out_n,
        output_tokens_sum=total(out_n, TOKENS),
        retries_n=retries_n,
        retries_sum=total(retries_n, st.integers(0, 40).map(float)),
    )


SPENT = st.builds(Spent, normal=tasks(), fallback=tasks())


@given(SPENT, SPENT)
def test_the_parts_sum_to_the_change(candidate: Spent, stable: Spent) -> None:
    found = cost_change(candidate, stable)

    if not candidate.n or not stable.n:
        assert found is None
        return
    assert found is not None
    assert found.change == candidate.mean - stable.mean
    scale = max(abs(found.candidate), abs(found.stable), *map(abs, found.parts.values()))
    assert isclose(fsum(found.parts.values()), found.change, abs_tol=1e-9 * scale)
    # Either apart, or in one part: never twice.
    apart = {"input_tokens", "output_tokens", "price"}
    assert apart.isdisjoint(found.parts) or "tokens_and_price" not in found.parts
    assert found.tokens_known == ("tokens_and_price" not in found.parts)
    assert found.retries_known == ("retries" in found.parts)


@given(SPENT, SPENT)
def test_the_other_way_round_is_the_opposite(candidate: Spent, stable: Spent) -> None:
    there, back = cost_change(candidate, stable), cost_change(stable, candidate)

    if there is None or back is None:
        assert there is back is None
        return
    scale = max(there.candidate, there.stable, *map(abs, there.parts.values()), 1e-300)
    for part, value in there.parts.items():
        assert isclose(value, -back.parts[part], abs_tol=1e-9 * scale)


@given(SPENT)
def test_a_release_beside_itself_changes_nothing(spent: Spent) -> None:
    found = cost_change(spent, spent)

    assert found is None or set(found.parts.values()) <= {0.0}


def spent(
    *,
    n: int = 100,
    cost: float = 1.0,
    tokens: tuple[float, float] | None = (1000.0, 100.0),
    retries: float | None = 0.0,
    fallback_n: int = 0,
    fallback_cost: float = 0.0,
) -> Spent:
    """Return tasks by their means."""
    known: dict[str, Any] = {}
    if tokens is not None:
        known |= {
            "input_tokens_n": n,
            "input_tokens_sum": tokens[0] * n,
            "output_tokens_n": n,
            "output_tokens_sum": tokens[1] * n,
        }
    if retries is not None:
        known |= {"retries_n": n, "retries_sum": retries * n}
    return Spent(
        Measures(n=n, cost_n=n, cost_sum=cost * n, **known),
        Measures(n=fallback_n, cost_n=fallback_n, cost_sum=fallback_cost * fallback_n),
    )


def parts(candidate: Spent, stable: Spent) -> dict[str, float]:
    found = cost_change(candidate, stable)
    assert isinstance(found, CostChange)
    return {part: round(value, 9) for part, value in found.parts.items() if round(value, 9)}


def test_what_moved_alone_is_the_whole() -> None:
    assert parts(spent(cost=1.5), spent()) == {"price": 0.5}
    # Ten more output tokens at the same price: 1 dollar buys 1000 + 4 * 100 units.
    unit = 1 / (1000 + OUTPUT_WEIGHT * 100)
    dearer = spent(cost=1 + 10 * OUTPUT_WEIGHT * unit, tokens=(1000.0, 110.0))
    assert parts(dearer, spent()) == {"output_tokens": round(10 * OUTPUT_WEIGHT * unit, 9)}
    assert parts(spent(cost=2.0, tokens=(2400.0, 100.0)), spent()) == {"input_tokens": 1.0}
    # Twice the attempts of the same length.
    assert parts(spent(cost=2.0, tokens=(2000.0, 200.0), retries=1.0), spent()) == {"retries": 1.0}
    assert parts(spent(n=75, fallback_n=25, fallback_cost=5.0), spent()) == {"fallback": 1.0}


def test_it_is_the_average_over_all_orders() -> None:
    candidate = spent(
        n=80, cost=0.06, tokens=(9000, 700), retries=0.5, fallback_n=20, fallback_cost=0.4
    )
    stable = spent(
        n=95, cost=0.035, tokens=(8000, 280), retries=0.1, fallback_n=5, fallback_cost=0.3
    )

    def factors(arm: Spent) -> list[float]:
        normal = arm.normal
        attempts = 1 + normal.retries_sum / normal.n
        tokens_in = normal.input_tokens_sum / normal.n / attempts
        tokens_out = normal.output_tokens_sum / normal.n / attempts
        price = normal.cost_sum / normal.n / attempts / (tokens_in + 4 * tokens_out)
        dear = arm.fallback.cost_sum / arm.fallback.n
        return [tokens_in, tokens_out, price, attempts, arm.fallback.n / arm.n, dear]

    def cost(values: list[float]) -> float:
        tokens_in, tokens_out, price, attempts, share, dear = values
        return (1 - share) * attempts * (tokens_in + 4 * tokens_out) * price + share * dear

    before, after = factors(stable), factors(candidate)
    moved = [0.0] * 6
    orders = list(permutations(range(6)))
    for order in orders:
        now = list(before)
        for place in order:
            was = cost(now)
            now[place] = after[place]
            moved[place] += (cost(now) - was) / len(orders)

    found = cost_change(candidate, stable)

    assert found is not None
    assert found.parts == pytest.approx(
        {
            "input_tokens": moved[0],
            "output_tokens": moved[1],
            "price": moved[2],
            "retries": moved[3],
            "fallback": moved[4] + moved[5],
        }
    )
    assert found.change == pytest.approx(sum(moved))


def test_what_is_not_reported_is_not_told_apart() -> None:
    assert parts(spent(cost=1.5, tokens=None), spent()) == {"tokens_and_price": 0.5}
    assert parts(spent(cost=1.5, retries=None), spent()) == {"price": 0.5}
    # Of half the tasks only: their mean is one of other tasks.
    half = spent(cost=1.5)
    few = Spent(
        Measures(
            n=100,
            cost_n=100,
            cost_sum=150.0,
            input_tokens_n=50,
            input_tokens_sum=1e6,
            output_tokens_n=50,
            output_tokens_sum=1e5,
        ),
        Measures(),
    )
    assert parts(half, spent()) == {"price": 0.5}
    assert parts(few, spent()) == {"tokens_and_price": 0.5}


def test_a_fallback_that_only_one_release_used_is_told_by_its_share() -> None:
    whole = spent(n=0, fallback_n=10, fallback_cost=3.0)

    assert parts(whole, spent()) == {"fallback": 2.0}
    assert parts(spent(), whole) == {"fallback": -2.0}
    dearer = spent(n=0, fallback_n=10, fallback_cost=3.5)
    assert parts(dearer, whole) == {"fallback": 0.5}


def test_an_unknown_cost_is_no_saving() -> None:
    assert cost_change(Spent(Measures(n=40), Measures()), spent()) is None
    assert cost_change(spent(), Spent(Measures(n=40), Measures())) is None
