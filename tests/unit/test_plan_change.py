"""Each kind of change under a rollout in force: tighter, looser, or never."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from rollout_console.rollouts.plan_change import Direction, Standing, plan_changes
from rollout_console.rollouts.plan_diff import diff_pointer
from rollout_console.rollouts.plan_schema import plan_read
from rollout_console.rollouts.plan_types import Plan
from tests.plans import plan_document

Edit = Callable[[dict[str, Any]], object]


def base() -> dict[str, Any]:
    """Return a plan with something of every kind to change."""
    document = plan_document()
    path = document["workflow"]["paths"][0]
    path["review"] = {"capacity_per_hour": 12, "points": ["refunds"]}
    path["fallbacks"] |= {
        "manual": {"when": {"risk": "high"}},
        "previous_stable": {},
        "simpler_route": {"route": "simple"},
        "reduced_context": {"settings": {"documents": 3}},
        "read_only": {"when": {"confidence_below": 0.6}},
    }
    route = document["workflow"]["action_routes"][0]
    route |= {"risk": "medium", "undo_s": 60}
    rollout = document["rollout"]
    rollout["criteria"].append(
        {
            "slug": "as-stable",
            "path": "draft",
            "signal": "quality_pass_rate",
            "compare": "stable",
            "margin": 0.02,
        }
    )
    rollout["triggers"][1]["response"] = {
        "kind": "contain_after_hold",
        "action": "fallback",
        "mode": "previous_stable",
    }
    for position, share in ((1, 0.1), (2, 0.5)):
        stage = copy.deepcopy(rollout["stages"][1])
        stage["slug"] = f"eu-{position}"
        stage["segments"][1]["share"] = share
        rollout["stages"].append(stage)
    return document


def read(document: dict[str, Any]) -> Plan:
    plan, faults = plan_read(document)
    assert plan is not None, faults
    return plan


def changed(edit: Edit, *, reached: int = 1) -> list[tuple[str, str]]:
    before, document = read(base()), base()
    edit(document)
    assert before.rollout is not None
    standing = Standing(before.rollout.slug, reached, before.rollout)
    found = plan_changes(before, read(document), [standing])
    assert all(change.sentence for change in found)
    return [(change.direction.value, change.where) for change in found]


def at(document: dict[str, Any], *keys: str | int) -> Any:
    for key in keys:
        document = document[key]  # type: ignore[index]  # lists and maps alike
    return document


def put(*keys: Any) -> Edit:
    """Return an edit that puts the last argument at the place of the others."""
    *way, key, value = keys

    def edit(document: dict[str, Any]) -> None:
        at(document, *way)[key] = value

    return edit


def drop(*keys: str | int) -> Edit:
    *way, key = keys

    def edit(document: dict[str, Any]) -> None:
        del at(document, *way)[key]

    return edit


def add(*keys: Any) -> Edit:
    *way, value = keys
    return lambda document: at(document, *way).append(value)


W, R = "workflow", "rollout"
PATH = (W, "paths", 0)
ROUTE = (W, "action_routes", 0)
SLOW = (R, "triggers", 1)
STAGE = {"slug": "last", "segments": [{"segment": "internal-ops", "share": 1.0}], "bake_s": 60}
STAGE["segments"].append({"segment": "eu-customers", "share": 1.0})  # type: ignore[attr-defined]
BETWEEN = {**STAGE, "slug": "between"}
BETWEEN["segments"] = [
    {"segment": "internal-ops", "share": 1.0},
    {"segment": "eu-customers", "share": 0.2},
]
TRIGGER = {
    "slug": "errors",
    "path": "draft",
    "signal": "error_rate",
    "compare": "limit",
    "limit": 0.1,
}
NARROW = {"kind": "contain_after_hold", "action": "narrow"}

TIGHTER: dict[str, tuple[Edit, str]] = {
    "shorter hold": (put(W, "hold_s", 30), "workflow.hold_s"),
    "lower limit": (
        put(*PATH, "limits", "latency_p95_ms", 5000),
        "workflow.paths[draft].limits.latency_p95_ms",
    ),
    "added limit": (
        put(*PATH, "limits", "slow_path_ms", 9000),
        "workflow.paths[draft].limits.slow_path_ms",
    ),
    "sensitive": (
        put(*PATH, "sensitivity", "sensitive"),
        "workflow.paths[draft].sensitivity",
    ),
    "manual when unreachable": (
        put(*PATH, "unreachable_mode", "manual"),
        "workflow.paths[draft].unreachable_mode",
    ),
    "smaller review capacity": (
        put(*PATH, "review", "capacity_per_hour", 10),
        "workflow.paths[draft].review.capacity_per_hour",
    ),
    "added review point": (
        add(*PATH, "review", "points", "discounts"),
        "workflow.paths[draft].review.points",
    ),
    "wider condition": (
        put(*PATH, "fallbacks", "read_only", "when", "confidence_below", 0.7),
        "workflow.paths[draft].fallbacks.read_only",
    ),
    "no condition left out": (
        put(*PATH, "fallbacks", "previous_stable", {"when": {"risk": "high"}}),
        "workflow.paths[draft].fallbacks.previous_stable",
    ),
    "fewer documents": (
        put(*PATH, "fallbacks", "reduced_context", "settings", "documents", 2),
        "workflow.paths[draft].fallbacks.reduced_context",
    ),
    "route denied": (
        put(*ROUTE, "default", "deny"),
        "workflow.action_routes[send_message].default",
    ),
    "route riskier": (put(*ROUTE, "risk", "high"), "workflow.action_routes[send_message].risk"),
    "route scope smaller": (
        put(*ROUTE, "scope", "per_hour", 20),
        "workflow.action_routes[send_message].scope.per_hour",
    ),
    "route scope added": (
        put(*ROUTE, "scope", "per_subject_per_day", 2),
        "workflow.action_routes[send_message].scope.per_subject_per_day",
    ),
    "route removed": (drop(*ROUTE), "workflow.action_routes[send_message]"),
    "smaller share ahead": (
        put(R, "stages", 1, "segments", 1, "share", 0.02),
        "rollout.stages[eu].segments[eu-customers].share",
    ),
    "top of the ladder removed": (drop(R, "stages", 3), "rollout.stages[eu-2]"),
    "finer ladder": (
        lambda document: document[R]["stages"].insert(3, BETWEEN),
        "rollout.stages[between]",
    ),
    "longer bake": (put(R, "stages", 0, "bake_s", 120), "rollout.stages[first].bake_s"),
    "more runs": (put(R, "stages", 1, "min_runs", 500), "rollout.stages[eu].min_runs"),
    "added trigger": (add(R, "triggers", TRIGGER), "rollout.triggers[errors]"),
    "added criterion": (add(R, "criteria", TRIGGER), "rollout.criteria[errors]"),
    "lower trigger limit": (put(*SLOW, "limit", 5000), "rollout.triggers[slow].limit"),
    "higher quality limit": (
        put(R, "triggers", 0, "limit", 0.9),
        "rollout.triggers[quality-low].limit",
    ),
    "smaller margin": (put(R, "criteria", 2, "margin", 0.01), "rollout.criteria[as-stable].margin"),
    "trigger needs fewer": (put(*SLOW, "min_n", 10), "rollout.triggers[slow].min_n"),
    "criterion needs more": (
        put(R, "criteria", 0, "min_n", 100),
        "rollout.criteria[cost-inside].min_n",
    ),
    "graver": (put(*SLOW, "severity", "critical"), "rollout.triggers[slow].severity"),
    "contains at once": (
        put(*SLOW, "response", "kind", "contain"),
        "rollout.triggers[slow].response",
    ),
    "safer mode": (put(*SLOW, "response", "mode", "manual"), "rollout.triggers[slow].response"),
    "rolls back instead": (
        put(*SLOW, "response", {"kind": "contain", "action": "rollback"}),
        "rollout.triggers[slow].response",
    ),
}

LOOSER: dict[str, tuple[Edit, str]] = {
    "longer hold": (put(W, "hold_s", 90), "workflow.hold_s"),
    "told later": (
        put(W, "escalation", 0, "after_s", 600),
        "workflow.escalation",
    ),
    "told no longer": (put(W, "escalation", []), "workflow.escalation"),
    "higher limit": (
        put(*PATH, "limits", "latency_p95_ms", 9000),
        "workflow.paths[draft].limits.latency_p95_ms",
    ),
    "limit gone": (
        drop(*PATH, "limits", "cost_per_task_usd"),
        "workflow.paths[draft].limits.cost_per_task_usd",
    ),
    "normal when unreachable": (
        put(*PATH, "unreachable_mode", "normal"),
        "workflow.paths[draft].unreachable_mode",
    ),
    "another mode of the same rank": (
        put(*PATH, "unreachable_mode", "read_only"),
        "workflow.paths[draft].unreachable_mode",
    ),
    "larger review capacity": (
        put(*PATH, "review", "capacity_per_hour", 24),
        "workflow.paths[draft].review.capacity_per_hour",
    ),
    "review point gone": (
        put(*PATH, "review", "points", []),
        "workflow.paths[draft].review.points",
    ),
    "fallback gone": (
        drop(*PATH, "fallbacks", "manual"),
        "workflow.paths[draft].fallbacks.manual",
    ),
    "narrower condition": (
        put(*PATH, "fallbacks", "manual", "when", "input_condition", "messy"),
        "workflow.paths[draft].fallbacks.manual",
    ),
    "condition gone": (
        put(*PATH, "fallbacks", "manual", {}),
        "workflow.paths[draft].fallbacks.manual",
    ),
    "lower confidence": (
        put(*PATH, "fallbacks", "read_only", "when", "confidence_below", 0.5),
        "workflow.paths[draft].fallbacks.read_only",
    ),
    "more documents": (
        put(*PATH, "fallbacks", "reduced_context", "settings", "documents", 9),
        "workflow.paths[draft].fallbacks.reduced_context",
    ),
    "another route": (
        put(*PATH, "fallbacks", "simpler_route", "route", "other"),
        "workflow.paths[draft].fallbacks.simpler_route",
    ),
    "rule ahead": (
        put(W, "segments", 1, "rule", True),
        "workflow.segments[eu-customers].rule",
    ),
    "route allowed": (
        put(*ROUTE, "default", "allow"),
        "workflow.action_routes[send_message].default",
    ),
    "route less risky": (put(*ROUTE, "risk", "low"), "workflow.action_routes[send_message].risk"),
    "route reads": (put(*ROUTE, "effect", "read"), "workflow.action_routes[send_message].effect"),
    "route longer to undo": (
        put(*ROUTE, "undo_s", 90),
        "workflow.action_routes[send_message].undo_s",
    ),
    "route role": (put(*ROUTE, "role", "viewer"), "workflow.action_routes[send_message].role"),
    "route more an hour": (
        put(*ROUTE, "scope", "per_hour", 80),
        "workflow.action_routes[send_message].scope.per_hour",
    ),
    "route objects": (
        add(*ROUTE, "scope", "objects", "letter"),
        "workflow.action_routes[send_message].scope.objects",
    ),
    "route any objects": (
        drop(*ROUTE, "scope", "objects"),
        "workflow.action_routes[send_message].scope.objects",
    ),
    "route added": (
        add(W, "action_routes", {"slug": "pay", "risk": "high", "reversibility": "irreversible"}),
        "workflow.action_routes[pay]",
    ),
    "larger share ahead": (
        put(R, "stages", 1, "segments", 1, "share", 0.09),
        "rollout.stages[eu].segments[eu-customers].share",
    ),
    "steeper ladder": (drop(R, "stages", 1), "rollout.stages[eu]"),
    "longer ladder": (add(R, "stages", STAGE), "rollout.stages[last]"),
    "shorter bake": (put(R, "stages", 0, "bake_s", 30), "rollout.stages[first].bake_s"),
    "fewer runs": (put(R, "stages", 1, "min_runs", 5), "rollout.stages[eu].min_runs"),
    "trigger gone": (drop(R, "triggers", 2), "rollout.triggers[spend-cap]"),
    "criterion gone": (drop(R, "criteria", 0), "rollout.criteria[cost-inside]"),
    "higher trigger limit": (put(*SLOW, "limit", 7000), "rollout.triggers[slow].limit"),
    "lower quality limit": (
        put(R, "triggers", 0, "limit", 0.8),
        "rollout.triggers[quality-low].limit",
    ),
    "larger margin": (put(R, "criteria", 2, "margin", 0.05), "rollout.criteria[as-stable].margin"),
    "other window": (put(*SLOW, "window_s", 10), "rollout.triggers[slow].window_s"),
    "trigger needs more": (put(*SLOW, "min_n", 100), "rollout.triggers[slow].min_n"),
    "criterion needs fewer": (
        put(R, "criteria", 0, "min_n", 5),
        "rollout.criteria[cost-inside].min_n",
    ),
    "less grave": (put(*SLOW, "severity", "low"), "rollout.triggers[slow].severity"),
    "one segment only": (put(*SLOW, "segment", "internal-ops"), "rollout.triggers[slow].segment"),
    "only recommends": (
        put(*SLOW, "response", "kind", "recommend"),
        "rollout.triggers[slow].response",
    ),
    "only tells": (put(*SLOW, "response", {"kind": "alert"}), "rollout.triggers[slow].response"),
    "less safe mode": (
        put(*SLOW, "response", "mode", "simpler_route"),
        "rollout.triggers[slow].response",
    ),
    "another action": (put(*SLOW, "response", NARROW), "rollout.triggers[slow].response"),
}


@pytest.mark.parametrize("name", TIGHTER)
def test_what_tightens(name: str) -> None:
    edit, where = TIGHTER[name]
    assert changed(edit) == [(Direction.TIGHTER, where)]


@pytest.mark.parametrize("name", LOOSER)
def test_what_loosens(name: str) -> None:
    edit, where = LOOSER[name]
    assert changed(edit) == [(Direction.LOOSER, where)]


def _path_renamed(document: dict[str, Any]) -> None:
    document[W]["paths"][0]["slug"] = "write"
    document[R]["paths"] = ["write"]
    for guard in [*document[R]["criteria"], *document[R]["triggers"]]:
        guard["path"] = "write"


REFUSED: dict[str, tuple[Edit, list[str]]] = {
    "candidate": (put(R, "candidate", "2026.12.1"), ["rollout.candidate"]),
    "stable": (put(R, "stable", "2026.9.1"), ["rollout.stable"]),
    "share reached": (
        put(R, "stages", 0, "segments", 0, "share", 0.5),
        ["rollout.stages[first]"],
    ),
    "stage reached": (put(R, "stages", 0, "slug", "one"), ["rollout.stages[first]"]),
    "rule reached": (put(W, "segments", 0, "rule", True), ["workflow.segments[internal-ops].rule"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_never_moves(name: str) -> None:
    edit, places = REFUSED[name]
    found = changed(edit)
    assert [where for direction, where in found if direction == Direction.REFUSED] == places


def test_the_paths_of_a_rollout_in_force_stay() -> None:
    refused = [where for direction, where in changed(_path_renamed) if direction == "refused"]
    assert refused == ["workflow.paths[draft]", "rollout.paths"]


def test_a_stage_is_free_to_shrink_until_it_is_reached() -> None:
    edit = put(R, "stages", 0, "segments", 0, "share", 0.5)
    where = "rollout.stages[first].segments[internal-ops].share"
    assert changed(edit, reached=0) == [(Direction.TIGHTER, where)]
    assert changed(edit, reached=2) == [(Direction.REFUSED, "rollout.stages[first]")]


def test_what_is_the_same_or_only_named_otherwise_is_no_change() -> None:
    assert changed(lambda document: None) == []
    assert changed(put(W, "name", "Replies")) == []
    assert changed(put(W, "segments", 0, "tasks_per_day", 5)) == []
    # What the console fills in by itself, written down.
    assert changed(put(R, "triggers", 2, "min_n", 1)) == []
    assert changed(put(R, "triggers", 2, "window_s", 900)) == []


def test_without_a_rollout_in_force_nothing_waits() -> None:
    document = base()
    put(W, "hold_s", 90)(document)
    assert plan_changes(read(base()), read(document), []) == []


@pytest.mark.parametrize("key", ["owner", "deputy"])
def test_another_owner_or_deputy_loosens(key: str) -> None:
    assert changed(put(W, key, "somebody")) == [("looser", f"workflow.{key}")]


def test_a_restricted_segments_rule_counts_without_a_rollout_too() -> None:
    document = base()
    put(W, "segments", 1, "rule", True)(document)
    put(W, "hold_s", 90)(document)
    held = {"eu-customers": "send_message is disabled on “draft” for “eu-customers”"}

    (found,) = plan_changes(read(base()), read(document), [], held)

    assert (found.direction, found.where) == ("looser", "workflow.segments[eu-customers].rule")
    assert found.sentence.endswith(f"; {held['eu-customers']}.")


def test_the_next_rollouts_section_is_free() -> None:
    def edit(document: dict[str, Any]) -> None:
        document[R] |= {"slug": "the-next-one", "candidate": "2026.12.1", "triggers": []}

    assert changed(edit) == []


@pytest.mark.parametrize(
    ("where", "pointer"),
    [
        ("workflow.hold_s", "/workflow/hold_s"),
        ("rollout.stages[eu].segments[eu-customers].share", "/rollout/stages/1/segments/1/share"),
        ("rollout.triggers[gone].limit", "/rollout/triggers"),
        ("nothing", ""),
    ],
)
def test_a_place_in_a_diff_is_found_in_the_document(where: str, pointer: str) -> None:
    assert diff_pointer(base(), where) == pointer
