"""What happened to a rollout, as lines of a timeline, from the audit."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from rollout_console.audit.models import AuditEntry
from rollout_console.containment.policy import REASONS
from rollout_console.web.words import PROBLEMS, Shown, action_shown, names_text
from signals.alerts.models import Alert

# By alert, as the audit names it: what it is about, and the sentence it opened with.
Known = dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the timeline."""

    at: datetime
    shown: Shown
    who: str
    detail: str
    alert: int | None


def happenings_known(alerts: Iterable[Alert]) -> Known:
    """Return what a rollout's alerts are about; select guard and problem with them."""
    return {
        str(alert.pk): (
            alert.name if alert.problem is None else PROBLEMS[alert.problem.kind],
            alert.sentence,
        )
        for alert in alerts
    }


def happening(entry: AuditEntry, known: Known) -> Happening:
    """Return an audit entry of a rollout, of one of its alerts or of an incident as a line."""
    details = []
    if entry.subject_type == "alert":
        guard, sentence = known[entry.subject]
        details.append(f"{guard}: {sentence}" if entry.action == "alert.opened" else guard)
    if entry.subject_type == "incident":
        details.append(f"incident {entry.subject}")
    if "people" in entry.data:
        details.append(f"told {entry.data.get('told', '')}: {names_text(entry.data['people'])}")
    if entry.action == "alert.recurred":
        details.append(
            "paged again" if entry.data["pages"] else "no new page: it was quiet for a short time"
        )
    if entry.action == "alert.resolved":
        details.append("it was right" if entry.data["was_right"] else "it was not right")
    code = entry.reason.get("code")
    if code:
        details.append(REASONS.get(code, code))
    for words in (entry.reason.get("note"), entry.data.get("findings"), entry.data.get("note")):
        if words:
            details.append(f"“{words}”")
    if entry.action == "rollout.confirmed":
        details.append(str(entry.data["step"]).replace("_", " "))
    if number := entry.data.get("exposure_version"):
        details.append(f"exposure version {number}")
    return Happening(
        at=entry.at,
        shown=action_shown(entry.action),
        who=entry.actor,
        detail=" · ".join(details),
        alert=int(entry.subject) if entry.subject_type == "alert" else None,
    )
