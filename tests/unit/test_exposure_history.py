"""Diffs of exposure documents in words, over documents that `compile` makes."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from rollout_console.exposure.compile import (
    ActionSetting,
    ExposureState,
    PathExposure,
    Restriction,
    RolloutExposure,
    SegmentShare,
    compile_document,
    document_numbered,
)
from rollout_console.exposure.history import (
    Change,
    document_changes,
    document_cut,
    paths_served,
    workflows_touched,
)

INTERNAL = SegmentShare("internal-ops", {"==": [{"var": "team"}, "internal"]}, Decimal("0.9"))
EU = SegmentShare("eu", {"==": [{"var": "customer_segment"}, "eu"]}, Decimal("0.05"))
ROLLOUT = RolloutExposure("reply-2", "salt", "2.0", (INTERNAL,))
PATH = PathExposure(
    workflow="reply",
    path="draft",
    stable="1.0",
    no_ai_mode="manual",
    unreachable_mode="previous_stable",
    fallbacks={"simpler_route": {"route": "simple"}},
    actions=(ActionSetting("send", "write", "ask"),),
)
LIVE = replace(PATH, rollout=ROLLOUT)
OTHER = replace(PATH, workflow="claims", path="read")


def document(*paths: PathExposure, number: int = 1) -> dict[str, Any]:
    return document_numbered(compile_document(ExposureState(paths, "core")), number)


def changes(before: PathExposure, after: PathExposure) -> list[Change]:
    return document_changes(document(before), document(after, number=2))


def words(before: PathExposure, after: PathExposure) -> list[str]:
    return [change.sentence for change in changes(before, after)]


def with_rollout(**fields: Any) -> PathExposure:
    return replace(LIVE, rollout=replace(ROLLOUT, **fields))


def test_the_same_content_under_another_number_is_no_change() -> None:
    assert changes(LIVE, LIVE) == []
    assert workflows_touched(document(LIVE), document(LIVE, number=2)) == set()


def test_going_live_names_segment_share_release_and_mode() -> None:
    assert changes(PATH, LIVE) == [
        Change("reply", "draft", None, "rollout", None, "reply-2"),
        Change(
            "reply",
            "draft",
            "internal-ops",
            "exposed",
            None,
            {"share": 0.9, "release": "2.0", "mode": "normal"},
            exposed=True,
        ),
    ]
    assert words(PATH, LIVE) == [
        "rollout none → reply-2",
        "internal-ops: exposed, 90 % on 2.0 in mode normal; not exposed before",
    ]
    assert words(LIVE, PATH) == [
        "rollout reply-2 → none",
        "internal-ops: no longer exposed; before 90 % on 2.0 in mode normal",
    ]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (
            with_rollout(segments=(replace(INTERNAL, share=Decimal("0.00123")),)),
            ["internal-ops: narrowed 90 % → 0.123 %"],
        ),
        (
            with_rollout(segments=(replace(INTERNAL, share=Decimal(1)),)),
            ["internal-ops: widened 90 % → 100 %"],
        ),
        (
            with_rollout(segments=(INTERNAL, EU)),
            ["eu: exposed, 5 % on 2.0 in mode normal; not exposed before"],
        ),
        (
            with_rollout(segments=(replace(INTERNAL, rule={"==": [{"var": "team"}, "x"]}),)),
            ["internal-ops: its rule changed"],
        ),
        (with_rollout(candidate="2.1"), ["internal-ops: release 2.0 → 2.1"]),
        (
            with_rollout(modes={None: "manual"}),
            [
                "internal-ops: release 2.0 → no release",
                "internal-ops: mode normal → manual",
                "internal-ops: action route send ask → deny",
            ],
        ),
        (
            with_rollout(modes={None: "simpler_route"}),
            [
                "internal-ops: mode normal → simpler_route",
                "internal-ops: route none → simple",
            ],
        ),
        (
            replace(LIVE, actions=(ActionSetting("send", "write", "deny"),)),
            [
                "internal-ops: action route send ask → deny",
                "everybody else: action route send ask → deny",
            ],
        ),
        (
            replace(LIVE, actions=()),
            [
                "internal-ops: action route send ask → none",
                "everybody else: action route send ask → none",
            ],
        ),
        (replace(LIVE, stable="1.1"), ["everybody else: release 1.0 → 1.1"]),
        (
            replace(LIVE, stable=None),
            [
                "everybody else: release 1.0 → no release",
                "everybody else: mode normal → manual",
                "everybody else: action route send ask → deny",
            ],
        ),
        (
            replace(LIVE, unreachable_mode="manual"),
            ["when unreachable: previous_stable → manual"],
        ),
        (
            replace(LIVE, fallbacks={"manual": {"when": {"risk": "high"}}}),
            ["internal-ops: the rules for single runs changed"],
        ),
    ],
)
def test_each_kind_of_change_has_its_words(after: PathExposure, said: list[str]) -> None:
    assert words(LIVE, after) == said


def test_what_a_segment_gets_apart_from_everybody_is_said() -> None:
    before, after = document(LIVE), document(LIVE, number=2)
    held = after["flags"]["reply.draft"]["variants"]["stable:internal-ops"]
    held["actions"] = {"send": "deny"}

    (change,) = document_changes(before, after)

    assert change.sentence == "internal-ops, not exposed: action route send ask → deny"
    assert workflows_touched(before, after) == {"reply"}
    (path,) = paths_served(after)
    assert [(each.segment, each.actions) for each in path.apart] == [
        ("internal-ops", {"send": "deny"})
    ]
    # The same for everybody is said once.
    for variant in after["flags"]["reply.draft"]["variants"].values():
        variant["actions"] = {"send": "deny"}
    assert [each.sentence for each in document_changes(before, after)] == [
        "internal-ops: action route send ask → deny",
        "everybody else: action route send ask → deny",
    ]


def test_a_route_restricted_in_one_segment_is_said_for_each_group() -> None:
    restricted = replace(LIVE, restrictions=(Restriction("eu", EU.rule, {"send": "deny"}),))

    assert words(LIVE, restricted) == [
        "everybody else, if in a restricted segment: action route send ask → deny",
        "internal-ops, not exposed, if in a restricted segment: action route send ask → deny",
        "internal-ops, if in a restricted segment: action route send ask → deny",
    ]
    assert words(restricted, LIVE) == [
        sentence.replace("ask → deny", "deny → ask") for sentence in words(LIVE, restricted)
    ]
    assert words(restricted, restricted) == []


def test_a_path_comes_and_goes() -> None:
    before, after = document(PATH), document(PATH, replace(OTHER, rollout=ROLLOUT), number=2)

    assert [change.sentence for change in document_changes(before, after)] == [
        "the path is new; everybody gets 1.0",
        "internal-ops: exposed, 90 % on 2.0 in mode normal; not exposed before",
    ]
    (gone,) = document_changes(after, before)
    assert (gone.workflow, gone.path, gone.sentence) == (
        *("claims", "read"),
        "the path is no longer served",
    )
    assert [change.path for change in document_changes(None, before)] == ["draft"]
    assert workflows_touched(before, after) == {"claims"}
    assert workflows_touched(after, before) == {"claims"}
    assert workflows_touched(None, after) == {"claims", "reply"}


def test_served_paths_have_their_segments_with_shares() -> None:
    both = with_rollout(segments=(replace(INTERNAL, share=Decimal(1)), EU))

    (path,) = paths_served(document(both))

    assert (path.key, path.rollout) == ("reply.draft", "reply-2")
    assert [(each.segment, each.share, each.release) for each in path.exposed] == [
        ("internal-ops", 1.0, "2.0"),
        ("eu", 0.05, "2.0"),
    ]
    assert (path.others.segment, path.others.share, path.others.release) == (None, None, "1.0")
    assert path.others.actions == {"send": "ask"}


def test_a_cut_document_holds_no_other_workflow() -> None:
    whole = document(LIVE, OTHER)

    assert list(document_cut(whole, {"claims"})["flags"]) == ["claims.read"]
    assert document_cut(whole, set())["flags"] == {}
    assert document_cut(whole, None) == whole
    assert "reply" not in str(document_cut(whole, {"claims"}))
