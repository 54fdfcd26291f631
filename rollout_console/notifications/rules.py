"""Which events there are, whom they concern, and when to try again. Pure: no Django, no clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

# What may be subscribed to; whatever else the outbox holds goes to those who want every type.
EVENT_TYPES: Final[Mapping[str, str]] = {
    "alert.opened": "An alert opened",
    "alert.half_time": "Half of an alert's clock is over",
    "alert.escalated": "An alert climbed the ladder",
    "alert.recurred": "A trigger tripped again",
    "alert.resolved": "An alert was resolved",
    "alert.reopened": "An alert was opened again",
    "rollout.changed": "A rollout changed",
    "expansion.requested": "An expansion was requested",
    "expansion.decided": "An expansion was decided",
    "plan_change.changed": "A loosening plan change moved on",
    "action.decided": "An action request was decided",
    "action.undo": "An action is to be undone",
    "impact.published": "An impact summary was published",
}
TEST: Final = "notification.test"
_SEVERITIES: Final = ("low", "medium", "high", "critical")
# What a containment is called in `rollout.changed`.
CONTAINED: Final = frozenset(
    {"paused", "narrowed", "fell_back", "rolled_back", "action_disabled", "approval_required"}
)

FIRST_WAIT_S: Final = 5.0
WAIT_GROWS: Final = 3.0
WAIT_MAX_S: Final = 7200.0
# A day of trying, from when the delivery was made or replayed.
GIVE_UP_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Wants:
    """What a subscription asks for; no workflow is every one, no type every type."""

    workflow: str | None
    types: Sequence[str]
    severity: str


@dataclass(frozen=True, slots=True)
class Concerned:
    """Whom an event concerns: people by user name, and roles in its workflow."""

    people: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


def is_wanted(wants: Wants, *, type_: str, workflow: str, data: Mapping[str, Any]) -> bool:
    """Whether an event is what a subscription asks for.

    The floor is for alerts that state their severity; others pass it.
    """
    if wants.workflow is not None and wants.workflow != workflow:
        return False
    if wants.types and type_ not in wants.types:
        return False
    severity = data.get("severity")
    if not type_.startswith("alert.") or severity not in _SEVERITIES:
        return True
    return _SEVERITIES.index(severity) >= _SEVERITIES.index(wants.severity)


def concerned(type_: str, data: Mapping[str, Any]) -> Concerned:
    """Return whom the console mails without any subscription.

    Alerts go to who answers for them, containment to owner and leads, a request to those who may
    approve it; `data.notify` names further people, whom the ladder or a half-time is for. An alert
    that is quiet pages nobody.
    """
    named = data.get("notify")
    told = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    people, roles = list(dict.fromkeys(told)), []
    if type_ == "alert.opened" and not data.get("quiet"):
        people.append(str(data.get("owner") or ""))
    elif type_ == "alert.half_time" and not people:
        roles.append("deputy")
    elif type_ == "rollout.changed" and data.get("action") in CONTAINED:
        roles += ["owner", "lead"]
    elif type_ == "expansion.requested":
        roles.append("approver")
    elif type_ == "expansion.decided":
        roles.append("owner")
    return Concerned(people=tuple(name for name in people if name), roles=tuple(roles))


def wait_s(*, attempts: int, luck: float, retry_after_s: float | None = None) -> float:
    """Return the seconds until the next attempt after `attempts` that failed in a row.

    Exponential from five seconds to two hours, of which `luck` (0 to 1) keeps between a half and
    the whole, so that what failed together does not come back together. A receiver that says when
    to come back is believed up to those two hours.
    """
    full = min(WAIT_MAX_S, FIRST_WAIT_S * WAIT_GROWS ** min(attempts - 1, 20))
    asked = min(retry_after_s or 0.0, WAIT_MAX_S)
    return max(full * (0.5 + 0.5 * luck), asked)
