"""The names an audit entry may carry. An unknown one is a bug, not a new word."""

from typing import Final

ACTIONS: Final = frozenset(
    {
        "alert.acknowledged",
        "alert.held",
        "alert.opened",
        "alert.resolved",
        "person.created",
        "person.role_granted",
        "plan.applied",
        "plan_change.approved",
        "plan_change.proposed",
        "plan_change.rejected",
        "plan_change.voided",
        "release.registered",
        "rollout.abandoned",
        "rollout.completed",
        "rollout.confirmed",
        "rollout.escalated",
        "rollout.paused",
        "rollout.readied",
        "rollout.resumed",
        "rollout.rolled_back",
        "rollout.went_live",
        "session.logged_in",
        "session.logged_out",
        "token.created",
    }
)

# Tables whose rows the application's database role may add and read, and nothing else.
APPEND_ONLY_TABLES: Final = ("audit_entry",)
