import random
import statistics
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from rollout_console.demo.labels import labels_drawn
from rollout_console.demo.plans import later_version, plan_text, rollout_slug
from rollout_console.demo.scenarios import (
    SCENARIOS,
    Behaviour,
    DemoPath,
    Scenario,
    Timing,
    behaviour,
    rule_mode,
    scenarios_played,
    task_outcome,
    timings,
)
from rollout_console.rollouts.plan_schema import plan_read
from rollout_console.rollouts.plan_yaml import yaml_load

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ANSWER: dict[str, Any] = {"mode": "normal", "rules": []}
# What each scenario's harm must push beyond its limit; the others stay inside theirs.
HARMED_SIGNALS = {
    "quality": {"quality_pass_rate", "trust_negative_rate"},
    "latency": {"latency_p95_ms"},
    "cost": {"cost_per_task_usd"},
    "repeats": {"quality_pass_rate"},
    "retrieval": {"quality_pass_rate", "retrieval_empty_rate"},
    "outage": {"quality_pass_rate", "latency_p95_ms"},
    "healthy": set(),
}


def drawn(usual: Behaviour, *, n: int = 4000) -> dict[str, float]:
    rng = random.Random(7)
    runs = [task_outcome(usual, ANSWER, rng) for _ in range(n)]
    return {
        "quality_pass_rate": statistics.mean(run["quality"]["passed"] for run in runs),
        "latency_p95_ms": statistics.quantiles([run["latency_ms"] for run in runs], n=20)[-1],
        "cost_per_task_usd": statistics.mean(run["cost_usd"] for run in runs),
        "retrieval_empty_rate": statistics.mean(run["retrieved"] == 0 for run in runs),
        "trust_negative_rate": statistics.mean(is_unhappy(run, rng) for run in runs),
        "cost_max": max(run["cost_usd"] for run in runs),
    }


def is_unhappy(run: dict[str, Any], rng: random.Random) -> bool:
    named = {**run, "id": "r", "workflow": "w", "occurred_at": NOW.isoformat()}
    said = [label for _, label in labels_drawn(named, rng, now=NOW)]
    return any(label.get("value") in ("down", "complaint", "undo") for label in said)


def limits(scenario: Scenario, *, compare: str = "limit") -> Iterator[tuple[str, float]]:
    plan = yaml.safe_load(plan_text(scenario.workflow))
    for guard in plan["rollout"]["triggers"]:
        if guard["compare"] == compare:
            yield guard["signal"], guard["limit"]


def beyond(signal: str, value: float, limit: float) -> bool:
    """Whether the value lies beyond its limit by enough to be told within a window."""
    return value < limit - 0.08 if signal == "quality_pass_rate" else value > limit * 1.25


def well_inside(signal: str, value: float, limit: float) -> bool:
    return value > limit + 0.05 if signal == "quality_pass_rate" else value < limit * 0.85


def only_path(scenario: Scenario) -> DemoPath:
    (path,) = scenario.paths
    return path


@pytest.mark.parametrize("slug", SCENARIOS)
@pytest.mark.parametrize("arm", ["stable", "candidate"])
def test_before_the_onset_both_arms_are_well_inside_every_limit(slug: str, arm: str) -> None:
    scenario = SCENARIOS[slug]
    values = drawn(behaviour(scenario, only_path(scenario), arm=arm, strength=0.0))
    for signal, limit in limits(scenario):
        assert well_inside(signal, values[signal], limit), (signal, values[signal], limit)


@pytest.mark.parametrize("slug", SCENARIOS)
def test_a_scenario_harms_its_own_signals_and_no_other(slug: str) -> None:
    scenario = SCENARIOS[slug]
    values = drawn(behaviour(scenario, only_path(scenario), arm="candidate", strength=1.0))
    found = {signal for signal, limit in limits(scenario) if beyond(signal, values[signal], limit)}
    assert found == HARMED_SIGNALS[slug]
    inside = {
        signal for signal, limit in limits(scenario) if well_inside(signal, values[signal], limit)
    }
    assert found | inside == {signal for signal, _ in limits(scenario)}


@pytest.mark.parametrize("slug", SCENARIOS)
def test_no_scenario_reaches_a_hard_cap(slug: str) -> None:
    scenario = SCENARIOS[slug]
    values = drawn(behaviour(scenario, only_path(scenario), arm="candidate", strength=1.0))
    assert all(values["cost_max"] < cap / 2 for _, cap in limits(scenario, compare="hard_cap"))


@pytest.mark.parametrize("slug", SCENARIOS)
def test_only_an_outage_reaches_the_stable_arm(slug: str) -> None:
    scenario = SCENARIOS[slug]
    path = only_path(scenario)
    whole = behaviour(scenario, path, arm="stable", strength=0.0)
    assert (behaviour(scenario, path, arm="stable", strength=1.0) != whole) == (slug == "outage")


def test_the_harm_grows_over_its_ramp_and_an_outage_passes() -> None:
    timing = Timing(onset_s=100, ramp_s=10, lasts_s=50)
    assert [timing.strength(at) for at in (99, 100, 105, 110, 149, 150)] == [0, 0, 0.5, 1, 1, 0]


def test_all_scenarios_are_staggered_and_one_comes_alone() -> None:
    every = timings("", onset_s=120)
    assert [timing.onset_s for timing in every.values()] == [120, 180, 240, 300, 360, 420, 480]
    assert {slug: timing.onset_s for slug, timing in timings("cost", onset_s=8).items()} == {
        "cost": 8
    }


def test_an_unknown_scenario_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"quality, latency, cost, .* not 'speed'"):
        scenarios_played("speed")


def test_every_review_asked_for_is_made_and_what_passed_is_mostly_approved() -> None:
    rng = random.Random(3)
    run = {"id": "r", "workflow": "w", "occurred_at": NOW.isoformat(), "review_requested": True}
    verdicts: dict[bool, list[str]] = {True: [], False: []}
    for passed in (True, False) * 500:
        labels = labels_drawn({**run, "quality": {"passed": passed}}, rng, now=NOW)
        (review,) = (label for _, label in labels if label["kind"] == "review")
        verdicts[passed].append(review["verdict"])
    assert verdicts[True].count("rejected") < 20
    assert verdicts[False].count("rejected") > 250
    asked = labels_drawn({**run, "quality": {"passed": True}}, rng, now=NOW)
    assert (asked[0][1]["run_id"], asked[0][1]["run_occurred_at"]) == ("r", NOW.isoformat())
    assert asked[0][0] > 0


def test_rules_apply_once_the_output_is_known_and_the_first_match_wins() -> None:
    answer = {
        "mode": "normal",
        "rules": [
            {"when": {"input_condition": "ambiguous"}, "mode": "human_review"},
            {"when": {"confidence_below": 0.6}, "mode": "read_only"},
        ],
    }
    assert rule_mode(answer, confidence=0.9, input_condition="clean", risk="low") == "normal"
    assert rule_mode(answer, confidence=0.59, input_condition="clean", risk="low") == "read_only"
    assert rule_mode(answer, confidence=0.6, input_condition="clean", risk="low") == "normal"
    found = rule_mode(answer, confidence=0.1, input_condition="ambiguous", risk="low")
    assert found == "human_review"


def test_an_answered_manual_mode_uses_no_model() -> None:
    usual = only_path(SCENARIOS["quality"]).stable
    run = task_outcome(usual, {"mode": "manual", "rules": []}, random.Random(1))
    assert (run["mode"], run["outcome"]) == ("manual", "fallback")
    assert "input_tokens" not in run


def test_a_later_attempt_plans_the_next_release_and_only_that() -> None:
    first = yaml.safe_load(plan_text("support-reply"))
    third = yaml.safe_load(plan_text("support-reply", attempt=3))
    assert third["rollout"]["candidate"] == third["releases"][0]["version"] == "2026.11.4"
    assert third["rollout"]["slug"] == rollout_slug("support-reply", attempt=3)
    assert third["rollout"]["stable"] == first["rollout"]["stable"]
    assert third["workflow"] == first["workflow"]
    assert later_version("2026.11.9", 1) == "2026.11.10"


def test_a_fast_plan_has_windows_of_seconds() -> None:
    triggers = yaml.safe_load(plan_text("claims-intake", fast=True))["rollout"]["triggers"]
    assert {trigger.get("window_s", 4) for trigger in triggers} == {4}


@pytest.mark.parametrize("slug", SCENARIOS)
@pytest.mark.parametrize(("attempt", "fast"), [(1, False), (2, True)])
def test_the_plans_have_no_fault(slug: str, attempt: int, fast: bool) -> None:
    text = plan_text(SCENARIOS[slug].workflow, attempt=attempt, fast=fast)
    _, faults = plan_read(yaml_load(text).value)
    assert faults == []
