"""Fills an empty console with the demo's people, plans and live rollouts, by the real services.

Started again it goes on with what is there: people keep their passwords, rollouts in force stay
as they are, and where a rollout has ended the next release goes live in a new one.
"""

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from django.db import transaction

from approvals.authority.matrix import Role, Scope
from approvals.authority.models import ApiToken
from approvals.authority.people import person_create, token_create
from approvals.authority.principals import (
    SYSTEM,
    Principal,
    person_principal,
    token_digest,
    token_secret,
)
from rollout_console.catalog.models import Person
from rollout_console.containment.lifecycle import plan_apply_and_publish, rollout_go_live
from rollout_console.demo.plans import plan_text, rollout_slug
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.plan_yaml import yaml_load
from rollout_console.rollouts.services import rollout_ready
from rollout_console.rollouts.states import FINAL, RolloutState

LOGINS_FILE: Final = "demo-logins.json"
TOKENS_FILE: Final = "demo-tokens.json"
READY_FILE: Final = "demo-ready"
FLEET_ACCOUNT: Final = "demo-fleet"


@dataclass(frozen=True, slots=True)
class DemoPerson:
    name: str
    given: str
    family: str
    role: Role


PEOPLE: Final = (
    DemoPerson("olivia", "Olivia", "Ortiz", Role.OWNER),
    DemoPerson("daniel", "Daniel", "Dahl", Role.DEPUTY),
    DemoPerson("amira", "Amira", "Aziz", Role.APPROVER),
    DemoPerson("lena", "Lena", "Lindqvist", Role.LEAD),
    DemoPerson("ruben", "Ruben", "Rossi", Role.REVIEWER),
    DemoPerson("vera", "Vera", "Varga", Role.VIEWER),
    DemoPerson("adam", "Adam", "Abbott", Role.ADMINISTRATOR),
)


def demo_seed(*, local: Path, workflows: Sequence[str], fast: bool, now: datetime) -> list[str]:
    """Make the demo's people, token and rollouts; return the slugs of the rollouts in force."""
    people = people_seed(local=local, now=now)
    slugs = [
        rollout_seed(workflow=workflow, people=people, fast=fast, now=now) for workflow in workflows
    ]
    token_seed(local=local, workflows=workflows, now=now)
    return slugs


def people_seed(*, local: Path, now: datetime) -> dict[Role, Person]:
    """Make the demo's people with random passwords, which stay in a private file."""
    path = local / LOGINS_FILE
    kept = {entry["name"]: entry["password"] for entry in _private_read(path, [])}
    logins, found = [], {}
    for demo_person in PEOPLE:
        known = demo_person.name in kept
        password = kept.get(demo_person.name) or secrets.token_hex(8)
        found[demo_person.role] = _person(demo_person, password, reset=not known, now=now)
        logins.append(
            {"name": demo_person.name, "password": password, "role": demo_person.role.value}
        )
    _private_write(path, logins)
    return found


@transaction.atomic
def _person(demo_person: DemoPerson, password: str, *, reset: bool, now: datetime) -> Person:
    created = person_create(
        name=demo_person.name,
        roles=[demo_person.role],
        workflows=[],
        password=password,
        principal=SYSTEM,
        now=now,
    )
    person = Person.objects.get(username=demo_person.name)
    if created:
        person.first_name, person.last_name = demo_person.given, demo_person.family
        person.save(update_fields=["first_name", "last_name"])
    elif reset:
        person.set_password(password)
        person.save(update_fields=["password"])
    return person


def rollout_seed(*, workflow: str, people: dict[Role, Person], fast: bool, now: datetime) -> str:
    """Bring a workflow's newest rollout live, planning the next release where one has ended."""
    attempt = 1
    while True:
        slug = rollout_slug(workflow, attempt=attempt)
        state = Rollout.objects.filter(slug=slug).values_list("state", flat=True).first()
        if state is None or RolloutState(state) not in FINAL:
            break
        attempt += 1
    owner = person_principal(people[Role.OWNER])
    if state is None:
        text = plan_text(workflow, attempt=attempt, fast=fast)
        plan_apply_and_publish(document=yaml_load(text).value, text=text, principal=owner, now=now)
        state = RolloutState.DRAFT
    _walk_live(slug, state=RolloutState(state), people=people, now=now)
    return slug


def _walk_live(
    slug: str, *, state: RolloutState, people: dict[Role, Person], now: datetime
) -> None:
    # Read anew: the plan made the owner the owner of this workflow.
    owner = person_principal(people[Role.OWNER])
    approver: Principal = person_principal(people[Role.APPROVER])
    if state == RolloutState.DRAFT:
        rollout_ready(slug=slug, principal=owner, now=now)
        state = RolloutState.READY
    if state == RolloutState.READY:
        rollout_go_live(slug=slug, principal=owner, now=now)
        rollout_go_live(slug=slug, principal=approver, now=now)


@transaction.atomic
def token_seed(*, local: Path, workflows: Sequence[str], now: datetime) -> None:
    """Make the fleet's token, or make the database know the one that the file holds."""
    path = local / TOKENS_FILE
    kept = _private_read(path, {})
    secret = str(kept.get("fleet") or "")
    if not ApiToken.objects.filter(name=FLEET_ACCOUNT).exists():
        made = token_create(
            name=FLEET_ACCOUNT,
            scopes=[Scope.INGEST, Scope.EVALUATE],
            workflows=[],
            person=None,
            principal=SYSTEM,
            now=now,
        )
        secret = secret or made
    secret = secret or token_secret()
    # Without the file, or with a new database, the two no longer know each other.
    ApiToken.objects.filter(name=FLEET_ACCOUNT).update(token_hash=token_digest(secret))
    seeded = sorted({*kept.get("workflows", []), *workflows})
    _private_write(path, {"fleet": secret, "workflows": seeded})


def _private_read(path: Path, missing: Any) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        # A file cut short by a kill is as good as none: its secrets are made anew.
        return missing


def _private_write(path: Path, content: Any) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=1)
    unfinished.replace(path)
