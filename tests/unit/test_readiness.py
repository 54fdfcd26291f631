"""The seven items of the gate, each taken away in turn, and the stricter set of action routes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollout_console.demo.plans import PLANS, plan_text
from rollout_console.rollouts.findings import plan_findings
from rollout_console.rollouts.plan_schema import plan_read
from rollout_console.rollouts.plan_yaml import yaml_load
from rollout_console.rollouts.readiness import (
    ITEMS,
    GateFacts,
    PathTraffic,
    ReadinessItem,
    readiness_items,
)
from tests.plans import plan_document

Document = dict[str, Any]

FACTS = GateFacts(
    active=frozenset({"owner", "deputy", "approver", "approver-2", "olivia", "daniel"}),
    holders={
        "owner": ("owner",),
        "deputy": ("deputy",),
        "approver": ("approver", "approver-2"),
        "lead": ("lead",),
        "reviewer": ("reviewer",),
    },
)


def items(document: Document, facts: GateFacts = FACTS) -> dict[str, ReadinessItem]:
    plan, faults = plan_read(document)
    assert plan is not None, faults
    found = readiness_items(plan, facts=facts, findings=plan_findings(document, tasks_per_day={}))
    assert [item.item for item in found] == list(ITEMS)
    return {item.item: item for item in found}


def missing(document: Document, facts: GateFacts = FACTS) -> list[tuple[str, str]]:
    return [
        (item.item, each.detail)
        for item in items(document, facts).values()
        for each in item.missing
    ]


def path_of(document: Document) -> Document:
    found: Document = document["workflow"]["paths"][0]
    return found


def without_routes(document: Document) -> Document:
    document["workflow"]["action_routes"] = []
    return document


def test_the_test_plan_passes_with_its_evidence_in_numbers() -> None:
    found = items(plan_document())

    assert missing(plan_document()) == []
    assert {item: each.evidence for item, each in found.items()} == {
        "first_segment": [
            "Internal operations (internal team) at 90 %: about 360 tasks a day as stated.",
            "3.83 % of the tasks on “draft”, stated in the plan; one internal team may be of any "
            "size.",
        ],
        "criteria": [
            "draft: cost-inside (Cost / task ≤ $0.085), quality-holds (Quality ≥ 85 %).",
            "draft: latency leans on the trigger slow (Latency p95 ≤ 6 s).",
        ],
        "fallbacks": ["draft: human_review, read_only."],
        "triggers": [
            "draft: quality-low (Quality ≥ 85 %), slow (Latency p95 ≤ 6 s), "
            "spend-cap (Cost / task ≤ $2.00).",
            "draft: contained without a person by spend-cap, within 60 s.",
        ],
        "limits": ["draft: Latency p95 ≤ 6 s, Cost / task ≤ $0.085."],
        "review": [
            "draft: ambiguous outputs; 12 reviews an hour.",
            "Action route send_message: asks a reviewer each time.",
        ],
        "owner": ["Owner owner, deputy deputy.", "Escalation: deputy after 300 s."],
    }


def shown_sample() -> Document:
    """The plan of the machine contract, cut to what the gate reads."""
    document = plan_document()
    path_of(document)["fallbacks"] = {
        "human_review": {"when": {"input_condition": "ambiguous"}},
        "manual": {"when": {"risk": "high"}},
        "previous_stable": {},
        "simpler_route": {"route": "simple"},
        "reduced_context": {"settings": {"documents": 3, "context_tokens": 8000}},
        "read_only": {"when": {"confidence_below": 0.6}},
    }
    document["workflow"]["hold_s"] = 120
    document["workflow"]["action_routes"][0] |= {"risk": "medium", "reversibility": "irreversible"}
    limit = {"path": "draft", "compare": "limit", "min_n": 100}
    document["rollout"]["criteria"] = [
        {
            "slug": "quality-holds",
            "path": "draft",
            "signal": "quality_pass_rate",
            "compare": "stable",
            "margin": 0.02,
            "min_n": 100,
        },
        {"slug": "cost-inside", "signal": "cost_per_task_usd", "limit": 0.085, **limit},
    ]
    document["rollout"]["triggers"] = [
        {
            "slug": "slow",
            "signal": "latency_p95_ms",
            "limit": 6000,
            **limit,
            "response": {"kind": "recommend", "action": "fallback", "mode": "simpler_route"},
        },
        {
            "slug": "repeats",
            "path": "draft",
            "signal": "repeated_failures",
            "compare": "stable",
            "min_n": 5,
            "response": {"kind": "contain_after_hold", "action": "narrow"},
        },
        {
            "slug": "spend-cap",
            "path": "draft",
            "signal": "cost_per_task_usd",
            "compare": "hard_cap",
            "limit": 2.0,
            "response": {"kind": "contain", "action": "rollback"},
        },
    ]
    return document


def test_the_contracts_sample_plan_passes() -> None:
    assert missing(shown_sample()) == []


@pytest.mark.parametrize("file", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_demo_plan_passes(file: Path) -> None:
    for fast in (False, True):
        assert missing(yaml_load(plan_text(file.stem, fast=fast)).value) == []


def drop(*keys: str) -> Callable[[Document], None]:
    """Return a change that removes what stands at `keys`, list places as numbers."""

    def change(document: Document) -> None:
        holder: Any = document
        for key in keys[:-1]:
            holder = holder[int(key)] if key.isdigit() else holder[key]
        del holder[int(keys[-1]) if keys[-1].isdigit() else keys[-1]]

    return change


def put(value: Any, *keys: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        holder: Any = document
        for key in keys[:-1]:
            holder = holder[int(key)] if key.isdigit() else holder[key]
        holder[keys[-1]] = value

    return change


PATH = ("workflow", "paths", "0")


@pytest.mark.parametrize(
    ("change", "item", "detail"),
    [
        (
            put([], "rollout", "criteria"),
            "criteria",
            "“draft” has no expansion criterion for quality.",
        ),
        (
            drop("rollout", "triggers", "1"),
            "triggers",
            "“draft” has no rollback trigger for latency.",
        ),
        (
            drop("rollout", "triggers", "0"),
            "triggers",
            "“draft” has no rollback trigger for quality.",
        ),
        (
            drop("rollout", "triggers", "2"),
            "triggers",
            "“draft” has no rollback trigger for cost.",
        ),
        (
            put({}, *PATH, "fallbacks"),
            "fallbacks",
            "“draft” declares no fallback mode.",
        ),
        (drop(*PATH, "limits", "latency_p95_ms"), "limits", "“draft” has no latency limit."),
        (
            drop(*PATH, "limits", "cost_per_task_usd"),
            "limits",
            "“draft” has no cost limit for each task.",
        ),
        (
            put({"capacity_per_hour": 12}, *PATH, "review"),
            "review",
            "“draft” names nothing that a person reviews.",
        ),
        (put("owner", "workflow", "deputy"), "owner", "Owner and deputy are the same person."),
        (put([], "workflow", "escalation"), "owner", "There is no escalation ladder."),
        (put("gone", "workflow", "owner"), "owner", "The owner “gone” cannot log in."),
        (put("gone", "workflow", "deputy"), "owner", "The deputy “gone” cannot log in."),
    ],
)
def test_each_thing_taken_away_is_missed(
    change: Callable[[Document], None], item: str, detail: str
) -> None:
    document = without_routes(plan_document())
    change(document)

    assert (item, detail) in missing(document)
    found = items(document)
    assert not found[item].present
    assert found[item].detail.startswith(found[item].missing[0].detail)
    assert all(each.fix for each in found[item].missing)


def test_a_path_that_is_not_rolled_out_is_not_asked() -> None:
    document = without_routes(plan_document())
    other = {"slug": "summarise", "name": "Summarise"}
    document["workflow"]["paths"].append(other)
    assert missing(document) == []

    document["rollout"]["paths"] = ["draft", "summarise"]

    assert {item for item, detail in missing(document) if "summarise" in detail} == {
        *("criteria", "fallbacks", "triggers", "limits", "review"),
    }


def test_a_comparison_with_a_stable_release_that_is_not_there_decides_nothing() -> None:
    document = without_routes(plan_document(stable=None))
    document["rollout"]["criteria"][1] |= {"compare": "stable", "margin": 0.02}
    del document["rollout"]["criteria"][1]["limit"]

    assert missing(document) == [
        ("criteria", "“draft” has no expansion criterion for quality."),
    ]


def test_a_guard_of_a_later_segment_decides_nothing_on_the_first_stage() -> None:
    document = without_routes(plan_document())
    document["rollout"]["triggers"][1]["segment"] = "eu-customers"

    assert missing(document) == [
        ("criteria", "“draft” has no expansion criterion for latency."),
        ("triggers", "“draft” has no rollback trigger for latency."),
    ]


def test_a_sensitive_path_watches_critical_failures_and_has_a_manual_mode() -> None:
    document = without_routes(plan_document())
    path_of(document)["sensitivity"] = "sensitive"

    assert missing(document) == [
        ("criteria", "“draft” has no expansion criterion for critical failures."),
        ("fallbacks", "“draft” is sensitive and has no manual mode for its high-risk cases."),
        ("triggers", "“draft” has no rollback trigger for critical failures."),
    ]


# --- The first stage against its bound ---


def first(document: Document, *segments: tuple[str, float]) -> Document:
    document["rollout"]["stages"] = [
        {
            "slug": "first",
            "segments": [{"segment": slug, "share": share} for slug, share in segments],
            "bake_s": 60,
        }
    ]
    return document


@pytest.mark.parametrize(
    ("share", "routes", "allowed"),
    # 9,000 of 9,400 stated tasks a day are the segment's.
    [
        (0.0522, False, True),
        (0.0523, False, False),
        (0.0104, True, True),
        (0.0105, True, False),
    ],
)
def test_the_bound_is_five_percent_and_one_with_action_routes(
    share: float, routes: bool, allowed: bool
) -> None:
    document = first(plan_document(), ("eu-customers", share))
    if not routes:
        without_routes(document)

    assert items(document)["first_segment"].present == allowed
    if not allowed:
        (each,) = items(document)["first_segment"].missing
        assert each.detail == (
            f"The first stage is too large: {share * 9000 / 9400 * 100:.3g} % of the tasks on "
            f"“draft”, stated in the plan, and it may be at most "
            f"{'1 % with action routes' if routes else '5 %'}."
        )


def test_a_segment_of_everybody_is_the_whole() -> None:
    document = first(without_routes(plan_document()), ("eu-customers", 0.7))
    document["workflow"]["segments"].append(
        {
            "slug": "everybody",
            "name": "Everybody",
            "kind": "traffic_slice",
            "rule": True,
            "owner": "owner",
            "tasks_per_day": 20_000,
        }
    )

    (each,) = items(document)["first_segment"].missing

    assert "31.5 % of the tasks on “draft”, stated in the plan" in each.detail


def measured(**by_segment: int) -> GateFacts:
    named = {slug.replace("_", "-"): n for slug, n in by_segment.items()}
    return GateFacts(
        FACTS.active, FACTS.holders, {"draft": PathTraffic(1000, named, span_s=3600.0)}
    )


def test_measured_traffic_goes_before_what_the_plan_states() -> None:
    document = without_routes(first(plan_document(), ("eu-customers", 0.05)))
    assert missing(document) == []

    found = items(document, measured(eu_customers=800))["first_segment"]
    assert found.present
    assert found.evidence[-1] == (
        "4 % of the tasks on “draft”, measured over 1,000 tasks; at most 5 %."
    )

    document = without_routes(first(plan_document(), ("eu-customers", 0.1)))
    assert missing(document, measured(eu_customers=800)) == [
        (
            "first_segment",
            "The first stage is too large: 8 % of the tasks on “draft”, measured over 1,000 "
            "tasks, and it may be at most 5 %.",
        )
    ]


def test_a_segment_that_nobody_was_seen_in_goes_by_the_plan() -> None:
    document = without_routes(first(plan_document(), ("eu-customers", 0.5)))

    assert "stated in the plan" in missing(document, measured(internal_ops=900))[0][1]


def test_too_few_tasks_measure_nothing() -> None:
    document = without_routes(first(plan_document(), ("eu-customers", 0.05)))
    few = GateFacts(
        FACTS.active, FACTS.holders, {"draft": PathTraffic(99, {"eu-customers": 99}, 60.0)}
    )

    assert items(document, few)["first_segment"].evidence[-1] == (
        "4.79 % of the tasks on “draft”, stated in the plan; at most 5 %."
    )


def test_a_size_that_nobody_knows_is_missing_unless_it_is_one_internal_team() -> None:
    document = without_routes(plan_document())
    del document["workflow"]["segments"][1]["tasks_per_day"]
    assert missing(document) == []

    first(document, ("eu-customers", 0.001))

    assert [item for item, _ in missing(document)] == ["first_segment"]
    assert missing(document, measured(eu_customers=800)) == []


def test_a_large_internal_team_is_a_finding_and_two_teams_are_not_one() -> None:
    found = items(plan_document(), measured(internal_ops=400))["first_segment"]
    assert found.present
    assert (
        "The first stage is 36 % of the tasks on “draft”, measured over 1,000 tasks: more than "
        "1 % with action routes, which only one internal team may be."
    ) in found.findings

    document = plan_document()
    document["workflow"]["segments"][1]["kind"] = "internal_team"
    first(document, ("internal-ops", 0.9), ("eu-customers", 0.1))
    assert [item for item, _ in missing(document)] == ["first_segment"]


# --- Action routes ---


def test_with_action_routes_every_path_has_a_mode_that_does_not_act() -> None:
    document = plan_document()
    path_of(document)["fallbacks"] = {"human_review": {}, "previous_stable": {}}

    assert missing(document) == [
        ("fallbacks", "With action routes, “draft” needs a manual or read-only mode."),
    ]
    for mode in ("manual", "read_only"):
        path_of(document)["fallbacks"] = {mode: {}}
        assert missing(document) == []


@pytest.mark.parametrize(
    ("response", "allowed"),
    [
        ({"kind": "contain", "action": "rollback"}, True),
        ({"kind": "contain_after_hold", "action": "narrow"}, True),
        ({"kind": "recommend", "action": "rollback"}, False),
        ({"kind": "alert"}, False),
        # Telling somebody contains nothing.
        ({"kind": "contain", "action": "escalate"}, False),
    ],
)
def test_with_action_routes_a_trigger_contains_by_itself(response: Document, allowed: bool) -> None:
    document = plan_document()
    document["rollout"]["triggers"][2]["response"] = response

    told = missing(document)

    assert told == (
        []
        if allowed
        else [
            (
                "triggers",
                "With action routes, “draft” needs a trigger that contains by itself within 120 s.",
            )
        ]
    )
    assert missing(without_routes(copy.deepcopy(document))) == []


def test_one_approver_is_a_finding_with_action_routes() -> None:
    alone = GateFacts(FACTS.active, {**FACTS.holders, "approver": ("approver",)})
    found = items(plan_document(), alone)["review"]

    assert found.present
    assert found.findings == [
        "Only approver may approve: a next stage with action routes asks for two people."
    ]
    nobody = GateFacts(FACTS.active, {})
    assert items(plan_document(), nobody)["review"].findings == [
        "Nobody who can log in is reviewer here, so only an approver can decide on “send_message”.",
        "Nobody who can log in is approver here, and going live takes one beside the owner.",
    ]


def test_rehearsal_is_a_finding_beside_its_item() -> None:
    found = items(plan_document())["fallbacks"]

    assert found.present
    assert found.findings[0] == (
        "No fallback of the path “draft” has been rehearsed: human_review, read_only are only "
        "described."
    )
