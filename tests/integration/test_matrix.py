"""Every state-changing endpoint of the API by everybody who may not, from matrix and URL conf.

One test is one caller, who tries every cell of the table; each try is undone, so that the live
rollout is walked to its state once a caller and not once a cell.
"""

from typing import Any, Final

import pytest
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from approvals.authority.matrix import MATRIX, SERVICE_SCOPES, Role, Scope, Verb
from approvals.authority.principals import SYSTEM
from rollout_console.api import urls
from rollout_console.catalog.models import Person, Workflow
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.containment.policy import RULES
from rollout_console.rollouts.models import Rollout
from tests.factories import person, token
from tests.matrix import live, logged_in, undone, written
from tests.plans import plan_document

__all__ = ["live"]

SLUG: Final = "support-reply-2026.11.2"
REASON: Final = {"code": "precaution"}

# Route name → (method, arguments, [(verbs of which one is enough, body)]). A state-changing
# route that is missing here fails `test_every_writing_route_is_in_the_table`.
TABLE: Final[dict[str, tuple[str, dict[str, Any], list[tuple[tuple[Verb, ...], Any]]]]] = {
    "plan": (
        "put",
        {"workflow": "support-reply"},
        [((Verb.PLAN_EDIT,), plan_document())],
    ),
    "release": (
        "put",
        {"workflow": "support-reply", "version": "2026.12.1"},
        [((Verb.RELEASE_REGISTER,), {"changes": []})],
    ),
    "price_sheet": (
        "put",
        {},
        [((Verb.PRICES_EDIT,), {"models": {"gpt-4o": {"input": 2.5e-06, "output": 1e-05}}})],
    ),
    "otlp_mapping": (
        "put",
        {"workflow": "support-reply"},
        [((Verb.SPAN_MAPPING_EDIT,), {"drop_scopes": ["twice"]})],
    ),
    "signal": (
        "put",
        {"workflow": "support-reply", "slug": "answer-words"},
        [((Verb.PLAN_EDIT,), {"measure": "words", "kind": "mean", "better": "lower"})],
    ),
    "plan_change_decision": (
        "post",
        {"change_id": 1},
        [
            (
                (Verb.PLAN_CHANGE_APPROVE,),
                {"decision": "approve", "reason": "seen", "digest": "0" * 64},
            )
        ],
    ),
    "segment_match": (
        "post",
        {"workflow": "support-reply"},
        [((Verb.PLAN_EDIT,), {"segment": "internal-ops", "context": {"team": "internal"}})],
    ),
    "pull": (
        "put",
        {"workflow": "support-reply", "name": "queue-depth"},
        [
            (
                (Verb.PULL_MANAGE,),
                {"path": "draft", "base_url": "http://127.0.0.1:9", "query": "up"},
            )
        ],
    ),
    "ready": ("post", {"slug": SLUG}, [((Verb.ROLLOUT_READY,), {})]),
    "go_live": ("post", {"slug": SLUG}, [((Verb.GO_LIVE, Verb.GO_LIVE_CONFIRM), {})]),
    "complete": ("post", {"slug": SLUG}, [((Verb.COMPLETE, Verb.COMPLETE_CONFIRM), {})]),
    "abandon": ("post", {"slug": SLUG}, [((Verb.ABANDON,), {"findings": "noisy"})]),
    "containment": (
        "post",
        {"slug": SLUG},
        [
            (
                # What widens again takes two people: each of them may send it.
                (Verb(action), Verb.SECOND_PERSON) if rule.widens else (Verb(action),),
                {"action": action, "reason": REASON},
            )
            for action, rule in RULES.items()
        ],
    ),
    "expansion_ask": (
        "post",
        {"slug": SLUG},
        [((Verb.EXPANSION_REQUEST,), {}), ((Verb.EXPANSION_START,), {"break_glass": True})],
    ),
    "expansion_decide": (
        "post",
        {"request_id": 1},
        [
            ((Verb.EXPANSION_APPROVE,), {"decision": word, "reason": "looked", "digest": "0" * 64})
            for word in ("approve", "reject")
        ],
    ),
    "expansion_start": ("post", {"request_id": 1}, [((Verb.EXPANSION_START,), {})]),
    "expansion_review": ("post", {"request_id": 1}, [((Verb.EXPANSION_APPROVE,), {"note": "ok"})]),
    "actions": (
        "post",
        {},
        [
            (
                (Verb.ACT,),
                {
                    "id": "a-2",
                    "workflow": "support-reply",
                    "path": "draft",
                    "action": "send_message",
                    "target": "case 7",
                    "summary": "answer the customer",
                    "context": {"team": "internal", "targetingKey": "u1"},
                },
            )
        ],
    ),
    "action_result": ("post", {"request_id": "a-1"}, [((Verb.ACT,), {"status": "done"})]),
    **{
        f"inbound_{source}": (
            "post",
            {},
            [
                (
                    (Verb.ALERT_SEND,),
                    {
                        "alerts": [
                            {
                                "status": "firing",
                                "labels": {
                                    "alertname": "Slow",
                                    "rollout_workflow": "support-reply",
                                    "rollout_trigger": "slow",
                                },
                                "startsAt": "2026-11-24T12:00:00Z",
                                "fingerprint": "c6eadffa33fcdf37",
                            }
                        ]
                    },
                )
            ],
        )
        for source in ("alertmanager", "grafana")
    },
    "outside_alert_end": ("post", {"alert_id": 1}, [((Verb.ALERT_RESOLVE,), {"reason": "gone"})]),
    "inbound_mapping": (
        "put",
        {"workflow": "support-reply"},
        [((Verb.INBOUND_MAPPING_EDIT,), {"rules": [{"match": {"job": "x"}, "path": "draft"}]})],
    ),
    "subscriptions": (
        "post",
        {},
        [
            (
                (Verb.NOTIFICATIONS_MANAGE,),
                {
                    "workflow": "support-reply",
                    "name": "second",
                    "channel": "webhook",
                    "address": "http://127.0.0.1:9/hook",
                },
            )
        ],
    ),
    "subscription": (
        "put",
        {"subscription_id": 1},
        [((Verb.NOTIFICATIONS_MANAGE,), {"name": "renamed", "channel": "webhook"})],
    ),
    "subscription_test": ("post", {"subscription_id": 1}, [((Verb.NOTIFICATIONS_MANAGE,), {})]),
    "subscription_secret": ("post", {"subscription_id": 1}, [((Verb.NOTIFICATIONS_MANAGE,), {})]),
    "delivery_replay": ("post", {"delivery_id": 1}, [((Verb.NOTIFICATIONS_MANAGE,), {})]),
    "alert_ack": ("post", {"alert_id": 1}, [((Verb.ALERT_ACKNOWLEDGE,), {})]),
    "alert_hold": (
        "post",
        {"alert_id": 1},
        [((Verb.ALERT_HOLD,), {"until": "2100-01-01T00:00:00Z", "reason": "looking"})],
    ),
    "incident_ack": ("post", {"incident_id": 1}, [((Verb.ALERT_ACKNOWLEDGE,), {})]),
    "incident_reopen": (
        "post",
        {"incident_id": 2},
        [((Verb.ALERT_RESOLVE,), {"reason": "It goes on."})],
    ),
    "alert_resolve": (
        "post",
        {"alert_id": 1},
        [((Verb.ALERT_RESOLVE,), {"was_right": False, "note": ""})],
    ),
}

# What belongs to no one workflow that is there: refused, not hidden.
OF_NO_ONE: Final = {"plan", "price_sheet"}

# Posts that take a body to read with, and write nothing; their own tests say who may read.
ONLY_READ: Final = {"exposure_evaluate"}

CASES: Final = [
    (name, verbs, body) for name, (_, _, cases) in TABLE.items() for verbs, body in cases
]


def writing_routes() -> set[str]:
    """Return the names of routes whose view answers a method that changes something."""
    found = set()
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        view: Any = getattr(pattern.callback, "view_class", None)
        if view is not None and {"post", "put", "patch", "delete"} & set(dir(view)):
            found.add(str(pattern.name))
    return found


def test_every_writing_route_is_in_the_table() -> None:
    assert writing_routes() == set(TABLE) | ONLY_READ


def test_the_table_asks_for_every_verb_that_the_api_has() -> None:
    asked = {verb for _, _, cases in TABLE.values() for verbs, _ in cases for verb in verbs}
    later = {
        Verb.READ,
        Verb.IMPACT_PUBLISH,
        Verb.PEOPLE_MANAGE,
        Verb.TOKENS_MANAGE,
    }
    assert asked == set(Verb) - later


def send(client: Client, name: str, body: Any, **headers: str) -> Any:
    method, arguments, _ = TABLE[name]
    return getattr(client, method)(
        reverse(f"api:{name}", kwargs=arguments),
        body,
        content_type="application/json",
        headers={"Idempotency-Key": "k-1", **headers},
    )


@pytest.mark.parametrize("role", list(Role))
def test_a_role_that_may_not_is_refused_and_nothing_is_written(live: Rollout, role: Role) -> None:
    person(f"just-{role}", role)
    client = logged_in(f"just-{role}")
    before = written()

    for name, verbs, body in CASES:
        with undone():
            response = send(client, name, body)

            said = (name, verbs, response.content)
            if any(role in MATRIX[verb] for verb in verbs):
                assert response.status_code not in (401, 403, 404, 500), said
                continue
            assert response.status_code == 403, said
            assert response["Content-Type"] == "application/problem+json", said
            assert response.json()["who_can"], said
            assert written() == before, said


@pytest.mark.parametrize("scope", list(Scope))
def test_a_service_token_does_only_what_its_scope_says(live: Rollout, scope: Scope) -> None:
    secret, _ = token(scope)
    before = written()

    for name, verbs, body in CASES:
        with undone():
            response = send(Client(), name, body, Authorization=f"Bearer {secret}")

            said = (name, verbs, response.content)
            if any(SERVICE_SCOPES.get(verb) == scope for verb in verbs):
                assert response.status_code not in (401, 403, 404, 500), said
                continue
            # What may not even be known to exist is not found.
            assert response.status_code in (403, 404), said
            assert written() == before, said


@pytest.mark.parametrize("scope", list(Scope))
def test_a_token_of_another_workflow_reaches_nothing(live: Rollout, scope: Scope) -> None:
    plan_apply_and_publish(
        document=plan_document("claims"), text="", principal=SYSTEM, now=timezone.now()
    )
    secret, _ = token(scope, workflows=(Workflow.objects.get(slug="claims"),))
    before = written()

    for name, verbs, body in CASES:
        response = send(Client(), name, body, Authorization=f"Bearer {secret}")

        assert response.status_code == (403 if name in OF_NO_ONE else 404), (name, verbs)
    assert written() == before


def test_a_personal_token_is_limited_by_its_scopes(live: Rollout) -> None:
    secret, _ = token(Scope.READ, of=Person.objects.get(username="owner"))
    before = written()

    for name, verbs, body in CASES:
        response = send(Client(), name, body, Authorization=f"Bearer {secret}")

        assert response.status_code == 403, (name, verbs, response.content)
    assert written() == before


def test_nobody_without_a_name_changes_anything(live: Rollout) -> None:
    before = written()

    for name, verbs, body in CASES:
        for headers in ({}, {"Authorization": "Bearer rc_wrong"}, {"Authorization": "Bearer "}):
            response = send(Client(), name, body, **headers)

            assert response.status_code == 401, (name, verbs, headers)
            assert response["WWW-Authenticate"] == "Bearer"
            assert response.json()["type"] == "/problems/unauthenticated"
    assert written() == before


def test_an_outsider_is_not_told_what_is_there(live: Rollout) -> None:
    client = logged_in("outsider")
    before = written()

    for name, verbs, body in CASES:
        response = send(client, name, body)

        assert response.status_code == (403 if name in OF_NO_ONE else 404), (name, verbs)
    assert written() == before


def test_a_log_in_without_its_csrf_token_changes_nothing(live: Rollout) -> None:
    client = logged_in("owner", enforce_csrf_checks=True)
    before = written()

    for name, verbs, body in CASES:
        response = send(client, name, body)

        assert response.status_code == 403, (name, verbs)
        assert "CSRF" in response.json()["detail"]
    assert written() == before
