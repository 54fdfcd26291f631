"""People with roles, and tokens: made by the command line and the demo."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from approvals.authority.matrix import Role, Scope
from approvals.authority.models import ApiToken, Membership
from approvals.authority.principals import Principal, token_digest, token_secret
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Person, Workflow
from rollout_console.core.errors import DomainError, InvalidInput, NotFound


class NameTaken(DomainError):
    code = "name-taken"
    title = "This name is taken"


@transaction.atomic
def person_create(
    *,
    name: str,
    roles: Sequence[Role],
    workflows: Sequence[str],
    password: str,
    principal: Principal,
    now: datetime,
) -> bool:
    """Create a person with roles, in every workflow where none is named.

    Somebody who is there already keeps their password and gains the roles. Returns whether the
    person is new.

    Raises:
        InvalidInput: the name or the password does not do.
        NotFound: a workflow does not exist.
    """
    rows = workflows_named(workflows)
    person = Person.objects.filter(username=name).first()
    created = person is None
    if person is None:
        person = Person(username=name)
        try:
            person.clean_fields(exclude=["password"])
            validate_password(password, person)
        except ValidationError as error:
            raise InvalidInput(" ".join(error.messages)) from error
        person.set_password(password)
        person.save()
        audit.append(
            "person.created",
            actor=principal,
            at=now,
            workflow="",
            subject_type="person",
            subject=name,
        )
    for role in roles:
        # None stands for every workflow.
        everywhere: list[Workflow | None] = [None]
        for workflow in rows or everywhere:
            _, granted = Membership.objects.get_or_create(
                person=person, workflow=workflow, role=role.value
            )
            if granted:
                audit.append(
                    "person.role_granted",
                    actor=principal,
                    at=now,
                    workflow="" if workflow is None else workflow.slug,
                    subject_type="person",
                    subject=name,
                    data={"role": role.value},
                )
    return created


@transaction.atomic
def token_create(
    *,
    name: str,
    scopes: Iterable[Scope],
    workflows: Sequence[str],
    person: str | None,
    principal: Principal,
    now: datetime,
    expires_at: datetime | None = None,
) -> str:
    """Create a token and return its secret, which is stored hashed and never shown again.

    Raises:
        InvalidInput: the name does not do.
        NotFound: a workflow or the person does not exist.
        NameTaken: another token has this name.
    """
    if not name.strip() or len(name) > 150 or "\x00" in name:
        raise InvalidInput("A token's name has 1 to 150 characters.")
    rows = workflows_named(workflows)
    owner = None
    if person is not None:
        owner = Person.objects.filter(username=person, is_active=True).first()
        if owner is None:
            raise NotFound(f"There is no person “{person}”.")
    secret = token_secret()
    kept = sorted({scope.value for scope in scopes})
    try:
        with transaction.atomic():
            token = ApiToken.objects.create(
                name=name,
                token_hash=token_digest(secret),
                scopes=kept,
                person=owner,
                created_at=now,
                expires_at=expires_at,
            )
    except IntegrityError as error:
        raise NameTaken(f"There is a token “{name}” already; choose another name.") from error
    token.workflows.set(rows)
    audit.append(
        "token.created",
        actor=principal,
        at=now,
        workflow=rows[0].slug if len(rows) == 1 else "",
        subject_type="token",
        subject=name,
        data={
            "scopes": kept,
            "workflows": [row.slug for row in rows],
            "person": person,
            "expires_at": expires_at.isoformat() if expires_at else None,
        },
    )
    return secret


def workflows_named(slugs: Sequence[str]) -> list[Workflow]:
    """Return the workflows in the order given.

    Raises:
        NotFound: one of them does not exist.
    """
    rows = {row.slug: row for row in Workflow.objects.filter(slug__in=slugs)}
    for slug in slugs:
        if slug not in rows:
            raise NotFound(f"There is no workflow “{slug}”.")
    return [rows[slug] for slug in dict.fromkeys(slugs)]
