"""The rollout's state machine as a table. Pure: no Django."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class RolloutState(StrEnum):
    DRAFT = "draft"
    READY = "ready"
    LIVE = "live"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    ABANDONED = "abandoned"


IN_FORCE: Final = frozenset({RolloutState.READY, RolloutState.LIVE, RolloutState.PAUSED})
EXPOSING: Final = frozenset({RolloutState.LIVE, RolloutState.PAUSED})
FINAL: Final = frozenset({RolloutState.COMPLETED, RolloutState.ROLLED_BACK, RolloutState.ABANDONED})


class MoveNotAllowed(Exception):
    """The state does not admit the verb; the sentence names what it does admit."""


@dataclass(frozen=True, slots=True)
class Move:
    to: RolloutState
    needs_approval: bool = False


MOVES: Final[dict[tuple[RolloutState, str], Move]] = {
    (RolloutState.DRAFT, "mark_ready"): Move(RolloutState.READY),
    (RolloutState.READY, "go_live"): Move(RolloutState.LIVE, needs_approval=True),
    (RolloutState.LIVE, "pause"): Move(RolloutState.PAUSED),
    # The owner alone may resume while nothing tripped since: design.md.
    (RolloutState.PAUSED, "resume"): Move(RolloutState.LIVE, needs_approval=True),
    (RolloutState.LIVE, "rollback"): Move(RolloutState.ROLLED_BACK),
    (RolloutState.PAUSED, "rollback"): Move(RolloutState.ROLLED_BACK),
    (RolloutState.LIVE, "complete"): Move(RolloutState.COMPLETED, needs_approval=True),
    (RolloutState.DRAFT, "abandon"): Move(RolloutState.ABANDONED),
    (RolloutState.READY, "abandon"): Move(RolloutState.ABANDONED),
    (RolloutState.LIVE, "abandon"): Move(RolloutState.ABANDONED),
    (RolloutState.PAUSED, "abandon"): Move(RolloutState.ABANDONED),
}


def allowed_verbs(state: RolloutState) -> list[str]:
    """Return the verbs that `state` admits, sorted."""
    return sorted(verb for held, verb in MOVES if held == state)


def next_move(state: RolloutState, verb: str) -> Move:
    """Return the move for `verb`, or raise MoveNotAllowed naming what is allowed."""
    if move := MOVES.get((state, verb)):
        return move
    allowed = ", ".join(allowed_verbs(state)).replace("_", " ") or "nothing"
    raise MoveNotAllowed(f"A {state.replace('_', ' ')} rollout can only: {allowed}.")
