"""Deciding a plan change publishes what the plan then serves."""

from datetime import datetime

from django.db import transaction

from approvals.authority.principals import Principal
from rollout_console.exposure.services import version_publish
from rollout_console.rollouts.changes import plan_change_decide, plan_change_refresh
from rollout_console.rollouts.models import PlanChange


def plan_change_decide_and_publish(
    *,
    change_id: int,
    decision: str,
    reason: str,
    digest: str,
    principal: Principal,
    now: datetime,
) -> PlanChange:
    """Decide a plan change and publish an approved one's exposure, in one transaction.

    Raises:
        What `plan_change_decide` raises; nothing was decided then.
    """
    plan_change_refresh(change_id=change_id, principal=principal, now=now)
    with transaction.atomic():
        change = plan_change_decide(
            change_id=change_id,
            decision=decision,
            reason=reason,
            digest=digest,
            principal=principal,
            now=now,
        )
        if change.applied_as_id is not None:
            version_publish(
                cause=f"change of the plan of {change.workflow.slug} approved",
                actor_name=principal.name,
                now=now,
                force=False,
            )
    return change
