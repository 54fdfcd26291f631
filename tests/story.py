"""What a stack needs before anything can happen on it, made through its public doors."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from tests.plans import plan_document
from tests.stack import Stack

PASSWORD = "a-long-test-password"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A live rollout and the tokens to work on it."""

    rollout: str
    ingest: str
    evaluate: str
    owner: str


def prepare(
    stack: Stack,
    *,
    workflow: str = "support-reply",
    overrides: dict[str, Any] | None = None,
    **rollout: Any,
) -> Prepared:
    """Make people, a plan and tokens by command line, and go live over the API as two people.

    `overrides` go over the plan part by part; lists item by item.
    """
    for name, role in (("owner", "owner"), ("deputy", "deputy"), ("approver", "approver")):
        if workflow == "support-reply":
            stack.manage(
                *("user", "create", name, "--role", role, "--password-stdin"), given=PASSWORD
            )
    document = _over(plan_document(workflow, **rollout), overrides or {})
    plan = stack.local / f"{workflow}.yaml"
    plan.write_text(yaml.safe_dump(document, sort_keys=False))
    stack.manage("plan", "apply", str(plan))
    slug = document["rollout"]["slug"]
    owner = _token(stack, "release", "control", "read", person="owner")
    approver = _token(stack, "control", "read", person="approver")
    for step, token in (("ready", owner), ("go-live", owner), ("go-live", approver)):
        status, body = stack.call("POST", f"/api/v1/rollouts/{slug}/{step}", token=token, body={})
        assert status in (200, 202), (step, status, body)
    return Prepared(
        rollout=slug,
        ingest=_token(stack, "ingest"),
        evaluate=_token(stack, "evaluate"),
        owner=owner,
    )


def _over(base: Any, top: Any) -> Any:
    if isinstance(base, dict) and isinstance(top, dict):
        return {**base, **{key: _over(base.get(key), value) for key, value in top.items()}}
    if isinstance(base, list) and isinstance(top, list):
        return [*(_over(a, b) for a, b in zip(base, top, strict=False)), *base[len(top) :]]
    return top


def run_item(workflow: str = "support-reply", **fields: Any) -> dict[str, Any]:
    """Return a good run of the candidate, as an internal team's workflow reports it."""
    return {
        "id": uuid.uuid4().hex,
        "occurred_at": datetime.now(UTC).isoformat(),
        "workflow": workflow,
        "path": "draft",
        "release": "2026.11.2",
        "segment": "internal-ops",
        "outcome": "ok",
        "latency_ms": 1200,
        "cost_usd": 0.02,
        "quality": {"passed": True},
        **fields,
    }


def _token(stack: Stack, *scopes: str, person: str = "") -> str:
    named = ["--person", person] if person else []
    flags = [flag for scope in scopes for flag in ("--scope", scope)]
    return stack.manage("token", "create", f"t-{uuid.uuid4().hex[:10]}", *flags, *named)
