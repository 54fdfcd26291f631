"""The console's alerts on itself: nobody watched, reports wait, a trigger cannot see."""

from datetime import timedelta

import pytest
from django.utils import timezone

from rollout_console.containment import health, work
from rollout_console.containment.health import signals_check, watch_resumed
from rollout_console.containment.targets import Press
from rollout_console.core.heartbeats import KEEPER, WORKER, heartbeat_record
from rollout_console.core.models import OutboxEvent
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert, Incident
from signals.guards.models import Guard, Verdict
from signals.guards.services import guards_look
from signals.health.models import Problem
from signals.health.rules import QUIET
from signals.health.selectors import distrusts
from signals.ingest.models import BatchState, IngestBatch
from tests.factories import contain, rollout_at
from tests.labels import Reports
from tests.matrix import logged_in
from tests.story import run_item

pytestmark = pytest.mark.django_db
S = timedelta(seconds=1)


def live() -> Rollout:
    rollout = rollout_at(RolloutState.LIVE)
    Rollout.objects.update(live_at=timezone.now() - timedelta(days=1))
    return rollout


def open_kinds() -> list[str]:
    found = Alert.objects.exclude(state="resolved").order_by("pk")
    return [alert.name for alert in found.select_related("problem")]


def test_on_return_it_says_from_when_to_when_nobody_watched() -> None:
    rollout = live()
    now = timezone.now()
    gone = now - timedelta(minutes=34)
    heartbeat_record(name=WORKER, now=gone - 5 * S)
    heartbeat_record(name=KEEPER, now=gone)

    # Worker and keeper come back at once.
    assert (watch_resumed(now=now), watch_resumed(now=now)) == (1, 1)
    signals_check(now=now)

    alert = Alert.objects.get()
    problem = Problem.objects.get()
    assert (problem.kind, problem.path, problem.rollout) == ("watch_paused", None, rollout.slug)
    assert alert.sentence == (
        f"Nobody watched from {gone:%H:%M:%S} UTC to {now:%H:%M:%S} UTC (34 min): neither the"
        " workers nor the keeper looked, and no clock ran. What came in meanwhile is judged now."
    )
    assert (alert.due_at, alert.incident_id) == (None, Incident.objects.get().pk)
    assert OutboxEvent.objects.filter(type="alert.opened").count() == 1
    # It is about the console: no guard goes blind for it.
    assert distrusts(rollout.rollout_paths.values_list("path_id", flat=True)) == []
    page = logged_in("viewer").get(f"/alerts/{alert.pk}/").content.decode()
    assert "Nobody watched for a while" in page

    heartbeat_record(name=KEEPER, now=now)
    assert watch_resumed(now=now + 60 * S) == 0
    signals_check(now=now + QUIET - S)
    assert open_kinds() == ["watch_paused"]
    signals_check(now=now + QUIET)
    alert.refresh_from_db()
    assert (alert.state, alert.resolved_by) == ("resolved", "console")
    assert Incident.objects.get().state == "resolved"


def test_a_whole_round_says_so_before_its_own_sign_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live()
    heartbeat_record(name=WORKER, now=timezone.now() - timedelta(minutes=5))
    monkeypatch.setattr(health._last, "at", float("-inf"))

    work.work_once(name=KEEPER, periodic=True)
    work.work_once(name=WORKER, periodic=True)

    assert Problem.objects.filter(kind="watch_paused").count() == 1
    assert open_kinds() == ["watch_paused"]


def test_a_first_start_and_a_young_rollout_missed_nothing() -> None:
    rollout = live()
    now = timezone.now()
    assert watch_resumed(now=now) == 0
    heartbeat_record(name=WORKER, now=now - timedelta(hours=1))
    Rollout.objects.update(live_at=now - 30 * S)
    assert watch_resumed(now=now) == 0
    Rollout.objects.update(live_at=now - 90 * S)
    assert watch_resumed(now=now) == 1
    problem = Problem.objects.get(rollout=rollout.slug)
    assert f"from {now - 90 * S:%H:%M:%S} UTC" in problem.sentence


def test_a_queue_an_hour_behind_is_an_alert_until_it_is_taken_in() -> None:
    live()
    now = timezone.now()
    signals_check(now=now)
    Reports().runs(run_item())
    IngestBatch.objects.update(received_at=now - timedelta(hours=1))

    signals_check(now=now)
    signals_check(now=now + 5 * S)

    assert open_kinds() == ["queue_behind"]
    sentence = Alert.objects.get().sentence
    assert sentence.startswith("Reports wait 1 h to be taken in, and 1 min is the limit")
    # What waits so long makes guards blind by itself: that is no second alert.
    Guard.objects.update(evidence_from=now - timedelta(hours=2))
    guards_look(now=now)
    Verdict.objects.update(since=now - timedelta(hours=1))
    assert set(Verdict.objects.values_list("verdict", flat=True)) == {"blind"}
    signals_check(now=now + 10 * S)
    assert open_kinds() == ["queue_behind"]

    IngestBatch.objects.update(state=BatchState.DRAINED)
    Verdict.objects.update(verdict="quiet")
    signals_check(now=now + 15 * S)
    assert open_kinds() == []


def test_a_trigger_blind_for_long_is_an_alert_unless_something_else_says_why() -> None:
    rollout = live()
    now = timezone.now()
    Guard.objects.update(evidence_from=now - timedelta(hours=2))
    guards_look(now=now)
    blind = Verdict.objects.filter(guard__slug__in=["quality-low", "slow", "cost-inside"])
    assert set(blind.values_list("verdict", flat=True)) == {"blind"}
    blind.update(since=now - timedelta(minutes=10))
    Verdict.objects.exclude(pk__in=blind).update(since=now - timedelta(minutes=9))

    signals_check(now=now)
    assert open_kinds() == ["guard_blind"]
    since = now - timedelta(minutes=10)
    assert Alert.objects.get().sentence == (
        f"2 guards of “Draft a reply” cannot see: quality-low, slow blind since {since:%H:%M:%S}"
        " UTC. What it watches goes unwatched."
    )
    # The guards stay blind for their own reason, not for the alert on it.
    assert distrusts(rollout.rollout_paths.values_list("path_id", flat=True)) == []

    # In a fallback the release answers nothing: that it is not seen is what was wanted.
    contain(rollout, "fallback", press=Press(mode="human_review"))
    signals_check(now=now + 5 * S)
    assert open_kinds() == []
