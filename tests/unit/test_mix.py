"""What an exposed set cannot show: sure gaps, chance, and what matters most first."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from rollout_console.rollouts.mix import AttributeMix, attribute_mix, gaps_of, part_of
from signals.stats.intervals import rate_interval


def mixed(
    exposed: Mapping[str, int], others: Mapping[str, int], attribute: str = "input_condition"
) -> AttributeMix:
    return attribute_mix(
        attribute,
        exposed=exposed,
        others=others,
        exposed_of=sum(exposed.values()),
        others_of=sum(others.values()),
    )


def test_what_is_surely_missing_is_said_with_the_bound_that_none_of_n_still_allows() -> None:
    (gap,) = gaps_of([mixed({"clean": 312}, {"clean": 3172, "messy": 948})])

    assert (gap.value, gap.standing, gap.sure) == ("messy", "missing", True)
    assert gap.sentence == (
        "0 of 312 exposed tasks were messy (at most 1.2 % may be, 95 %); 23 % of 4,120 other tasks"
        " are."
    )


def test_none_of_a_few_may_be_chance_and_says_how_many_more_would_tell() -> None:
    mix = mixed({"clean": 12}, {"clean": 77, "messy": 23})
    (gap,) = gaps_of([mix])

    assert (gap.standing, gap.sure) == ("unseen", False)
    assert "too few to tell (at most 24 % may be, 95 %)" in gap.sentence
    (messy,) = [each for each in mix.values if each.value == "messy"]
    assert messy.needs is not None
    assert f"About {messy.needs} more exposed tasks would tell." in gap.sentence
    # With so many more, none of them messy, it is sure; with one fewer by the rule of 0 of n.
    assert gaps_of([mixed({"clean": 12 + messy.needs}, {"clean": 77, "messy": 23})])[0].sure
    assert not gaps_of([mixed({"clean": 10 + messy.needs}, {"clean": 77, "messy": 23})])[0].sure


def test_rare_is_surely_less_than_half_as_common() -> None:
    others = {"clean": 800, "messy": 200}
    (gap,) = gaps_of([mixed({"clean": 396, "messy": 4}, others)])
    assert (gap.standing, gap.sure) == ("rare", True)
    assert gap.sentence.startswith("4 of 400 exposed tasks were messy (1 %, 95 % range 0.39 % to")
    assert gaps_of([mixed({"clean": 360, "messy": 40}, others)]) == []


def test_who_never_says_an_attribute_is_told_so_once() -> None:
    mix = attribute_mix(
        "account_group",
        exposed={},
        others={"enterprise": 60, "small": 40},
        exposed_of=50,
        others_of=120,
    )
    (gap,) = gaps_of([mix], kind="first-stage")
    assert (gap.standing, gap.sure) == ("untold", False)
    assert gap.sentence == (
        "None of 50 first-stage tasks say their account group; 60 % of 100 other tasks are of"
        " account group “enterprise”."
    )
    assert mix.distance is None


def test_high_risk_stands_before_hard_inputs_and_those_before_the_rest() -> None:
    exposed, many = {"x": 1000}, {"x": 500, "y": 500}
    gaps = gaps_of(
        [
            mixed(exposed, {"x": 900, "enterprise": 100}, "account_group"),
            mixed(exposed, many, "role"),
            mixed({"messy": 1000}, {"messy": 400, "clean": 600}),
            mixed({"clean": 1000}, {"clean": 700, "messy": 200, "ambiguous": 100}),
            mixed({"low": 1000}, {"low": 950, "high": 50}, "risk"),
        ]
    )
    assert [gap.value for gap in gaps] == ["high", "ambiguous", "messy", "y", "enterprise", "clean"]


counts = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10_000), max_size=6)


@given(counts, counts)
def test_shares_are_those_of_who_said_it_and_a_distance_is_one(
    exposed: dict[str, int], others: dict[str, int]
) -> None:
    mix = mixed(exposed, others, "role")
    assert {each.value for each in mix.values} == {*exposed, *others}
    for each in mix.values:
        for part, side in ((each.exposed, exposed), (each.others, others)):
            assert (part.n, part.of) == (side.get(each.value, 0), sum(side.values()))
            if part.of:
                assert part.low is not None
                assert part.high is not None
                assert part.share is not None
                assert 0 <= part.low <= part.share <= part.high <= 1
    # Turned round, the distance is the same; to itself it is none.
    turned = mixed(others, exposed, "role")
    if mix.distance is not None and turned.distance is not None:
        assert abs(mix.distance - turned.distance) < 1e-9
        assert 0 <= mix.distance <= 1
    alike = mixed(others, others, "role")
    assert alike.distance is None or alike.distance < 1e-9
    assert gaps_of([alike]) == []


@given(st.integers(1, 3000), st.integers(1, 5000), st.integers(1, 5000))
def test_a_sure_gap_is_one_whose_ranges_lie_apart(n: int, k: int, rest: int) -> None:
    gap = next(iter(gaps_of([mixed({"clean": n}, {"clean": rest, "messy": k})])), None)
    seen, there = rate_interval(0, n), rate_interval(k, k + rest)
    assert seen is not None
    assert there is not None
    if gap is None:
        assert there.low < 0.01
    else:
        assert gap.sure == (seen.high < there.low)


def test_no_task_has_no_share() -> None:
    assert part_of(0, 0).share is None
