import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from approvals.authority.matrix import Scope
from approvals.authority.models import ApiToken, Membership
from approvals.authority.principals import token_principal
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Person, Workflow
from rollout_console.rollouts.models import PlanVersion
from rollout_console.rollouts.plan_yaml import yaml_dump, yaml_load
from tests.factories import people
from tests.plans import plan_document

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


def run(*words: Any) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    file = tmp_path / "plan with a space.yaml"
    file.write_text(yaml_dump(plan_document()))
    return file


def test_a_person_gets_a_role_everywhere(password: None) -> None:
    out = run("user", "create", "olga", "--role", "owner", "--password-stdin")

    assert out == "olga created: owner in every workflow\n"
    person = Person.objects.get(username="olga")
    assert person.check_password(PASSWORD)
    membership = Membership.objects.get()
    assert (membership.role, membership.workflow) == ("owner", None)
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {
        "person.created",
        "person.role_granted",
    }


def test_a_person_who_is_there_gains_the_role_and_keeps_the_password(
    password: None, plan_file: Path
) -> None:
    people()
    run("plan", "apply", plan_file)
    before = Person.objects.get(username="viewer").password

    run(
        *("user", "create", "viewer", "--role", "approver"),
        *("--workflow", "support-reply", "--password-stdin"),
    )

    person = Person.objects.get(username="viewer")
    assert person.password == before
    assert person.memberships.filter(workflow=Workflow.objects.get(), role="approver").exists()


def test_a_weak_password_or_an_unknown_workflow_makes_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("1234\n"))
    with pytest.raises(CommandError, match="too short"):
        run("user", "create", "olga", "--role", "owner", "--password-stdin")
    with pytest.raises(CommandError, match="There is no workflow “nothing”"):
        run(
            *("user", "create", "olga", "--role", "owner"),
            *("--workflow", "nothing", "--password-stdin"),
        )
    assert not Person.objects.exists()


def test_a_token_is_printed_alone_and_stored_hashed(plan_file: Path) -> None:
    people()
    run("plan", "apply", plan_file)

    secret = run(
        *("token", "create", "ci", "--scope", "release", "--scope", "read"),
        *("--workflow", "support-reply"),
    ).removesuffix("\n")

    assert "\n" not in secret
    assert secret not in str(ApiToken.objects.values())
    principal = token_principal(secret, now=timezone.now())
    assert principal is not None
    assert (principal.kind, principal.scopes) == (
        "token",
        frozenset({Scope.RELEASE, Scope.READ}),
    )
    assert principal.workflow_ids == frozenset({Workflow.objects.get().pk})
    with pytest.raises(CommandError, match="a token “ci” already"):
        run("token", "create", "ci", "--scope", "read")
    with pytest.raises(CommandError, match="no person “nobody”"):
        run("token", "create", "mine", "--scope", "read", "--person", "nobody")
    assert ApiToken.objects.count() == 1


def test_a_plan_goes_in_and_comes_out_as_written(plan_file: Path) -> None:
    people()

    assert "support-reply: would become plan 1" in run("plan", "apply", plan_file, "--dry-run")
    assert not PlanVersion.objects.exists()
    assert "support-reply: applied as plan 1" in run("plan", "apply", plan_file)
    assert run("plan", "apply", plan_file) == "support-reply: plan 1 says the same already\n"
    assert run("plan", "export", "support-reply") == plan_file.read_text()

    document = plan_document()
    document["workflow"]["hold_s"] = 30
    plan_file.write_text(yaml_dump(document))
    assert run("plan", "diff", plan_file) == "changed workflow.hold_s: 60 → 30\n"
    assert PlanVersion.objects.count() == 1


def test_a_plan_from_json_is_exported_as_yaml(tmp_path: Path) -> None:
    people()
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan_document(), indent="\t"))

    run("plan", "apply", file)

    assert yaml_load(run("plan", "export", "support-reply")).value == plan_document()


def test_faults_are_printed_with_file_and_line(plan_file: Path) -> None:
    text = plan_file.read_text()
    line = 1 + text.splitlines().index("  owner: owner")

    with pytest.raises(CommandError) as refused:
        run("plan", "apply", plan_file)

    assert f"{plan_file}:{line}: /workflow/owner: There is no person “owner”" in str(refused.value)
    with pytest.raises(CommandError, match="No such file"):
        run("plan", "apply", "/nowhere/plan.yaml")
    with pytest.raises(CommandError, match="There is no plan of “nothing”"):
        run("plan", "export", "nothing")
