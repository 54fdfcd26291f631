"""What containment may do and why, as values. Pure: no Django."""

from typing import Final

from rollout_console.rollouts.states import FINAL, RolloutState, next_move

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

# What this console can do today; the rest of design.md's table joins here.
ACTIONS: Final = ("pause", "rollback")

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
