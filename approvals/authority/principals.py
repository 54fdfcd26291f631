"""Whoever is asking, with what they may do; one object for log-ins, tokens and the console."""

import hashlib
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from django.db.models import Q, QuerySet

from approvals.authority.matrix import MATRIX, Role, Scope, Verb, person_may, service_may
from approvals.authority.models import ApiToken, Membership
from rollout_console.catalog.models import Person, Workflow
from rollout_console.core.errors import DomainError

TOKEN_PREFIX: Final = "rc_"  # noqa: S105  # how to spot one, not one


class NotAllowed(DomainError):
    """The actor's roles or scopes do not reach; says who can."""

    code = "not-allowed"
    title = "Not yours to do"
    status = 403


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts. `roles` maps a workflow id to roles; key None holds roles in every workflow."""

    kind: Literal["person", "token", "system"]
    name: str
    id: int
    roles: dict[int | None, frozenset[Role]] = field(default_factory=dict)
    scopes: frozenset[Scope] | None = None
    workflow_ids: frozenset[int] | None = None
    person_id: int | None = None

    def roles_in(self, workflow_id: int | None) -> frozenset[Role]:
        return self.roles.get(None, frozenset()) | self.roles.get(workflow_id, frozenset())

    def reaches(self, workflow_id: int | None) -> bool:
        """Whether a token's limit to workflows lets it see this one."""
        return self.workflow_ids is None or workflow_id in self.workflow_ids

    def may(self, verb: Verb, workflow_id: int | None) -> bool:
        if self.kind == "system":
            return True
        if not self.reaches(workflow_id):
            return False
        if self.person_id is not None:
            return person_may(verb, roles=self.roles_in(workflow_id), scopes=self.scopes)
        return service_may(verb, scopes=self.scopes or frozenset())

    def has_scope(self, scope: Scope) -> bool:
        return self.scopes is not None and scope in self.scopes


SYSTEM: Final = Principal(kind="system", name="console", id=0)


def person_principal(person: Person) -> Principal:
    """Return a logged-in person with memberships and the roles that plans give them."""
    return Principal(
        kind="person",
        name=person.username,
        id=person.pk,
        roles=person_roles(person),
        person_id=person.pk,
    )


def person_roles(person: Person) -> dict[int | None, frozenset[Role]]:
    roles: dict[int | None, set[Role]] = {}
    for workflow_id, role in Membership.objects.filter(person=person).values_list(
        "workflow_id", "role"
    ):
        roles.setdefault(workflow_id, set()).add(Role(role))
    for workflow in Workflow.objects.filter(Q(owner=person) | Q(deputy=person)).only(
        "id", "owner_id", "deputy_id"
    ):
        held = roles.setdefault(workflow.pk, set())
        if workflow.owner_id == person.pk:
            held.add(Role.OWNER)
        if workflow.deputy_id == person.pk:
            held.add(Role.DEPUTY)
    return {key: frozenset(value) for key, value in roles.items()}


def token_digest(secret: str) -> str:
    """Return what is stored of a token; its 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def token_secret() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def token_principal(secret: str, *, now: datetime) -> Principal | None:
    """Return the principal of a live token, or None for an unknown, expired or revoked one."""
    token = (
        ApiToken.objects.filter(token_hash=token_digest(secret), revoked_at=None)
        .filter(Q(expires_at=None) | Q(expires_at__gt=now))
        .select_related("person")
        .first()
    )
    if token is None or (token.person is not None and not token.person.is_active):
        return None
    workflow_ids = frozenset(token.workflows.values_list("pk", flat=True))
    return Principal(
        kind="token" if token.person is None else "person",
        name=token.name if token.person is None else token.person.username,
        id=token.pk if token.person is None else token.person.pk,
        roles={} if token.person is None else person_roles(token.person),
        scopes=frozenset(Scope(scope) for scope in token.scopes),
        workflow_ids=workflow_ids or None,
        person_id=token.person_id,
    )


def who_can(verb: Verb, workflow: Workflow) -> list[str]:
    """Return the names of people who may do `verb` here, the owner first."""
    return list(dict.fromkeys(person.shown_name for person in people_who_can(verb, workflow)))


def people_who_can(verb: Verb, workflow: Workflow) -> list[Person]:
    """Return the people who may do `verb` here, the owner first."""
    roles = MATRIX[verb]
    people: list[Person] = []
    if Role.OWNER in roles:
        people.append(workflow.owner)
    if Role.DEPUTY in roles:
        people.append(workflow.deputy)
    people.extend(_members(roles, workflow))
    return list(dict.fromkeys(people))


def _members(roles: Collection[Role], workflow: Workflow) -> QuerySet[Person]:
    return (
        Person.objects.filter(memberships__role__in=roles, is_active=True)
        .filter(Q(memberships__workflow=workflow) | Q(memberships__workflow=None))
        .distinct()
        .order_by("username")
    )


def people_in_role(name: str, workflow: Workflow) -> list[str]:
    """Return the names of people whom a step of the escalation ladder tells.

    A step names a role, or a person by user name.
    """
    return [person.shown_name for person in persons_in_role(name, workflow)]


def persons_in_role(name: str, workflow: Workflow) -> list[Person]:
    """Return the people that a role, or a person's user name, stands for in a workflow."""
    if name not in {role.value for role in Role}:
        return list(Person.objects.filter(username=name, is_active=True))
    if name == Role.OWNER:
        return [workflow.owner]
    if name == Role.DEPUTY:
        return [workflow.deputy]
    return list(_members(frozenset({Role(name)}), workflow))


def require(principal: Principal, verb: Verb, workflow: Workflow) -> None:
    """Raise NotAllowed, naming who can, unless `principal` may do `verb` in `workflow`."""
    if principal.may(verb, workflow.pk):
        return
    names = who_can(verb, workflow)
    can = ", ".join(names) if names else "nobody yet"
    raise NotAllowed(
        f"{verb.value.replace('_', ' ').capitalize()} in {workflow.name} is for: {can}.",
        who_can=names,
    )


def readable_workflow_ids(principal: Principal, workflow_ids: Iterable[int]) -> list[int]:
    """Return those of `workflow_ids` that `principal` may read."""
    return [pk for pk in workflow_ids if principal.may(Verb.READ, pk)]
