"""Narrow, fall back, restrict, escalate and their opposites: what each changes, and for whom."""

import json
import threading
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from approvals.authority.matrix import Scope
from approvals.authority.principals import NotAllowed
from rollout_console.audit.models import AuditEntry
from rollout_console.containment.changes import (
    AnotherInForce,
    ModeNotDeclared,
    NotAReduction,
    NothingToReturn,
    NotSafer,
    exposed_set,
)
from rollout_console.containment.confirm import SecondPersonNeeded
from rollout_console.containment.services import MoveRefused, Outcome, VersionMoved
from rollout_console.containment.targets import Press
from rollout_console.core.errors import InvalidInput
from rollout_console.core.models import OutboxEvent
from rollout_console.exposure.evaluate import Answer
from rollout_console.exposure.selectors import snapshot_current
from rollout_console.rollouts.models import ExposedSegment, Mark, Rollout, RouteRestriction
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.guards.models import Guard, Verdict
from tests.factories import contain, principal, rollout_at, token
from tests.plans import plan_document

pytestmark = pytest.mark.django_db

MODES = {
    "human_review": {},
    "manual": {},
    "previous_stable": {},
    "simpler_route": {"route": "simple"},
    "reduced_context": {"settings": {"documents": 3}},
    "read_only": {},
}


@pytest.fixture
def live() -> Rollout:
    """A live rollout on its second stage, with every mode declared and three action routes."""
    document = plan_document()
    workflow = document["workflow"]
    workflow["paths"][0]["fallbacks"] = MODES
    (route,) = workflow["action_routes"]
    workflow["action_routes"] = [
        route,
        {**route, "slug": "look_up", "effect": "read", "default": "allow"},
        {**route, "slug": "update_record", "default": "allow"},
    ]
    rollout = rollout_at(RolloutState.LIVE, document=document)
    segments = {row.slug: row for row in rollout.workflow.segments.all()}
    rollout.exposed.update(share=1)
    ExposedSegment.objects.create(
        rollout=rollout, segment=segments["eu-customers"], share=Decimal("0.05")
    )
    Rollout.objects.filter(pk=rollout.pk).update(stage=2)
    rollout.refresh_from_db()
    return rollout


def press(rollout: Rollout, action: str, who: str = "owner", **said: Any) -> Outcome:
    fields = {key: said.pop(key) for key in ("expected_version", "key") if key in said}
    return contain(rollout, action, principal=principal(who), press=Press(**said), **fields)


def served(user: str = "u-1", **context: Any) -> dict[str, Any]:
    snapshot = snapshot_current()
    assert snapshot is not None
    answer = snapshot.decide("support-reply.draft", targeting_key=user, attributes=context)
    assert isinstance(answer, Answer)
    value: dict[str, Any] = json.loads(answer.body)["value"]
    return value


def fresh(rollout: Rollout) -> Rollout:
    rollout.refresh_from_db()
    return rollout


def test_narrowing_keeps_some_segments(live: Rollout) -> None:
    outcome = press(live, "narrow", segments=("internal-ops",))

    assert outcome.state == "live"
    assert exposed_set(live) == {"internal-ops": Decimal(1)}
    assert fresh(live).stage == 2
    entry = AuditEntry.objects.get(action="rollout.narrowed")
    assert entry.data["to"] == {"internal-ops": "1"}
    assert Mark.objects.filter(text="narrowed to internal-ops 100 % by owner").exists()
    assert OutboxEvent.objects.filter(type="rollout.changed", data__action="narrowed").exists()
    assert served(team="internal")["arm"] == "candidate"
    assert served(customer_segment="eu")["arm"] == "stable"


def test_narrowing_caps_each_share(live: Rollout) -> None:
    press(live, "narrow", share=Decimal("0.5"))
    assert exposed_set(live) == {"internal-ops": Decimal("0.5"), "eu-customers": Decimal("0.05")}


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"segments": ("internal-ops", "nowhere")}, NotAReduction),
        ({"segments": ()}, InvalidInput),
        ({"share": Decimal(0)}, InvalidInput),
        ({"share": Decimal("0.000001")}, InvalidInput),
        ({"paths": ("draft",)}, InvalidInput),
        ({"mode": "manual"}, InvalidInput),
    ],
)
def test_a_narrow_that_is_none_changes_nothing(
    live: Rollout, said: dict[str, Any], error: type[Exception]
) -> None:
    before = (exposed_set(live), AuditEntry.objects.count())
    with pytest.raises(error):
        press(live, "narrow", **said)
    assert (exposed_set(live), AuditEntry.objects.count()) == before


def test_a_narrow_to_what_is_exposed_is_no_change(live: Rollout) -> None:
    outcome = press(live, "narrow", segments=("internal-ops", "eu-customers"))
    assert outcome.version == live.version
    assert not AuditEntry.objects.filter(action="rollout.narrowed").exists()


@pytest.mark.parametrize("mode", list(MODES))
def test_each_mode_is_served_for_the_whole_path(live: Rollout, mode: str) -> None:
    press(live, "fallback", mode=mode)
    value = served(team="internal")
    assert (value["arm"], value["mode"]) == ("candidate", mode)
    assert served(team="other")["mode"] == "normal"


def test_a_fallback_for_one_segment_leaves_the_others(live: Rollout) -> None:
    press(live, "fallback", mode="manual", segments=("internal-ops",), paths=("draft",))
    assert served(team="internal")["mode"] == "manual"
    exposed = next(
        value
        for user in map(str, range(400))
        if (value := served(user, customer_segment="eu"))["arm"] == "candidate"
    )
    assert exposed["mode"] == "normal"


def test_a_fallback_never_goes_to_the_left(live: Rollout) -> None:
    press(live, "fallback", mode="read_only")
    with pytest.raises(NotSafer, match="safer than simpler route"):
        press(live, "fallback", mode="simpler_route")
    assert served(team="internal")["mode"] == "read_only"


def test_a_fallback_within_a_group_is_refused_where_it_loosens_a_route(live: Rollout) -> None:
    press(live, "fallback", mode="read_only")
    with pytest.raises(NotSafer, match="send_message would go from deny to ask"):
        press(live, "fallback", mode="human_review")
    # With the routes denied anyway, nothing is loosened.
    for route in ("send_message", "update_record"):
        press(live, "disable_action", action_route=route)
    press(live, "fallback", mode="human_review")
    value = served(team="internal")
    assert value["mode"] == "human_review"
    assert value["actions"] == {"look_up": "ask", "send_message": "deny", "update_record": "deny"}


def test_a_segment_in_a_safer_mode_stays_in_it(live: Rollout) -> None:
    press(live, "fallback", mode="manual", segments=("eu-customers",))
    press(live, "fallback", mode="reduced_context")
    assert served(team="internal")["mode"] == "reduced_context"
    assert live.modes.get(segment__slug="eu-customers").mode == "manual"


def test_an_undeclared_mode_names_those_that_are() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    with pytest.raises(ModeNotDeclared, match="it has: read_only, human_review"):
        press(rollout, "fallback", mode="simpler_route")


def test_a_restriction_holds_for_both_arms_and_outlives_the_rollout(live: Rollout) -> None:
    press(live, "disable_action", action_route="update_record")
    press(live, "require_approval", action_route="look_up")
    for context in ({"team": "internal"}, {"team": "other"}):
        assert served(**context)["actions"] == {
            "look_up": "ask",
            "send_message": "ask",
            "update_record": "deny",
        }
    # Asking for approval never loosens what is disabled.
    press(live, "require_approval", action_route="update_record")
    assert served(team="other")["actions"]["update_record"] == "deny"

    press(live, "rollback")

    assert served(team="internal")["actions"]["update_record"] == "deny"
    outcome = press(
        live,
        "enable_action",
        action_route="update_record",
        expected_version=fresh(live).version,
    )
    assert outcome.waiting_for == []
    assert served(team="internal")["actions"]["update_record"] == "allow"


def test_a_segments_restriction_holds_for_everybody_in_it(live: Rollout) -> None:
    press(live, "disable_action", action_route="look_up", segments=("eu-customers",))
    assert served(team="internal")["actions"]["look_up"] == "allow"
    assert served(customer_segment="eu")["actions"]["look_up"] == "deny"
    # Answered as another segment, and held all the same.
    both = served(team="internal", customer_segment="eu")
    assert (both["segment"], both["actions"]["look_up"]) == ("internal-ops", "deny")


def test_escalating_tells_the_next_on_the_ladder_and_changes_nothing(live: Rollout) -> None:
    before = (live.version, snapshot_current())
    press(live, "escalate", who="viewer")
    entry = AuditEntry.objects.get(action="rollout.escalated")
    assert [entry.data[key] for key in ("told", "people", "notify")] == [
        "deputy",
        ["deputy"],
        ["deputy"],
    ]
    assert fresh(live).version == before[0]
    assert Mark.objects.filter(text="escalated to deputy (deputy) by viewer").exists()


def test_the_owner_alone_resumes_while_nothing_tripped(live: Rollout) -> None:
    press(live, "pause")
    outcome = press(live, "resume", expected_version=fresh(live).version)
    assert (outcome.state, outcome.waiting_for) == ("live", [])


def trip(rollout: Rollout) -> None:
    Alert.objects.create(
        workflow=rollout.workflow,
        rollout=rollout.slug,
        guard=Guard.objects.get(slug="slow"),
        owner=rollout.workflow.owner,
        sentence="Too slow.",
        opened_at=timezone.now(),
    )


@pytest.mark.parametrize(
    ("first", "second", "missing"),
    [("owner", "deputy", ["approver", "deputy"]), ("approver", "owner", ["owner"])],
)
def test_after_a_trip_resuming_takes_two(
    live: Rollout, first: str, second: str, missing: list[str]
) -> None:
    press(live, "pause")
    trip(live)
    version = fresh(live).version

    half = press(live, "resume", first, expected_version=version)
    assert (half.state, half.waiting_for) == ("paused", missing)
    assert press(live, "resume", first, expected_version=version).state == "paused"
    whole = press(live, "resume", second, expected_version=version)

    assert (whole.state, whole.waiting_for) == ("live", [])
    assert AuditEntry.objects.filter(action="rollout.resumed").count() == 1


def test_two_second_people_are_not_the_owner(live: Rollout) -> None:
    press(live, "pause")
    version = fresh(live).version
    press(live, "resume", "deputy", expected_version=version)
    with pytest.raises(SecondPersonNeeded):
        press(live, "resume", "approver", expected_version=version)
    assert fresh(live).state == "paused"


def test_halves_are_of_the_same_thing_or_nothing(live: Rollout) -> None:
    press(live, "fallback", mode="manual", segments=("internal-ops",))
    press(live, "fallback", mode="manual", segments=("eu-customers",))
    trip(live)
    version = fresh(live).version
    press(live, "clear_fallback", expected_version=version, segments=("internal-ops",))
    other = press(
        live, "clear_fallback", "deputy", expected_version=version, segments=("eu-customers",)
    )
    assert other.waiting_for == ["owner"]
    assert live.modes.count() == 2
    press(live, "clear_fallback", "deputy", expected_version=version, segments=("internal-ops",))
    assert [row.segment.slug for row in live.modes.all() if row.segment] == ["eu-customers"]


@pytest.mark.parametrize("action", ["resume", "clear_fallback", "enable_action"])
def test_what_widens_takes_the_exact_version(live: Rollout, action: str) -> None:
    said = {"action_route": "look_up"} if action == "enable_action" else {}
    press(live, "fallback", mode="manual")
    press(live, "disable_action", action_route="look_up")
    press(live, "pause")
    with pytest.raises(InvalidInput, match="say the version"):
        press(live, action, **said)
    with pytest.raises(VersionMoved):
        press(live, action, expected_version=1, **said)
    assert (fresh(live).state, live.modes.count()) == ("paused", 1)
    assert RouteRestriction.objects.count() == 1


@pytest.mark.parametrize("action", ["resume", "clear_fallback", "enable_action"])
def test_a_service_token_never_widens(live: Rollout, action: str) -> None:
    _, robot = token(Scope.READ, Scope.CONTROL)
    press(live, "pause")
    with pytest.raises(NotAllowed):
        contain(live, action, principal=robot, expected_version=fresh(live).version, press=Press())
    assert fresh(live).state == "paused"


@pytest.mark.parametrize("action", ["clear_fallback", "enable_action"])
def test_there_has_to_be_something_to_take_back(live: Rollout, action: str) -> None:
    said = {"action_route": "look_up"} if action == "enable_action" else {}
    with pytest.raises(NothingToReturn):
        press(live, action, expected_version=live.version, **said)


@pytest.mark.parametrize("action", ["narrow", "fallback"])
def test_nothing_is_contained_that_exposes_nobody(action: str) -> None:
    rollout = rollout_at(RolloutState.ROLLED_BACK)
    with pytest.raises(MoveRefused, match="exposes nobody"):
        press(rollout, action, **({"mode": "human_review"} if action == "fallback" else {}))


def test_a_containment_starts_the_bake_anew(live: Rollout) -> None:
    before = live.bake_from
    press(live, "narrow", segments=("internal-ops",))
    bake_from = fresh(live).bake_from
    assert bake_from is not None
    assert before is None or bake_from > before
    criteria = Guard.objects.filter(rollout=live.slug, kind="criterion")
    triggers = Guard.objects.filter(rollout=live.slug, kind="trigger")
    assert {guard.evidence_from for guard in criteria} == {bake_from}
    assert all(guard.evidence_from and guard.evidence_from < bake_from for guard in triggers)


@pytest.mark.django_db(transaction=True)
def test_concurrent_presses_end_as_some_order_explains() -> None:
    document = plan_document()
    document["workflow"]["paths"][0]["fallbacks"] = MODES
    rollout = rollout_at(RolloutState.LIVE, document=document)
    presses: list[tuple[str, Press]] = [
        ("pause", Press()),
        ("narrow", Press(share=Decimal("0.5"))),
        ("fallback", Press(mode="human_review")),
        ("fallback", Press(mode="manual")),
        ("disable_action", Press(action_route="send_message")),
        ("require_approval", Press(action_route="send_message")),
    ]
    refused: list[Exception] = []

    def run(action: str, what: Press) -> None:
        try:
            contain(rollout, action, press=what, key=uuid.uuid4().hex)
        except NotSafer as refusal:
            refused.append(refusal)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=each) for each in presses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    rollout.refresh_from_db()
    assert rollout.state == "paused"
    assert exposed_set(rollout) == {"internal-ops": Decimal("0.5")}
    assert rollout.modes.get().mode == "manual"
    assert RouteRestriction.objects.get().state == "deny"
    # One entry a change: the milder of two presses may have come second, and changed nothing.
    entries = AuditEntry.objects.filter(subject=rollout.slug, data__has_key="opened_at")
    versions = sorted(entry.data["version"] for entry in entries)
    assert versions == list(range(versions[0], versions[0] + len(versions)))
    assert versions[-1] == rollout.version
    assert len(versions) in range(4, 7 - len(refused))


def test_somebody_is_told_of_what_has_just_ended_too() -> None:
    rollout = rollout_at(RolloutState.ROLLED_BACK)
    press(rollout, "escalate", who="viewer")
    assert AuditEntry.objects.get(action="rollout.escalated").data["told"] == "deputy"


def test_what_happens_while_paused_does_not_shorten_the_pause(live: Rollout) -> None:
    press(live, "pause")
    trip(live)
    press(live, "narrow", share=Decimal("0.5"))
    half = press(live, "resume", expected_version=fresh(live).version)
    assert (half.state, half.waiting_for) == ("paused", ["approver", "deputy"])


@pytest.mark.parametrize(
    ("first", "second", "back"),
    [
        (
            ("fallback", {"mode": "reduced_context"}),
            ("fallback", {"mode": "manual"}),
            ("clear_fallback", {}),
        ),
        (
            ("require_approval", {"action_route": "look_up"}),
            ("disable_action", {"action_route": "look_up"}),
            ("enable_action", {"action_route": "look_up"}),
        ),
    ],
)
def test_tightening_does_not_forget_what_tripped_before(
    live: Rollout, first: Any, second: Any, back: Any
) -> None:
    press(live, first[0], **first[1])
    trip(live)
    press(live, second[0], **second[1])
    half = press(live, back[0], expected_version=fresh(live).version, **back[1])
    assert half.waiting_for == ["approver", "deputy"]


def test_an_alert_whose_trigger_went_silent_takes_two(live: Rollout) -> None:
    trip(live)
    guard = Guard.objects.get(slug="slow")
    now = timezone.now()
    Verdict.objects.create(
        guard=guard, verdict="blind", sentence="Silent.", evaluated_at=now, since=now
    )
    press(live, "fallback", mode="manual")
    half = press(live, "clear_fallback", expected_version=fresh(live).version)
    assert half.waiting_for == ["approver", "deputy"]


def test_a_route_is_enabled_only_where_the_path_is_watched(live: Rollout) -> None:
    press(live, "rollback")
    press(live, "disable_action", action_route="send_message")
    document = plan_document(slug="support-reply-2026.12.1", candidate="2026.12.1")
    document["workflow"] = live.plan.document["workflow"]
    following = rollout_at(RolloutState.LIVE, document=document)

    with pytest.raises(AnotherInForce, match=r"support-reply-2026\.12\.1 is in force"):
        press(
            live,
            "enable_action",
            action_route="send_message",
            expected_version=fresh(live).version,
        )
    assert RouteRestriction.objects.count() == 1
    press(
        following,
        "enable_action",
        action_route="send_message",
        expected_version=fresh(following).version,
    )
    assert not RouteRestriction.objects.exists()
