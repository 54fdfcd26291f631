"""Incidents: what belongs together, who is told next, and what pages nobody."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Person, Workflow, WorkflowPath
from rollout_console.containment.targets import Press
from rollout_console.core.models import OutboxEvent
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts import escalation, grouping, locks
from signals.alerts.escalation import escalations_run
from signals.alerts.incident_reads import incident_row
from signals.alerts.incidents import (
    IncidentNotReopened,
    incident_acknowledge,
    incident_reopen,
)
from signals.alerts.models import Alert, Incident, Reduction
from signals.alerts.recurring import FLAPS_WITHIN
from signals.alerts.services import (
    alert_acknowledge,
    alert_hold,
    alert_resolve,
    guards_watch,
)
from signals.guards.models import Guard
from tests.factories import contain, person, principal, rollout_at
from tests.ledger import arrive
from tests.matrix import logged_in
from tests.plans import plan_document
from tests.stack import wait_until

pytestmark = pytest.mark.django_db
S = timedelta(seconds=1)
LADDER = [
    {"after_s": 120, "notify": "deputy"},
    {"after_s": 300, "notify": "lead"},
    {"after_s": 600, "notify": "viewer"},
]


def live(**workflow: Any) -> Rollout:
    document = plan_document()
    document["workflow"] |= {"escalation": LADDER, **workflow}
    person("viewer")
    rollout = rollout_at(RolloutState.LIVE, document=document)
    Guard.objects.update(evidence_from=timezone.now() - timedelta(hours=3))
    return rollout


def arrives(rollout: Rollout, at: datetime, **measures: Any) -> None:
    path = WorkflowPath.objects.get(workflow=rollout.workflow)
    arrive(path, at, release_id=rollout.candidate_id, **measures)


def trip(rollout: Rollout, at: datetime) -> Alert:
    """The quality trigger trips at `at`."""
    arrives(rollout, at - S, failed=60)
    guards_watch(now=at)
    return Alert.objects.order_by("pk").get(guard__slug="quality-low", resolved_at=None)


def resolve(alert: Alert, at: datetime, *, right: bool = False) -> None:
    alert_resolve(alert_id=alert.pk, was_right=right, note="", principal=principal("owner"), now=at)


def told(type_: str) -> list[Any]:
    return [event.data for event in OutboxEvent.objects.filter(type=type_).order_by("pk")]


def audited(action: str) -> int:
    return AuditEntry.objects.filter(action=action).count()


def test_the_second_trip_joins_the_first_ones_incident() -> None:
    rollout, now = live(), timezone.now()
    first = trip(rollout, now)
    arrives(rollout, now + 9 * S, passed=60, latencies=[9000.0] * 60)
    guards_watch(now=now + 10 * S)

    second = Alert.objects.get(guard__slug="slow")
    incident = Incident.objects.get()
    assert (first.incident_id, second.incident_id) == (incident.pk, incident.pk)
    assert (incident.state, incident.owner.username, incident.opened_at) == ("open", "owner", now)
    # The second waits beside the first: the ladder goes on from there.
    assert (incident.pages_from, incident.page_at) == (now, now + 120 * S)
    assert (audited("incident.opened"), len(told("incident.opened"))) == (1, 1)

    alert_acknowledge(alert_id=first.pk, principal=principal("deputy"), now=now + 20 * S)
    incident.refresh_from_db()
    assert (incident.state, incident.page_at) == ("open", now + 120 * S)
    incident_acknowledge(incident_id=incident.pk, principal=principal("owner"), now=now + 30 * S)
    incident.refresh_from_db()
    assert (incident.state, incident.acked_by, incident.page_at) == ("acknowledged", "owner", None)
    assert [a.acked_by for a in Alert.objects.order_by("pk")] == ["deputy", "owner"]
    before = AuditEntry.objects.count()
    incident_acknowledge(incident_id=incident.pk, principal=principal("deputy"), now=now + 31 * S)
    assert AuditEntry.objects.count() == before

    resolve(first, now + 40 * S)
    incident.refresh_from_db()
    assert incident.state == "acknowledged"
    resolve(second, now + 50 * S)
    incident.refresh_from_db()
    assert (incident.state, incident.resolved_at) == ("resolved", now + 50 * S)
    assert (audited("incident.resolved"), len(told("incident.resolved"))) == (1, 1)


@pytest.mark.parametrize(
    ("after", "incidents"), [(timedelta(hours=1), 1), (timedelta(hours=1, seconds=1), 2)]
)
def test_a_trip_soon_after_resolving_opens_the_incident_again(
    after: timedelta, incidents: int
) -> None:
    rollout, now = live(), timezone.now()
    assert timedelta(hours=1) == grouping.REOPENS_WITHIN
    resolve(trip(rollout, now), now)

    again = trip(rollout, now + after)

    assert Incident.objects.count() == incidents
    incident = Incident.objects.latest("pk")
    assert (again.incident_id, incident.state) == (incident.pk, "open")
    assert incident.reopened == (1 if incidents == 1 else 0)
    # Who resolved it said that it was over: this pages anew.
    assert incident.page_at == now + after + 120 * S
    assert audited("incident.reopened") == incident.reopened


def test_a_person_opens_it_again_and_the_last_trip_waits() -> None:
    rollout, now = live(), timezone.now()
    alert = trip(rollout, now)
    resolve(alert, now + S)
    incident_id = Incident.objects.get().pk

    incident_reopen(
        incident_id=incident_id,
        reason="It goes on.",
        principal=principal("deputy"),
        now=now + 2 * S,
    )

    alert.refresh_from_db()
    incident = Incident.objects.get()
    assert (alert.state, alert.was_right, alert.acked_by) == ("acknowledged", None, "deputy")
    assert (incident.state, incident.reopened, incident.page_at) == ("acknowledged", 1, None)
    entry = AuditEntry.objects.get(action="alert.reopened")
    assert (entry.data["was_right_before"], entry.reason) == (False, {"note": "It goes on."})

    resolve(alert, now + 3 * S, right=False)
    Incident.objects.filter(pk=incident_id).update(resolved_at=now - timedelta(days=1))
    trip(rollout, now + 60 * S)
    with pytest.raises(IncidentNotReopened):
        incident_reopen(
            incident_id=incident_id, reason="Again.", principal=principal("owner"), now=now + 61 * S
        )


def test_nobody_acknowledges_so_it_climbs_rung_by_rung() -> None:
    rollout, now = live(), timezone.now()
    alert = trip(rollout, now)
    assert escalations_run(now=now + 119 * S) == 0
    assert escalations_run(now=now + 120 * S) == 1
    assert escalations_run(now=now + 120 * S) == 0
    # The workers were away: what is overdue comes in order, a rung a round.
    assert [escalations_run(now=now + 900 * S) for _ in range(3)] == [1, 1, 0]

    rows = told("alert.escalated")
    assert [(row["step"], row["told"], row["notify"]) for row in rows] == [
        (1, "deputy", ["deputy"]),
        (2, "lead", ["lead"]),
        (3, "viewer", ["viewer"]),
    ]
    assert {row["alert"] for row in rows} == {alert.pk}
    assert audited("alert.escalated") == 3
    row = incident_row(incident_id=Incident.objects.get().pk, now=now)
    assert row is not None
    assert (row.next_rung, row.page_at, row.rung) == (None, None, 3)


def test_acknowledging_stops_the_next_page_and_not_the_clock() -> None:
    rollout, now = live(), timezone.now()
    Guard.objects.filter(slug="quality-low").update(
        response={"kind": "contain_after_hold", "action": "rollback"}
    )
    alert = trip(rollout, now)
    alert_acknowledge(alert_id=alert.pk, principal=principal("owner"), now=now + 5 * S)

    assert escalations_run(now=now + 900 * S) == 0
    alert.refresh_from_db()
    assert alert.due_at == now + 60 * S


def test_a_hold_puts_the_next_page_off_until_it_ends() -> None:
    rollout, now = live(), timezone.now()
    alert = trip(rollout, now)
    at = now + 100 * S
    alert_hold(
        alert_id=alert.pk, until=at + 60 * S, reason="looking", principal=principal("owner"), now=at
    )
    assert escalations_run(now=now + 120 * S) == 0
    assert Incident.objects.get().page_at == at + 60 * S
    assert escalations_run(now=at + 60 * S) == 1


def test_a_clock_that_goes_back_delays_no_page_and_doubles_none() -> None:
    rollout, now = live(), timezone.now()
    trip(rollout, now)
    assert escalations_run(now=now + 120 * S) == 1
    back = now - timedelta(hours=5)
    assert escalations_run(now=back) == 0
    # The second rung comes as long after the jump as its place on the ladder says.
    assert Incident.objects.get().page_at == back + 300 * S
    assert escalations_run(now=back + 300 * S) == 1
    assert [row["step"] for row in told("alert.escalated")] == [1, 2]


def test_escalating_by_hand_tells_the_next_of_the_same_ladder() -> None:
    rollout, now = live(), timezone.now()
    trip(rollout, now)
    escalations_run(now=now + 120 * S)

    contain(rollout, "escalate", now=now + 130 * S)

    entry = AuditEntry.objects.get(action="rollout.escalated")
    assert (entry.data["step"], entry.data["notify"]) == (2, ["lead"])
    assert told("rollout.changed")[-1]["notify"] == ["lead"]
    # The ladder goes on behind it, and tells nobody twice.
    assert escalations_run(now=now + 300 * S) == 0
    assert escalations_run(now=now + 600 * S) == 1
    assert told("alert.escalated")[-1]["step"] == 3


def test_whoever_is_out_has_the_deputy_in_their_place() -> None:
    rollout, now = live(), timezone.now()
    Person.objects.filter(username__in=["lead", "owner"]).update(is_active=False)

    alert = trip(rollout, now)
    for seconds in (120, 300):
        escalations_run(now=now + seconds * S)

    assert alert.owner.username == "deputy"
    assert Incident.objects.get().owner.username == "deputy"
    assert [row["notify"] for row in told("alert.escalated")] == [["deputy"], ["deputy"]]


def test_a_trigger_that_flaps_is_one_alert_with_a_count() -> None:
    rollout, now = live(), timezone.now()
    alert = trip(rollout, now)
    incident_acknowledge(incident_id=alert.incident_id or 0, principal=principal("owner"), now=now)

    at = now
    for _ in range(3):
        at += timedelta(minutes=2)
        # Enough of them that nothing is left of the evidence.
        arrives(rollout, at - S, passed=2000)
        guards_watch(now=at)
        at += timedelta(minutes=2)
        trip(rollout, at)

    alert.refresh_from_db()
    assert Alert.objects.count() == 1
    assert (alert.recurrences, alert.recurred_at, alert.state) == (3, at, "acknowledged")
    assert Incident.objects.get().page_at is None
    # Once in the audit: the count says how often.
    assert [row["pages"] for row in told("alert.recurred")] == [False]

    at += timedelta(minutes=2)
    arrives(rollout, at - S, passed=2000)
    guards_watch(now=at)
    at += FLAPS_WITHIN
    trip(rollout, at)
    alert.refresh_from_db()
    assert (alert.recurrences, alert.state, alert.acked_at) == (4, "open", None)
    assert Incident.objects.get().page_at == at + 120 * S
    last = told("alert.recurred")[-1]
    assert (last["pages"], last["notify"]) == (True, ["owner"])


def test_what_a_person_contained_is_shown_and_pages_nobody() -> None:
    rollout, now = live(), timezone.now()
    alert = trip(rollout, now)
    contain(rollout, "fallback", press=Press(mode="human_review"), now=now + 10 * S)

    alert.refresh_from_db()
    assert (alert.contained_at, alert.quiet, alert.state) == (now + 10 * S, True, "open")
    assert escalations_run(now=now + 900 * S) == 0

    # Another trigger on the evidence from before: recorded, and quiet.
    arrives(rollout, now + 9 * S, passed=60, latencies=[9000.0] * 60)
    guards_watch(now=now + 20 * S)
    slow = Alert.objects.get(guard__slug="slow")
    assert (slow.quiet, slow.incident_id) == (True, alert.incident_id)
    assert told("alert.opened")[-1]["quiet"] is True
    assert Incident.objects.get().page_at is None

    # It still trips on what came after the reduction: that is news.
    at = now + 50 * S
    arrives(rollout, at - S, passed=60, latencies=[9000.0] * 60)
    guards_watch(now=at)
    slow.refresh_from_db()
    assert (slow.quiet, slow.contained_at, slow.recurrences) == (False, None, 0)
    assert Incident.objects.get().page_at == at + 120 * S
    assert told("alert.recurred")[-1]["notify"] == ["owner"]


def test_what_is_given_back_contains_nothing_any_more() -> None:
    rollout, now = live(), timezone.now()
    contain(rollout, "fallback", press=Press(mode="human_review"), now=now)
    assert Reduction.objects.count() == 1
    rollout.refresh_from_db()
    contain(rollout, "clear_fallback", expected_version=rollout.version, now=now + S)
    assert not Reduction.objects.exists()
    assert trip(rollout, now + 2 * S).quiet is False


@pytest.mark.django_db(transaction=True)
def test_a_rung_is_told_once_however_many_look() -> None:
    rollout, now = live(), timezone.now()
    trip(rollout, now)
    start = threading.Barrier(4)
    done: list[int] = []

    def climb() -> None:
        try:
            start.wait(timeout=20)
            done.append(escalations_run(now=now + 120 * S))
        finally:
            connection.close()

    threads = [threading.Thread(target=climb) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert sorted(done) == [0, 0, 0, 1]
    assert [row["step"] for row in told("alert.escalated")] == [1]
    assert Incident.objects.get().rung == 1


@pytest.mark.django_db(transaction=True)
def test_a_press_that_waits_for_an_answer_holds_none_of_its_alerts() -> None:
    """Incident before alerts, everywhere: otherwise the two would wait for each other for ever."""
    rollout, now = live(), timezone.now()
    Guard.objects.filter(slug="quality-low").update(
        response={"kind": "contain_after_hold", "action": "rollback"}
    )
    alert = trip(rollout, now)

    def press() -> None:
        try:
            contain(rollout, "rollback", now=now + S)
        finally:
            connection.close()

    def waits() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("select exists (select from pg_locks where not granted)")
            return bool(cursor.fetchone()[0])

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            # As far as somebody who acknowledges gets first.
            locks.incidents().get()
            pressed = pool.submit(press)
            wait_until(waits, within_s=20, what="the press waits")
            Alert.objects.select_for_update(nowait=True).get(pk=alert.pk)
        pressed.result(timeout=30)
    alert.refresh_from_db()
    assert (alert.due_at, alert.quiet) == (None, True)


def test_a_rung_lost_half_way_is_told_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout, now = live(), timezone.now()
    trip(rollout, now)

    def dies(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(escalation, "rung_told", dies)
        with pytest.raises(RuntimeError):
            escalations_run(now=now + 120 * S)
    assert Incident.objects.get().rung == 0
    assert escalations_run(now=now + 121 * S) == 1


def test_the_pages_say_who_is_told_next_and_when() -> None:
    rollout, now = live(), timezone.now()
    alert = trip(rollout, now)
    client = logged_in("owner")
    page = client.get(f"/incidents/{alert.incident_id}/").content.decode()
    cockpit = client.get(f"/rollouts/{rollout.slug}/").content.decode()

    assert alert.sentence in page.replace("&#x27;", "'")
    at = Incident.objects.get().page_at
    assert at is not None
    for text in (page, cockpit):
        assert f'datetime="{at.isoformat()}" data-left' in text
    assert "Nobody has acknowledged: next, <strong>deputy</strong>" in cockpit
    assert "/runs/?workflow=support-reply&amp;path=draft&amp;release=2026.11.2" in page
    listed = client.get("/incidents/").content.decode()
    assert f"Incident {alert.incident_id} · 1 alert, 1 open" in listed

    body = client.get(f"/api/v1/incidents/{alert.incident_id}").json()
    assert body["next_page"]["notify"] == ["deputy"]
    assert [each["id"] for each in body["alerts"]] == [alert.pk]
    assert client.get("/api/v1/alerts").json()["results"][0]["incident"] == alert.incident_id
    assert [row["id"] for row in client.get("/api/v1/incidents?open=1").json()["results"]] == [
        alert.incident_id
    ]
    assert logged_in("outsider").get(f"/api/v1/incidents/{alert.incident_id}").status_code == 404


def test_a_ladder_that_has_become_shorter_ends() -> None:
    rollout, now = live(), timezone.now()
    trip(rollout, now)
    escalations_run(now=now + 120 * S)
    Workflow.objects.update(escalation=LADDER[:1])
    assert escalations_run(now=now + 900 * S) == 0
    assert Incident.objects.get().page_at is None
