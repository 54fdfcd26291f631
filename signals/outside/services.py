"""Keep what other systems say: one row an alert, however often and in what order it is sent."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db import transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, require
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Workflow, WorkflowPath
from rollout_console.core.errors import InvalidInput, NotFound
from signals.outside.models import OutsideAlert

REASON_MAX = 2000


@dataclass(frozen=True, slots=True)
class Told:
    """An alert as another system sent it. `is_silent`: it ended for want of data only."""

    source: str
    fingerprint: str
    name: str
    summary: str
    labels: dict[str, str]
    link: str
    started_at: datetime
    is_firing: bool
    is_silent: bool


Change = Literal["began", "repeated", "ended", "silent"]


@transaction.atomic
def outside_alert_put(
    *,
    told: Told,
    workflow: Workflow,
    path: WorkflowPath,
    trigger: str,
    principal: Principal,
    now: datetime,
) -> Change:
    """Keep what was told; return what it changed. What is known already is repeated.

    An alert that has ended does not begin again: the same start is the same alert, sent late. One
    that is told of by its end alone is kept as ended, so that its start, sent late, begins nothing.
    """
    row, created = OutsideAlert.objects.get_or_create(
        workflow=workflow,
        source=told.source,
        fingerprint=told.fingerprint,
        started_at=told.started_at,
        defaults={
            "path": path,
            "trigger": trigger,
            "name": told.name,
            "summary": told.summary,
            "labels": told.labels,
            "link": told.link,
            "received_at": now,
            "received_by": principal.name,
            "seen_at": now,
            "changed_at": now,
        },
    )
    row = OutsideAlert.objects.select_for_update(of=("self",)).get(pk=row.pk)
    change: Change = "repeated"
    fields = ["seen_at"]
    row.seen_at = max(row.seen_at, now)
    if created and told.is_firing:
        change = "began"
    elif told.is_firing and row.ended_at is None:
        row.times += 1
        row.silent_at = None
        fields += ["times", "silent_at"]
    elif not told.is_firing and row.ended_at is None and not told.is_silent:
        change = "ended"
        row.ended_at, row.ended_by, row.changed_at = now, principal.name, now
        fields += ["ended_at", "ended_by", "changed_at"]
    elif not told.is_firing and row.ended_at is None and row.silent_at is None:
        # No data is no recovery: a person ends it.
        change = "silent"
        row.silent_at, row.changed_at = now, now
        fields += ["silent_at", "changed_at"]
    row.save(update_fields=fields)
    if change != "repeated" and not (created and change == "ended"):
        _record(f"outside_alert.{change}", row, principal=principal, now=now)
    return change


@transaction.atomic
def outside_alert_end(
    *, alert_id: int, reason: str, principal: Principal, now: datetime
) -> OutsideAlert:
    """End an alert from outside by hand, as when its sender is gone. Repeating changes nothing.

    Raises:
        NotFound, NotAllowed, InvalidInput: no reason, or one that is too long.
    """
    row = (
        OutsideAlert.objects.select_for_update(of=("self",))
        .select_related("workflow__owner", "workflow__deputy", "path")
        .filter(pk=alert_id)
        .first()
    )
    if row is None or not any(
        principal.may(verb, row.workflow_id) for verb in (Verb.READ, Verb.ALERT_RESOLVE)
    ):
        raise NotFound(f"There is no alert {alert_id} from outside.")
    require(principal, Verb.ALERT_RESOLVE, row.workflow)
    reason = reason.strip()
    if not reason or len(reason) > REASON_MAX or "\x00" in reason:
        raise InvalidInput(
            f"Say why in 1 to {REASON_MAX:,} characters.",
            errors=[{"pointer": "/reason", "detail": "Write a reason."}],
        )
    if row.ended_at is not None:
        return row
    row.ended_at, row.ended_by, row.end_reason = now, principal.name, reason
    row.changed_at = now
    row.save(update_fields=["ended_at", "ended_by", "end_reason", "changed_at"])
    _record("outside_alert.ended", row, principal=principal, now=now, reason=reason)
    return row


def _record(
    action: str, row: OutsideAlert, *, principal: Principal, now: datetime, reason: str = ""
) -> None:
    audit.append(
        action,
        actor=principal,
        at=now,
        workflow=row.workflow.slug,
        subject_type="outside_alert",
        subject=row.pk,
        reason={"note": reason} if reason else None,
        data={
            "source": row.source,
            "fingerprint": row.fingerprint,
            "name": row.name,
            "path": row.path.slug,
            "trigger": row.trigger or None,
            "started_at": row.started_at.isoformat(),
            "summary": row.summary,
        },
    )
