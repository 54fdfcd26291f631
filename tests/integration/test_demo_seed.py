import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from approvals.authority.models import ApiToken
from approvals.authority.principals import token_principal
from rollout_console.catalog.models import Person
from rollout_console.demo.seed import PEOPLE, demo_seed
from rollout_console.rollouts.models import PlanVersion, Rollout
from rollout_console.rollouts.states import RolloutState

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
BOTH = ["support-reply", "claims-intake"]

pytestmark = pytest.mark.django_db


def seeded(local: Path, workflows: list[str] = BOTH) -> list[str]:
    return demo_seed(local=local, workflows=workflows, fast=False, now=NOW)


def kept(path: Path) -> Any:
    return json.loads(path.read_text())


def test_an_empty_console_gets_people_a_token_and_live_rollouts(tmp_path: Path) -> None:
    slugs = seeded(tmp_path)
    assert slugs == ["support-reply-2026.11.2", "claims-intake-2026.11.1"]
    assert {rollout.slug: rollout.state for rollout in Rollout.objects.all()} == dict.fromkeys(
        slugs, "live"
    )
    logins = kept(tmp_path / "demo-logins.json")
    assert [entry["role"] for entry in logins] == [person.role.value for person in PEOPLE]
    for entry in logins:
        assert authenticate(username=entry["name"], password=entry["password"]) is not None
    tokens = kept(tmp_path / "demo-tokens.json")
    assert tokens["workflows"] == sorted(BOTH)
    fleet = token_principal(tokens["fleet"], now=timezone.now())
    assert fleet is not None
    assert fleet.scopes == frozenset({Scope.INGEST, Scope.EVALUATE})
    for name in ("demo-logins.json", "demo-tokens.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_live_takes_the_owner_and_the_approver(tmp_path: Path) -> None:
    (slug,) = seeded(tmp_path, ["order-status"])
    confirmed = Rollout.objects.get(slug=slug).confirmations.values_list("role", "person__username")
    assert sorted(confirmed) == [("approver", "amira"), ("owner", "olivia")]


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    seeded(tmp_path)
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    versions = list(Rollout.objects.order_by("slug").values_list("slug", "version"))
    seeded(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files
    assert list(Rollout.objects.order_by("slug").values_list("slug", "version")) == versions
    assert Person.objects.count() == len(PEOPLE)
    assert PlanVersion.objects.count() == len(BOTH)


def test_after_an_ended_rollout_the_next_release_goes_live(tmp_path: Path) -> None:
    seeded(tmp_path)
    ended = Rollout.objects.get(slug="support-reply-2026.11.2")
    ended.rollout_paths.update(in_force=False)
    ended.exposed.all().delete()
    Rollout.objects.filter(pk=ended.pk).update(state=RolloutState.ROLLED_BACK, ended_at=NOW)
    assert seeded(tmp_path) == ["support-reply-2026.11.3", "claims-intake-2026.11.1"]
    assert Rollout.objects.get(slug="support-reply-2026.11.3").state == "live"
    ended.refresh_from_db()
    assert ended.state == "rolled_back"


def test_one_scenario_seeds_its_own_workflow_and_later_ones_join(tmp_path: Path) -> None:
    seeded(tmp_path, ["support-reply"])
    seeded(tmp_path, ["claims-intake"])
    assert kept(tmp_path / "demo-tokens.json")["workflows"] == sorted(BOTH)


def test_lost_files_are_made_anew(tmp_path: Path) -> None:
    seeded(tmp_path)
    owner = Person.objects.get(username="olivia").password
    for path in tmp_path.iterdir():
        path.unlink()
    seeded(tmp_path)
    assert Person.objects.get(username="olivia").password != owner
    tokens = kept(tmp_path / "demo-tokens.json")
    assert token_principal(tokens["fleet"], now=timezone.now()) is not None
    assert ApiToken.objects.count() == 1


def test_a_password_somebody_changed_is_kept(tmp_path: Path) -> None:
    seeded(tmp_path, ["support-reply"])
    person = Person.objects.get(username="olivia")
    person.set_password("my own")
    person.save()
    seeded(tmp_path, ["support-reply"])
    assert authenticate(username="olivia", password="my own") is not None
    assert {person.role for person in PEOPLE} == set(Role)
