from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_console.exposure.compile import (
    MODES,
    ActionSetting,
    ExposureState,
    PathExposure,
    RolloutExposure,
    SegmentShare,
    candidate_value,
    compile_document,
    document_numbered,
    stable_value,
)
from rollout_console.exposure.evaluate import Answer, Failure, Snapshot
from rollout_console.rollouts.ladder import is_subset

ACTIONS = (
    ActionSetting("look_up", "read", "allow"),
    ActionSetting("send_message", "write", "ask"),
    ActionSetting("update_record", "write", "allow"),
    ActionSetting("refund", "write", "deny"),
)
FALLBACKS = {
    "human_review": {"when": {"input_condition": "ambiguous"}},
    "manual": {"when": {"risk": "high"}},
    "previous_stable": {},
    "simpler_route": {"route": "simple"},
    "reduced_context": {"settings": {"documents": 3, "context_tokens": 8000}},
    "read_only": {"when": {"confidence_below": 0.6}},
}
INTERNAL = {"==": [{"var": "team"}, "internal"]}
EU = {"==": [{"var": "customer_segment"}, "eu"]}
SALT = "5f" * 16


def rollout(*segments: SegmentShare, mode: str = "normal", salt: str = SALT) -> RolloutExposure:
    modes: dict[str | None, str] = {} if mode == "normal" else {None: mode}
    return RolloutExposure("draft-2", salt, "2026.11.2", segments, modes)


def path(
    on: RolloutExposure | None = None, *, stable: str | None = "2026.10.4", slug: str = "draft"
) -> PathExposure:
    return PathExposure(
        workflow="support-reply",
        path=slug,
        stable=stable,
        no_ai_mode="manual",
        unreachable_mode="previous_stable",
        fallbacks=FALLBACKS,
        actions=ACTIONS,
        rollout=on,
    )


def document(*paths: PathExposure) -> dict[str, Any]:
    return compile_document(ExposureState(paths, fractional="pinned"))


def snapshot(*paths: PathExposure) -> Snapshot:
    numbered = document_numbered(document(*paths), 7)
    return Snapshot(number=7, document=numbered, workflow_ids={"support-reply": 1})


def variant(of: Snapshot, key: str | None, *, path: str = "draft", **attributes: Any) -> str:
    decision = of.decide(f"support-reply.{path}", targeting_key=key, attributes=attributes)
    assert isinstance(decision, Answer)
    return decision.variant


AS_SET = {"look_up": "allow", "send_message": "ask", "update_record": "allow", "refund": "deny"}
ALL_DENY = dict.fromkeys(AS_SET, "deny")


@pytest.mark.parametrize(
    ("mode", "release", "route", "settings", "actions"),
    [
        ("normal", "2026.11.2", None, {}, AS_SET),
        (
            "human_review",
            "2026.11.2",
            None,
            {},
            {**AS_SET, "look_up": "ask", "update_record": "ask"},
        ),
        ("manual", None, None, {}, ALL_DENY),
        ("previous_stable", "2026.10.4", None, {}, AS_SET),
        ("simpler_route", "2026.11.2", "simple", {}, AS_SET),
        (
            "reduced_context",
            "2026.11.2",
            None,
            {"documents": 3, "context_tokens": 8000},
            AS_SET,
        ),
        ("read_only", "2026.11.2", None, {}, {**ALL_DENY, "look_up": "allow"}),
    ],
)
def test_each_mode_serves_what_the_contract_says(
    mode: str, release: str | None, route: str | None, settings: Any, actions: Any
) -> None:
    value = candidate_value(path(), rollout(mode=mode), "internal-ops")

    assert value == {
        "release": release,
        "arm": "candidate",
        "mode": mode,
        "route": route,
        "settings": settings,
        "actions": actions,
        "rules": [
            {"when": {"risk": "high"}, "mode": "manual"},
            {"when": {"input_condition": "ambiguous"}, "mode": "human_review"},
            {"when": {"confidence_below": 0.6}, "mode": "read_only"},
        ],
        "segment": "internal-ops",
    }


def test_the_mode_table_is_complete() -> None:
    assert set(MODES) == {"normal", *FALLBACKS}


def test_previous_stable_without_a_stable_release_is_the_no_ai_mode_and_stays_attributable() -> (
    None
):
    value = candidate_value(path(stable=None), rollout(mode="previous_stable"), "eu")

    assert (value["release"], value["mode"], value["arm"]) == (None, "manual", "candidate")
    assert value["actions"] == ALL_DENY
    assert value["rules"] == []


def test_not_exposed_is_stable_in_normal_mode_without_rules() -> None:
    assert stable_value(path()) == {
        "release": "2026.10.4",
        "arm": "stable",
        "mode": "normal",
        "route": None,
        "settings": {},
        "actions": AS_SET,
        "rules": [],
        "segment": None,
    }


def test_not_exposed_without_a_stable_release_is_the_no_ai_mode() -> None:
    value = stable_value(path(stable=None))

    assert (value["release"], value["arm"], value["mode"]) == (None, "stable", "manual")
    assert value["actions"] == ALL_DENY


def test_without_a_rollout_there_is_one_static_variant_and_no_candidate() -> None:
    assert document(path()) == {
        "$schema": "https://flagd.dev/schema/v0/flags.json",
        "flags": {
            "support-reply.draft": {
                "state": "ENABLED",
                "variants": {"stable": stable_value(path())},
                "defaultVariant": "stable",
                "metadata": {
                    "workflow": "support-reply",
                    "path": "draft",
                    "unreachableMode": "previous_stable",
                },
            }
        },
        "metadata": {"flagSetId": "rollout-console", "fractional": "pinned"},
    }


def test_the_share_is_an_exact_weight_with_the_candidate_first() -> None:
    on = rollout(SegmentShare("eu", EU, Decimal("0.05")))

    targeting = document(path(on))["flags"]["support-reply.draft"]["targeting"]

    assert targeting == {
        "if": [
            EU,
            {
                "if": [
                    {"var": "targetingKey"},
                    {
                        "fractional": [
                            {"cat": [SALT, {"var": "targetingKey"}]},
                            ["candidate:eu", 5_000],
                            ["stable:eu", 95_000],
                        ]
                    },
                    None,
                ]
            },
            "stable",
        ]
    }


def test_the_number_is_in_every_flag_and_the_digest_part_stays_without() -> None:
    plain = document(path())
    numbered = document_numbered(plain, 118)

    assert numbered["metadata"]["version"] == "118"
    assert numbered["flags"]["support-reply.draft"]["metadata"]["exposureVersion"] == 118
    assert "exposureVersion" not in plain["flags"]["support-reply.draft"]["metadata"]
    assert "version" not in plain["metadata"]


def test_a_whole_segment_needs_no_targeting_key_and_a_share_does() -> None:
    on = rollout(
        SegmentShare("internal-ops", INTERNAL, Decimal(1)), SegmentShare("eu", EU, Decimal("0.5"))
    )
    held = snapshot(path(on))

    assert variant(held, None, team="internal") == "candidate:internal-ops"
    assert variant(held, None, team="customer") == "stable"
    missing = held.decide(
        "support-reply.draft", targeting_key=None, attributes={"customer_segment": "eu"}
    )
    assert isinstance(missing, Failure)
    assert missing.code == "TARGETING_KEY_MISSING"


def test_a_rule_that_cannot_be_applied_fails_its_own_flag_only() -> None:
    broken = rollout(SegmentShare("odd", {"no_such_operator": [1]}, Decimal(1)))
    held = snapshot(path(broken), path(slug="summary"))

    failure = held.decide("support-reply.draft", targeting_key="u", attributes={})
    assert isinstance(failure, Failure)
    assert failure.code == "GENERAL"
    assert variant(held, "u", path="summary") == "stable"


USERS = st.text(min_size=1, max_size=40)
SHARES = st.integers(1, 100_000).map(lambda weight: Decimal(weight) / 100_000)
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "team": st.sampled_from(["internal", "customer"]),
        "customer_segment": st.sampled_from(["eu", "us"]),
    },
)
RULES = {"internal-ops": INTERNAL, "eu": EU, "everybody": {"==": [1, 1]}}


def segments(shares: dict[str, Decimal]) -> list[SegmentShare]:
    return [SegmentShare(slug, RULES[slug], share) for slug, share in shares.items()]


LADDERS = st.dictionaries(st.sampled_from(sorted(RULES)), st.tuples(SHARES, SHARES), min_size=1)


@given(ladder=LADDERS, added=st.sets(st.sampled_from(sorted(RULES))), user=USERS, context=CONTEXTS)
def test_widening_keeps_everybody_and_narrowing_adds_nobody(
    ladder: dict[str, tuple[Decimal, Decimal]], added: set[str], user: str, context: dict[str, str]
) -> None:
    narrow = {slug: min(shares) for slug, shares in ladder.items() if slug not in added}
    wide = {slug: max(shares) for slug, shares in ladder.items()}

    before = snapshot(path(rollout(*segments(narrow))))
    after = snapshot(path(rollout(*segments(wide))))

    if variant(before, user, **context).startswith("candidate"):
        assert variant(after, user, **context).startswith("candidate")


@given(share=SHARES, user=USERS, context=CONTEXTS)
def test_one_person_has_one_arm_on_all_paths(
    share: Decimal, user: str, context: dict[str, str]
) -> None:
    on = rollout(*segments({"everybody": share}))
    held = snapshot(path(on), path(on, slug="summary"))

    assert variant(held, user, **context) == variant(held, user, path="summary", **context)


def test_the_share_is_met_and_two_rollouts_expose_different_people() -> None:
    def exposed(salt: str) -> set[int]:
        on = rollout(*segments({"everybody": Decimal("0.2")}), salt=salt)
        held = snapshot(path(on))
        return {n for n in range(5_000) if variant(held, f"u{n}").startswith("candidate")}

    first, second = exposed("a" * 32), exposed("b" * 32)

    # Five standard deviations around the expected counts.
    assert abs(len(first) - 1_000) < 5 * 28.3
    assert abs(len(second) - 1_000) < 5 * 28.3
    assert abs(len(first & second) - 200) < 5 * 13.9


@given(
    narrow=st.dictionaries(
        st.sampled_from(["internal-ops", "eu"]), st.decimals("0.00001", 1, places=5), min_size=1
    ),
    more=st.dictionaries(
        st.sampled_from(["internal-ops", "eu"]), st.decimals("0", 1, places=5), max_size=2
    ),
    salt=st.text("0123456789abcdef", min_size=4, max_size=16),
)
def test_a_wider_set_keeps_every_targeting_key(
    narrow: dict[str, Decimal], more: dict[str, Decimal], salt: str
) -> None:
    rules = {"internal-ops": INTERNAL, "eu": EU}
    wide = dict(narrow)
    for segment, share in more.items():
        if share > narrow.get(segment, Decimal(0)):
            wide[segment] = share
    assert is_subset(narrow, wide)

    def compiled(exposed: dict[str, Decimal]) -> Snapshot:
        parts = [SegmentShare(slug, rules[slug], share) for slug, share in exposed.items()]
        return snapshot(path(rollout(*parts, salt=salt)))

    before, after = compiled(narrow), compiled(wide)
    people: list[dict[str, str]] = [
        {"team": "internal"},
        {"customer_segment": "eu"},
        {"team": "internal", "customer_segment": "eu"},
        {"team": "customer"},
    ]
    for number in range(60):
        for attributes in people:
            if variant(before, f"user-{number}", **attributes).startswith("candidate"):
                assert variant(after, f"user-{number}", **attributes).startswith("candidate")
