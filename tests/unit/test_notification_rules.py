"""Who is told, when it is tried again, and in which words."""

from datetime import UTC, datetime
from typing import Any

import pytest

from rollout_console.notifications.rules import (
    EVENT_TYPES,
    GIVE_UP_S,
    Concerned,
    Wants,
    concerned,
    is_wanted,
    wait_s,
)
from rollout_console.notifications.words import clock_of, message_of, sentence_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_pauses_triple_from_five_seconds_to_two_hours() -> None:
    longest = [wait_s(attempts=n, luck=1.0) for n in range(1, 10)]
    assert longest == [5, 15, 45, 135, 405, 1215, 3645, 7200, 7200]
    assert [wait_s(attempts=n, luck=0.0) for n in (1, 8, 500)] == [2.5, 3600, 3600]
    # 7 pauses up to 1 h 31 min, then two hours each; at the least a half of that.
    for luck, tries in ((0.0, 31), (1.0, 19)):
        spent, made = 0.0, 1
        while spent + (pause := wait_s(attempts=made, luck=luck)) <= GIVE_UP_S:
            spent, made = spent + pause, made + 1
        assert made == tries


def test_a_receiver_may_ask_for_more_time_but_not_for_ever() -> None:
    assert wait_s(attempts=1, luck=1.0, retry_after_s=60) == 60
    assert wait_s(attempts=6, luck=1.0, retry_after_s=1) == 1215
    assert wait_s(attempts=1, luck=1.0, retry_after_s=10**9) == 7200


@pytest.mark.parametrize(
    ("wants", "type_", "data", "wanted"),
    [
        (Wants(None, (), "low"), "anything.at_all", {}, True),
        (Wants("w", (), "low"), "alert.opened", {}, True),
        (Wants("other", (), "low"), "alert.opened", {}, False),
        (Wants(None, ("rollout.changed",), "low"), "alert.opened", {}, False),
        (Wants(None, (), "high"), "alert.opened", {"severity": "medium"}, False),
        (Wants(None, (), "high"), "alert.opened", {"severity": "high"}, True),
        # What states no severity, or is no alert, passes any floor.
        (Wants(None, (), "critical"), "alert.opened", {}, True),
        (Wants(None, (), "critical"), "rollout.changed", {"severity": "low"}, True),
    ],
)
def test_wanted(wants: Wants, type_: str, data: dict[str, Any], wanted: bool) -> None:
    assert is_wanted(wants, type_=type_, workflow="w", data=data) == wanted


@pytest.mark.parametrize(
    ("type_", "data", "people", "roles"),
    [
        ("alert.opened", {"owner": "ada"}, ("ada",), ()),
        ("alert.opened", {"owner": "ada", "quiet": True}, (), ()),
        ("alert.half_time", {"deputy": "bo", "notify": ["cy"]}, ("cy",), ()),
        ("alert.half_time", {"deputy": "bo"}, (), ("deputy",)),
        ("alert.escalated", {"notify": ["cy", "di", "cy", 7]}, ("cy", "di"), ()),
        ("alert.recurred", {"owner": "ada", "notify": []}, (), ()),
        ("alert.resolved", {"owner": "ada"}, (), ()),
        ("rollout.changed", {"action": "rolled_back"}, (), ("owner", "lead")),
        ("rollout.changed", {"action": "expanded"}, (), ()),
        ("expansion.requested", {}, (), ("approver",)),
        ("expansion.decided", {"notify": "not a list"}, (), ("owner",)),
    ],
)
def test_concerned(
    type_: str, data: dict[str, Any], people: tuple[str, ...], roles: tuple[str, ...]
) -> None:
    assert concerned(type_, data) == Concerned(people, roles)


def test_every_type_has_a_sentence_whatever_its_data_lack() -> None:
    for type_ in [*EVENT_TYPES, "something.later", "notification.test"]:
        message = message_of(type_, {}, workflow="", answers="", url="", now=NOW)
        assert message.title
        assert message.text.endswith(".") or message.text.endswith(": ")


def test_sentences() -> None:
    assert (
        sentence_of("rollout.changed", {"rollout": "r", "action": "fell_back", "state": "live"})
        == "The rollout r was switched to a fallback. It is live."
    )
    assert (
        sentence_of("alert.resolved", {"by": "ada", "was_right": False, "sentence": "Too slow."})
        == "Resolved by ada as a false alarm: Too slow."
    )
    assert (
        sentence_of(
            "expansion.decided",
            {"rollout": "r", "decision": "approve", "reason": "looked", "break_glass": True},
        )
        == "The expansion of r is decided by break-glass: approve: looked"
    )


def test_a_clock_is_named_only_while_it_runs() -> None:
    running = {"due_at": "2026-11-24T12:01:00+00:00", "due_action": {"action": "rollback"}}
    assert clock_of(running, now=NOW) == (
        "The clock runs: the console rolls back at 12:01:00 UTC unless somebody decides otherwise."
    )
    assert clock_of({**running, "due_at": NOW.isoformat()}, now=NOW) == ""
    assert clock_of({**running, "due_action": None}, now=NOW) == ""
    assert clock_of({"due_at": None}, now=NOW) == ""
