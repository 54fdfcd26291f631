"""Every segment kind and mode, from the plan over the API to what an OpenFeature client gets."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml

from approvals.authority.matrix import Scope
from rollout_console.catalog.models import Person
from tests.client import Workflow
from tests.factories import people, token
from tests.live import Console, console
from tests.plans import plan_document

__all__ = ["console"]

# Kind → a rule over the context, somebody in it, somebody outside.
KINDS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "internal_team": (
        {"==": [{"var": "team"}, "internal"]},
        {"team": "internal"},
        {"team": "customer"},
    ),
    "customer_segment": (
        {"in": [{"var": "customer_segment"}, ["eu", "uk"]]},
        {"customer_segment": "uk"},
        {"customer_segment": "us"},
    ),
    "workflow_path": (
        {"==": [{"var": "kind_of_work"}, "refund"]},
        {"kind_of_work": "refund"},
        {"kind_of_work": "exchange"},
    ),
    "account_group": (
        {"and": [{"==": [{"var": "account_group"}, "clean-data"]}, {"!": {"var": "vip"}}]},
        {"account_group": "clean-data"},
        {"account_group": "clean-data", "vip": True},
    ),
    "user_role": (
        {"starts_with": [{"var": "role"}, "support"]},
        {"role": "support-agent"},
        {"role": "finance"},
    ),
    "traffic_slice": (
        {"<": [{"%": [{"var": "hour"}, 4]}, 1]},
        {"hour": 8},
        {"hour": 9},
    ),
}
FALLBACKS: dict[str, dict[str, Any]] = {
    "simpler_route": {"route": "simple"},
    "reduced_context": {"settings": {"documents": 3}},
    "previous_stable": {},
    "read_only": {"when": {"confidence_below": 0.6}},
    "human_review": {"when": {"input_condition": "ambiguous"}},
    "manual": {"when": {"risk": "high"}},
}
ROUTES = {"look_up": ("read", "allow"), "send_message": ("write", "ask")}
# What api.md's table says for a candidate: release, route, settings, actions.
EXPECTED: dict[str, tuple[str | None, str | None, dict[str, Any], dict[str, str]]] = {
    "normal": ("2026.11.2", None, {}, {"look_up": "allow", "send_message": "ask"}),
    "simpler_route": ("2026.11.2", "simple", {}, {"look_up": "allow", "send_message": "ask"}),
    "reduced_context": (
        "2026.11.2",
        None,
        {"documents": 3},
        {"look_up": "allow", "send_message": "ask"},
    ),
    "previous_stable": ("2026.10.4", None, {}, {"look_up": "allow", "send_message": "ask"}),
    "read_only": ("2026.11.2", None, {}, {"look_up": "allow", "send_message": "deny"}),
    "human_review": ("2026.11.2", None, {}, {"look_up": "ask", "send_message": "ask"}),
    "manual": (None, None, {}, {"look_up": "deny", "send_message": "deny"}),
}


def plan(workflow: str, kind: str) -> dict[str, Any]:
    rule = KINDS[kind][0]
    document = plan_document(workflow)
    part = document["workflow"]
    part["paths"][0]["fallbacks"] = FALLBACKS
    some = {**part["segments"][0], "slug": "some", "kind": kind, "rule": rule}
    # Beside it almost all of the path's tasks: a first stage is small.
    rest = {**part["segments"][1], "slug": "rest", "tasks_per_day": 90_000}
    part["segments"] = [some, rest]
    (route,) = part["action_routes"]
    part["action_routes"] = [
        {**route, "slug": slug, "effect": effect, "default": state}
        for slug, (effect, state) in ROUTES.items()
    ]
    stage = document["rollout"]["stages"][0]
    document["rollout"]["stages"] = [{**stage, "segments": [{"segment": "some", "share": 1}]}]
    return document


@pytest.fixture
def send(console: Console) -> Callable[..., Any]:
    """Send as a pipeline, or as a person by a personal token; answer the body of a success."""
    people()
    secrets = {"pipeline": token(Scope.RELEASE)[0], "robot": token(Scope.READ, Scope.CONTROL)[0]}
    for name in ("owner", "approver"):
        secrets[name] = token(*Scope, of=Person.objects.get(username=name))[0]

    def call(who: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        reply = console.send(
            method, f"/api/v1{path}", body=body, token=secrets[who], headers=headers
        )
        assert reply.status in (200, 201, 202), (path, reply.status, reply.body)
        return reply.json

    return call


def go_live(send: Callable[..., Any], workflow: str, kind: str) -> str:
    text = yaml.safe_dump(plan(workflow, kind), sort_keys=False).encode()
    # A new workflow is for somebody who may edit every plan.
    send("pipeline", "PUT", f"/plans/{workflow}", text, **{"Content-Type": "application/yaml"})
    rollout = f"{workflow}-2026.11.2"
    send("pipeline", "POST", f"/rollouts/{rollout}/ready", {})
    send("owner", "POST", f"/rollouts/{rollout}/go-live", {})
    assert send("approver", "POST", f"/rollouts/{rollout}/go-live", {})["state"] == "live"
    return rollout


def contain(send: Callable[..., Any], rollout: str, who: str, **said: Any) -> Any:
    body = {"reason": {"code": "precaution"}, **said}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return send(who, "POST", f"/rollouts/{rollout}/containment", body, **headers)


@pytest.mark.django_db(transaction=True)
def test_each_kind_of_segment_exposes_who_is_in_it(
    console: Console,
    send: Callable[..., Any],
) -> None:
    workflow = Workflow(console.url, token(Scope.EVALUATE)[0], domain="modes")
    for kind, (_, inside, outside) in KINDS.items():
        slug = kind.replace("_", "-")
        rollout = go_live(send, slug, kind)
        console.wait_until(
            lambda: workflow.ask(slug, **inside).get("arm") == "candidate",  # noqa: B023
            what=f"{kind} to be exposed",
        )
        assert workflow.ask(slug, **inside)["segment"] == "some"
        assert workflow.ask(slug, **outside)["arm"] == "stable", kind
        contain(send, rollout, "robot", action="rollback")
        console.wait_until(
            lambda: workflow.ask(slug, **inside).get("arm") == "stable",  # noqa: B023
            what=f"{kind} to be rolled back",
        )


@pytest.mark.django_db(transaction=True)
def test_each_mode_reaches_the_client_as_the_contract_says(
    console: Console,
    send: Callable[..., Any],
) -> None:
    workflow = Workflow(console.url, token(Scope.EVALUATE)[0], domain="modes")
    rollout = go_live(send, "modes", "internal_team")
    rules = [
        {"when": {"risk": "high"}, "mode": "manual"},
        {"when": {"input_condition": "ambiguous"}, "mode": "human_review"},
        {"when": {"confidence_below": 0.6}, "mode": "read_only"},
    ]

    def shown(value: Mapping[str, Any]) -> tuple[Any, Any]:
        return value.get("arm"), value.get("mode")

    def served(mode: str) -> None:
        console.wait_until(
            lambda: shown(workflow.ask("modes", team="internal")) == ("candidate", mode),
            what=f"{mode} to be served",
        )
        value = workflow.ask("modes", team="internal")
        got = (value["release"], value["route"], dict(value["settings"]), dict(value["actions"]))
        assert (mode, *got) == (mode, *EXPECTED[mode])
        assert value["arm"] == "candidate"
        assert [dict(rule) for rule in value["rules"]] == rules
        # Who is not exposed notices nothing.
        assert workflow.ask("modes", team="other")["release"] == "2026.10.4"

    served("normal")
    for mode in FALLBACKS:
        told = contain(send, rollout, "robot", action="fallback", mode=mode)
        served(mode)
        assert send("owner", "GET", f"/rollouts/{rollout}")["modes"] == {"draft": mode}
        contain(send, rollout, "owner", action="clear_fallback", expected_version=told["version"])
        served("normal")
