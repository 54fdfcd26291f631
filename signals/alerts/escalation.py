"""An alert that nobody acknowledges climbs the ladder: each rung is told once, in order."""

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import F, QuerySet

from approvals.authority.principals import SYSTEM
from rollout_console.catalog.models import Workflow
from rollout_console.core import outbox
from signals.alerts.ladder import Rung, page_time, rung_next
from signals.alerts.models import Alert, AlertState, Incident, IncidentState
from signals.alerts.records import alert_facts, incident_record

# A ladder that began later than so far ahead of now was written before the clock went back.
CLOCK_BACK: Final = timedelta(seconds=60)


def escalations_run(*, now: datetime) -> int:
    """Tell the next rung of each incident whose time has come; return how many were told.

    A rung is claimed by a conditional update, so it is told once whoever finds it first. What is
    long overdue, after a time without watching or a clock that went ahead, is told in order, one
    rung a round; after a clock that went back, the ladder starts again from now with the rung
    that it was at.
    """
    told = 0
    for incident in _open().filter(pages_from__gt=now + CLOCK_BACK).order_by("pk"):
        _open().filter(pk=incident.pk, pages_from=incident.pages_from, rung=incident.rung).update(
            pages_from=now, page_at=page_time(incident.workflow, incident.rung, now)
        )
    due = _open().filter(page_at__lte=now)
    for incident in due.order_by("page_at", "pk"):
        with transaction.atomic():
            rung = rung_next(incident.workflow, incident.rung)
            if (held_until := _held_until(incident, now)) is not None:
                # Somebody has decided to wait: so does the next page.
                due.filter(pk=incident.pk, rung=incident.rung).update(page_at=held_until)
            elif rung is None:
                # The plan's ladder has become shorter meanwhile.
                due.filter(pk=incident.pk, rung=incident.rung).update(page_at=None)
            elif rung_claim(incident, due):
                rung_told(incident, rung, now=now)
                told += 1
    return told


def rung_claim(incident: Incident, among: QuerySet[Incident]) -> bool:
    """Take the next rung of an incident as it was read; False where somebody else has it."""
    from_ = incident.pages_from
    page_at = None if from_ is None else page_time(incident.workflow, incident.rung + 1, from_)
    return bool(
        among.filter(pk=incident.pk, rung=incident.rung).update(rung=F("rung") + 1, page_at=page_at)
    )


def _held_until(incident: Incident, now: datetime) -> datetime | None:
    """Return when the first hold ends where everything that waits is held, None elsewhere."""
    waiting = _waiting(incident).values_list("held_until", flat=True)
    ends = [None if end is None or end <= now else end for end in waiting]
    return min((end for end in ends if end is not None), default=None) if all(ends) else None


def _waiting(incident: Incident) -> QuerySet[Alert]:
    """The alerts of an incident that somebody has to take on."""
    return Alert.objects.filter(incident=incident, acked_at=None, quiet=False).exclude(
        state=AlertState.RESOLVED
    )


def rung_told(incident: Incident, rung: Rung, *, now: datetime) -> None:
    """Write that a rung is told of what waits in an incident, in the caller's transaction."""
    waiting = list(
        _waiting(incident)
        .select_related("workflow", "guard__path", "problem__path", "owner")
        .order_by("pk")
    )
    told = {**ladder_facts(rung), "incident": incident.pk, "alerts": [each.pk for each in waiting]}
    incident_record("alert.escalated", incident, principal=SYSTEM, now=now, data=told)
    about: dict[str, Any] = alert_facts(waiting[0]) if waiting else {}
    outbox.add(
        "alert.escalated",
        workflow=incident.workflow.slug,
        key=incident.pk,
        at=now,
        data={
            "workflow": incident.workflow.slug,
            "rollout": incident.rollout,
            **about,
            **told,
            "unacknowledged_since": incident.pages_from.isoformat()
            if incident.pages_from
            else None,
        },
    )


def ladder_climb(*, workflow: Workflow, rollout: str, before: int) -> Rung:
    """Return the rung that a person's escalating tells, and take it off the ladder being climbed.

    Where an incident waits, that is its next rung, and the ladder goes on after it. Otherwise it
    is the one after the `before` that were told by hand. The last one is told again and again.
    """
    incident = _open().filter(rollout=rollout, pages_from__isnull=False).first()
    told = before if incident is None else incident.rung
    rung = rung_next(workflow, told)
    if incident is not None and rung is not None and not rung_claim(incident, _open()):
        # A worker has just told it.
        return ladder_climb(workflow=workflow, rollout=rollout, before=before)
    if rung is not None:
        return rung
    last = told
    while rung is None:
        last -= 1
        rung = rung_next(workflow, last)
    return rung


def ladder_facts(rung: Rung) -> dict[str, Any]:
    """Return a rung for audit and outbox; `notify` are user names."""
    return {"step": rung.number, "told": rung.to, "people": rung.names, "notify": rung.usernames}


def _open() -> QuerySet[Incident]:
    return Incident.objects.exclude(state=IncidentState.RESOLVED).select_related(
        "workflow__owner", "workflow__deputy", "owner"
    )
