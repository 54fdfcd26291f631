"""The words and shapes that pages use for states. Pure: no Django."""

from dataclasses import dataclass
from typing import Final

from rollout_console.rollouts.states import RolloutState
from signals.format import MISSING


@dataclass(frozen=True, slots=True)
class Shown:
    """How a state looks: its word, its icon and the hue key of the style sheet."""

    word: str
    icon: str
    hue: str


STATES: Final[dict[RolloutState, Shown]] = {
    RolloutState.DRAFT: Shown("Draft", "s-ready", "ready"),
    RolloutState.READY: Shown("Ready", "s-ready", "ready"),
    RolloutState.LIVE: Shown("Live", "s-live", "live"),
    RolloutState.PAUSED: Shown("Paused", "s-paused", "paused"),
    RolloutState.COMPLETED: Shown("Completed", "s-complete", "complete"),
    RolloutState.ROLLED_BACK: Shown("Rolled back", "s-rolled", "rolled"),
    RolloutState.ABANDONED: Shown("Abandoned", "stop", "complete"),
}

# An item of the readiness gate; a finding refuses nothing, and is not nothing.
READINESS: Final[dict[str, Shown]] = {
    "complete": Shown("Complete", "ok", "ok"),
    "noted": Shown("Complete, with a risk note", "watch", "watch"),
    "missing": Shown("Missing", "breach", "breach"),
}

# A signal's state: shape, word and hue; unknown is not fine, so it has a shape of its own.
SIGNALS: Final[dict[str, Shown]] = {
    "inside": Shown("Inside", "ok", "ok"),
    "near": Shown("Near limit", "watch", "watch"),
    "over": Shown("Over limit", "breach", "breach"),
    "too_few": Shown("Not enough data", "none", "none"),
    "stale": Shown("Stale", "stale", "stale"),
}

VERDICTS: Final[dict[str, Shown]] = {
    "holding": Shown("Holding", "ok", "ok"),
    "failing": Shown("Failing", "breach", "breach"),
    "undecided": Shown("Undecided", "none", "none"),
    "quiet": Shown("Quiet", "shield", "ok"),
    "watching": Shown("Watching", "watch", "watch"),
    "tripped": Shown("Tripped", "breach", "breach"),
    "blind": Shown("Blind", "stale", "none"),
}

# What a difference between two releases says.
COMPARED: Final[dict[str, Shown]] = {
    "better": Shown("Better", "ok", "ok"),
    "worse": Shown("Worse", "breach", "breach"),
    "none_clear": Shown("No clear difference", "none", "none"),
    "too_few": Shown("Too few tasks", "none", "none"),
    "not_known": Shown("Not known", "stale", "none"),
}

ALERTS: Final[dict[str, Shown]] = {
    "open": Shown("Open", "breach", "breach"),
    "acknowledged": Shown("Acknowledged", "ok", "ok"),
    "held": Shown("Held", "clock", "watch"),
    "resolved": Shown("Resolved", "s-complete", "none"),
}

INCIDENTS: Final[dict[str, Shown]] = {
    "open": Shown("Open", "breach", "breach"),
    "acknowledged": Shown("Acknowledged", "ok", "ok"),
    "resolved": Shown("Resolved", "s-complete", "none"),
}

# How fresh a source is.
SOURCES: Final[dict[str, Shown]] = {
    "fresh": Shown("Fresh", "ok", "ok"),
    "late": Shown("Late", "watch", "watch"),
    "silent": Shown("Silent", "stale", "breach"),
    "never": Shown("Never", "none", "none"),
    "history": Shown("History", "clock", "none"),
}

PULLS: Final[dict[str, Shown]] = {
    "ok": Shown("Pulling", "ok", "ok"),
    "failing": Shown("Failing", "breach", "breach"),
    "waiting": Shown("Not asked yet", "clock", "none"),
    "off": Shown("Off", "none", "none"),
}

# How a delivery goes, and by what.
DELIVERIES: Final[dict[str, Shown]] = {
    "waiting": Shown("Waiting", "clock", "none"),
    "delivered": Shown("Delivered", "ok", "ok"),
    "failed": Shown("Failed, tried again", "watch", "watch"),
    "given_up": Shown("Given up", "breach", "breach"),
}
CHANNELS: Final[dict[str, str]] = {
    "webhook": "Webhook",
    "email": "Mail",
    "service": "Service",
}

# How a run ended, as reported.
OUTCOMES: Final[dict[str, Shown]] = {
    "ok": Shown("Ok", "ok", "ok"),
    "error": Shown("Error", "breach", "breach"),
    "fallback": Shown("Fallback", "s-fallback", "watch"),
    "escalated": Shown("Escalated", "up", "watch"),
    "abandoned": Shown("Abandoned", "x", "none"),
    "blocked": Shown("Blocked", "stop", "breach"),
}

# An expansion request's state.
EXPANSIONS: Final[dict[str, Shown]] = {
    "pending": Shown("Waiting", "none", "none"),
    "approved": Shown("Approved", "ok", "ok"),
    "rejected": Shown("Rejected", "x", "breach"),
    "void": Shown("Void", "stop", "none"),
    "expired": Shown("Expired", "clock", "none"),
    "started": Shown("Started", "up", "info"),
}

SEGMENT_KINDS: Final[dict[str, str]] = {
    "internal_team": "internal team",
    "customer_segment": "customer segment",
    "workflow_path": "workflow path",
    "account_group": "account group",
    "user_role": "user role",
    "traffic_slice": "traffic slice",
}

# What is wrong with the signals, by a problem's kind.
PROBLEMS: Final[dict[str, str]] = {
    "path_silent": "No tasks come",
    "source_silent": "A source is silent",
    "labels_missing": "Labels are missing",
    "ids_reused": "Ids are used again",
    "clock_skew": "A clock is off",
    "assignment_mismatch": "The share is not the planned one",
    "guard_blind": "A trigger cannot see",
    "queue_behind": "Reports wait to be taken in",
    "watch_paused": "Nobody watched for a while",
    "delivery_failing": "A delivery fails",
}

# What an audit entry says in the timeline: words, icon, hue.
ACTIONS: Final[dict[str, Shown]] = {
    "rollout.readied": Shown("Marked ready", "s-ready", ""),
    "rollout.confirmed": Shown("Step confirmed", "ok", "ok"),
    "rollout.went_live": Shown("Went live", "s-live", "ok"),
    "rollout.expanded": Shown("Widened", "up", "ok"),
    "expansion.requested": Shown("Expansion requested", "up", "info"),
    "expansion.approved": Shown("Expansion approved", "ok", "ok"),
    "expansion.rejected": Shown("Expansion rejected", "x", "watch"),
    "expansion.voided": Shown("Expansion request void", "stop", "watch"),
    "expansion.expired": Shown("Expansion request expired", "clock", ""),
    "expansion.broke_glass": Shown("Widened by break-glass", "watch", "breach"),
    "expansion.reviewed": Shown("Break-glass reviewed", "ok", "ok"),
    "rollout.paused": Shown("Expansion paused", "s-paused", "watch"),
    "rollout.resumed": Shown("Expansion resumed", "s-live", "ok"),
    "rollout.rolled_back": Shown("Rolled back", "s-rolled", "breach"),
    "rollout.abandoned": Shown("Abandoned", "stop", ""),
    "rollout.completed": Shown("Completed", "s-complete", "ok"),
    "plan.applied": Shown("Plan applied", "doc", ""),
    "plan_change.proposed": Shown("Plan change proposed", "diff", "watch"),
    "plan_change.approved": Shown("Plan change approved", "ok", "ok"),
    "plan_change.rejected": Shown("Plan change rejected", "x", ""),
    "plan_change.voided": Shown("Plan change void", "x", ""),
    "release.registered": Shown("Release registered", "diff", ""),
    "session.logged_in": Shown("Logged in", "user", ""),
    "session.logged_out": Shown("Logged out", "user", ""),
    "person.created": Shown("Person created", "user", ""),
    "person.role_granted": Shown("Role granted", "user", ""),
    "token.created": Shown("Token created", "key", ""),
    "subscription.created": Shown("Notification set up", "bell", ""),
    "subscription.changed": Shown("Notification changed", "bell", ""),
    "subscription.removed": Shown("Notification removed", "bell", ""),
    "subscription.secret_renewed": Shown("Signing secret renewed", "key", ""),
    "subscription.stopped": Shown("Notification stopped", "stop", "watch"),
    "subscription.tested": Shown("Notification tested", "bell", ""),
    "delivery.replayed": Shown("Delivery sent again", "bell", ""),
    "outside_alert.began": Shown("Alert from outside", "breach", "breach"),
    "outside_alert.silent": Shown("Alert from outside without data", "stale", "watch"),
    "outside_alert.ended": Shown("Alert from outside over", "ok", "ok"),
    "inbound_mapping.put": Shown("Inbound mapping put", "list", ""),
    "action.requested": Shown("Action asked for", "list", ""),
    "action.reported": Shown("Action reported", "list", ""),
    "alert.opened": Shown("Alert opened", "breach", "breach"),
    "alert.acknowledged": Shown("Alert acknowledged", "bell", "info"),
    "alert.held": Shown("Alert held", "clock", "watch"),
    "alert.resolved": Shown("Alert resolved", "ok", "ok"),
    "alert.reopened": Shown("Alert opened again", "breach", "watch"),
    "alert.recurred": Shown("Tripped again", "breach", "watch"),
    "alert.half_time": Shown("Clock half over", "clock", "watch"),
    "alert.escalated": Shown("Escalated, nobody had acknowledged", "up", "watch"),
    "incident.opened": Shown("Incident opened", "breach", "breach"),
    "incident.acknowledged": Shown("Incident acknowledged", "bell", "info"),
    "incident.reopened": Shown("Incident opened again", "breach", "watch"),
    "incident.resolved": Shown("Incident resolved", "ok", "ok"),
    "rollout.escalated": Shown("Escalated", "up", "watch"),
    "rollout.narrowed": Shown("Narrowed", "s-narrowed", "watch"),
    "rollout.fell_back": Shown("Switched to a fallback", "s-fallback", "watch"),
}


def action_shown(action: str) -> Shown:
    """Return how an audit action reads; an unlisted one reads as its own name."""
    return ACTIONS.get(action) or Shown(
        action.replace(".", " ").replace("_", " ").capitalize(), "list", ""
    )


def share_text(share: float | None) -> str:
    """Return a share (0-1) in percent: two digits below 10 %, none above; a dash when unknown."""
    if share is None:
        return MISSING
    percent = share * 100
    if percent in (0.0, 100.0) or percent >= 9.95:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %".replace(".0 %", " %")


def rate_text(value: float) -> str:
    """Return a rate without unit: one decimal below 100, thousands parted by commas above."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def duration_text(seconds: float) -> str:
    """Return a length of time in the two largest units: "9 h 12 min", "2 d 3 h", "45 s"."""
    left = round(max(0.0, seconds))
    parts: list[tuple[int, str]] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (parts and len(parts) < 2):
            parts.append((count, unit))
        if len(parts) == 2:
            break
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown) or "0 s"


def names_text(names: list[str]) -> str:
    """Return names as a sentence does: "A", "A and B", "A, B and C"; "nobody yet" for none."""
    if not names:
        return "nobody yet"
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"
