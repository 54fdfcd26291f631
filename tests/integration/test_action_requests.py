"""Asking before acting, and what became of it, over the API."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.test import Client
from django.utils import timezone

from approvals.actions.models import ActionRequest
from approvals.actions.selectors import action_row
from approvals.authority.matrix import Scope
from approvals.authority.principals import SYSTEM
from rollout_console.audit.models import AuditEntry
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.containment.targets import Press
from rollout_console.exposure.store import store
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.buckets.keys import ARM_CANDIDATE, MODES
from signals.buckets.models import ArrivalLedger, MinuteBucket
from signals.buckets.services import buckets_fold
from tests.factories import contain, rollout_at, token
from tests.plans import plan_document

pytestmark = pytest.mark.django_db

INSIDE = {"team": "internal", "targetingKey": "u1"}


@pytest.fixture(autouse=True)
def fresh_store() -> Iterator[None]:
    store.stop()
    yield
    store.stop()


def live(default: str = "allow") -> Rollout:
    document = plan_document()
    document["workflow"]["action_routes"][0]["default"] = default
    document["rollout"]["stages"][0]["segments"][0]["share"] = 1
    return rollout_at(RolloutState.LIVE, document=document)


class Agent:
    """A workflow's agent with a token of scope `act`."""

    def __init__(self) -> None:
        self.secret, _ = token(Scope.ACT)
        self.client = Client()

    def ask(self, id: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        body = {
            "id": id,
            "workflow": "support-reply",
            "path": "draft",
            "action": "send_message",
            "target": "case 7",
            "summary": "answer the customer",
            "context": INSIDE,
            **fields,
        }
        return self.send("post", "", body)

    def report(self, id: str, status: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        return self.send("post", f"/{id}/result", {"status": status, **fields})

    def read(self, id: str) -> tuple[int, dict[str, Any]]:
        return self.send("get", f"/{id}")

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        response = getattr(self.client, method)(
            f"/api/v1/action-requests{path}",
            body,
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.secret}"},
        )
        return response.status_code, json.loads(response.content)


def counted() -> tuple[int, int, int]:
    rows = ArrivalLedger.objects.values_list("actions_n", "actions_done", "actions_undone")
    sums = [sum(column) for column in zip(*rows, strict=True)] or [0, 0, 0]
    return sums[0], sums[1], sums[2]


@pytest.mark.parametrize(
    ("default", "decision"), [("allow", "allow"), ("ask", "pending"), ("deny", "deny")]
)
def test_the_decision_is_what_the_context_is_exposed_to_now(default: str, decision: str) -> None:
    live(default)

    status, said = Agent().ask("a-1")

    assert (status, said["decision"]) == (200, decision)
    assert (said["expires_at"] is not None) is (decision == "pending")
    assert "send_message" in said["reason"]
    (entry,) = AuditEntry.objects.filter(action="action.requested")
    assert (entry.subject, entry.data["decision"]) == ("a-1", decision)


def test_a_route_disabled_a_moment_ago_is_denied_and_the_earlier_answer_stays() -> None:
    rollout, agent = live(), Agent()
    assert agent.ask("before")[1]["decision"] == "allow"

    contain(rollout, "disable_action", press=Press(action_route="send_message"))

    assert agent.ask("after")[1]["decision"] == "deny"
    assert agent.ask("before")[1]["decision"] == "allow"
    assert agent.read("after")[1]["decision"] == "deny"


def test_an_unknown_route_is_denied_with_the_reason() -> None:
    live()

    status, said = Agent().ask("a-1", action="delete_account")

    assert (status, said["decision"]) == (200, "deny")
    assert "There is no action route “delete_account” in Support reply" in said["reason"]


def test_the_same_id_gets_the_same_answer_and_never_another_content() -> None:
    live()
    agent = Agent()
    first = agent.ask("a-1", parameters={"to": "x", "n": 1})

    assert agent.ask("a-1", parameters={"n": 1, "to": "x"}) == first
    status, said = agent.ask("a-1", parameters={"to": "y"})

    assert (status, said["type"]) == (422, "/problems/action-id-reused")
    assert ActionRequest.objects.count() == 1
    assert AuditEntry.objects.filter(action="action.requested").count() == 1


def test_a_pending_request_that_nobody_decides_is_denied(settings: Any) -> None:
    settings.ACTION_VALID_S = 60
    live("ask")
    Agent().ask("a-1")
    request = ActionRequest.objects.select_related("workflow", "path").get()
    before = action_row(request, now=request.requested_at + timedelta(seconds=59.9))
    after = action_row(request, now=request.requested_at + timedelta(seconds=60))

    assert (before.decision, after.decision) == ("pending", "deny")
    assert after.reason.endswith("Nobody decided in time.")
    status, said = Agent().report("a-1", "done")
    assert (status, said["type"]) == (409, "/problems/action-not-allowed")
    assert counted() == (0, 0, 0)


def test_results_count_once_in_the_key_of_what_was_served() -> None:
    rollout, agent = live(), Agent()
    for place in range(5):
        agent.ask(f"a-{place}")
    requested = ActionRequest.objects.get(request_id="a-0").requested_at
    # What is served later changes nothing about where these are counted.
    contain(rollout, "rollback")

    for id, status in (("a-0", "done"), ("a-1", "done"), ("a-2", "failed"), ("a-0", "undone")):
        assert agent.report(id, status, reference="m-1")[0] == 200
        assert agent.report(id, status, reference="m-1")[0] == 200

    assert counted() == (3, 2, 1)
    segment = rollout.workflow.segments.get(slug="internal-ops")
    for row in ArrivalLedger.objects.all():
        assert (row.n, row.segment_id, row.release_id, row.arm, row.mode) == (
            *(0, segment.pk, rollout.candidate_id),
            *(ARM_CANDIDATE, MODES["normal"]),
        )
    buckets_fold(now=timezone.now())
    folded = MinuteBucket.objects.get()
    assert (folded.actions_n, folded.actions_done, folded.actions_undone) == (3, 2, 1)
    assert folded.minute == requested.replace(second=0, microsecond=0)
    assert AuditEntry.objects.filter(action="action.reported").count() == 4


def test_a_result_that_cannot_follow_is_refused_and_names_what_can() -> None:
    live()
    agent = Agent()
    agent.ask("a-1")
    agent.ask("a-2")

    status, said = agent.report("a-1", "undone")
    assert (status, said["type"]) == (409, "/problems/action-result-not-possible")
    assert said["allowed"] == ["done", "failed"]
    agent.report("a-1", "failed")
    assert agent.report("a-1", "done")[1]["allowed"] == []
    agent.report("a-2", "done")
    agent.report("a-2", "undone")
    assert agent.report("a-2", "done")[0] == 409

    assert counted() == (2, 1, 1)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"id": "a b"}, "/id"),
        ({"id": ""}, "/id"),
        ({"target": 7}, "/target"),
        ({"parameters": []}, "/parameters"),
        ({"surprise": 1}, "/surprise"),
        ({"context": {"targetingKey": 7}}, "/context/targetingKey"),
        ({"run_id": "x" * 201}, "/run_id"),
    ],
)
def test_a_bad_request_is_a_problem_that_points_at_the_field(
    fields: dict[str, Any], pointer: str
) -> None:
    live()

    status, said = Agent().ask(**{"id": "a-1", **fields})

    assert (status, said["errors"][0]["pointer"]) == (400, pointer)
    assert not ActionRequest.objects.exists()


def test_where_a_share_needs_a_targeting_key_its_absence_is_said() -> None:
    rollout_at(RolloutState.LIVE)

    status, said = Agent().ask("a-1", context={"team": "internal"})

    assert (status, said["errors"][0]["pointer"]) == (400, "/context/targetingKey")


def test_workflows_may_use_the_same_id_and_then_say_whose_it_is() -> None:
    live()
    plan = plan_document("claims")
    plan_apply_and_publish(document=plan, text="", principal=SYSTEM, now=timezone.now())
    agent = Agent()
    agent.ask("a-1")
    assert agent.ask("a-1", workflow="claims")[0] == 200

    status, said = agent.read("a-1")
    assert (status, said["errors"][0]["pointer"]) == (400, "/workflow")
    assert agent.read("a-1?workflow=claims")[1]["workflow"] == "claims"
    assert agent.read("a-2")[0] == 404


def test_the_database_keeps_results_to_what_was_allowed() -> None:
    live("deny")
    Agent().ask("a-1")

    with pytest.raises(IntegrityError, match="action_result_of_allowed"):
        ActionRequest.objects.update(result="done")
