"""Retention: what goes, what stays as evidence, and that ingest never waits for it."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone
from psycopg import sql

from approvals.authority.matrix import Scope
from rollout_console.catalog.models import WorkflowPath
from rollout_console.rollouts.states import RolloutState
from signals.buckets.beside import step_failures
from signals.buckets.folds import FOLDS, HOUR_S, MINUTE_S
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE, ARM_UNKNOWN
from signals.buckets.models import ArrivalLedger, HourBucket, MinuteBucket, StoredDay
from signals.buckets.retention import ledger_prune, minutes_prune
from signals.buckets.selectors import rounded_step, series_measures
from signals.guards.models import Guard
from signals.guards.retention import storage_keep
from signals.ingest.models import BatchKind, IngestBatch, Observation, Run, TaskFact
from signals.ingest.retention import leftovers_prune, run_day_drop, run_days_ensure
from signals.ingest.selectors import storage_state
from signals.ingest.services import batch_store, caches_forget
from tests.factories import rollout_at, token
from tests.integration.test_folds import every_fold, settle, some_items, store
from tests.labels import observation
from tests.story import run_item

pytestmark = pytest.mark.django_db(transaction=True)

EVERY_ARM = [ARM_UNKNOWN, ARM_STABLE, ARM_CANDIDATE]


@pytest.fixture
def path(owner_connection: Callable[[], psycopg.Connection[Any]]) -> WorkflowPath:
    # Other tests empty their days, and leave them.
    owner = owner_connection()
    for name in partitions():
        owner.execute(sql.SQL("drop table {}").format(sql.Identifier(name)))
    rollout = rollout_at(RolloutState.LIVE)
    caches_forget()
    return WorkflowPath.objects.get(workflow=rollout.workflow, slug="draft")


def old_items(count: int, *, days_ago: float) -> list[dict[str, Any]]:
    at = (timezone.now() - timedelta(days=days_ago)).replace(hour=9, minute=30)
    return [
        {**item, "occurred_at": (at + timedelta(minutes=number * 7)).isoformat()}
        for number, item in enumerate(some_items(count, count))
    ]


def later(days: float) -> datetime:
    return timezone.now() + timedelta(days=days)


def partitions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'run'::regclass"
        )
        return [name for (name,) in cursor.fetchall()]


def test_days_are_made_ahead(path: WorkflowPath) -> None:
    now = timezone.now()
    run_days_ensure(now=now)
    for ahead in range(3):
        assert f"run_{now + timedelta(days=ahead):%Y%m%d}" in partitions()
    assert run_days_ensure(now=now) == 0


def test_a_day_of_runs_goes_with_all_that_was_about_it_and_folds_stay(path: WorkflowPath) -> None:
    items = old_items(10, days_ago=20)
    store(items, any_age=True)
    assert "quality" not in items[1]
    store(
        [observation(items[1], passed=True), observation(items[3], passed=True)],
        kind=BatchKind.OBSERVATIONS,
        any_age=True,
    )
    fresh = run_item()
    store([fresh])
    settle()
    held = every_fold()
    day = datetime.fromisoformat(items[0]["occurred_at"]).date()
    assert TaskFact.objects.exists()

    assert run_day_drop(now=later(9)) == 0
    assert run_day_drop(now=later(11)) == 1
    while leftovers_prune(guarded=[], now=later(11)):
        pass

    assert [run.run_id for run in Run.objects.all()] == [fresh["id"]]
    assert not TaskFact.objects.exists()
    # What arrived less than thirty-eight days ago may still be asked for.
    assert Observation.objects.count() == 2
    assert IngestBatch.objects.filter(kind=BatchKind.RUNS).count() == 2
    while leftovers_prune(guarded=[], now=later(39)):
        pass
    assert not Observation.objects.exists()
    assert not IngestBatch.objects.exists()
    assert every_fold() == held
    dropped = StoredDay.objects.get(day=day)
    assert (dropped.runs_dropped, dropped.workflow_ids) == (10, [path.workflow_id])
    assert storage_state().runs_dropped == 10


def test_history_is_kept_from_when_it_came_and_is_not_counted_again(path: WorkflowPath) -> None:
    items = old_items(4, days_ago=700)
    day = datetime.fromisoformat(items[0]["occurred_at"]).date()
    store(items, backfill=True)
    settle()

    assert run_day_drop(now=later(29)) == 0
    assert run_day_drop(now=later(31)) == 1
    assert not Run.objects.exists()
    _, reporter = token(Scope.INGEST)
    receipt = batch_store(
        body=b"[" + json.dumps(items[0]).encode() + b"]",
        content_type="application/json",
        content_encoding=None,
        principal=reporter,
        now=timezone.now(),
        any_age=True,
        backfill=True,
    )

    assert (receipt.accepted, receipt.rejected) == (0, 1)
    assert receipt.errors[0].pointer == "/occurred_at"
    assert f"Runs of {day} are not kept any more" in receipt.errors[0].detail
    assert StoredDay.objects.get(day=day).runs_dropped == 4


def test_a_busy_table_is_left_alone_after_a_fifth_of_a_second(
    path: WorkflowPath, owner_connection: Callable[[], psycopg.Connection[Any]]
) -> None:
    store(old_items(3, days_ago=20), any_age=True)
    settle()
    writer = owner_connection()
    writer.execute("begin")
    writer.execute("lock table run in row exclusive mode")

    began = time.monotonic()
    assert run_day_drop(now=later(11)) == 0
    took_s = time.monotonic() - began
    writer.execute("commit")

    assert took_s < 2
    assert Run.objects.count() == 3
    assert not StoredDay.objects.exclude(runs_dropped_at=None).exists()
    assert run_day_drop(now=later(11)) == 1
    assert Run.objects.count() == 0


def test_pruned_minutes_leave_hours_that_late_arrivals_still_reach(path: WorkflowPath) -> None:
    items = old_items(60, days_ago=6)
    store(items[:50])
    settle()
    start = datetime.fromisoformat(items[0]["occurred_at"]).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    reading: dict[str, Any] = {
        "path_id": path.pk,
        "arms": EVERY_ARM,
        "segment_ids": None,
        "start": start,
        "end": start + timedelta(days=1),
        "step_s": HOUR_S,
    }
    before = series_measures(workflow_id=path.workflow_id, reach="arm", **reading)
    failed = step_failures(live=False, **reading)
    assert sum(measures.n for _, measures in before) == 50
    assert failed

    assert minutes_prune(now=later(33.9)) == 0
    assert minutes_prune(now=later(36)) > 0
    assert MinuteBucket.objects.count() == 0
    assert series_measures(workflow_id=path.workflow_id, reach="arm", **reading) == before
    assert step_failures(live=False, **reading) == failed

    store(items[40:])
    settle()
    assert MinuteBucket.objects.count() == 0
    after = series_measures(workflow_id=path.workflow_id, reach="arm", **reading)
    assert sum(measures.n for _, measures in after) == 60
    for fold in FOLDS:
        with connection.cursor() as cursor:
            cursor.execute(
                f"select (select coalesce(sum(n), 0) from {fold.ledger}),"  # noqa: S608
                f" (select coalesce(sum(n), 0) from {fold.tables[HOUR_S]}),"
                f" (select coalesce(sum(n), 0) from {fold.tables[MINUTE_S]})"
            )
            ledger, hours, minutes = cursor.fetchone()
        assert (ledger, 0) == (hours, minutes)


def test_a_pruned_span_is_read_by_the_hour(path: WorkflowPath, settings: Any) -> None:
    start = timezone.now() - timedelta(days=60)
    span: dict[str, Any] = {"start": start, "end": start + timedelta(hours=6), "step_s": 60}
    assert rounded_step(**span) == 60
    StoredDay.objects.create(day=start.date(), minutes_pruned_at=timezone.now())
    assert rounded_step(**span) == HOUR_S
    assert rounded_step(**{**span, "step_s": 5000}) == 2 * HOUR_S


def test_the_ledger_of_guarded_paths_stays(path: WorkflowPath) -> None:
    other = WorkflowPath.objects.create(workflow_id=path.workflow_id, slug="aside", name="Aside")
    caches_forget()
    items = old_items(30, days_ago=6)
    for item in items[::3]:
        item["path"] = "aside"
    store(items)
    settle()
    guarded = list(Guard.objects.values_list("path_id", flat=True).distinct())
    assert path.pk in guarded
    assert other.pk not in guarded
    while minutes_prune(now=later(400)):
        pass
    held = {row.pk for row in HourBucket.objects.all()}

    assert ledger_prune(guarded=guarded, now=later(393.9)) == 0
    while ledger_prune(guarded=guarded, now=later(396)):
        pass

    left = ArrivalLedger.objects.values_list("path_id", "n")
    assert {path_id for path_id, _ in left} == {path.pk}
    assert sum(n for _, n in left) == 20
    assert {row.pk for row in HourBucket.objects.all()} == held
    day = StoredDay.objects.get(day=datetime.fromisoformat(items[0]["occurred_at"]).date())
    assert day.ledger_path_ids == [other.pk]


def test_one_round_does_it_all(path: WorkflowPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signals.guards.retention._Round.due_at", float("-inf"))
    store(old_items(5, days_ago=20), any_age=True)
    settle()
    at = later(400)
    while storage_keep(now=at):
        pass

    assert not Run.objects.exists()
    assert not MinuteBucket.objects.exists()
    assert HourBucket.objects.exists()
    assert not IngestBatch.objects.exists()
    # And it looks again only after a minute.
    store(old_items(5, days_ago=15), any_age=True)
    settle()
    assert storage_keep(now=at) == 0
    assert Run.objects.exists()


def test_runs_that_still_come_in_are_never_dropped(path: WorkflowPath) -> None:
    with connection.cursor() as cursor, pytest.raises(Exception, match="still come in"):
        cursor.execute("select run_day_drop(%s)", [datetime.now(UTC).date() - timedelta(days=8)])
