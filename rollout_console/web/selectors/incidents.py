"""Incidents as pages show them: what happened, who answers, what runs, and what was done."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, who_can
from rollout_console.audit.models import AuditEntry
from rollout_console.core.errors import NotFound
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import EXPOSING, RolloutState
from rollout_console.web.actions import Button
from rollout_console.web.selectors.alerts import contain_buttons
from rollout_console.web.selectors.happenings import Happening, happening, happenings_known
from rollout_console.web.selectors.rollouts import due_text
from rollout_console.web.selectors.runs import runs_href
from rollout_console.web.selectors.shell import readable_ids
from rollout_console.web.words import (
    ALERTS,
    INCIDENTS,
    PROBLEMS,
    VERDICTS,
    Shown,
)
from signals.alerts.incident_reads import IncidentRow, incident_row, incident_rows
from signals.alerts.ladder import Rung, rungs
from signals.alerts.models import Alert
from signals.alerts.selectors import AlertRow
from signals.guards.models import VerdictChange

LIST_MAX: Final = 100
TIMELINE_MAX: Final = 120
# What led to it is told too: so long before the first alert.
BEFORE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class IncidentAlert:
    """An alert of an incident, with the runs behind its numbers."""

    row: AlertRow
    title: str
    shown: Shown
    due_text: str
    runs: str


@dataclass(frozen=True, slots=True)
class LadderStep:
    """A rung as the incident stands: `done`, `now` (told next) or "" (later)."""

    rung: Rung
    kind: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class ListedIncident:
    row: IncidentRow
    shown: Shown
    title: str


@dataclass(frozen=True, slots=True)
class IncidentView:
    row: IncidentRow
    shown: Shown
    title: str
    rollout: Rollout
    exposing: bool
    alerts: list[IncidentAlert]
    ladder: list[LadderStep]
    timeline: list[Happening]
    buttons: list[Button]
    may: dict[str, bool]
    who: list[str]


def incident_list(*, principal: Principal, state: str, now: datetime) -> list[ListedIncident]:
    """Return readable incidents, the newest first; `state` is "open" or "all"."""
    found = incident_rows(
        now=now,
        workflow_ids=readable_ids(principal),
        unresolved_only=state != "all",
        limit=LIST_MAX,
    )
    return [ListedIncident(row, INCIDENTS[row.state], incident_title(row)) for row in found]


def incident_view(*, incident_id: int, principal: Principal, now: datetime) -> IncidentView:
    """Return one readable incident.

    Raises:
        NotFound: there is none, or its workflow is not theirs to read.
    """
    row = incident_row(incident_id=incident_id, now=now)
    if row is None or not principal.may(Verb.READ, row.workflow_id):
        raise NotFound(
            f"There is no incident {incident_id} in your workflows. Nothing is affected."
        )
    rollout = Rollout.objects.select_related(
        "candidate", "stable", "workflow__owner", "workflow__deputy"
    ).get(slug=row.rollout)
    verbs = {
        "ack": Verb.ALERT_ACKNOWLEDGE,
        "reopen": Verb.ALERT_RESOLVE,
        "rollback": Verb.ROLLBACK,
    }
    may = {name: principal.may(verb, row.workflow_id) for name, verb in verbs.items()}
    suggested = next(
        (str(each.response["action"]) for each in row.waiting if each.response.get("action")), ""
    )
    return IncidentView(
        row=row,
        shown=INCIDENTS[row.state],
        title=incident_title(row),
        rollout=rollout,
        exposing=RolloutState(rollout.state) in EXPOSING,
        alerts=[_alert(each, rollout) for each in row.alerts],
        ladder=_ladder(row, rollout),
        timeline=_timeline(row),
        buttons=contain_buttons(rollout, suggested, principal),
        may=may,
        who=[] if all(may.values()) else who_can(Verb.ALERT_RESOLVE, rollout.workflow),
    )


def alert_title(row: AlertRow) -> str:
    return PROBLEMS[row.problem] if row.problem is not None else row.signal_title


def incident_title(row: IncidentRow) -> str:
    """Return an incident's heading: what its lead alert is about."""
    if row.lead is None:
        return f"Incident of {row.workflow_name}"
    return alert_title(row.lead)


def _alert(row: AlertRow, rollout: Rollout) -> IncidentAlert:
    runs = ""
    if row.guard is not None:
        runs = runs_href(
            workflow=row.workflow,
            path=row.path or "",
            release=rollout.candidate.version,
            signal=row.signal if row.worst else "",
            order="worst" if row.worst else "",
            clock="arrival",
            from_=(row.opened_at - timedelta(seconds=row.window_s)).isoformat(),
            to=row.opened_at.isoformat(),
        )
    return IncidentAlert(
        row=row,
        title=alert_title(row),
        shown=ALERTS[row.state],
        due_text=due_text(row.due_action or {}),
        runs=runs,
    )


def _ladder(row: IncidentRow, rollout: Rollout) -> list[LadderStep]:
    steps = []
    for rung in rungs(rollout.workflow):
        kind = "done" if rung.number <= row.rung else ""
        at = None
        if row.next_rung is not None and row.pages_from is not None and not kind:
            kind = "now" if rung.number == row.next_rung.number else ""
            at = row.page_at if kind else rung.at(row.pages_from)
        steps.append(LadderStep(rung, kind, at))
    return steps


def _timeline(row: IncidentRow) -> list[Happening]:
    """Return what happened from shortly before the first alert until it was over, newest first."""
    start = row.opened_at - BEFORE
    end = row.resolved_at
    known = happenings_known(
        Alert.objects.filter(rollout=row.rollout).select_related("guard", "problem")
    )
    alerts = [str(alert.id) for alert in row.alerts]
    entries = AuditEntry.objects.filter(
        Q(subject_type="rollout", subject=row.rollout)
        | Q(subject_type="alert", subject__in=alerts)
        | Q(subject_type="incident", subject=str(row.id)),
        at__gte=start,
    )
    guards = {alert.guard_id for alert in row.alerts if alert.guard_id is not None}
    words = VerdictChange.objects.filter(guard__in=guards, at__gte=start).select_related("guard")
    if end is not None:
        entries, words = entries.filter(at__lte=end), words.filter(at__lte=end)
    told = [happening(entry, known) for entry in entries.order_by("-pk")[:TIMELINE_MAX]]
    told += _verdicts(words.order_by("-pk")[:TIMELINE_MAX])
    return sorted(told, key=lambda each: each.at, reverse=True)[:TIMELINE_MAX]


def _verdicts(changes: Iterable[VerdictChange]) -> list[Happening]:
    return [
        Happening(
            at=change.at,
            shown=Shown(
                f"{change.guard.slug}: {VERDICTS[change.verdict].word.lower()}",
                VERDICTS[change.verdict].icon,
                VERDICTS[change.verdict].hue,
            ),
            who="console",
            detail=change.sentence,
            alert=None,
        )
        for change in changes
    ]
