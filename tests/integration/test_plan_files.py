"""A plan's file through every door: it comes out as it went in, and errors name their line."""

import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from jsonschema import Draft202012Validator

from approvals.authority.matrix import Role, Scope
from rollout_console.catalog.models import Segment, Workflow
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.rollouts.models import PlanDraft, PlanVersion
from rollout_console.rollouts.plan_yaml import yaml_dump, yaml_load
from rollout_console.rollouts.states import RolloutState
from tests.factories import people, person, principal, rollout_at, token
from tests.forms import form_of
from tests.ledger import bucket
from tests.matrix import logged_in
from tests.plans import plan_document

pytestmark = pytest.mark.django_db

FILE = (
    "# Support reply: reviewed each quarter — see the wiki\n"
    + yaml_dump(plan_document())
    .replace("  hold_s: 60\n", "  hold_s: 60   # it sends mail\n")
    .replace("share: 0.9\n", "share: 0.90  # a control of a tenth\n")
    + "\n# the end"
)
BROKEN = FILE.replace("  hold_s: 60 ", "  hold_s: [60 ")
LINE = 1 + FILE.splitlines().index("  hold_s: 60   # it sends mail")


@pytest.fixture
def planner(db: None) -> Client:
    people()
    person("planner", Role.OWNER)
    return logged_in("planner")


def put(client: Client, text: str, **headers: str) -> Any:
    return client.put(
        "/api/v1/plans/support-reply",
        text.encode(),
        content_type="application/yaml",
        headers=headers,
    )


def by_api(client: Client, text: str) -> None:
    assert put(client, text).status_code == 201


def by_command(client: Client, text: str, tmp_path: Any) -> None:
    file = tmp_path / "plan.yaml"
    file.write_bytes(text.encode())
    call_command("plan", "apply", str(file), stdout=io.StringIO())


def by_editor(client: Client, text: str) -> None:
    url = reverse("web:plan_new", args=["review"])
    form = form_of(client.get(f"{url}?file=edit").content.decode(), "plan-text")
    client.post(url, {**form, "text": text, "do": "text"})
    form = form_of(client.get(url).content.decode(), "plan-form")
    assert client.post(url, {**form, "do": "apply"}).status_code == 302


def exported() -> str:
    out = io.StringIO()
    call_command("plan", "export", "support-reply", stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("door", ["api", "command", "editor"])
def test_a_file_comes_out_as_it_went_in(planner: Client, door: str, tmp_path: Any) -> None:
    text = f"{FILE}\n"
    if door == "api":
        by_api(planner, text)
    elif door == "command":
        by_command(planner, text, tmp_path)
    else:
        by_editor(planner, text)

    assert exported() == text
    page = planner.get(reverse("web:plan_file", args=["support-reply"]))
    assert page.content == text.encode()
    version = planner.get("/api/v1/plans/support-reply/versions/1").json()
    assert version["text"] == text
    # Anywhere else it is the same plan, to the byte.
    assert PlanVersion.objects.get().digest == version["digest"]


def test_new_comments_alone_are_a_version_and_move_nothing_else() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    noted = yaml_dump(plan_document()) + "# agreed in November\n"

    def apply(text: str) -> tuple[int, bool]:
        result = plan_apply_and_publish(
            document=yaml_load(text).value,
            text=text,
            principal=principal("owner"),
            now=timezone.now(),
        )
        return result.number, result.created

    assert apply(noted) == (2, True)
    assert apply(noted) == (2, False)
    assert exported() == noted
    version = rollout.version
    rollout.refresh_from_db()
    assert rollout.version == version
    history = logged_in("owner").get("/api/v1/plans/support-reply/versions").json()["results"]
    assert [(row["number"], row["diff"] == []) for row in history] == [(2, True), (1, False)]


def test_what_came_as_data_is_exported_as_a_file_that_says_the_same(planner: Client) -> None:
    answer = planner.put(
        "/api/v1/plans/support-reply", plan_document(), content_type="application/json"
    )
    assert answer.status_code == 201
    text = exported()
    assert yaml_load(text).value == plan_document()
    assert put(planner, text).json()["created"] is False


def test_a_broken_file_names_its_line_through_every_door(planner: Client, tmp_path: Any) -> None:
    refused = put(planner, BROKEN)
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["line"] >= LINE
    assert "Not YAML" in refused.json()["detail"]

    file = tmp_path / "plan.yaml"
    file.write_text(BROKEN)
    with pytest.raises(CommandError, match=r"plan.yaml:\d+: Not YAML"):
        call_command("plan", "apply", str(file))

    url = reverse("web:plan_new", args=["paths"])
    form = form_of(planner.get(f"{url}?file=edit").content.decode(), "plan-text")
    planner.post(url, {**form, "text": BROKEN, "do": "text"})
    assert "Not YAML" in planner.get(url).content.decode()
    assert PlanDraft.objects.get().typed == BROKEN
    assert not PlanVersion.objects.exists()


def test_a_fault_of_a_readable_file_names_its_line_through_every_door(
    planner: Client, tmp_path: Any
) -> None:
    text = FILE.replace("hold_s: 60 ", "hold_s: soon ")
    refused = put(planner, text).json()
    assert refused["errors"] == [
        {
            "pointer": "/workflow/hold_s",
            "detail": "“hold_s” must be a whole number, not the text “soon”.",
            "line": LINE,
        }
    ]
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(CommandError, match=f"plan.yaml:{LINE}: /workflow/hold_s"):
        call_command("plan", "apply", str(file))
    url = reverse("web:plan_new", args=["review"])
    form = form_of(planner.get(f"{url}?file=edit").content.decode(), "plan-text")
    planner.post(url, {**form, "text": text, "do": "text"})
    assert f"line {LINE}" in planner.get(url).content.decode()


def test_the_command_says_what_waits(tmp_path: Any) -> None:
    rollout_at(RolloutState.LIVE)
    document = plan_document()
    document["workflow"]["action_routes"][0]["default"] = "allow"
    file = tmp_path / "plan.yaml"
    file.write_text(yaml_dump(document))
    out = io.StringIO()

    call_command("plan", "apply", str(file), stdout=out)

    said = out.getvalue()
    assert "loosens: The default of action route “send_message” changes from ask to allow." in said
    assert "support-reply: waits as change " in said
    tried = io.StringIO()
    call_command("plan", "apply", str(file), "--dry-run", stdout=tried)
    assert "support-reply: would wait for an approver" in tried.getvalue()


def test_the_schema_is_published_without_a_token() -> None:
    answer = Client().get("/api/v1/plan-schema")

    assert (answer.status_code, answer["Content-Type"]) == (200, "application/schema+json")
    validator = Draft202012Validator(answer.json())
    assert validator.is_valid(plan_document())
    assert not validator.is_valid({**plan_document(), "version": 2})


def test_versions_are_paged_and_one_is_whole(planner: Client) -> None:
    for hold_s in (60, 50, 40):
        document = plan_document()
        document["workflow"]["hold_s"] = hold_s
        plan_apply_and_publish(
            document=document, text="", principal=principal("planner"), now=timezone.now()
        )

    first = planner.get("/api/v1/plans/support-reply/versions?limit=2").json()
    assert [(row["number"], row["diff"]) for row in first["results"]] == [
        (3, ["changed workflow.hold_s: 50 → 40"]),
        (2, ["changed workflow.hold_s: 60 → 50"]),
    ]
    rest = planner.get(f"/api/v1/plans/support-reply/versions?cursor={first['next']}").json()
    assert ([row["number"] for row in rest["results"]], rest["next"]) == ([1], None)
    one = planner.get("/api/v1/plans/support-reply/versions/2").json()
    assert (one["by"], one["document"]["workflow"]["hold_s"]) == ("planner", 50)
    assert {"code", "severity", "pointer", "sentence"} == set(one["findings"][0])
    assert planner.get("/api/v1/plans/support-reply/versions/4").status_code == 404
    assert planner.get("/api/v1/plans/nothing/versions").status_code == 404
    assert logged_in("outsider").get("/api/v1/plans/support-reply/versions").status_code == 404
    page = planner.get(reverse("web:plan_history", args=["support-reply"])).content.decode()
    assert "workflow.hold_s: 50 → 40" in page


def match(secret: str, body: Any) -> Any:
    return Client().post(
        "/api/v1/workflows/support-reply/segments/match",
        body,
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )


def test_a_rule_is_tried_as_exposure_would_and_says_what_is_not_known() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    secret, _ = token(Scope.RELEASE)
    segment = Segment.objects.get(slug="eu-customers")
    path = Workflow.objects.get().paths.get()
    now = timezone.now().replace(second=0, microsecond=0)
    for hours, passed in ((1, 7), (23, 3), (25, 100)):
        bucket(
            path,
            now - timedelta(hours=hours),
            release_id=rollout.candidate_id,
            segment_id=segment.pk,
            passed=passed,
        )
    context = {"targetingKey": "u1", "customer_segment": "eu"}

    answer = match(secret, {"segment": "eu-customers", "context": context}).json()

    assert (answer["matches"], answer["segment"]) == (True, "eu-customers")
    assert (answer["reads"], answer["missing"]) == (["customer_segment"], [])
    assert answer["tasks"] == 10
    assert answer["sentences"][1] == (
        "10 tasks of the last 24 hours were counted in “eu-customers”, by its rule in force or by "
        "the name that they reported."
    )
    assert answer["sentences"][-1].startswith("Contexts of past tasks are not kept")
    other = match(
        secret,
        {
            "segment": "eu-customers",
            "rule": {"starts_with": [{"var": "account"}, "vip-"]},
            "context": context,
        },
    ).json()
    assert (other["matches"], other["segment"]) == (False, "eu-customers")
    assert (other["reads"], other["missing"]) == (["account"], ["account"])
    assert "which is another one" in " ".join(other["sentences"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"context": {}}, "/segment"),
        ({"context": {}, "segment": "nobody"}, "/segment"),
        ({"context": {}, "rule": {"fractional": []}}, "/rule/fractional"),
        ({"context": []}, "/context"),
        ({"segment": "eu-customers"}, "/context"),
    ],
)
def test_a_match_that_cannot_be_asked_says_where(body: Any, pointer: str) -> None:
    rollout_at(RolloutState.DRAFT)
    secret, _ = token(Scope.RELEASE)

    answer = match(secret, body)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == pointer
