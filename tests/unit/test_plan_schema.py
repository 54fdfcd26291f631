import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_console.catalog import models as catalog
from rollout_console.rollouts import plan_schema
from rollout_console.rollouts.plan_guards import COMPARES, SEVERITIES
from rollout_console.rollouts.plan_schema import plan_read
from signals.guards.models import Compare, Severity
from tests.plans import plan_document


def faults(document: Any) -> list[tuple[str, str]]:
    plan, found = plan_read(document)
    assert (plan is None) == bool(found)
    return [(fault.pointer, fault.detail) for fault in found]


def changed(where: str, value: Any) -> dict[str, Any]:
    """Return the test plan with the value at a slash path set, or taken out with `...`."""
    document = plan_document()
    *way, last = where.split("/")
    part: Any = document
    for step in way:
        part = part[int(step) if isinstance(part, list) else step]
    key: Any = int(last) if isinstance(part, list) else last
    if value is ...:
        del part[key]
    else:
        part[key] = value
    return document


def test_a_whole_plan_is_read() -> None:
    plan, found = plan_read(plan_document())

    assert found == []
    assert plan is not None
    assert plan.rollout is not None
    assert plan.rollout.stages[1].segments == [
        ("internal-ops", Decimal("1.0")),
        ("eu-customers", Decimal("0.05")),
    ]
    assert [guard.slug for guard in plan.rollout.guards] == [
        "cost-inside",
        "quality-holds",
        "quality-low",
        "slow",
        "spend-cap",
    ]
    assert plan.people["/workflow/segments/1/owner"] == "owner"


def test_words_are_those_of_the_models() -> None:
    assert list(plan_schema.MODES) == catalog.Mode.values
    assert list(plan_schema.COMPONENTS) == catalog.Component.values
    assert list(plan_schema.KINDS) == catalog.SegmentKind.values
    assert list(COMPARES) == Compare.values
    assert list(SEVERITIES) == Severity.values


@pytest.mark.parametrize(
    ("where", "value", "pointer", "words"),
    [
        ("version", 2, "/version", "must be 1"),
        ("version", True, "/version", "must be 1"),
        ("surplus", 1, "/surplus", "has no “surplus”"),
        ("workflow/slug", "a.b", "/workflow/slug", "no dot"),
        ("workflow/slug", "Å", "/workflow/slug", "lower-case"),
        ("workflow/owner", ..., "/workflow/owner", "needs “owner”"),
        ("workflow/ownr", "x", "/workflow/ownr", "did you mean “owner”?"),
        ("workflow/discovery", "yes", "/workflow/discovery", "true or false"),
        ("workflow/hold_s", 121, "/workflow/hold_s", "at most 120"),
        ("workflow/hold_s", 1.5, "/workflow/hold_s", "whole number"),
        ("workflow/paths", [], "/workflow/paths", "1 to 100"),
        ("workflow/paths/0/slug", "a.b", "/workflow/paths/0/slug", "no dot"),
        (
            "workflow/paths/0/no_ai_mode",
            "previous_stable",
            "/workflow/paths/0/no_ai_mode",
            "Only “manual”",
        ),
        (
            "workflow/paths/0/unreachable_mode",
            "manul",
            "/workflow/paths/0/unreachable_mode",
            "did you mean “manual”?",
        ),
        (
            "workflow/paths/0/limits/latency_p95_ms",
            0,
            "/workflow/paths/0/limits/latency_p95_ms",
            "more than 0",
        ),
        (
            "workflow/paths/0/limits/cost_per_task_usd",
            "1000000.01",
            "/workflow/paths/0/limits/cost_per_task_usd",
            "at most 1",
        ),
        (
            "workflow/paths/0/fallbacks/human_review",
            {"when": {"confidence_below": 1.5}},
            "/workflow/paths/0/fallbacks/human_review/when/confidence_below",
            "at most 1",
        ),
        (
            "workflow/paths/0/fallbacks/simpler_route",
            {},
            "/workflow/paths/0/fallbacks/simpler_route/route",
            "route",
        ),
        (
            "workflow/segments/0/rule",
            {"foo": []},
            "/workflow/segments/0/rule/foo",
            "no operator “foo”",
        ),
        (
            "workflow/segments/0/rule",
            {"fractional": []},
            "/workflow/segments/0/rule/fractional",
            "no operator",
        ),
        (
            "workflow/segments/0/rule",
            {"==": [1]},
            "/workflow/segments/0/rule/==",
            "takes 2 values, not 1",
        ),
        ("workflow/segments/0/rule", "all", "/workflow/segments/0/rule", "is an operator"),
        ("workflow/segments/0/rule", ..., "/workflow/segments/0/rule", "needs a “rule”"),
        ("workflow/segments/1/slug", "internal-ops", "/workflow/segments/1/slug", "stands twice"),
        ("workflow/action_routes/0/risk", ..., "/workflow/action_routes/0/risk", "needs “risk”"),
        ("releases/0/version", 2026.1, "/releases/0/version", "put it in quotes"),
        (
            "releases/0/changes/0/component",
            "prompts",
            "/releases/0/changes/0/component",
            "did you mean “prompt”?",
        ),
        ("rollout/candidate", "a b", "/rollout/candidate", "does not fit"),
        ("rollout/candidate", "2026.10.4", "/rollout/stable", "cannot be the stable"),
        ("rollout/stable", ..., "/rollout/stable", "or null for a first release"),
        ("rollout/paths", ["drft"], "/rollout/paths/0", "no path “drft”"),
        ("rollout/stages", [], "/rollout/stages", "1 to 50"),
        (
            "rollout/stages/0/segments/0/share",
            0,
            "/rollout/stages/0/segments/0/share",
            "more than 0",
        ),
        (
            "rollout/stages/0/segments/0/share",
            1.01,
            "/rollout/stages/0/segments/0/share",
            "at most 1",
        ),
        (
            "rollout/stages/0/segments/0/share",
            0.0000011,
            "/rollout/stages/0/segments/0/share",
            "5 digits",
        ),
        (
            "rollout/stages/1/segments/0/share",
            0.5,
            "/rollout/stages/1/segments",
            "“internal-ops” had 0.9, and has 0.5",
        ),
        ("rollout/stages/0/bake_s", 0, "/rollout/stages/0/bake_s", "from 1"),
        ("rollout/criteria/0/compare", "hard_cap", "/rollout/criteria/0/compare", "not known"),
        ("rollout/criteria/0/limit", ..., "/rollout/criteria/0/limit", "needs a “limit”"),
        ("rollout/triggers/0/limit", 90, "/rollout/triggers/0/limit", "at most 1"),
        ("rollout/triggers/0/window_s", 0, "/rollout/triggers/0/window_s", "from 1"),
        (
            "rollout/triggers/0/signal",
            "quality_passrate",
            "/rollout/triggers/0/signal",
            "did you mean “quality_pass_rate”",
        ),
        (
            "rollout/triggers/0/response",
            {"kind": "contain", "action": "fallback", "mode": "reduced_context"},
            "/rollout/triggers/0/response/mode",
            "declares no fallback “reduced_context”",
        ),
        (
            "rollout/triggers/0/response",
            {"kind": "contain", "action": "resume"},
            "/rollout/triggers/0/response/action",
            "not known",
        ),
        (
            "rollout/triggers/0/response",
            {"kind": "alert", "action": "pause"},
            "/rollout/triggers/0/response/action",
            "only tells people",
        ),
    ],
)
def test_one_fault_is_named_where_it_stands(
    where: str, value: Any, pointer: str, words: str
) -> None:
    found = faults(changed(where, value))

    # What refers to the faulty part may follow, and nothing comes before it.
    assert found[0][0] == pointer
    assert words in found[0][1]
    assert not [each for each, _ in found[1:] if not each.startswith("/rollout")]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("rollout/stable", None),
        ("workflow/paths/0/limits/cost_per_task_usd", "0.085"),
        ("workflow/segments/0/rule", True),
        ("workflow/segments/0/rule", {"and": [{"in": ["x", {"var": ["role", ""]}]}, True]}),
        ("rollout/triggers/0/response", ...),
        ("rollout/paths", ...),
        ("rollout", ...),
        ("releases", ...),
    ],
)
def test_what_may_be_left_out_or_said_otherwise(where: str, value: Any) -> None:
    assert faults(changed(where, value)) == []


def test_a_contain_after_hold_narrows_unless_said() -> None:
    plan, _ = plan_read(changed("rollout/triggers/0/response", {"kind": "contain_after_hold"}))

    assert plan is not None
    assert plan.rollout is not None
    assert plan.rollout.guards[2].response == {"kind": "contain_after_hold", "action": "narrow"}


def test_a_deep_rule_is_refused_and_not_followed() -> None:
    rule: Any = {"var": "team"}
    for _ in range(5_000):
        rule = {"!": [rule]}

    ((pointer, words),) = faults(changed("workflow/segments/0/rule", rule))

    assert pointer.startswith("/workflow/segments/0/rule/!")
    assert "at most 12 levels" in words


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["slug", "rule", "paths", "segments", "when", "x"]), inner
        )
    ),
    max_leaves=12,
)


def places(part: Any, found: list[tuple[Any, Any]]) -> None:
    items = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in items:
        found.append((part, key))
        if isinstance(value, dict | list):
            places(value, found)


@settings(max_examples=300, deadline=None)
@given(place=st.integers(min_value=0), value=json_values)
def test_no_value_anywhere_breaks_the_reader(place: int, value: Any) -> None:
    document = copy.deepcopy(plan_document())
    found: list[tuple[Any, Any]] = []
    places(document, found)
    part, key = found[place % len(found)]
    part[key] = value

    plan, errors = plan_read(document)

    assert (plan is None) == bool(errors)
    assert all(error.detail for error in errors)
