from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Person, Release
from rollout_console.rollouts.models import PlanVersion, Rollout
from rollout_console.rollouts.plan_yaml import yaml_dump
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.guards.models import Guard
from tests.factories import people, rollout_at, token
from tests.plans import plan_document

pytestmark = pytest.mark.django_db

SLUG = "support-reply-2026.11.2"
ROLLOUT = f"/api/v1/rollouts/{SLUG}"


def bearer(*scopes: Scope, of: str | None = None) -> dict[str, str]:
    person = None if of is None else Person.objects.get(username=of)
    return {"Authorization": f"Bearer {token(*scopes, of=person)[0]}"}


def put_plan(text: str | bytes, *, query: str = "", kind: str = "application/yaml") -> Any:
    return Client().put(
        f"/api/v1/plans/support-reply{query}",
        text,
        content_type=kind,
        headers=bearer(Scope.RELEASE),
    )


def contain(body: Any, *, key: str | None = "k-1", headers: dict[str, str] | None = None) -> Any:
    sent = headers or bearer(Scope.CONTROL)
    if key is not None:
        sent = {**sent, "Idempotency-Key": key}
    return Client().post(
        f"{ROLLOUT}/containment", body, content_type="application/json", headers=sent
    )


PAUSE = {"action": "pause", "reason": {"code": "latency"}}
ROLLBACK = {"action": "rollback", "reason": {"code": "quality"}}


def test_a_plan_comes_as_yaml_or_json() -> None:
    people()
    text = yaml_dump(plan_document())

    dry = put_plan(text, query="?dry_run=1")
    assert (dry.status_code, dry.json()["dry_run"], dry.json()["number"]) == (200, True, 1)
    assert not PlanVersion.objects.exists()

    made = put_plan(text)
    assert (made.status_code, made.json()["created"]) == (201, True)
    assert made.json()["rollout"] == SLUG
    assert PlanVersion.objects.get().text == text
    same = Client().put(
        "/api/v1/plans/support-reply",
        plan_document(),
        content_type="application/json",
        headers=bearer(Scope.RELEASE),
    )
    assert (same.status_code, same.json()["created"], same.json()["diff"]) == (200, False, [])


def test_a_plan_with_faults_names_pointer_and_line() -> None:
    people()
    document = plan_document()
    document["workflow"]["owner"] = "nobody"
    document["workflow"]["hold_s"] = "soon"
    text = yaml_dump(document)

    response = put_plan(text)

    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert (body["type"], body["instance"]) == (
        "/problems/plan-invalid",
        "/api/v1/plans/support-reply",
    )
    assert body["errors"] == [
        {
            "pointer": "/workflow/hold_s",
            "detail": "“hold_s” must be a whole number, not the text “soon”.",
            "line": 1 + text.splitlines().index("  hold_s: soon"),
        }
    ]
    assert not PlanVersion.objects.exists()


@pytest.mark.parametrize(
    ("text", "kind", "status"),
    [
        ("a: [", "application/yaml", 400),
        ("", "application/yaml", 400),
        ("- 1", "application/yaml", 400),
        ("{", "application/json", 400),
        ('{"version": NaN}', "application/json", 400),
        ("[" * 100_000, "application/json", 400),
        ("[" * 100_000, "application/yaml", 400),
        ("a: \x00", "application/yaml", 400),
        ('{"a": "\\u0000"}', "application/json", 400),
        (b"\xff\xfe", "application/yaml", 400),
        ("a", "text/plain", 415),
        ("a" * 1_100_000, "application/yaml", 413),
    ],
)
def test_what_is_no_plan_is_refused_in_words(text: Any, kind: str, status: int) -> None:
    response = put_plan(text, kind=kind)

    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert set(response.json()) >= {"type", "title", "status", "detail"}


def test_a_plan_belongs_to_its_address() -> None:
    people()

    response = put_plan(yaml_dump(plan_document("claims")))

    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/workflow/slug"


def test_a_release_is_made_then_found_then_refused() -> None:
    people()
    put_plan(yaml_dump(plan_document()))
    address = "/api/v1/workflows/support-reply/releases/2026.12.1"
    body: dict[str, Any] = {
        "changes": [{"component": "model", "name": "writer", "before": "a", "after": "b "}],
        "source": {"repository": "git", "commit": "abc", "url": "https://example.org/1"},
    }

    answers = [
        Client().put(address, each, content_type="application/json", headers=bearer(Scope.RELEASE))
        for each in (body, body, {**body, "changes": []})
    ]

    assert [answer.status_code for answer in answers] == [201, 200, 409]
    assert answers[0].json()["changes"] == [{**body["changes"][0], "note": ""}]
    assert answers[2].json()["type"] == "/problems/release-differs"
    assert Release.objects.get(version="2026.12.1").changes.count() == 1


def test_going_live_waits_for_the_second_person() -> None:
    rollout_at(RolloutState.DRAFT)

    def step(name: str, who: str) -> Any:
        return Client().post(
            f"{ROLLOUT}/{name}", content_type="application/json", headers=bearer(*Scope, of=who)
        )

    assert step("ready", "owner").json()["state"] == "ready"
    first = step("go-live", "owner")
    assert (first.status_code, first.json()["waiting_for"]) == (202, ["approver"])
    second = step("go-live", "approver")
    assert (second.status_code, second.json()["state"]) == (200, "live")
    assert second.json()["exposure_version"] > first.json()["exposure_version"]
    assert step("complete", "owner").json()["errors"][0]["pointer"] == "/expected_version"


def test_containment_is_done_once_a_key() -> None:
    rollout_at(RolloutState.LIVE)
    headers = bearer(Scope.CONTROL)

    first = contain(PAUSE, headers=headers)
    again = contain(PAUSE, key='"k-1"', headers=headers)
    other = contain(ROLLBACK, headers=headers)

    assert first.status_code == 200
    assert set(first.json()) == {
        "rollout",
        "version",
        "exposure_version",
        "state",
        "changed_meanwhile",
    }
    assert first.json()["state"] == "paused"
    assert again.json() == first.json()
    assert other.status_code == 422
    assert other.json()["type"] == "/problems/idempotency-key-reused"
    assert AuditEntry.objects.filter(action="rollout.paused").count() == 1
    assert contain(ROLLBACK, key="k-2", headers=headers).json()["state"] == "rolled_back"


@pytest.mark.parametrize(
    ("body", "key", "status", "code"),
    [
        (PAUSE, None, 400, "invalid-input"),
        (PAUSE, "", 400, "invalid-input"),
        ({"action": "pause"}, "k", 400, "invalid-input"),
        ({"action": "stop", "reason": {"code": "latency"}}, "k", 400, "invalid-input"),
        ({"action": "pause", "reason": {"code": "bored"}}, "k", 400, "invalid-input"),
        ({"action": "pause", "reason": {"code": "other"}}, "k", 400, "invalid-input"),
        ({**PAUSE, "expected_version": "1"}, "k", 400, "invalid-input"),
        ({**PAUSE, "expectd_version": 1}, "k", 400, "invalid-input"),
        ([PAUSE], "k", 400, "invalid-input"),
        ("null", "k", 400, "invalid-input"),
        ('{"action": NaN}', "k", 400, "invalid-input"),
        ('{"action": "pause", "action": "rollback"}', "k", 400, "invalid-input"),
        (
            {"action": "narrow", "segments": ["eu-customers"], "reason": {"code": "latency"}},
            "k",
            409,
            "not-a-reduction",
        ),
        (
            {"action": "pause", "mode": "manual", "reason": {"code": "latency"}},
            "k",
            400,
            "invalid-input",
        ),
    ],
)
def test_a_command_that_does_not_fit_changes_nothing(
    body: Any, key: str | None, status: int, code: str
) -> None:
    rollout_at(RolloutState.LIVE)
    before = AuditEntry.objects.count()

    response = contain(body, key=key)

    assert (response.status_code, response.json()["type"]) == (status, f"/problems/{code}")
    assert Rollout.objects.get().state == "live"
    assert AuditEntry.objects.count() == before


def test_an_alert_is_taken_on_held_and_closed() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    alert = Alert.objects.create(
        workflow=rollout.workflow,
        rollout=rollout.slug,
        guard=Guard.objects.get(slug="slow"),
        owner=rollout.workflow.owner,
        sentence="Too slow.",
        opened_at=timezone.now(),
    )
    headers = bearer(*Scope, of="owner")

    def answer(step: str, body: Any) -> Any:
        return Client().post(
            f"/api/v1/alerts/{alert.pk}/{step}",
            body,
            content_type="application/json",
            headers=headers,
        )

    assert answer("ack", {}).json()["state"] == "acknowledged"
    until = (timezone.now() + timedelta(seconds=30)).isoformat()
    assert answer("hold", {"until": until, "reason": "looking"}).json()["state"] == "held"
    assert answer("hold", {"until": "2100-01-01T00:00:00Z", "reason": "x"}).status_code == 409
    assert answer("hold", {"until": "2100-01-01T00:00:00", "reason": "x"}).status_code == 400
    assert answer("resolve", {"was_right": "yes"}).status_code == 400
    closed = answer("resolve", {"was_right": False, "note": "a test"})
    assert closed.json() == {
        **closed.json(),
        "id": alert.pk,
        "rollout": SLUG,
        "guard": "slow",
        "state": "resolved",
        "owner": "owner",
        "incident": None,
    }
    assert (
        Client()
        .post(f"/api/v1/alerts/{10**30}/ack", content_type="application/json", headers=headers)
        .status_code
        == 404
    )
