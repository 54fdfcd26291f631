"""The watch under faults: no alert is lost, none is doubled, and pages say how old they are."""

import os
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from rollout_console.audit.models import AuditEntry
from rollout_console.containment.work import work_once
from rollout_console.core.heartbeats import KEEPER, WORKER, heartbeat_record
from rollout_console.core.models import OutboxEvent
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.escalation import escalations_run
from signals.alerts.models import Alert, Incident
from signals.alerts.services import guards_watch
from signals.guards.models import Guard, Verdict
from signals.ingest.models import BatchState, IngestBatch
from tests.factories import rollout_at
from tests.labels import Reports
from tests.matrix import logged_in
from tests.stack import ROOT, Stack, wait_until
from tests.story import prepare, run_item

S = timedelta(seconds=1)
in_database = pytest.mark.django_db(transaction=True)


def hurt(*, behind: timedelta = timedelta(0)) -> Rollout:
    """A live rollout with 60 bad runs that nobody has taken in yet, received `behind` ago on."""
    rollout = rollout_at(RolloutState.LIVE)
    Guard.objects.update(evidence_from=timezone.now() - behind - timedelta(minutes=1))
    Reports().runs(*(run_item(quality={"passed": False}) for _ in range(60)))
    # In an evidence block that is over.
    IngestBatch.objects.update(received_at=timezone.now() - behind - 5 * S)
    return rollout


def opened() -> tuple[int, int, int, int]:
    """How often it was opened: as alert, as incident, in the audit and in the outbox."""
    return (
        Alert.objects.count(),
        Incident.objects.count(),
        AuditEntry.objects.filter(action="alert.opened").count(),
        OutboxEvent.objects.filter(type="alert.opened").count(),
    )


def killed(what: str) -> None:
    """Let another process do it, and kill it with SIGKILL before it can commit."""
    held = connection.settings_dict
    address = (
        f"postgres://{held['USER']}:{held['PASSWORD']}@{held['HOST']}:{held['PORT']}/{held['NAME']}"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.killed", what],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": address, "DATABASE_APP_URL": address},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "looked\n"
    process.kill()
    process.wait(timeout=20)
    process.stdout.close()


@in_database
def test_a_worker_killed_between_look_and_commit_loses_and_doubles_nothing() -> None:
    hurt()
    work_once(name=WORKER, periodic=False)
    Alert.objects.all().delete()
    Incident.objects.all().delete()
    OutboxEvent.objects.all().delete()
    before = AuditEntry.objects.filter(action="alert.opened").count()

    killed("watch")

    assert opened() == (0, 0, before, 0)
    # The killed one's locks go with its connection.
    wait_until(lambda: guards_watch(now=timezone.now()), within_s=20, what="the next look")
    guards_watch(now=timezone.now())
    assert opened() == (1, 1, before + 1, 1)


@in_database
def test_a_worker_killed_while_it_tells_a_rung_leaves_it_to_the_next() -> None:
    hurt()
    work_once(name=WORKER, periodic=False)
    past = timezone.now() - timedelta(hours=1)
    Incident.objects.update(pages_from=past, page_at=past + 300 * S)

    killed("escalate")

    assert not OutboxEvent.objects.filter(type="alert.escalated").exists()
    wait_until(lambda: escalations_run(now=timezone.now()), within_s=20, what="the next round")
    assert escalations_run(now=timezone.now()) == 0
    assert OutboxEvent.objects.filter(type="alert.escalated").count() == 1


@in_database
def test_two_beats_and_the_keeper_at_once_open_one_alert_and_tell_one_rung() -> None:
    hurt()
    start = threading.Barrier(3)

    def round_(name: str) -> None:
        try:
            start.wait(timeout=20)
            for _ in range(3):
                work_once(name=name, periodic=True)
        finally:
            connection.close()

    def all_at_once() -> None:
        threads = [
            threading.Thread(target=round_, args=[name]) for name in (WORKER, WORKER, KEEPER)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)

    all_at_once()
    assert opened() == (1, 1, 1, 1)

    past = timezone.now() - timedelta(hours=1)
    Incident.objects.update(pages_from=past, page_at=past + 300 * S)
    all_at_once()
    assert opened() == (1, 1, 1, 1)
    assert OutboxEvent.objects.filter(type="alert.escalated").count() == 1


@in_database
def test_a_clock_that_jumps_back_and_on_again_neither_blinds_nor_doubles() -> None:
    hurt()
    work_once(name=WORKER, periodic=False)
    assert opened() == (1, 1, 1, 1)
    now = timezone.now()

    back = now - timedelta(hours=5)
    guards_watch(now=back)
    # It looks at once, rather than after five hours, and says by its clock when.
    assert set(Verdict.objects.values_list("evaluated_at", flat=True)) == {back}
    guards_watch(now=back + 10 * S)
    assert set(Verdict.objects.values_list("evaluated_at", flat=True)) == {back + 10 * S}
    for at in (now + S, now + timedelta(hours=5), now + 2 * S):
        guards_watch(now=at)
        escalations_run(now=at)
    assert opened() == (1, 1, 1, 1)
    assert OutboxEvent.objects.filter(type="alert.escalated").count() == 1


@in_database
def test_what_waited_an_hour_in_the_queue_trips_once_it_is_taken_in() -> None:
    hurt(behind=timedelta(hours=1))
    Reports().runs(*(run_item(quality={"passed": False}) for _ in range(60)))
    waits = timezone.now()
    guards_watch(now=waits)
    # Late reports say nothing of now: blind, and no verdict out of thin air.
    assert set(Verdict.objects.values_list("verdict", flat=True)) == {"blind"}
    assert opened() == (0, 0, 0, 0)

    for _ in range(3):
        work_once(name=KEEPER, periodic=False)
        guards_watch(now=timezone.now())

    assert not IngestBatch.objects.filter(state=BatchState.PENDING).exists()
    trips = Alert.objects.filter(guard__isnull=False)
    assert [alert.name for alert in trips] == ["quality-low"]
    assert OutboxEvent.objects.filter(type="alert.opened").count() == Alert.objects.count()


@in_database
def test_pages_say_how_old_the_verdicts_are_when_nobody_watches() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    last = timezone.now() - timedelta(minutes=20)
    for name in (WORKER, KEEPER):
        heartbeat_record(name=name, now=last)
    page = logged_in("owner").get(f"/rollouts/{rollout.slug}/").content.decode()

    assert f'Signals read <time datetime="{last.isoformat()}" data-age>' in page
    assert "Nothing has evaluated triggers for a while" in page


def test_with_valkey_gone_a_trip_opens_one_alert_all_the_same() -> None:
    # No port of a broker: workers and beat come to nothing, the keeper does what is overdue.
    with Stack(REDIS_URL="redis://127.0.0.1:9/0") as stack:
        live = prepare(stack)
        status, body = stack.call(
            "POST",
            "/api/v1/runs",
            token=live.ingest,
            body=[run_item(quality={"passed": False}) for _ in range(60)],
        )
        assert (status, body["accepted"]) == (202, 60)

        def alerts() -> list[dict[str, object]]:
            _, found = stack.call("GET", "/api/v1/alerts", token=live.owner)
            return [each for each in found.get("results", []) if each["guard"] is not None]

        (alert,) = wait_until(alerts, within_s=30, what="the alert")
        assert (alert["guard"], alert["state"]) == ("quality-low", "open")
        with stack.connect() as held:
            rounds = "select max(at) from core_heartbeat"
            seen = held.execute(rounds).fetchone()
            wait_until(
                lambda: held.execute(rounds).fetchone() != seen, within_s=20, what="another round"
            )
        assert len(alerts()) == 1
