"""What people do with a whole incident: take it on, and open it again."""

from datetime import datetime

from django.db import transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, require
from rollout_console.catalog.models import Workflow
from rollout_console.core import outbox
from rollout_console.core.errors import DomainError, NotFound
from signals.alerts import locks
from signals.alerts.grouping import incident_again, incident_settle
from signals.alerts.models import Alert, AlertState, Incident, IncidentState
from signals.alerts.records import alert_facts, alert_record
from signals.alerts.services import acknowledge, text_check


class IncidentNotReopened(DomainError):
    """Nothing of it can wait for an answer again, or another incident of the rollout is open."""

    code = "incident-not-reopened"
    title = "This incident stays resolved"


@transaction.atomic
def incident_acknowledge(*, incident_id: int, principal: Principal, now: datetime) -> Incident:
    """Take on every alert of an incident: stops the next page, not a clock. Once is enough.

    Raises:
        NotFound, NotAllowed.
    """
    incident = _incident(incident_id, Verb.ALERT_ACKNOWLEDGE, principal)
    waiting = locks.alerts().filter(incident=incident, acked_at=None)
    for alert in waiting.exclude(state=AlertState.RESOLVED):
        acknowledge(alert, principal=principal, now=now)
    incident_settle(incident, principal=principal, now=now)
    return incident


@transaction.atomic
def incident_reopen(
    *, incident_id: int, reason: str, principal: Principal, now: datetime
) -> Incident:
    """Open a resolved incident again: its last trip waits anew for "was it right?".

    Who reopens has taken it on, so nobody is paged. Reopening what is open changes nothing.

    Raises:
        NotFound, NotAllowed, InvalidInput.
        IncidentNotReopened: another incident of the rollout is open, or this one holds only
            problems of the console, which open and end by themselves.
    """
    reason = text_check(reason, pointer="/reason", needed=True)
    incident = _incident(incident_id, Verb.ALERT_RESOLVE, principal)
    if incident.state != IncidentState.RESOLVED:
        return incident
    other = Incident.objects.filter(rollout=incident.rollout).exclude(state=IncidentState.RESOLVED)
    if (found := other.values_list("pk", flat=True).first()) is not None:
        raise IncidentNotReopened(
            f"Incident {found} of the same rollout is open: go on there.", open=found
        )
    last = locks.alerts().filter(incident=incident, guard__isnull=False).order_by("-pk").first()
    if last is None:
        raise IncidentNotReopened(
            "It holds only problems that the console saw itself; they open again by themselves."
        )
    incident_again(incident, principal=principal, now=now, reason=reason)
    _alert_reopen(last, principal=principal, now=now, reason=reason)
    incident_settle(incident, principal=principal, now=now)
    return incident


def _alert_reopen(alert: Alert, *, principal: Principal, now: datetime, reason: str) -> None:
    before = alert.was_right
    alert.state = AlertState.ACKNOWLEDGED
    alert.acked_at, alert.acked_by = now, principal.name
    alert.resolved_at, alert.resolved_by = None, ""
    alert.was_right, alert.note = None, ""
    alert.save(
        update_fields=[
            *("state", "acked_at", "acked_by", "resolved_at", "resolved_by", "was_right", "note"),
        ]
    )
    alert_record(
        "alert.reopened",
        alert,
        principal=principal,
        now=now,
        reason={"note": reason},
        data={"was_right_before": before},
    )
    outbox.add(
        "alert.reopened",
        workflow=alert.workflow.slug,
        key=alert.pk,
        at=now,
        data={**alert_facts(alert), "by": principal.name},
    )


def _incident(incident_id: int, verb: Verb, principal: Principal) -> Incident:
    """Return the incident locked, after checking that `principal` may do `verb` with it."""
    workflow = Workflow.objects.filter(incidents=incident_id).first()
    # Who may not read it is not told that it exists.
    if workflow is None or not (
        principal.may(Verb.READ, workflow.pk) or principal.may(verb, workflow.pk)
    ):
        raise NotFound(f"There is no incident {incident_id}.")
    require(principal, verb, workflow)
    return locks.incidents().get(pk=incident_id)
