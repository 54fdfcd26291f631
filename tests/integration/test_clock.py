"""The clock: what happens when nobody decides, what stops it, and whom it tells at half time."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import WorkflowPath
from rollout_console.containment.changes import exposed_set
from rollout_console.containment.clock import alerts_contain_due, clocks_freeze
from rollout_console.containment.keeper import keeper_look
from rollout_console.containment.targets import Press
from rollout_console.core.models import OutboxEvent
from rollout_console.rollouts.models import ExposedSegment, Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.alerts.services import (
    alert_acknowledge,
    alert_hold,
    alert_resolve,
    alerts_half_time,
    guards_watch,
)
from signals.guards.models import Guard, Verdict
from tests.factories import contain, principal, rollout_at
from tests.ledger import arrive
from tests.plans import plan_document

pytestmark = pytest.mark.django_db
HOLD = timedelta(seconds=60)
AFTER_HOLD = {"kind": "contain_after_hold", "action": "narrow"}


def hurt(rollout: Rollout, *, at: datetime) -> None:
    path = WorkflowPath.objects.get(workflow=rollout.workflow)
    segment = rollout.exposed.order_by("pk").first()
    assert segment is not None
    arrive(
        path,
        at,
        release_id=rollout.candidate_id,
        segment_id=segment.segment_id,
        failed=50,
    )


def tripped(stage: int, **response: Any) -> tuple[Rollout, Alert, datetime]:
    """A live rollout on `stage` whose quality trigger tripped just now, its clock running."""
    document = plan_document()
    document["workflow"]["paths"][0]["fallbacks"] = {"human_review": {}, "manual": {}}
    rollout = rollout_at(RolloutState.LIVE, document=document)
    if stage == 2:
        segment = rollout.workflow.segments.get(slug="eu-customers")
        rollout.exposed.update(share=1)
        ExposedSegment.objects.create(rollout=rollout, segment=segment, share=Decimal("0.05"))
        Rollout.objects.filter(pk=rollout.pk).update(stage=2)
    now = timezone.now()
    guard = Guard.objects.filter(rollout=rollout.slug, slug="quality-low")
    guard.update(response={**AFTER_HOLD, **response}, evidence_from=now - timedelta(minutes=5))
    hurt(rollout, at=now - timedelta(seconds=1))
    guards_watch(now=now)
    rollout.refresh_from_db()
    return rollout, Alert.objects.get(), now


def test_an_overdue_narrow_goes_to_the_stage_below() -> None:
    rollout, alert, now = tripped(2)
    assert alert.due_at == now + HOLD
    assert clocks_freeze() == 1
    alert.refresh_from_db()
    assert alert.due_action == {
        "action": "narrow",
        "path": "draft",
        "segment": None,
        "to": {"internal-ops": "0.9"},
        "frozen": True,
    }
    assert clocks_freeze() == 0

    assert alerts_contain_due(now=now + HOLD - timedelta(seconds=1)) == 0
    hurt(rollout, at=now + HOLD - timedelta(seconds=1))
    assert alerts_contain_due(now=now + HOLD) == 1

    rollout.refresh_from_db()
    assert (rollout.state, rollout.state_by) == ("live", "console")
    assert exposed_set(rollout) == {"internal-ops": Decimal("0.9")}
    entry = AuditEntry.objects.get(action="rollout.narrowed")
    assert entry.actor_kind == "system"
    assert entry.reason["note"].startswith(f"Automatic, by alert {alert.pk}: ")
    assert alerts_contain_due(now=now + HOLD * 2) == 0


def test_on_the_lowest_stage_it_rolls_back() -> None:
    rollout, alert, now = tripped(1)
    clocks_freeze()
    alert.refresh_from_db()
    assert alert.due_action is not None
    # Said in time: the screen names what will happen.
    assert alert.due_action["action"] == "rollback"
    alerts_contain_due(now=now + HOLD)
    rollout.refresh_from_db()
    assert rollout.state == "rolled_back"


def test_a_frozen_target_never_adds_anybody() -> None:
    rollout, _, now = tripped(2)
    clocks_freeze()
    # Narrowed by hand, below what the clock wanted: its clock is stopped with that.
    contain(rollout, "narrow", press=Press(segments=("eu-customers",)))
    assert Alert.objects.get().due_at is None
    Alert.objects.update(due_at=now)
    alerts_contain_due(now=now + HOLD)
    rollout.refresh_from_db()
    # What both allow is nobody, so nothing is left to narrow.
    assert (rollout.state, exposed_set(rollout)) == ("rolled_back", {})


def test_a_fallback_by_clock_names_its_mode() -> None:
    rollout, _, now = tripped(2, action="fallback", mode="human_review")
    alerts_contain_due(now=now + HOLD)
    assert rollout.modes.get().mode == "human_review"
    assert AuditEntry.objects.get(action="rollout.fell_back").data["paths"] == ["draft"]


def test_a_safer_mode_that_holds_already_is_left() -> None:
    rollout, _, now = tripped(2, action="fallback", mode="human_review")
    contain(rollout, "fallback", press=Press(mode="manual"))
    Alert.objects.update(due_at=now)
    assert alerts_contain_due(now=now + HOLD) == 1
    assert rollout.modes.get().mode == "manual"


@pytest.mark.parametrize(
    ("action", "said", "stops"),
    [
        ("narrow", Press(share=Decimal("0.5")), True),
        ("fallback", Press(mode="manual"), True),
        ("rollback", Press(), True),
        ("pause", Press(), False),
        ("escalate", Press(), False),
        ("disable_action", Press(action_route="send_message"), False),
        # A fallback of one segment does not cover a trigger of the whole path.
        ("fallback", Press(mode="manual", segments=("eu-customers",)), False),
    ],
)
def test_only_a_reduction_that_covers_its_path_stops_the_clock(
    action: str, said: Press, stops: bool
) -> None:
    rollout, _, _ = tripped(2)
    contain(rollout, action, press=said)
    assert (Alert.objects.get().due_at is None) == stops


def test_acknowledging_stops_nothing_and_holding_does() -> None:
    rollout, alert, now = tripped(2)
    alert_acknowledge(alert_id=alert.pk, principal=principal("owner"), now=now)
    alert_hold(
        alert_id=alert.pk,
        until=now + 2 * HOLD,
        reason="reading traces",
        principal=principal("deputy"),
        now=now,
    )
    assert alerts_contain_due(now=now + HOLD) == 0
    assert alerts_half_time(now=now + HOLD) == 0
    assert alerts_contain_due(now=now + 2 * HOLD) == 1
    rollout.refresh_from_db()
    assert exposed_set(rollout) == {"internal-ops": Decimal("0.9")}


def test_a_false_alarm_stops_its_clock() -> None:
    rollout, alert, now = tripped(2)
    alert_resolve(
        alert_id=alert.pk, was_right=False, note="", principal=principal("owner"), now=now
    )
    assert alerts_contain_due(now=now + HOLD) == 0
    assert exposed_set(rollout).keys() == {"internal-ops", "eu-customers"}


def test_at_half_time_the_deputy_is_told_once() -> None:
    _, alert, now = tripped(2)
    alert_acknowledge(alert_id=alert.pk, principal=principal("owner"), now=now)
    assert alerts_half_time(now=now + HOLD / 2 - timedelta(seconds=1)) == 0
    assert alerts_half_time(now=now + HOLD / 2) == 1
    assert alerts_half_time(now=now + HOLD / 2) == 0
    event = OutboxEvent.objects.get(type="alert.half_time")
    assert (event.data["deputy"], event.data["alert"]) == ("deputy", alert.pk)
    assert AuditEntry.objects.filter(action="alert.half_time").count() == 1


def test_the_keeper_runs_the_clock_when_no_worker_does() -> None:
    rollout, _, now = tripped(2)
    Alert.objects.update(due_at=now)
    assert keeper_look()
    assert exposed_set(rollout) == {"internal-ops": Decimal("0.9")}


def said(word: str, *, now: datetime) -> None:
    """Let the tripped trigger say `word` at the look before `now`."""
    Verdict.objects.filter(guard__slug="quality-low").update(verdict=word, evaluated_at=now)


def test_what_recovered_is_not_contained_and_not_forgotten() -> None:
    rollout, alert, now = tripped(1)
    due = now + HOLD
    said("quiet", now=due)

    assert alerts_contain_due(now=due) == 1

    rollout.refresh_from_db()
    alert.refresh_from_db()
    assert (rollout.state, alert.state, alert.due_at) == ("live", "open", due + HOLD)
    # A trigger that trips again opens no second alert, so the first one's clock has to run.
    said("tripped", now=due + HOLD)
    assert alerts_contain_due(now=due + HOLD) == 1
    rollout.refresh_from_db()
    assert rollout.state == "rolled_back"


def test_silence_at_the_end_of_a_clock_is_no_recovery() -> None:
    rollout, _, now = tripped(1)
    said("blind", now=now + HOLD)
    alerts_contain_due(now=now + HOLD)
    rollout.refresh_from_db()
    assert rollout.state == "rolled_back"


def at_once(rollout: Rollout, guard: str, **asked: Any) -> Alert:
    """An alert of a trigger that contains at once, due just now."""
    now = timezone.now()
    found = Guard.objects.get(rollout=rollout.slug, slug=guard)
    Guard.objects.filter(pk=found.pk).update(response={"kind": "contain", **asked})
    return Alert.objects.create(
        workflow=rollout.workflow,
        rollout=rollout.slug,
        guard=found,
        owner=rollout.workflow.owner,
        sentence="Over the cap.",
        opened_at=now,
        due_at=now,
        due_action={"path": "draft", "segment": None, **asked},
    )


def test_of_two_at_once_what_ends_the_exposure_is_done() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    at_once(rollout, "slow", action="fallback", mode="human_review")
    at_once(rollout, "spend-cap", action="rollback")

    alerts_contain_due(now=timezone.now())

    rollout.refresh_from_db()
    assert rollout.state == "rolled_back"
    assert not AuditEntry.objects.filter(action="rollout.fell_back").exists()


def test_a_milder_one_stops_nothing_that_acts_at_once_or_rolls_back() -> None:
    rollout, held, now = tripped(1)
    clocks_freeze()
    cap = at_once(rollout, "spend-cap", action="pause")
    at_once(rollout, "slow", action="fallback", mode="human_review")

    assert alerts_contain_due(now=timezone.now()) == 2

    held.refresh_from_db()
    cap.refresh_from_db()
    rollout.refresh_from_db()
    assert rollout.state == "paused"
    # Its clock would roll back, which the fallback is not: it goes on.
    assert held.due_at == now + HOLD
