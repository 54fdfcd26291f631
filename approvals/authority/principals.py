"""Whoever is asking, with what they may do; one object for log-ins, tokens and the console."""

import hashlib
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final, Literal

from django.db.models import Q, Value

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
    # One question for all of them, since every page and every call asks it.
    owned, deputed = (
        Workflow.objects.filter(**{role.value: person}).values_list("pk", Value(role.value))
        for role in (Role.OWNER, Role.DEPUTY)
    )
    memberships = Membership.objects.filter(person=person).values_list("workflow_id", "role")
    for workflow_id, role in memberships.union(owned, deputed, all=True):
        roles.setdefault(workflow_id, set()).add(Role(role))
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


class Staff:
    """The people of one workflow by what they may do, read once and only when asked for."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow

    def who_can(self, verb: Verb) -> list[str]:
        """Return the names of people who may do `verb` here, the owner first."""
        return list(dict.fromkeys(person.shown_name for person in self.people_who_can(verb)))

    def people_who_can(self, verb: Verb) -> list[Person]:
        """Return the people who may do `verb` here, the owner first."""
        roles = MATRIX[verb]
        people: list[Person] = []
        if Role.OWNER in roles:
            people.append(self.workflow.owner)
        if Role.DEPUTY in roles:
            people.append(self.workflow.deputy)
        people.extend(self.members(roles))
        return list(dict.fromkeys(people))

    def members(self, roles: Collection[Role]) -> list[Person]:
        """Return who was given one of `roles` here or everywhere, by user name."""
        return list(dict.fromkeys(person for person, role in self._memberships if role in roles))

    @cached_property
    def _memberships(self) -> list[tuple[Person, Role]]:
        found = Membership.objects.filter(person__is_active=True).filter(
            Q(workflow=self.workflow) | Q(workflow=None)
        )
        return [
            (membership.person, Role(membership.role))
            for membership in found.select_related("person").order_by("person__username")
        ]


def who_can(verb: Verb, workflow: Workflow) -> list[str]:
    """Return the names of people who may do `verb` here, the owner first."""
    return Staff(workflow).who_can(verb)


def people_who_can(verb: Verb, workflow: Workflow) -> list[Person]:
    """Return the people who may do `verb` here, the owner first."""
    return Staff(workflow).people_who_can(verb)


def persons_in_role(name: str, workflow: Workflow) -> list[Person]:
    """Return the people that a role, or a person's user name, stands for in a workflow."""
    if name not in {role.value for role in Role}:
        return list(Person.objects.filter(username=name, is_active=True))
    if name == Role.OWNER:
        return [workflow.owner]
    if name == Role.DEPUTY:
        return [workflow.deputy]
    return list(Staff(workflow).members({Role(name)}))


def persons_told(name: str, workflow: Workflow) -> list[Person]:
    """Return whom a step of the escalation ladder tells: a role's people, or one by user name.

    Where all of them are out (no longer active) the deputy is in their place, and where that one
    is out too, whoever else may acknowledge an alert.
    """
    named = persons_in_role(name, workflow)
    return [person for person in named if person.is_active] or _standing_in(workflow)


def answering(workflow: Workflow) -> Person:
    """Return who answers for a workflow now: its owner, or who stands in while that one is out."""
    if workflow.owner.is_active:
        return workflow.owner
    return next(iter(_standing_in(workflow)), workflow.owner)


def _standing_in(workflow: Workflow) -> list[Person]:
    if workflow.deputy.is_active:
        return [workflow.deputy]
    able = people_who_can(Verb.ALERT_ACKNOWLEDGE, workflow)
    return [person for person in able if person.is_active]


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
