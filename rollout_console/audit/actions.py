"""The names an audit entry may carry. An unknown one is a bug, not a new word."""

from typing import Final

ACTIONS: Final = frozenset(
    {
        "alert.acknowledged",
        "alert.held",
        "alert.opened",
        "alert.resolved",
        "paths.added",
        "person.created",
        "person.role_granted",
        "plan.applied",
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
        "trace.replayed",
    }
)

# Tables whose rows the application's database role may add and read, and nothing else.
APPEND_ONLY_TABLES: Final = ("audit_entry",)
