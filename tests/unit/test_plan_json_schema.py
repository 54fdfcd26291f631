"""The published schema and the reader agree: it refuses nothing that the reader takes."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rollout_console.demo.plans import PLANS
from rollout_console.rollouts.plan_json_schema import plan_json_schema
from rollout_console.rollouts.plan_schema import plan_read
from rollout_console.rollouts.plan_yaml import yaml_load
from tests.plans import plan_document

VALIDATOR = Draft202012Validator(plan_json_schema())


def whole() -> dict[str, Any]:
    """Return a plan in which every part of the format stands."""
    document = plan_document()
    path = document["workflow"]["paths"][0]
    path["limits"] |= {"slow_path_ms": 9000, "fallback_cost_per_task_usd": "0.4"}
    path["review"] = {"capacity_per_hour": 12, "points": ["refunds"]}
    path["fallbacks"] |= {
        "manual": {"when": {"risk": "high"}},
        "previous_stable": {},
        "simpler_route": {"route": "simple"},
        "reduced_context": {"settings": {"documents": 3, "context_tokens": 8000}},
        "read_only": {"when": {"confidence_below": 0.6}},
    }
    document["workflow"]["segments"][0]["people"] = 12
    document["workflow"]["action_routes"][0] |= {"undo_s": 60}
    document["releases"][0]["source"] = {"repository": "r", "commit": "c", "url": "u"}
    document["rollout"]["criteria"].append(
        {
            "slug": "as-stable",
            "path": "draft",
            "segment": "eu-customers",
            "signal": "quality_pass_rate",
            "compare": "stable",
            "margin": 0.02,
        }
    )
    document["rollout"]["triggers"][0]["response"] = {"kind": "alert"}
    document["rollout"]["triggers"][1]["response"] = {
        "kind": "contain_after_hold",
        "action": "fallback",
        "mode": "manual",
    }
    document["rollout"]["triggers"][2]["response"] = {
        "kind": "recommend",
        "action": "disable_action",
        "action_route": "send_message",
    }
    return document


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every part of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, ...]] = []
    for key, item in inner:
        found.append((*way, key))
        if isinstance(item, dict | list):
            found += places(item, (*way, key))
    return found


def changed(way: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(whole())
    part: Any = document
    for step in way[:-1]:
        part = part[step]
    if value is ...:
        del part[way[-1]]
    else:
        part[way[-1]] = value
    return document


WAYS = places(whole())

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([2**31, 1e7, 0.5, -0.5, 1.5, 60.0, 10**9]),
    st.text(max_size=3),
    st.sampled_from(
        ["", " ", "0.5", "5\n", "limit", "stable", "manual", "normal", "allow", "owner", "draft"]
    ),
    st.just([]),
    st.just({}),
    st.just({"x": 1}),
    st.just(["x"]),
    st.just(...),
)


def reader_takes(document: Any) -> bool:
    return plan_read(document)[0] is not None


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(plan_json_schema())


def test_plans_that_are_read_validate() -> None:
    for document in (whole(), plan_document(), plan_document(stable=None)):
        assert reader_takes(document)
        assert list(VALIDATOR.iter_errors(document)) == []
    for file in sorted(PLANS.glob("*.yaml")):
        assert list(VALIDATOR.iter_errors(yaml_load(file.read_text()).value)) == []


@settings(max_examples=400, deadline=None)
@given(way=st.sampled_from(WAYS), value=odd)
def test_what_the_schema_refuses_the_reader_refuses(way: tuple[Any, ...], value: Any) -> None:
    document = changed(way, value)
    if not VALIDATOR.is_valid(document):
        assert not reader_takes(document), (way, value)


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("version",), 2),
        (("workflow", "owner"), ...),
        (("workflow", "owner"), " "),
        (("workflow", "hold"), 60),
        (("workflow", "slug"), "with.dot"),
        (("workflow", "paths"), []),
        (("workflow", "paths", 0, "no_ai_mode"), "previous_stable"),
        (("workflow", "paths", 0, "fallbacks", "simpler_route"), {}),
        (("workflow", "paths", 0, "fallbacks", "manual", "when"), {}),
        (("workflow", "segments", 0, "rule"), {"equals": []}),
        (("workflow", "segments", 0, "kind"), "team"),
        (("workflow", "action_routes", 0, "risk"), "huge"),
        (("rollout", "stable"), ...),
        (("rollout", "stages", 0, "segments", 0, "share"), 1.5),
        (("rollout", "criteria", 0, "compare"), "hard_cap"),
        (("rollout", "criteria", 0, "limit"), ...),
        (("rollout", "criteria", 2, "limit"), 0.5),
        (("rollout", "triggers", 0, "signal"), "No such"),
        (("rollout", "triggers", 0, "response", "action"), "narrow"),
        (("rollout", "triggers", 1, "window_s"), 0),
    ],
)
def test_the_schema_finds_what_it_can(way: tuple[Any, ...], value: Any) -> None:
    document = changed(way, value)

    assert not VALIDATOR.is_valid(document)
    assert not reader_takes(document)


def test_every_part_of_the_format_is_in_the_schema() -> None:
    """A member that the reader knows and the schema does not would be refused by it alone."""
    names = {step for way in WAYS for step in way if isinstance(step, str)}
    told: set[str] = set()
    waiting: list[Any] = [plan_json_schema()]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            told |= set(part.get("properties", {}))
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    assert names - told == {"==", "var", "type"} & names
