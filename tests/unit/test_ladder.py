"""The ladder: the next rung, and subsets of an exposed set."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from rollout_console.rollouts.ladder import NextRung, cut, is_subset, next_rung

FIRST = {"internal": Decimal("0.9")}
SECOND = {"internal": Decimal(1), "eu": Decimal("0.05")}
SHARES = st.decimals("0.00001", 1, places=5)
SETS = st.dictionaries(st.sampled_from("abcd"), SHARES)


def test_the_next_rung_is_one_up() -> None:
    assert next_rung(stage=1, exposed=FIRST, stages=[FIRST, SECOND]) == NextRung(2, SECOND, False)


def test_there_is_nothing_above_the_last_rung() -> None:
    assert next_rung(stage=2, exposed=SECOND, stages=[FIRST, SECOND]) is None


def test_after_a_narrow_the_next_rung_is_the_present_stage_in_full() -> None:
    narrowed = {"internal": Decimal(1)}
    assert next_rung(stage=2, exposed=narrowed, stages=[FIRST, SECOND]) == NextRung(2, SECOND, True)


@given(target=SETS, limit=SETS)
def test_a_cut_is_a_subset_of_both_and_keeps_what_both_have(
    target: dict[str, Decimal], limit: dict[str, Decimal]
) -> None:
    found = cut(target, limit)
    assert is_subset(found, target)
    assert is_subset(found, limit)
    if is_subset(target, limit):
        assert found == target
