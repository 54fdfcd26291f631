"""People, tokens and rollouts for tests; a rollout is walked to its state by legal moves."""

import uuid
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
from rollout_console.catalog.models import Person, Workflow
from rollout_console.containment.lifecycle import (
    plan_apply_and_publish,
    rollout_abandon,
    rollout_go_live,
)
from rollout_console.containment.services import Outcome, rollout_contain
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.services import rollout_ready
from rollout_console.rollouts.states import RolloutState
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
