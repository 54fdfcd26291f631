"""What to do with a rollout, from what its guards say."""

from typing import Any

import pytest

from rollout_console.rollouts.recommendation import Advice, Heard, Recommendation, recommend
from rollout_console.rollouts.states import RolloutState


def guard(slug: str, word: str, **fields: Any) -> Heard:
    is_trigger = word in {"quiet", "watching", "tripped"} or fields.pop("trigger", False)
    return Heard(
        **{
            "guard": slug,
            "is_trigger": is_trigger,
            "signal": slug,
            "word": word,
            "severity": "high",
            "sentence": f"{slug} is {word}.",
            "response": {},
            **fields,
        }
    )


def ask(
    *heard: Heard, state: RolloutState = RolloutState.LIVE, stage: int = 2, stages: int = 3
) -> Recommendation:
    found = recommend(heard, state=state, lowest_stage=stage == 1, widest_stage=stage == stages)
    assert found is not None
    return found


FINE = (guard("quality", "holding"), guard("slow", "quiet"))


def test_all_well_goes_on() -> None:
    found = ask(*FINE)
    assert found.advice is Advice.CONTINUE
    assert found.reasons[0].sentence.endswith("widen to the next stage.")
    assert ask(*FINE, stage=3).reasons[0].sentence.endswith("complete.")


@pytest.mark.parametrize("word", ["undecided", "blind", "watching"])
def test_the_grey_zone_holds_and_says_why(word: str) -> None:
    found = ask(*FINE, guard("cost", word))
    assert found.advice is Advice.HOLD
    assert [reason.guard for reason in found.reasons] == ["cost"]


def test_no_guard_no_widening() -> None:
    assert ask().advice is Advice.HOLD
    assert ask(guard("slow", "quiet")).advice is Advice.HOLD
    assert ask(*FINE, state=RolloutState.PAUSED).advice is Advice.HOLD


@pytest.mark.parametrize(
    ("response", "severity", "stage", "advice"),
    [
        ({"kind": "recommend", "action": "rollback"}, "high", 2, Advice.ROLL_BACK),
        ({"kind": "contain_after_hold", "action": "narrow"}, "high", 2, Advice.NARROW),
        # On the lowest stage nothing is left to narrow.
        ({"kind": "contain_after_hold", "action": "narrow"}, "high", 1, Advice.ROLL_BACK),
        ({"kind": "recommend", "action": "fallback", "mode": "manual"}, "high", 2, Advice.PAUSE),
        ({"kind": "alert"}, "high", 2, Advice.NARROW),
        ({"kind": "alert"}, "critical", 2, Advice.ROLL_BACK),
    ],
)
def test_a_tripped_trigger_asks_for_what_its_plan_says(
    response: dict[str, Any], severity: str, stage: int, advice: Advice
) -> None:
    tripped = guard("slow", "tripped", response=response, severity=severity)
    assert ask(guard("quality", "holding"), tripped, stage=stage).advice is advice


def test_a_failing_criterion_narrows_or_pauses() -> None:
    assert ask(guard("cost", "failing")).advice is Advice.NARROW
    assert ask(guard("cost", "failing"), stage=1).advice is Advice.PAUSE


def test_the_strongest_reason_comes_first() -> None:
    found = ask(
        guard("cost", "failing", e_value=900.0),
        guard("slow", "tripped", response={"action": "pause"}, e_value=50.0),
        guard("bad", "tripped", response={"action": "rollback"}, e_value=30.0),
        guard("worse", "tripped", response={"action": "rollback"}, e_value=70.0),
    )
    assert found.advice is Advice.ROLL_BACK
    assert [reason.guard for reason in found.reasons] == ["worse", "bad", "cost", "slow"]


def test_what_cannot_be_saved_is_for_redesign() -> None:
    heard = (
        guard("slow", "tripped", response={"action": "narrow"}),
        guard("quality", "failing"),
        guard("cost", "failing"),
    )
    assert ask(*heard, stage=1).advice is Advice.REDESIGN
    assert ask(*heard, stage=2).advice is Advice.NARROW
    assert ask(*FINE, state=RolloutState.ROLLED_BACK).advice is Advice.REDESIGN


@pytest.mark.parametrize(
    "state",
    [RolloutState.DRAFT, RolloutState.READY, RolloutState.COMPLETED, RolloutState.ABANDONED],
)
def test_what_exposes_nobody_gets_no_advice(state: str) -> None:
    assert (
        recommend(FINE, state=RolloutState(state), lowest_stage=False, widest_stage=False) is None
    )
