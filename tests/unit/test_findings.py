from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_console.rollouts.findings import CRITERIA, TRIGGERS, Finding, plan_findings
from tests.plans import plan_document


def _found(document: dict[str, Any], code: str, **given: Any) -> list[Finding]:
    found = plan_findings(document, **{"tasks_per_day": {}, **given})
    return [finding for finding in found if finding.code == code]


def _staged(*segments: dict[str, Any]) -> dict[str, Any]:
    stage = {"slug": "first", "segments": list(segments), "bake_s": 60}
    return plan_document(stages=[stage])


def test_one_internal_team_is_small_whatever_its_share() -> None:
    document = _staged({"segment": "internal-ops", "share": 1.0})

    assert _found(document, "first_stage_too_large") == []


@pytest.mark.parametrize(("share", "flagged"), [(0.0104, False), (0.011, True)])
def test_first_stage_is_judged_by_the_plan_where_nothing_was_measured(
    share: float, flagged: bool
) -> None:
    # 1 % of 9,400 tasks is 94; of 9,000 EU tasks a share of 0.0104 is 93.6.
    document = _staged({"segment": "eu-customers", "share": share})

    found = _found(document, "first_stage_too_large")

    assert bool(found) is flagged
    if flagged:
        assert found[0].severity == "gap"
        assert found[0].pointer == "/rollout/stages/0/segments"
        assert "about 99 of 9,400 tasks a day, 1 %, by the plan's estimates" in found[0].sentence


def test_a_segment_of_everybody_is_the_whole() -> None:
    document = _staged({"segment": "eu-customers", "share": 0.011})
    everybody = {"slug": "everybody", "kind": "traffic_slice", "rule": True}
    document["workflow"]["segments"].append({**everybody, "tasks_per_day": 9_500})

    found = _found(document, "first_stage_too_large")

    assert "about 99 of 9,500 tasks a day, 1 %, by the plan's estimates" in found[0].sentence


def test_measured_traffic_goes_before_the_plans_estimate() -> None:
    document = _staged({"segment": "eu-customers", "share": 0.01})
    assert _found(document, "first_stage_too_large") == []

    found = _found(document, "first_stage_too_large", tasks_per_day={"draft": 900.0})

    assert "about 90 of 900 tasks a day, 10 %, as measured" in found[0].sentence


def test_without_action_routes_five_percent_are_small() -> None:
    document = _staged({"segment": "eu-customers", "share": 0.05})
    del document["workflow"]["action_routes"]

    assert _found(document, "first_stage_too_large") == []


def test_a_segment_without_a_size_cannot_be_judged() -> None:
    document = _staged({"segment": "eu-customers", "share": 0.01})
    del document["workflow"]["segments"][1]["tasks_per_day"]

    assert [finding.sentence for finding in _found(document, "first_stage_size_unknown")] == [
        "The first stage is one internal team, or at most 1 % of the path's tasks a day where it "
        "has action routes, and “eu-customers” says no tasks a day to judge it by."
    ]


def test_a_segment_exposed_whole_has_no_control_except_on_the_last_stage() -> None:
    document = plan_document()
    document["rollout"]["stages"][0]["segments"][0]["share"] = 1.0

    found = _found(document, "no_concurrent_control")

    assert [finding.pointer for finding in found] == ["/rollout/stages/0/segments/0/share"]
    assert "0.9" in found[0].sentence
    document["rollout"]["stable"] = None
    assert _found(document, "no_concurrent_control") == []


def test_fallbacks_must_be_declared_and_rehearsed() -> None:
    document = plan_document()
    assert len(_found(document, "fallback_not_rehearsed")) == 1

    rehearsed = {"draft": ["human_review"]}
    assert _found(document, "fallback_not_rehearsed", rehearsed=rehearsed) == []
    assert len(_found(document, "no_safe_mode_for_routes", rehearsed=rehearsed)) == 1

    document["workflow"]["paths"][0]["fallbacks"] = {}
    assert [finding.pointer for finding in _found(document, "no_fallback")] == [
        "/workflow/paths/0/fallbacks"
    ]


def test_modes_named_without_being_declared() -> None:
    document = plan_document()
    document["rollout"]["triggers"][1]["response"] = {
        "kind": "recommend",
        "action": "fallback",
        "mode": "simpler_route",
    }

    assert [finding.pointer for finding in _found(document, "mode_not_declared")] == [
        "/rollout/triggers/1/response/mode",
        "/workflow/paths/0/unreachable_mode",
        "/workflow/paths/0/no_ai_mode",
    ]


def test_each_signal_of_the_criteria_and_triggers_is_asked_for_once_a_path() -> None:
    document = plan_document(criteria=[], triggers=[])
    assert len(_found(document, "criterion_missing")) == len(CRITERIA)
    assert len(_found(document, "trigger_missing")) == len(TRIGGERS)

    document["workflow"]["paths"][0]["sensitivity"] = "sensitive"
    assert len(_found(document, "trigger_missing")) == len(TRIGGERS) + 1

    document = plan_document()
    missing = " ".join(finding.sentence for finding in _found(document, "criterion_missing"))
    assert "for cost" not in missing
    assert "for review load" in missing


def test_a_first_release_has_no_stable_to_compare_with() -> None:
    document = plan_document(stable=None)
    document["rollout"]["criteria"][0] |= {"compare": "stable", "limit": None}

    assert [finding.pointer for finding in _found(document, "no_stable_to_compare")] == [
        "/rollout/criteria/0/compare"
    ]


def test_gaps_come_before_advice() -> None:
    severities = [finding.severity for finding in plan_findings(plan_document(), tasks_per_day={})]

    assert "gap" in severities
    assert "advice" in severities
    assert severities == sorted(severities, reverse=True)


_junk = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["workflow", "rollout", "paths", "stages", "segments", "slug", "share", "triggers"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(document=st.dictionaries(st.sampled_from(["workflow", "rollout"]), _junk))
def test_half_typed_documents_are_read_without_a_fault(document: dict[str, Any]) -> None:
    assert all(finding.sentence for finding in plan_findings(document, tasks_per_day={}))
