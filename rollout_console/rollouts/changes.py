"""A person decides on a plan that loosens something under a rollout in force."""

from datetime import datetime
from typing import Final

from django.db import transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import NotAllowed, Principal, require
from rollout_console.audit import services as audit
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.rollouts import locks
from rollout_console.rollouts.change_store import (
    change_digest,
    change_tell,
    change_void,
    changes_expire,
)
from rollout_console.rollouts.errors import (
    ApproverIsRequester,
    PlanChangeClosed,
    PlanChangeMoved,
)
from rollout_console.rollouts.models import ChangeState, PlanChange, PlanVersion
from rollout_console.rollouts.services import plan_apply_approved, plan_lock

REASON_MAX: Final = 2000
DECISIONS: Final[dict[str, ChangeState]] = {
    "approve": ChangeState.APPROVED,
    "reject": ChangeState.REJECTED,
}


def plan_change_decide(
    *,
    change_id: int,
    decision: str,
    reason: str,
    digest: str,
    principal: Principal,
    now: datetime,
) -> PlanChange:
    """Approve and apply a waiting change, or reject it; repeating one's own changes nothing.

    Call it inside a transaction that also publishes what the plan serves, as
    `containment.plan_changes` does.

    Raises:
        NotFound, NotAllowed, InvalidInput.
        ApproverIsRequester: who proposed it cannot approve it.
        PlanChangeClosed: it was decided otherwise, expired or is void.
        PlanChangeMoved: `digest` is not the change's.
        PlanInvalid, PlanConflict, PlanInForce: it can no longer be applied.
    """
    change = change_decidable(change_id, principal)
    state = DECISIONS.get(decision)
    reason = reason.strip()
    if state is None:
        raise InvalidInput(
            "A decision is “approve” or “reject”.",
            errors=[{"pointer": "/decision", "detail": "Write approve or reject."}],
        )
    if not 1 <= len(reason) <= REASON_MAX or "\x00" in reason:
        raise InvalidInput(
            f"Say why, in 1 to {REASON_MAX:,} characters: the audit keeps it.",
            errors=[{"pointer": "/reason", "detail": "Write a reason."}],
        )
    if state is ChangeState.APPROVED and change.requester_id == principal.person_id:
        raise ApproverIsRequester(
            "You proposed this change, so a colleague who may approve it has to decide."
        )
    if change.state != ChangeState.PENDING:
        if change.state == state and change.decider_id == principal.person_id:
            return change
        raise PlanChangeClosed(
            f"This change is {change.state} already: {change.reason or 'no reason given'}. "
            "Propose it again if it is still wanted.",
            state=str(change.state),
        )
    if digest != change.digest or _moved(change):
        raise PlanChangeMoved(
            "The digest is not this change's, or plan or rollout moved: read it again and decide "
            "on what it says now."
        )
    if change.expires_at <= now:
        raise PlanChangeClosed("This change expired: propose it again.", state="expired")
    change.state = state
    change.decided_at = now
    change.decided_by = principal.name
    change.decider_id = principal.person_id
    change.reason = reason
    # Decided first: applying voids whatever still waits.
    change.save(update_fields=["state", "decided_at", "decided_by", "decider", "reason"])
    audit.append(
        f"plan_change.{state.value}",
        actor=principal,
        at=now,
        workflow=change.workflow.slug,
        subject_type="plan_change",
        subject=change.pk,
        reason={"note": reason},
        data={"digest": change.digest, "proposed_by": change.requested_by},
    )
    if state is ChangeState.APPROVED:
        result = plan_apply_approved(change=change, principal=principal, now=now)
        change.applied_as = PlanVersion.objects.get(workflow=change.workflow, number=result.number)
        change.save(update_fields=["applied_as"])
    change_tell(change, now=now)
    return change


@transaction.atomic
def plan_change_refresh(*, change_id: int, principal: Principal, now: datetime) -> PlanChange:
    """Close a change that expired or whose plan or rollouts moved; return it as it is then.

    A transaction of its own: a decision that is refused for it must not undo it.
    """
    change = change_decidable(change_id, principal)
    if change.state != ChangeState.PENDING:
        return change
    changes_expire(workflow_id=change.workflow_id, now=now)
    if _moved(change):
        change_void(
            workflow_id=change.workflow_id,
            why="the plan or a rollout moved since it was proposed",
            now=now,
        )
    change.refresh_from_db()
    return change


def _moved(change: PlanChange) -> bool:
    """Whether the plan or a rollout is not what it was when the change was proposed."""
    latest = PlanVersion.objects.filter(workflow=change.workflow).order_by("-number").first()
    rollouts = locks.rollouts().filter(workflow=change.workflow)
    standing = [rollout for rollout in rollouts if rollout.in_force]
    assert latest is not None
    return change_digest(change.document, latest, standing) != change.digest


def change_decidable(change_id: int, principal: Principal) -> PlanChange:
    """Return a change, locked after its plan and its rollouts.

    Raises:
        NotFound, NotAllowed: tokens of nobody never decide.
    """
    found = PlanChange.objects.select_related("workflow").filter(pk=change_id).first()
    if found is None or not (
        principal.may(Verb.READ, found.workflow_id)
        or principal.may(Verb.PLAN_CHANGE_APPROVE, found.workflow_id)
    ):
        raise NotFound(f"There is no plan change {change_id}.")
    require(principal, Verb.PLAN_CHANGE_APPROVE, found.workflow)
    if principal.person_id is None:
        raise NotAllowed("A plan change is decided by a person, never by the console itself.")
    plan_lock(found.workflow.slug)
    list(locks.rollouts().filter(workflow=found.workflow))
    return (
        PlanChange.objects.select_for_update(of=("self",))
        .select_related("workflow", "base")
        .get(pk=change_id)
    )
