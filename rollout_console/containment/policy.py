"""What containment may do and why, as values. Pure: no Django."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from rollout_console.exposure.compile import (
    STRICTNESS,
    ActionSetting,
    state_in_mode,
    tightest,
)
from rollout_console.rollouts.states import EXPOSING, FINAL, RolloutState, next_move

# Reason codes, in the order that the form shows them.
REASONS: Final[dict[str, str]] = {
    "quality": "Quality dropped",
    "latency": "Too slow",
    "cost": "Costs too much",
    "repeated_failures": "Same failure repeats",
    "fallback_usage": "Fallback used too often",
    "reviewer_rejections": "Reviewers reject too many",
    "trust": "Users lose trust",
    "critical_failure": "Critical failure",
    "retrieval": "Retrieval is noisy",
    "outage": "Outage",
    "precaution": "Precaution",
    "other": "Other",
}


@dataclass(frozen=True, slots=True)
class ActionRule:
    """One row of design.md's table of containment actions.

    `widens` ones take the exact version, and the owner with a second person unless nothing
    tripped since. `mark` and `audit` name what happened; `while_` says in which states it can.
    """

    audit: str
    mark: str
    while_: frozenset[RolloutState] = EXPOSING
    widens: bool = False
    # What a press may say beside the action.
    takes: frozenset[str] = frozenset()


_ANY: Final = frozenset(RolloutState)
# Also of what has just ended somebody is told: a press that comes late is never refused for it.
_SINCE_LIVE: Final = EXPOSING | FINAL
_WHERE: Final = frozenset({"paths", "segments"})
_ROUTE: Final = _WHERE | {"action_route"}

RULES: Final[dict[str, ActionRule]] = {
    "pause": ActionRule("rollout.paused", "paused"),
    "narrow": ActionRule("rollout.narrowed", "narrowed", takes=frozenset({"segments", "share"})),
    "fallback": ActionRule("rollout.fell_back", "fell back", takes=_WHERE | {"mode"}),
    "rollback": ActionRule("rollout.rolled_back", "rolled back"),
    # A route outlives the rollout that was contained: stable acts through it too.
    "disable_action": ActionRule("rollout.action_disabled", "action disabled", _ANY, takes=_ROUTE),
    "require_approval": ActionRule(
        "rollout.approval_required", "approval required", _ANY, takes=_ROUTE
    ),
    "escalate": ActionRule("rollout.escalated", "escalated", _SINCE_LIVE),
    "resume": ActionRule("rollout.resumed", "resumed", widens=True),
    "clear_fallback": ActionRule(
        "rollout.fallback_cleared", "fallback cleared", widens=True, takes=_WHERE
    ),
    "enable_action": ActionRule(
        "rollout.action_enabled", "action enabled", _ANY, widens=True, takes=_ROUTE
    ),
}
ACTIONS: Final = tuple(RULES)
# What the console may do by itself: automation only contains.
AUTOMATIC: Final = tuple(action for action, rule in RULES.items() if not rule.widens)
# Actions that stop clocks of what they cover; what ends the exposure stops every one.
CLOCK_STOPPERS: Final = frozenset({"narrow", "fallback", "disable_action", "require_approval"})
# What takes something away: alerts about that are contained. A pause takes nothing away.
REDUCTIONS: Final = CLOCK_STOPPERS | {"rollback"}

# A step to the right is safer; within a group a change is neither.
MODE_RANK: Final[dict[str, int]] = {
    "normal": 0,
    "simpler_route": 1,
    "reduced_context": 1,
    "previous_stable": 2,
    "read_only": 2,
    "human_review": 2,
    "manual": 3,
}
MODE_NAMES: Final[dict[str, str]] = {
    "normal": "Normal",
    "human_review": "Human review",
    "manual": "Manual path",
    "previous_stable": "Previous stable version",
    "simpler_route": "Simpler route",
    "reduced_context": "Reduced context",
    "read_only": "Read-only",
}
# Requirement E2: which mode suits which reason.
MODE_FOR_REASON: Final[dict[str, str]] = {
    "quality": "previous_stable",
    "latency": "simpler_route",
    "cost": "reduced_context",
    "repeated_failures": "previous_stable",
    "reviewer_rejections": "human_review",
    "critical_failure": "manual",
    "trust": "previous_stable",
    "retrieval": "human_review",
    "fallback_usage": "previous_stable",
    "outage": "manual",
}

NOTE_MAX: Final = 2000

_SIGNAL_REASONS: Final[dict[str, str]] = {
    "quality_pass_rate": "quality",
    "quality_score": "quality",
    "critical_failures": "critical_failure",
    "retrieval_empty_rate": "retrieval",
    "retrieval_score": "retrieval",
    "latency_p50_ms": "latency",
    "latency_p95_ms": "latency",
    "latency_p99_ms": "latency",
    "slow_path_rate": "latency",
    "cost_per_task_usd": "cost",
    "spend_usd_per_hour": "cost",
    "fallback_rate": "fallback_usage",
    "fallback_cost_per_task_usd": "fallback_usage",
    "escalation_rate": "fallback_usage",
    "review_reject_rate": "reviewer_rejections",
    "trust_negative_rate": "trust",
    "repeated_failures": "repeated_failures",
    "error_rate": "outage",
}


_WORDS: Final = {
    "fallback": "switch to a fallback",
    "rollback": "roll back",
    "disable_action": "disable an action route",
    "require_approval": "require approval for an action route",
    "enable_action": "enable an action route",
    "clear_fallback": "clear a fallback",
}


def words(action: str) -> str:
    """Return an action as a verb in a sentence."""
    return _WORDS.get(action, action)


def reason_for_signal(signal: str) -> str:
    """Return the reason code that fits a tripped trigger's signal."""
    return _SIGNAL_REASONS.get(signal, "precaution")


def state_after(state: RolloutState, action: str) -> RolloutState:
    """Return the state after a containment action; equal to `state` when it already holds.

    A press that comes late never fails for being late: what it wanted is true already.

    Raises:
        MoveNotAllowed: the rollout was never exposed, or is completed (roll back only).
    """
    if action == "pause" and (state is RolloutState.PAUSED or state in FINAL):
        return state
    if action == "rollback" and state in {RolloutState.ROLLED_BACK, RolloutState.ABANDONED}:
        return state
    return next_move(state, action).to


def looser_routes(
    before: str, after: str, actions: Mapping[str, ActionSetting]
) -> list[tuple[str, str, str]]:
    """Return (route, state before, state after) of routes that a change of mode would loosen."""
    found = []
    for slug, action in actions.items():
        old, new = state_in_mode(before, action), state_in_mode(after, action)
        if STRICTNESS[new] < STRICTNESS[old]:
            found.append((slug, old, new))
    return found


def is_safer(before: str, after: str, actions: Mapping[str, ActionSetting]) -> bool:
    """Whether `after` may replace `before`: no step to the left, and no action route looser."""
    return MODE_RANK[after] >= MODE_RANK[before] and not looser_routes(before, after, actions)


def restricted(held: str | None, wanted: str) -> str:
    """Return an action route's restriction after asking for `wanted`: never looser than it is."""
    return tightest([held or "", wanted])


def safest(modes: Iterable[str]) -> str:
    """Return the mode farthest to the right, "normal" of none."""
    return max(modes, key=MODE_RANK.__getitem__, default="normal")
