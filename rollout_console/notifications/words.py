"""An event in plain words: what happened, where, who answers, and the clock. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rollout_console.notifications.rules import EVENT_TYPES, TEST

_DID: Final[Mapping[str, str]] = {
    "paused": "was paused",
    "narrowed": "was narrowed",
    "fell_back": "was switched to a fallback",
    "rolled_back": "was rolled back",
    "action_disabled": "has an action route disabled",
    "approval_required": "has an action route that asks first now",
    "escalated": "was escalated",
    "resumed": "was resumed",
    "fallback_cleared": "left its fallback",
    "action_enabled": "has an action route enabled again",
    "expanded": "was widened",
    "went_live": "went live",
    "readied": "is ready",
    "completed": "is complete",
    "abandoned": "was abandoned",
}
_VERBS: Final[Mapping[str, str]] = {
    "pause": "pauses the rollout",
    "narrow": "narrows exposure",
    "fallback": "switches to a fallback",
    "rollback": "rolls back",
    "disable_action": "disables the action route",
    "require_approval": "lets the action route ask first",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A title of one line and the text below it."""

    title: str
    text: str


def message_of(
    type_: str,
    data: Mapping[str, Any],
    *,
    workflow: str,
    answers: str,
    url: str,
    now: datetime,
) -> Message:
    """Return an event as a message.

    Args:
        workflow: the workflow's name, "" where the event is about none.
        answers: who answers for it, "" where that is not known.
        url: the page to open, "" without one.
    """
    sentence = sentence_of(type_, data)
    lines = [sentence]
    if workflow:
        rollout = data.get("rollout")
        lines.append(f"Workflow: {workflow}" + (f", rollout {rollout}" if rollout else ""))
    if answers:
        lines.append(f"Who answers: {answers}")
    if clock := clock_of(data, now=now):
        lines.append(clock)
    if url:
        lines.append(f"Open it: {url}")
    head = EVENT_TYPES.get(type_, "Rollout Console")
    title = f"{head}: {workflow}" if workflow else head
    if type_ == TEST:
        title = "A test from Rollout Console"
    return Message(title, "\n".join(lines))


def sentence_of(type_: str, data: Mapping[str, Any]) -> str:
    """Return what happened in one sentence."""
    if type_ == TEST:
        return f"This is a test that {data.get('by', 'somebody')} asked for. Nothing happened."
    if type_ == "alert.resolved":
        right = "a right alarm" if data.get("was_right") else "a false alarm"
        return f"{_by(data, 'Resolved')} as {right}: {data.get('sentence', '')}"
    if sentence := data.get("sentence"):
        return str(sentence)
    if type_ == "rollout.changed":
        did = _DID.get(str(data.get("action")), "changed")
        return f"The rollout {data.get('rollout')} {did}. It is {data.get('state', 'changed')}."
    if type_ == "expansion.requested":
        return f"{data.get('by')} asks to widen {data.get('rollout')} to stage {data.get('stage')}."
    if type_ == "expansion.decided":
        glass = " by break-glass" if data.get("break_glass") else ""
        reason = f": {data['reason']}" if data.get("reason") else "."
        decided = data.get("decision") or data.get("request_state")
        return f"The expansion of {data.get('rollout')} is decided{glass}: {decided}{reason}"
    if type_ == "plan_change.changed":
        return f"A loosening change of the plan is {data.get('state')} ({data.get('by')})."
    return EVENT_TYPES.get(type_, type_) + "."


def clock_of(data: Mapping[str, Any], *, now: datetime) -> str:
    """Return when containment acts by itself, "" where no clock runs."""
    action = data.get("due_action")
    try:
        due_at = datetime.fromisoformat(str(data.get("due_at")))
    except ValueError:
        return ""
    if not isinstance(action, dict) or due_at <= now:
        return ""
    does = _VERBS.get(str(action.get("action")), "contains")
    return (
        f"The clock runs: the console {does} at {due_at.astimezone(UTC):%H:%M:%S} UTC unless"
        " somebody decides otherwise."
    )


def _by(data: Mapping[str, Any], what: str) -> str:
    return f"{what} by {data['by']}" if data.get("by") else what
