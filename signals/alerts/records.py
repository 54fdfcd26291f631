"""What is told of an alert: in the audit, and to whoever listens."""

from datetime import datetime
from typing import Any

from approvals.authority.principals import Principal
from rollout_console.audit import services as audit
from rollout_console.core import outbox
from signals.alerts.models import Alert, Incident


def alert_facts(alert: Alert) -> dict[str, Any]:
    """Return an alert for outside; `guard` is None where it is about a problem of the signals."""
    return {
        "workflow": alert.workflow.slug,
        "rollout": alert.rollout,
        "alert": alert.pk,
        "incident": alert.incident_id,
        **_about(alert),
        "sentence": alert.sentence,
        "severity": alert.severity,
        "owner": alert.owner.username,
        "due_at": alert.due_at.isoformat() if alert.due_at else None,
        "due_action": alert.due_action,
        "quiet": alert.quiet,
    }


def alert_record(
    action: str,
    alert: Alert,
    *,
    principal: Principal,
    now: datetime,
    reason: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Write what happened to an alert into the audit, in the caller's transaction."""
    audit.append(
        action,
        actor=principal,
        at=now,
        workflow=alert.workflow.slug,
        subject_type="alert",
        subject=alert.pk,
        reason=reason,
        data={"rollout": alert.rollout, **_about(alert), **(data or {})},
    )


def incident_record(
    action: str,
    incident: Incident,
    *,
    principal: Principal,
    now: datetime,
    reason: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Write what happened to an incident into the audit, in the caller's transaction."""
    audit.append(
        action,
        actor=principal,
        at=now,
        workflow=incident.workflow.slug,
        subject_type="incident",
        subject=incident.pk,
        reason=reason,
        data={"rollout": incident.rollout, **(data or {})},
    )


def incident_told(
    action: str,
    incident: Incident,
    *,
    principal: Principal,
    now: datetime,
    reason: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Write what happened to an incident into audit and outbox, under the same name."""
    incident_record(action, incident, principal=principal, now=now, reason=reason, data=data)
    outbox.add(
        action,
        workflow=incident.workflow.slug,
        key=incident.pk,
        at=now,
        data={
            "workflow": incident.workflow.slug,
            "rollout": incident.rollout,
            "incident": incident.pk,
            "owner": incident.owner.username,
            "by": principal.name,
            **(data or {}),
        },
    )


def _about(alert: Alert) -> dict[str, str | None]:
    if alert.problem is not None:
        return {"guard": None, "problem": alert.problem.kind}
    return {"guard": alert.name}
