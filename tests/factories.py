"""People, tokens and rollouts for tests; a rollout is walked to its state by legal moves."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from approvals.authority.models import ApiToken, Membership
from approvals.authority.principals import (
    SYSTEM,
    Principal,
    person_principal,
    token_digest,
    token_principal,
    token_secret,
)
from approvals.expansions.models import ExpansionRequest
from approvals.expansions.services import Word, expansion_decide, expansion_request
from rollout_console.catalog.models import Person, Workflow, WorkflowPath
from rollout_console.containment.lifecycle import (
    plan_apply_and_publish,
    rollout_abandon,
    rollout_go_live,
)
from rollout_console.containment.services import Outcome, rollout_contain
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.services import rollout_ready
from rollout_console.rollouts.states import RolloutState
from signals.buckets.keys import ARM_STABLE
from signals.guards.models import Guard
from signals.guards.services import guards_look
from tests.ledger import arrive
from tests.plans import plan_document

PASSWORD = "a-long-test-password"


def person(name: str, role: Role | None = None, workflow: Workflow | None = None) -> Person:
    """Return the person of this name, with `role` (in every workflow unless one is given)."""
    found = Person.objects.filter(username=name).first()
    if found is None:
        found = Person.objects.create_user(username=name, password=PASSWORD)
    if role is not None:
        Membership.objects.get_or_create(person=found, workflow=workflow, role=role)
    return found


def principal(name: str) -> Principal:
    return person_principal(Person.objects.get(username=name))


def token(
    *scopes: Scope, workflows: tuple[Workflow, ...] = (), of: Person | None = None
) -> tuple[str, Principal]:
    """Return a live token's secret and its principal."""
    secret = token_secret()
    row = ApiToken.objects.create(
        name=f"token-{uuid.uuid4().hex[:12]}",
        token_hash=token_digest(secret),
        scopes=[str(scope) for scope in scopes],
        person=of,
        created_at=timezone.now(),
    )
    row.workflows.set(workflows)
    found = token_principal(secret, now=timezone.now())
    assert found is not None
    return secret, found


def people() -> None:
    """Create one person a role; owner and deputy get theirs from the plan."""
    person("owner")
    person("deputy")
    for role in (Role.VIEWER, Role.LEAD, Role.REVIEWER, Role.APPROVER, Role.ADMINISTRATOR):
        person(role.value, role)
    person("outsider")


def contain(rollout: Rollout, action: str, **fields: Any) -> Outcome:
    """Press a containment button as the owner, with a fresh key unless one is given."""
    return rollout_contain(
        **{
            "slug": rollout.slug,
            "action": action,
            "reason_code": "precaution",
            "note": "",
            "principal": principal("owner"),
            "key": uuid.uuid4().hex,
            "now": timezone.now(),
            **fields,
        }
    )


def rollout_at(
    state: RolloutState,
    *,
    workflow: str = "support-reply",
    document: dict[str, Any] | None = None,
    **rollout: Any,
) -> Rollout:
    """Apply a plan and walk its rollout to `state` through the services, so that no test starts
    somewhere impossible."""
    people()
    document = document or plan_document(workflow, **rollout)
    plan_apply_and_publish(document=document, text="", principal=SYSTEM, now=timezone.now())
    found = Rollout.objects.get(slug=document["rollout"]["slug"])
    if state is RolloutState.DRAFT:
        return found
    if state is RolloutState.ABANDONED:
        rollout_abandon(
            slug=found.slug, findings="too noisy", principal=principal("owner"), now=timezone.now()
        )
    else:
        rollout_ready(slug=found.slug, principal=principal("owner"), now=timezone.now())
        if state is not RolloutState.READY:
            for name in ("owner", "approver"):
                rollout_go_live(slug=found.slug, principal=principal(name), now=timezone.now())
        if state is RolloutState.PAUSED:
            contain(found, "pause")
        elif state is RolloutState.ROLLED_BACK:
            contain(found, "rollback")
    found.refresh_from_db()
    assert found.state == state
    return found


def ripen(rollout: Rollout, *, runs: int = 400, cost: float = 0.03) -> None:
    """Let a live rollout have baked for ten minutes, with runs that its criteria hold on."""
    now = timezone.now()
    since = now - timedelta(minutes=10)
    Rollout.objects.filter(pk=rollout.pk).update(live_at=since, stage_at=since, bake_from=since)
    Guard.objects.filter(rollout=rollout.slug).update(evidence_from=since)
    path = WorkflowPath.objects.get(rollout_paths__rollout=rollout)
    segments = {segment.slug: segment.pk for segment in rollout.workflow.segments.all()}
    common: dict[str, Any] = {"segment_id": segments["internal-ops"], "latencies": [800.0] * runs}
    arrive(
        path,
        now - timedelta(seconds=2),
        release_id=rollout.candidate_id,
        passed=runs,
        costs=[cost, cost * 1.1] * (runs // 2),
        **common,
    )
    arrive(
        path,
        now - timedelta(seconds=2),
        release_id=rollout.stable_id,
        arm=ARM_STABLE,
        segment_id=segments["eu-customers"],
        passed=20 * runs,
    )
    guards_look(now=timezone.now())
    rollout.refresh_from_db()


def completable(workflow: str = "support-reply") -> Rollout:
    """Return a live rollout on its only stage, which is everybody, whose criteria hold."""
    document = plan_document(workflow)
    document["workflow"]["segments"][0]["rule"] = True
    (first, *_) = document["rollout"]["stages"]
    document["rollout"]["stages"] = [
        {**first, "segments": [{"segment": "internal-ops", "share": 1}]}
    ]
    rollout = rollout_at(RolloutState.LIVE, document=document)
    ripen(rollout)
    return rollout


def expansion_asked(
    rollout: Rollout, *, by: str = "owner", now: datetime | None = None, **fields: Any
) -> ExpansionRequest:
    """Ask for the next stage of a ripe rollout."""
    request, created = expansion_request(
        slug=rollout.slug, principal=principal(by), now=now or timezone.now(), **fields
    )
    assert created
    return request


def expansion_decided(
    request: ExpansionRequest, *, by: str = "approver", decision: Word = "approve", **fields: Any
) -> ExpansionRequest:
    """Decide on a request on what it was asked on."""
    return expansion_decide(
        **{
            "request_id": request.pk,
            "decision": decision,
            "reason": "" if decision == "approve" else "not yet",
            "digest": request.digest,
            "principal": principal(by),
            "now": timezone.now(),
            **fields,
        }
    )


def expansion_approved(rollout: Rollout, **fields: Any) -> ExpansionRequest:
    """Ask for the next stage and approve it by as many people as it takes."""
    request = expansion_asked(rollout, **fields)
    for number in range(request.approvals_needed):
        name = "approver" if number == 0 else f"approver-{number + 1}"
        person(name, Role.APPROVER)
        request = expansion_decided(request, by=name)
    assert request.state == "approved"
    return request
