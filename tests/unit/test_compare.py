"""A comparison's words: they follow from ranges and never from what is not known."""

import pytest

from signals.buckets.measures import Measures
from signals.stats.compare import LEAST_N, Side, compare, compare_all, compare_cost

EMPTY = Measures()


def quality(passed: int, n: int) -> Side:
    return Side(Measures(n=n, quality_n=n, quality_passed=passed), EMPTY)


def costs(values: list[float], n: int | None = None) -> Measures:
    return Measures(
        n=len(values) if n is None else n,
        cost_n=len(values),
        cost_sum=sum(values),
        cost_sq=sum(value * value for value in values),
    )


def test_a_gap_inside_its_range_says_nothing() -> None:
    # tau2-bench's retail: 34 of 40 on both sides; and a clear drop beside it.
    same = compare("quality_pass_rate", quality(34, 40), quality(34, 40))
    worse = compare("quality_pass_rate", quality(60, 100), quality(90, 100))
    better = compare("quality_pass_rate", quality(90, 100), quality(60, 100))

    assert (same.gap, same.word) == (0.0, "none_clear")
    assert worse.gap == pytest.approx(-0.3)
    assert worse.word == "worse"
    # Newcombe 1998, method 10, from Wilson's ranges of 60 and 90 of 100.
    assert (round(worse.low or 0, 3), round(worse.high or 0, 3)) == (-0.408, -0.183)
    assert better.word == "better"


def test_few_tasks_found_no_word() -> None:
    # tau2-bench's airline: 13 and 10 of 20 is too little to say anything.
    assert compare("quality_pass_rate", quality(13, 20), quality(10, 20)).word == "too_few"
    few = LEAST_N - 1
    assert compare("quality_pass_rate", quality(0, few), quality(900, 900)).word == "too_few"
    assert compare("quality_pass_rate", quality(0, LEAST_N), quality(900, 900)).word == "worse"


def test_an_unknown_cost_is_never_a_saving() -> None:
    stable = Side(costs([0.10, 0.12] * 50), EMPTY)
    unknown = compare("cost_per_task_usd", Side(costs([], n=40), EMPTY), stable)
    cheap = [0.01, 0.02] * 50
    partly = compare("cost_per_task_usd", Side(costs(cheap, n=104), EMPTY), stable)
    mostly = compare("cost_per_task_usd", Side(costs(cheap, n=150), EMPTY), stable)
    known = compare("cost_per_task_usd", Side(costs(cheap), EMPTY), stable)

    assert (unknown.gap, unknown.word) == (None, "not_known")
    assert unknown.note == "Cost known for 0 of 40 candidate tasks."
    assert partly.gap == pytest.approx(0.015 - 0.11)
    assert partly.word == "not_known"
    assert (mostly.gap, mostly.word) == (None, "not_known")
    assert known.word == "better"
    # What is dearer is so whatever the few unknown ones cost.
    dear = compare("cost_per_task_usd", Side(costs([0.5, 0.6] * 50, n=104), EMPTY), stable)
    assert dear.word == "worse"
    assert compare_cost(Side(costs([], n=40), EMPTY), stable) is None
    assert [row.signal.slug for row in compare_all(Side(costs([], n=40), EMPTY), stable)][:1] == [
        "cost_per_task_usd"
    ]


def test_a_range_that_the_ledger_cannot_give_is_said_to_be_unknown() -> None:
    def tokens(mean: float, squares: bool) -> Side:
        held = 100 * mean * mean * 1.1 if squares else 0.0
        return Side(
            Measures(n=100, input_tokens_n=100, input_tokens_sum=100 * mean, input_tokens_sq=held),
            EMPTY,
        )

    unknown = compare("input_tokens_per_task", tokens(900, False), tokens(400, False))
    known = compare("input_tokens_per_task", tokens(900, True), tokens(400, True))

    assert (unknown.gap, unknown.low, unknown.word) == (500.0, None, "not_known")
    assert known.word == "worse"


def test_fallbacks_stand_in_the_whole_cost_and_not_in_the_release_s_own() -> None:
    candidate = Side(costs([0.1] * 90), costs([1.0] * 10))
    stable = Side(costs([0.1] * 100), EMPTY)

    own = compare("cost_per_task_usd", candidate, stable)
    whole = compare_cost(candidate, stable)

    assert own.gap == pytest.approx(0.0)
    assert whole is not None
    assert whole.change.change == pytest.approx(0.09)
    assert whole.change.parts["fallback"] == pytest.approx(0.09)
    assert whole.low is not None
    assert whole.low < 0.09
