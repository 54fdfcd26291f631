"""The names an audit entry may carry. An unknown one is a bug, not a new word."""

from typing import Final

ACTIONS: Final = frozenset(
    {
        "alert.acknowledged",
        "alert.half_time",
        "alert.held",
        "alert.opened",
        "alert.resolved",
        "expansion.approved",
        "expansion.broke_glass",
        "expansion.expired",
        "expansion.rejected",
        "expansion.requested",
        "expansion.reviewed",
        "expansion.voided",
        "paths.added",
        "person.created",
        "person.role_granted",
        "plan.applied",
        "plan_change.approved",
        "plan_change.proposed",
        "plan_change.rejected",
        "plan_change.voided",
        "price_sheet.put",
        "pull.changed",
        "pull.created",
        "pull.deleted",
        "release.registered",
        "rollout.abandoned",
        "rollout.action_disabled",
        "rollout.action_enabled",
        "rollout.approval_required",
        "rollout.completed",
        "rollout.confirmed",
        "rollout.escalated",
        "rollout.expanded",
        "rollout.fallback_cleared",
        "rollout.fell_back",
        "rollout.narrowed",
        "rollout.paused",
        "rollout.readied",
        "rollout.resumed",
        "rollout.rolled_back",
        "rollout.went_live",
        "session.logged_in",
        "session.logged_out",
        "span_mapping.put",
        "token.created",
        "trace.replayed",
    }
)

# Tables whose rows the application's database role may add and read, and nothing else.
APPEND_ONLY_TABLES: Final = ("audit_entry",)
