"""Alerts: opened once by a trip, then acknowledged, held and resolved by people."""

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from approvals.authority.principals import NotAllowed
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Workflow, WorkflowPath
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.core.models import OutboxEvent
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts import services
from signals.alerts.models import Alert
from signals.alerts.selectors import alert_row, alert_rows
from signals.alerts.services import (
    AlertResolved,
    HoldTooLong,
    ResolvedOtherwise,
    StillTripped,
    alert_acknowledge,
    alert_hold,
    alert_resolve,
    guards_watch,
)
from signals.guards.models import Guard
from signals.guards.selectors import verdict_rows
from signals.guards.services import (
    Looked,
    guard_evidence_restart,
    guards_disarm,
    guards_look,
)
from tests.factories import contain, person, principal, rollout_at
from tests.labels import Reports, work
from tests.ledger import arrive
from tests.story import run_item

pytestmark = pytest.mark.django_db


def live_and_bad() -> tuple[Rollout, WorkflowPath]:
    """Return a live rollout whose candidate just failed 60 tasks."""
    rollout = rollout_at(RolloutState.LIVE)
    now = timezone.now()
    Guard.objects.filter(rollout=rollout.slug).update(evidence_from=now - timedelta(minutes=1))
    path = WorkflowPath.objects.get(workflow=rollout.workflow, slug="draft")
    arrive(path, now, release_id=rollout.candidate_id, failed=60)
    return rollout, path


@pytest.fixture
def bad() -> tuple[Rollout, WorkflowPath]:
    return live_and_bad()


@pytest.fixture
def alert(bad: tuple[Rollout, WorkflowPath]) -> Alert:
    assert guards_watch(now=timezone.now()) == 1
    return Alert.objects.get()


def written() -> tuple[int, int]:
    return AuditEntry.objects.count(), OutboxEvent.objects.count()


def test_a_trip_opens_one_alert_that_names_the_owner(bad: tuple[Rollout, WorkflowPath]) -> None:
    rollout, _ = bad
    now = timezone.now()

    assert guards_watch(now=now) == 1
    assert guards_watch(now=now + timedelta(seconds=1)) == 0

    alert = Alert.objects.get()
    assert (alert.rollout, alert.state, alert.owner.username) == (rollout.slug, "open", "owner")
    assert (alert.n, alert.value, alert.opened_at) == (60, 0.0, now)
    assert alert.sentence.startswith("Quality: 0.0 % of tasks passed (95 % range ")
    assert (alert.due_at, alert.due_action) == (None, None)
    entry = AuditEntry.objects.get(action="alert.opened")
    assert (entry.actor, entry.actor_kind, entry.subject) == ("console", "system", str(alert.pk))
    assert entry.data["n"] == 60
    event = OutboxEvent.objects.get(type="alert.opened")
    assert event.data["rollout"] == rollout.slug
    assert event.data["owner"] == "owner"


@pytest.mark.parametrize(
    ("response", "due_s"),
    [
        ({"kind": "alert"}, None),
        ({"kind": "recommend", "action": "rollback"}, None),
        ({"kind": "contain", "action": "rollback"}, 0),
        ({"kind": "contain", "action": "pause"}, 0),
        ({"kind": "contain_after_hold", "action": "rollback"}, 60),
        ({"kind": "contain_after_hold", "action": "narrow"}, 60),
        ({"kind": "contain_after_hold", "action": "fallback", "mode": "human_review"}, 60),
    ],
)
def test_the_response_sets_the_clock(
    bad: tuple[Rollout, WorkflowPath], response: dict[str, str], due_s: int | None
) -> None:
    Guard.objects.filter(slug="quality-low").update(response=response)
    now = timezone.now()

    guards_watch(now=now)

    alert = Alert.objects.get()
    if due_s is None:
        assert (alert.due_at, alert.halfway_at, alert.due_action) == (None, None, None)
    else:
        assert alert.due_at == now + timedelta(seconds=due_s)
        assert alert.halfway_at == (now + timedelta(seconds=due_s / 2) if due_s else None)
        said = {key: value for key, value in response.items() if key != "kind"}
        assert alert.due_action == {"path": "draft", "segment": None, **said}


def test_acknowledging_twice_is_once(alert: Alert) -> None:
    now = timezone.now()
    alert_acknowledge(alert_id=alert.pk, principal=principal("deputy"), now=now)
    before = written()
    alert_acknowledge(
        alert_id=alert.pk, principal=principal("owner"), now=now + timedelta(seconds=1)
    )

    alert.refresh_from_db()
    assert (alert.state, alert.acked_at, alert.acked_by) == ("acknowledged", now, "deputy")
    assert written() == before
    assert AuditEntry.objects.get(action="alert.acknowledged").actor == "deputy"


@pytest.mark.parametrize("name", ["viewer", "lead", "reviewer", "approver", "administrator"])
def test_others_may_do_nothing_with_it(alert: Alert, name: str) -> None:
    before = written()
    now = timezone.now()
    who = principal(name)
    with pytest.raises(NotAllowed):
        alert_acknowledge(alert_id=alert.pk, principal=who, now=now)
    with pytest.raises(NotAllowed):
        alert_hold(
            alert_id=alert.pk,
            until=now + timedelta(seconds=30),
            reason="looking",
            principal=who,
            now=now,
        )
    with pytest.raises(NotAllowed):
        alert_resolve(alert_id=alert.pk, was_right=False, note="", principal=who, now=now)
    alert.refresh_from_db()
    assert alert.state == "open"
    assert written() == before


def test_who_may_not_read_it_is_not_told_that_it_exists(alert: Alert) -> None:
    person("stranger")
    for name in ("outsider", "stranger"):
        with pytest.raises(NotFound):
            alert_acknowledge(alert_id=alert.pk, principal=principal(name), now=timezone.now())
    with pytest.raises(NotFound):
        alert_resolve(
            alert_id=alert.pk + 1,
            was_right=True,
            note="",
            principal=principal("owner"),
            now=timezone.now(),
        )


def test_a_hold_stops_the_clock_for_at_most_twice_its_length(alert: Alert) -> None:
    now = timezone.now()
    Alert.objects.update(due_at=now + timedelta(seconds=60), due_action={"action": "rollback"})
    until = now + timedelta(seconds=120)
    owner = principal("owner")
    with pytest.raises(HoldTooLong):
        alert_hold(
            alert_id=alert.pk,
            until=until + timedelta(seconds=1),
            reason="looking",
            principal=owner,
            now=now,
        )
    for reason, time in ((" ", until), ("late", now)):
        with pytest.raises(InvalidInput):
            alert_hold(alert_id=alert.pk, until=time, reason=reason, principal=owner, now=now)
    alert.refresh_from_db()
    assert alert.state == "open"

    alert_hold(alert_id=alert.pk, until=until, reason="looking", principal=owner, now=now)
    before = written()
    alert_hold(alert_id=alert.pk, until=until, reason="looking", principal=owner, now=now)

    assert written() == before
    row = alert_row(alert_id=alert.pk, now=now)
    assert row is not None
    assert (row.state, row.due_at, row.held_reason) == ("held", until, "looking")
    later = alert_row(alert_id=alert.pk, now=until + timedelta(seconds=1))
    assert later is not None
    assert later.state == "open"
    entry = AuditEntry.objects.get(action="alert.held")
    assert entry.reason == {"note": "looking"}


def test_a_tripped_trigger_is_resolved_only_as_a_false_alarm(alert: Alert) -> None:
    now = timezone.now()
    before = written()
    with pytest.raises(StillTripped):
        alert_resolve(
            alert_id=alert.pk, was_right=True, note="", principal=principal("owner"), now=now
        )
    alert.refresh_from_db()
    assert alert.state == "open"
    assert written() == before

    alert_resolve(
        alert_id=alert.pk,
        was_right=False,
        note="a test load",
        principal=principal("owner"),
        now=now,
    )

    alert.refresh_from_db()
    assert (alert.state, alert.was_right, alert.note) == ("resolved", False, "a test load")
    assert (alert.resolved_by, alert.resolved_at, alert.due_at) == ("owner", now, None)
    event = OutboxEvent.objects.get(type="alert.resolved")
    assert event.data["was_right"] is False


def test_after_a_rollback_it_may_have_been_right(
    alert: Alert, bad: tuple[Rollout, WorkflowPath]
) -> None:
    rollout, _ = bad
    contain(rollout, "rollback")
    resolved = alert_resolve(
        alert_id=alert.pk,
        was_right=True,
        note="",
        principal=principal("owner"),
        now=timezone.now(),
    )
    assert (resolved.state, resolved.was_right) == ("resolved", True)


def test_resolving_again_changes_nothing_and_another_answer_is_refused(alert: Alert) -> None:
    now = timezone.now()
    fields: dict[str, Any] = {
        "alert_id": alert.pk,
        "note": "",
        "principal": principal("owner"),
        "now": now,
    }
    alert_resolve(was_right=False, **fields)
    before = written()
    alert_resolve(was_right=False, **fields)
    with pytest.raises(ResolvedOtherwise):
        alert_resolve(was_right=True, **fields)
    with pytest.raises(AlertResolved):
        alert_hold(
            alert_id=alert.pk,
            until=now + timedelta(seconds=5),
            reason="late",
            principal=principal("owner"),
            now=now,
        )
    assert written() == before


def test_a_resolved_alert_comes_back_only_on_new_evidence(
    alert: Alert, bad: tuple[Rollout, WorkflowPath]
) -> None:
    rollout, path = bad
    now = timezone.now()
    alert_resolve(
        alert_id=alert.pk, was_right=False, note="", principal=principal("owner"), now=now
    )

    assert guards_watch(now=now + timedelta(seconds=1)) == 0
    assert Alert.objects.count() == 1

    arrive(path, now + timedelta(seconds=8), release_id=rollout.candidate_id, failed=60)
    assert guards_watch(now=now + timedelta(seconds=8)) == 1
    assert list(Alert.objects.order_by("pk").values_list("state", flat=True)) == [
        "resolved",
        "open",
    ]


@pytest.mark.parametrize(("signal", "limit"), [("review_backlog", 2), ("review_age_s", 60)])
def test_a_backlog_called_a_false_alarm_comes_back_only_with_new_reviews(
    signal: str, limit: int
) -> None:
    rollout = rollout_at(RolloutState.LIVE)
    Guard.objects.filter(slug__in=["slow", "quality-holds"]).update(signal=signal, limit=limit)
    now = timezone.now()
    Guard.objects.update(evidence_from=now - timedelta(minutes=10))
    reports = Reports()

    def ask(at: datetime) -> None:
        reports.runs(
            *(run_item(occurred_at=at.isoformat(), review_requested=True) for _ in range(3))
        )
        work(now=at)

    def waits(slug: str, at: datetime) -> float | None:
        return next(row for row in verdict_rows([rollout.slug], at) if row.guard == slug).value

    ask(now - timedelta(minutes=5))
    assert guards_watch(now=now) == 1
    alert = Alert.objects.get()
    alert_resolve(
        alert_id=alert.pk, was_right=False, note="", principal=principal("owner"), now=now
    )

    later = now + timedelta(seconds=1)
    assert guards_watch(now=later) == 0
    assert waits("slow", later) == 0
    # The criterion is about all that waits, whenever its evidence starts.
    Guard.objects.filter(slug="quality-holds").update(evidence_from=now)
    guards_look(now=later, reread=True)
    assert (waits("quality-holds", later) or 0) > limit

    ask(now + timedelta(seconds=2))
    assert guards_watch(now=now + timedelta(minutes=2)) == 1
    assert Alert.objects.latest("pk").about_guard.slug == "slow"


def test_a_disarmed_guard_opens_nothing(bad: tuple[Rollout, WorkflowPath]) -> None:
    rollout, _ = bad
    guards_disarm(rollout_slug=rollout.slug, now=timezone.now())
    assert guards_watch(now=timezone.now()) == 0
    assert not Alert.objects.exists()


@pytest.mark.parametrize("change", ["resolved", "contained"])
def test_what_changed_during_the_look_is_not_alerted_on(
    bad: tuple[Rollout, WorkflowPath], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Another connection resolves the alert, or ends the rollout, after the evidence was read."""
    rollout, _ = bad

    def look(*, now: datetime) -> list[Looked] | None:
        looked = guards_look(now=now)
        if change == "contained":
            guards_disarm(rollout_slug=rollout.slug, now=now)
        for guard in Guard.objects.filter(rollout=rollout.slug):
            if change == "resolved":
                guard_evidence_restart(guard_id=guard.pk, now=now)
        return looked

    monkeypatch.setattr(services, "guards_look", look)

    assert guards_watch(now=timezone.now()) == 0
    assert not Alert.objects.exists()
    assert not AuditEntry.objects.filter(action="alert.opened").exists()


def test_lists_are_newest_first_and_limited_to_workflows(
    alert: Alert, bad: tuple[Rollout, WorkflowPath]
) -> None:
    rollout, _ = bad
    now = timezone.now()
    other = Workflow.objects.exclude(pk=rollout.workflow_id).values_list("pk", flat=True)
    assert [row.id for row in alert_rows(now=now, workflow_ids=[rollout.workflow_id])] == [alert.pk]
    assert alert_rows(now=now, workflow_ids=[*other, 0]) == []
    assert alert_rows(now=now, before_id=alert.pk) == []
    assert [row.id for row in alert_rows(now=now, unresolved_only=True)] == [alert.pk]
    [row] = alert_rows(now=now, rollout_slugs=[rollout.slug])
    assert (row.guard, row.owner_username, row.value_text, row.limit_text) == (
        "quality-low",
        "owner",
        "0.0 %",
        "≥ 85 %",
    )


@pytest.mark.django_db(transaction=True)
def test_watchers_at_the_same_time_open_one_alert() -> None:
    live_and_bad()
    now = timezone.now()
    start = threading.Barrier(4)
    opened: list[int] = []

    def watch() -> None:
        try:
            start.wait(timeout=20)
            opened.extend(guards_watch(now=now + timedelta(milliseconds=n)) for n in range(5))
        finally:
            connection.close()

    threads = [threading.Thread(target=watch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert len(opened) == 20
    assert sum(opened) == 1
    assert Alert.objects.count() == 1
    assert AuditEntry.objects.filter(action="alert.opened").count() == 1
