"""Expansion requests over the API, as `api.md` has them."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from approvals.expansions.lapses import expansions_sweep
from approvals.expansions.models import ExpansionRequest
from rollout_console.catalog.models import ActionRoute, Person
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from tests.factories import contain, expansion_asked, person, ripen, rollout_at, token
from tests.matrix import written

pytestmark = pytest.mark.django_db

SLUG = "support-reply-2026.11.2"


@pytest.fixture
def ripe(db: None) -> Rollout:
    rollout = rollout_at(RolloutState.LIVE)
    ripen(rollout)
    return rollout


def send(method: str, address: str, body: Any = None, *, of: str = "owner") -> Any:
    secret, _ = token(Scope.CONTROL, Scope.READ, of=Person.objects.get(username=of))
    return getattr(Client(), method)(
        f"/api/v1{address}",
        body,
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )


def test_from_request_to_start(ripe: Rollout) -> None:
    asked = send("post", f"/rollouts/{SLUG}/expansion-requests", {"expected_version": ripe.version})
    assert asked.status_code == 201, asked.content
    body = asked.json()
    address = f"/expansion-requests/{body['id']}"
    assert (body["state"], body["stage"], body["approvals_needed"]) == ("pending", 2, 1)
    assert body["exposed"] == [
        {"segment": "internal-ops", "share": 1.0},
        {"segment": "eu-customers", "share": 0.05},
    ]
    again = send("post", f"/rollouts/{SLUG}/expansion-requests")
    assert (again.status_code, again.json()["id"]) == (200, body["id"])

    shown = send("get", address, of="approver").json()
    early = send("post", f"{address}/start", {})
    assert (early.status_code, early.json()["type"]) == (409, "/problems/expansion-not-approved")
    decided = send(
        "post",
        f"{address}/decision",
        {"decision": "approve", "reason": "looks right", "digest": shown["digest"]},
        of="approver",
    )
    assert (decided.status_code, decided.json()["state"]) == (200, "approved")
    assert decided.json()["decisions"] == [
        {
            "person": "approver",
            "decision": "approve",
            "reason": "looks right",
            "at": decided.json()["decisions"][0]["at"],
        }
    ]

    started = send("post", f"{address}/start")

    assert started.status_code == 200, started.content
    assert (started.json()["state"], started.json()["started_by"]) == ("started", "owner")
    assert started.json()["break_glass"] is None
    live = send("get", f"/rollouts/{SLUG}").json()
    assert (live["stage"], [part["share"] for part in live["exposed"]]) == (2, [1.0, 0.05])


def test_the_list_goes_on_and_is_filtered(ripe: Rollout) -> None:
    first = expansion_asked(ripe)
    first_id = first.pk
    contain(ripe, "pause")
    told = send("get", "/expansion-requests").json()["results"]
    # Nobody has written it down yet: the list says what is stored, its own page what is so.
    assert [(each["id"], each["state"]) for each in told] == [(first_id, "pending")]
    assert "evidence" not in told[0]
    alone = send("get", f"/expansion-requests/{first_id}").json()
    assert (alone["state"], alone["void_reason"]) == ("void", "The rollout is paused.")
    assert ExpansionRequest.objects.get().state == "pending"
    expansions_sweep(now=timezone.now())
    told = send("get", "/expansion-requests").json()["results"]
    assert (told[0]["state"], told[0]["void_reason"]) == ("void", "The rollout is paused.")

    assert send("get", "/expansion-requests?state=started").json()["results"] == []
    assert send("get", f"/expansion-requests?rollout={SLUG}&limit=1").json()["next"] is None
    assert send("get", "/expansion-requests?rollout=other").json()["results"] == []
    wrong = send("get", "/expansion-requests?state=waiting")
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "/state")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid-input"),
        ({"decision": "approve"}, 400, "invalid-input"),
        ({"decision": "maybe", "digest": "0" * 64}, 400, "invalid-input"),
        ({"decision": "approve", "digest": 1}, 400, "invalid-input"),
        ({"decision": "approve", "digest": "0" * 64, "force": True}, 400, "invalid-input"),
        ({"decision": "reject", "digest": "0" * 64}, 400, "invalid-input"),
        ({"decision": "approve", "digest": "0" * 64}, 409, "evidence-changed"),
    ],
)
def test_a_decision_that_does_not_fit_changes_nothing(
    ripe: Rollout, body: Any, status: int, code: str
) -> None:
    request = expansion_asked(ripe)
    before = written()

    response = send("post", f"/expansion-requests/{request.pk}/decision", body, of="approver")

    assert (response.status_code, response.json()["type"]) == (status, f"/problems/{code}")
    assert written() == before


def test_the_requester_is_sent_to_a_colleague(ripe: Rollout) -> None:
    person("owner", Role.APPROVER)
    request = expansion_asked(ripe)

    response = send(
        "post",
        f"/expansion-requests/{request.pk}/decision",
        {"decision": "approve", "digest": request.digest},
    )

    assert response.status_code == 403
    assert response.json()["type"] == "/problems/approver-is-requester"


def test_what_is_missing_is_said_item_by_item(ripe: Rollout) -> None:
    ripe.stages.filter(position=1).update(min_runs=5000)

    response = send("post", f"/rollouts/{SLUG}/expansion-requests")

    assert (response.status_code, response.json()["type"]) == (409, "/problems/expansion-blocked")
    assert response.json()["missing"] == [
        "At least 5,000 runs of the candidate: 400 of 5,000 came on this stage."
    ]


def test_breaking_the_glass_and_its_review(ripe: Rollout) -> None:
    ActionRoute.objects.update(risk="high")
    ripe.stages.filter(position=1).update(min_runs=5000)
    asked = send("post", f"/rollouts/{SLUG}/expansion-requests", {"break_glass": True})
    assert asked.status_code == 201, asked.content
    address = f"/expansion-requests/{asked.json()['id']}"
    for body in (
        {"break_glass": {"reason": "Stable is down."}},
        {"break_glass": {"reason": "", "confirm": True}},
        {"break_glass": {"reason": "Stable is down.", "confirm": False}},
        {"break_glass": True},
    ):
        assert send("post", f"{address}/start", body).status_code == 400, body

    started = send(
        "post", f"{address}/start", {"break_glass": {"reason": "Stable is down.", "confirm": True}}
    )

    assert started.status_code == 200, started.content
    assert started.json()["break_glass"] == {
        "reason": "Stable is down.",
        "reviewed_by": None,
        "reviewed_at": None,
        "note": "",
    }
    review = send("post", f"{address}/review", {"note": "Right, it was."}, of="approver")
    assert review.json()["break_glass"]["reviewed_by"] == "approver"


def test_a_request_that_is_not_there_is_not_found(ripe: Rollout) -> None:
    for number in (77, 2**63, 10**30):
        assert send("get", f"/expansion-requests/{number}").status_code == 404
        assert send("post", f"/expansion-requests/{number}/start").status_code == 404
    assert send("post", "/rollouts/other/expansion-requests").status_code == 404
    request = expansion_asked(ripe)
    assert send("get", f"/expansion-requests/{request.pk}", of="outsider").status_code == 404
