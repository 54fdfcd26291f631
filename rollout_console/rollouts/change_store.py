"""Plan changes that wait for a second person: proposed, void, expired. Checks no rights.

The caller holds the lock on the workflow's plan and on its rollouts.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from approvals.authority.principals import SYSTEM, Principal
from rollout_console.audit import services as audit
from rollout_console.core import outbox
from rollout_console.core.canonical import digest
from rollout_console.rollouts.errors import PlanChangeWaits
from rollout_console.rollouts.models import ChangeState, PlanChange, PlanVersion, Rollout
from rollout_console.rollouts.plan_change import Change

LIFETIME_S: Final = 24 * 3600


def change_digest(document: Any, base: PlanVersion, standing: Iterable[Rollout]) -> str:
    """Return the hash of what a decision stands on."""
    return digest(
        {
            "plan": digest(document),
            "before": base.digest,
            "rollouts": {rollout.slug: rollout.version for rollout in standing},
        }
    )


def change_propose(
    *,
    base: PlanVersion,
    document: Any,
    text: str,
    effects: Sequence[Change],
    diff: list[str],
    standing: Sequence[Rollout],
    principal: Principal,
    now: datetime,
) -> PlanChange:
    """Let a plan wait for its approval; the same proposal again is the one that waits.

    Who proposed the one that waits may replace it.

    Raises:
        PlanChangeWaits: somebody else's waits.
    """
    workflow = base.workflow
    seen = change_digest(document, base, standing)
    changes_expire(workflow_id=workflow.pk, now=now)
    waiting = pending(workflow.pk)
    if waiting is not None:
        if waiting.digest == seen:
            return waiting
        # What was proposed before the rollout moved can no longer be approved.
        current = change_digest(waiting.document, base, standing) == waiting.digest
        if current and waiting.requested_by != principal.name:
            raise PlanChangeWaits(
                f"A change that {waiting.requested_by} proposed waits for its decision until "
                f"{waiting.expires_at:%d %b %H:%M} UTC. Let it be decided first.",
                change=waiting.pk,
            )
        _close(waiting, ChangeState.VOID, "another one was proposed", now=now)
    change = PlanChange.objects.create(
        workflow=workflow,
        base=base,
        document=document,
        text=text,
        digest=seen,
        effects=[
            {
                "direction": effect.direction.value,
                "where": effect.where,
                "sentence": effect.sentence,
            }
            for effect in effects
        ],
        diff=diff,
        requested_at=now,
        requested_by=principal.name,
        requester_id=principal.person_id,
        expires_at=now + timedelta(seconds=LIFETIME_S),
    )
    audit.append(
        "plan_change.proposed",
        actor=principal,
        at=now,
        workflow=workflow.slug,
        subject_type="plan_change",
        subject=change.pk,
        data={"digest": seen, "effects": change.effects[:200]},
    )
    change_tell(change, now=now)
    return change


def pending(workflow_id: int) -> PlanChange | None:
    """Return the change of a workflow's plan that waits, locked."""
    return (
        PlanChange.objects.select_for_update(of=("self",))
        .select_related("base", "workflow")
        .filter(workflow_id=workflow_id, state=ChangeState.PENDING)
        .first()
    )


def changes_expire(*, workflow_id: int, now: datetime) -> None:
    """Close the change that waited too long."""
    waiting = pending(workflow_id)
    if waiting is not None and waiting.expires_at <= now:
        _close(waiting, ChangeState.EXPIRED, "nobody decided in time", now=now)


def change_void(*, workflow_id: int, why: str, now: datetime) -> None:
    """Close the change that waits, for what it was shown with is no more."""
    waiting = pending(workflow_id)
    if waiting is not None:
        _close(waiting, ChangeState.VOID, why, now=now)


def _close(change: PlanChange, state: ChangeState, why: str, *, now: datetime) -> None:
    change.state = state
    change.decided_at = now
    change.reason = why
    change.save(update_fields=["state", "decided_at", "reason"])
    audit.append(
        "plan_change.voided",
        actor=SYSTEM,
        at=now,
        workflow=change.workflow.slug,
        subject_type="plan_change",
        subject=change.pk,
        data={"state": state.value, "why": why},
    )
    change_tell(change, now=now)


def change_tell(change: PlanChange, *, now: datetime) -> None:
    outbox.add(
        "plan_change.changed",
        workflow=change.workflow.slug,
        key=change.pk,
        at=now,
        data={
            "workflow": change.workflow.slug,
            "change": change.pk,
            "state": str(change.state),
            "by": change.decided_by or change.requested_by,
        },
    )
