"""The console's alerts on itself: one for each problem of the signals, for as long as it lasts.

They name the workflow's owner, carry no clock, and contain nothing.
"""

from datetime import datetime

from django.db import IntegrityError, transaction

from approvals.authority.principals import SYSTEM, answering
from rollout_console.core import outbox
from signals.alerts import locks
from signals.alerts.grouping import incident_join, incident_settle
from signals.alerts.models import Alert, AlertState
from signals.alerts.records import alert_facts, alert_record
from signals.health.models import Problem

OVER = "The problem is over."


def health_alerts(*, now: datetime) -> int:
    """Open an alert for each open problem without one, and resolve those whose problem ended.

    Returns how many were opened.
    """
    over = Alert.objects.exclude(state=AlertState.RESOLVED).filter(problem__ended_at__isnull=False)
    for alert_id in list(over.order_by("pk").values_list("pk", flat=True)):
        _resolve(alert_id, now=now)
    waiting = Problem.objects.filter(ended_at=None, alerts=None).select_related(
        "workflow__owner", "workflow__deputy", "path"
    )
    return sum(_open(problem, now=now) for problem in waiting.order_by("pk"))


def _open(problem: Problem, *, now: datetime) -> int:
    try:
        with transaction.atomic():
            alert = Alert.objects.create(
                workflow=problem.workflow,
                rollout=problem.rollout,
                incident=incident_join(
                    workflow=problem.workflow, rollout=problem.rollout, quiet=False, now=now
                ),
                problem=problem,
                owner=answering(problem.workflow),
                sentence=problem.sentence,
                n=problem.count,
                opened_at=now,
            )
            alert_record(
                "alert.opened", alert, principal=SYSTEM, now=now, data={"sentence": alert.sentence}
            )
            outbox.add(
                "alert.opened",
                workflow=problem.workflow.slug,
                key=alert.pk,
                at=now,
                data=alert_facts(alert),
            )
    except IntegrityError:
        # Opened by another round since the list was read.
        return 0
    return 1


@transaction.atomic
def _resolve(alert_id: int, *, now: datetime) -> None:
    alert, incident = locks.alert_with_incident(alert_id)
    if alert.state == AlertState.RESOLVED:
        return
    alert.state = AlertState.RESOLVED
    alert.resolved_at, alert.resolved_by = now, SYSTEM.name
    alert.was_right, alert.note = True, OVER
    alert.save(update_fields=["state", "resolved_at", "resolved_by", "was_right", "note"])
    alert_record(
        "alert.resolved",
        alert,
        principal=SYSTEM,
        now=now,
        reason={"note": OVER},
        data={"was_right": True},
    )
    outbox.add(
        "alert.resolved",
        workflow=alert.workflow.slug,
        key=alert.pk,
        at=now,
        data={**alert_facts(alert), "was_right": True, "by": SYSTEM.name},
    )
    if incident is not None:
        incident_settle(incident, principal=SYSTEM, now=now)
