import pytest

from rollout_console.containment.policy import REASONS, reason_for_signal, state_after
from rollout_console.rollouts.states import (
    FINAL,
    MOVES,
    MoveNotAllowed,
    RolloutState,
    allowed_verbs,
    next_move,
)


def test_live_is_reached_only_from_ready_and_paused() -> None:
    ways = {(state, verb) for (state, verb), move in MOVES.items() if move.to == "live"}

    assert ways == {(RolloutState.READY, "go_live"), (RolloutState.PAUSED, "resume")}


def test_every_move_into_live_needs_a_second_person() -> None:
    assert all(move.needs_approval for move in MOVES.values() if move.to == RolloutState.LIVE)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_state_admits_nothing(state: RolloutState) -> None:
    assert allowed_verbs(state) == []


def test_a_refused_move_names_what_is_possible() -> None:
    with pytest.raises(MoveNotAllowed, match=r"A draft rollout can only: abandon, mark ready\."):
        next_move(RolloutState.DRAFT, "go_live")


@pytest.mark.parametrize(
    ("state", "action", "after"),
    [
        (RolloutState.LIVE, "pause", RolloutState.PAUSED),
        (RolloutState.PAUSED, "pause", RolloutState.PAUSED),
        (RolloutState.ROLLED_BACK, "pause", RolloutState.ROLLED_BACK),
        (RolloutState.LIVE, "rollback", RolloutState.ROLLED_BACK),
        (RolloutState.PAUSED, "rollback", RolloutState.ROLLED_BACK),
        (RolloutState.ROLLED_BACK, "rollback", RolloutState.ROLLED_BACK),
        (RolloutState.ABANDONED, "rollback", RolloutState.ABANDONED),
    ],
)
def test_a_containment_press_is_never_late(
    state: RolloutState, action: str, after: RolloutState
) -> None:
    assert state_after(state, action) is after


@pytest.mark.parametrize("state", [RolloutState.DRAFT, RolloutState.READY])
@pytest.mark.parametrize("action", ["pause", "rollback"])
def test_what_was_never_exposed_cannot_be_contained(state: RolloutState, action: str) -> None:
    with pytest.raises(MoveNotAllowed):
        state_after(state, action)


def test_each_signal_that_trips_suggests_a_known_reason() -> None:
    assert reason_for_signal("latency_p95_ms") == "latency"
    assert reason_for_signal("a_teams_own") == "precaution"
    assert reason_for_signal("quality_pass_rate") in REASONS
