"""Requests that no longer stand: found at every door and by the watch, closed and told.

What closes one is a fact, so it is written even where a door refuses because of it.
"""

from datetime import datetime
from typing import Any

from django.db import transaction

from approvals.authority.principals import SYSTEM, Principal
from approvals.expansions import locks, policy
from approvals.expansions.errors import ExpansionClosed
from approvals.expansions.evidence import bound_of, facts_of, known_of
from approvals.expansions.models import OPEN_STATES, ExpansionRequest
from approvals.expansions.policy import Bound, Facts, RequestState
from rollout_console.audit import services as audit
from rollout_console.core import outbox
from rollout_console.rollouts.locks import rollouts as rollouts_locked
from rollout_console.rollouts.models import Rollout


def expansions_sweep(*, now: datetime) -> int:
    """Close every open request that no longer stands; return how many. A step of the watch."""
    closed = 0
    waiting = ExpansionRequest.objects.filter(state__in=OPEN_STATES).select_related(
        "rollout__plan", "rollout__workflow", "rollout__candidate"
    )
    for request in waiting.order_by("rollout_id"):
        # Looked at first without a lock: nearly always there is nothing to write.
        if lapse_of(request, request.rollout, now=now) is not None:
            with transaction.atomic():
                closed += lapsed_close(rollout_locked(request.rollout.slug), now=now)
    return closed


def lapse_of(
    request: ExpansionRequest, rollout: Rollout, *, now: datetime
) -> tuple[RequestState, str] | None:
    """Return what an open request has become meanwhile, written down or not; None: it stands."""
    facts = facts_of(rollout, known_of(rollout, now=now), now=now)
    return lapse_by(request, bound=bound_of(rollout), facts=facts)


def lapse_by(
    request: ExpansionRequest, *, bound: Bound, facts: Facts
) -> tuple[RequestState, str] | None:
    """Return what an open request has become by what is known now; None: it stands."""
    return policy.lapse(
        asked=Bound(**request.evidence["bound"]),
        now_bound=bound,
        facts=facts,
        expires_at=request.expires_at,
    )


def lapsed_close(rollout: Rollout, *, now: datetime) -> int:
    """Close the locked rollout's open request if it no longer stands."""
    request = locks.requests().filter(rollout=rollout, state__in=OPEN_STATES).first()
    return int(request is not None and lapse_close(request, rollout, now=now))


def lapse_close(request: ExpansionRequest, rollout: Rollout, *, now: datetime) -> bool:
    found = lapse_of(request, rollout, now=now)
    if found is None:
        return False
    state, why = found
    request.state = state
    request.state_at = now
    request.void_reason = why
    request.save(update_fields=["state", "state_at", "void_reason"])
    action = "expansion.expired" if state is RequestState.EXPIRED else "expansion.voided"
    expansion_record(action, request, principal=SYSTEM, now=now, reason={"note": why})
    expansion_tell(
        "expansion.decided", request, now=now, by=SYSTEM.name, decision=state.value, reason=why
    )
    return True


def closed_refuse(request: ExpansionRequest) -> None:
    if RequestState(request.state) in policy.OPEN:
        return
    why = f" {request.void_reason}" if request.void_reason else ""
    raise ExpansionClosed(
        f"This request is {request.state}.{why} Ask again for what comes next.",
        state=str(request.state),
    )


def rollout_locked(slug: str) -> Rollout:
    return rollouts_locked().select_related("plan").get(slug=slug)


def request_open(rollout: Rollout) -> ExpansionRequest | None:
    return ExpansionRequest.objects.filter(rollout=rollout, state__in=OPEN_STATES).first()


def _facts(request: ExpansionRequest) -> dict[str, Any]:
    return {
        "request": request.pk,
        "rollout": request.rollout.slug,
        "stage": request.stage,
        "exposed": request.exposed,
        "digest": request.digest,
        "request_state": str(request.state),
    }


def expansion_record(
    action: str,
    request: ExpansionRequest,
    *,
    principal: Principal,
    now: datetime,
    reason: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    # The rollout is the subject, so that its timeline has what was asked and decided.
    audit.append(
        action,
        actor=principal,
        at=now,
        workflow=request.rollout.workflow.slug,
        subject_type="rollout",
        subject=request.rollout.slug,
        reason=reason,
        data={**_facts(request), **(data or {})},
    )


def expansion_tell(
    type_: str, request: ExpansionRequest, *, now: datetime, by: str, **data: Any
) -> None:
    workflow = request.rollout.workflow.slug
    outbox.add(
        type_,
        workflow=workflow,
        key=request.pk,
        at=now,
        data={
            "workflow": workflow,
            **_facts(request),
            "by": by,
            "expires_at": request.expires_at.isoformat(),
            "break_glass": request.broke_glass,
            **data,
        },
    )
