"""Alerts of one rollout as one incident: it opens with the first, takes in the others, and ends
with the last. Every change here is made in the caller's transaction."""

from datetime import datetime, timedelta
from typing import Final

from approvals.authority.principals import SYSTEM, Principal, answering
from rollout_console.catalog.models import Workflow
from signals.alerts import locks
from signals.alerts.ladder import page_time
from signals.alerts.models import Alert, AlertState, Incident, IncidentState
from signals.alerts.records import incident_told

# A new alert of a rollout whose incident was resolved so short a time ago belongs to it: the
# incident is reopened. After that it opens another one.
REOPENS_WITHIN: Final = timedelta(hours=1)


def incident_join(*, workflow: Workflow, rollout: str, quiet: bool, now: datetime) -> Incident:
    """Return the open incident that a new alert of a rollout belongs to, locked.

    It is the open one, or the last one where that was resolved within REOPENS_WITHIN, or a new
    one. Unless the alert is quiet, the ladder starts where it is not being climbed already.
    """
    incident = locks.incidents().filter(rollout=rollout).exclude(state=IncidentState.RESOLVED)
    found = incident.first()
    if found is None:
        found = _recent(rollout, now)
        if found is not None:
            incident_again(found, principal=SYSTEM, now=now, reason=None)
    if found is None:
        made = Incident(
            workflow=workflow,
            rollout=rollout,
            owner=answering(workflow),
            opened_at=now,
        )
        # Two first alerts at once: the constraint lets one in, and both join it.
        Incident.objects.bulk_create([made], ignore_conflicts=True)
        found = incident.get()
        if found.opened_at == now and not found.alerts.exists():
            incident_told("incident.opened", found, principal=SYSTEM, now=now)
        # What was opened before there were incidents belongs to this one.
        Alert.objects.filter(rollout=rollout, incident=None).exclude(
            state=AlertState.RESOLVED
        ).update(incident=found)
    if not quiet:
        pages_start(found, now=now)
    return found


def _recent(rollout: str, now: datetime) -> Incident | None:
    last = locks.incidents().filter(rollout=rollout).order_by("-pk").first()
    if last is None or last.resolved_at is None or now - last.resolved_at > REOPENS_WITHIN:
        return None
    return last


def incident_again(
    incident: Incident, *, principal: Principal, now: datetime, reason: str | None
) -> None:
    """Open a locked, resolved incident again."""
    incident.state = IncidentState.OPEN
    incident.resolved_at = None
    incident.acked_at, incident.acked_by = None, ""
    incident.reopened_at = now
    incident.reopened += 1
    incident.save(
        update_fields=["state", "resolved_at", "acked_at", "acked_by", "reopened_at", "reopened"]
    )
    incident_told(
        "incident.reopened",
        incident,
        principal=principal,
        now=now,
        reason={"note": reason} if reason else None,
        data={"reopened": incident.reopened},
    )


def pages_start(incident: Incident, *, now: datetime) -> None:
    """Let a locked incident's ladder run from `now`, unless it does already."""
    if incident.pages_from is not None:
        return
    incident.state = IncidentState.OPEN
    incident.acked_at, incident.acked_by = None, ""
    incident.pages_from, incident.rung = now, 0
    incident.page_at = page_time(incident.workflow, 0, now)
    incident.save(update_fields=["state", "acked_at", "acked_by", "pages_from", "rung", "page_at"])


def incident_settle(incident: Incident, *, principal: Principal, now: datetime) -> None:
    """Bring a locked incident to what its alerts are: waiting, taken on, or all resolved."""
    waiting = incident.alerts.exclude(state=AlertState.RESOLVED)
    if incident.state == IncidentState.RESOLVED:
        return
    if not waiting.exists():
        incident.state = IncidentState.RESOLVED
        incident.resolved_at = now
        incident.pages_from = incident.page_at = None
        incident.save(update_fields=["state", "resolved_at", "pages_from", "page_at"])
        incident_told("incident.resolved", incident, principal=principal, now=now)
        return
    if waiting.filter(acked_at=None, quiet=False).exists():
        return
    if incident.pages_from is not None:
        incident.pages_from = incident.page_at = None
        incident.save(update_fields=["pages_from", "page_at"])
    if incident.acked_at is None and not waiting.filter(acked_at=None).exists():
        incident.state = IncidentState.ACKNOWLEDGED
        incident.acked_at, incident.acked_by = now, principal.name
        incident.save(update_fields=["state", "acked_at", "acked_by"])
        incident_told("incident.acknowledged", incident, principal=principal, now=now)
