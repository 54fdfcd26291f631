"""Counting again: folds from the ledger, ledgers from runs and labels; what differs is named."""

import json
import threading
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.db.models import F, Sum
from django.utils import timezone

from rollout_console.rollouts.states import RolloutState
from signals.buckets.folds import FOLDS
from signals.buckets.models import ArrivalLedger, HourBucket, MeasureLedger, MinuteBucket
from signals.ingest.action_results import ActionKey, action_result_count
from signals.ingest.models import BatchKind, IngestBatch
from signals.ingest.services import caches_forget
from tests.factories import rollout_at
from tests.integration.test_folds import every_fold, everything, settle, some_items, store, work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def held(transactional_db: None) -> dict[str, Any]:
    """Runs live and old, labels on both, all of it folded; return the folds."""
    rollout_at(RolloutState.LIVE)
    caches_forget()
    items, labels = everything(21, days=0.25)
    store(items[:100])
    store(items[50:])
    store(labels, kind=BatchKind.OBSERVATIONS)
    store(some_items(22, 10, days=300), backfill=True)
    settle()
    settle()
    return every_fold()


def said(*words: str) -> list[dict[str, Any]]:
    out = StringIO()
    call_command(*words, stdout=out, stderr=StringIO())
    return [json.loads(line) for line in out.getvalue().splitlines()]


def change(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        assert cursor.rowcount > 0


def test_what_nobody_touched_is_equal(held: dict[str, Any]) -> None:
    (folds,) = said("folds", "verify")
    (ledger,) = said("ledger", "verify", "--from-runs")
    hours = HourBucket.objects.values("minute").distinct().count()
    assert folds == {"hours": hours, "equal": True}
    assert ledger == {"hours": hours, "equal": True}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("update minute_bucket set n = n + 1 where id % 2 = 0", "n "),
        ("update hour_bucket set cost_sum = cost_sum * (1 + 1e-7)", "hour_bucket at minute"),
        (
            "delete from five_minute_bucket where minute > now() - interval '12 hours'",
            "nothing held",
        ),
        ("update mix_hour set n = n - 1", "mix_hour"),
        (
            "update route_minute set latency_idx = latency_idx || 9",
            "latency_idx",
        ),
        ("update failure_hour set subjects = '{}'", "subjects"),
        ("update measure_minute set largest = largest + 1", "largest"),
    ],
)
def test_a_fold_that_differs_is_named_and_made_anew(
    held: dict[str, Any], statement: str, words: str
) -> None:
    change(statement)
    with pytest.raises(CommandError, match=words):
        said("folds", "verify")

    rebuilt, proved = said("folds", "rebuild")

    assert rebuilt["rebuilt"] == proved["hours"]
    assert proved["equal"] is True
    assert every_fold() == held


def test_rounding_is_no_difference(held: dict[str, Any]) -> None:
    change("update hour_bucket set cost_sum = cost_sum * (1 + 1e-12)")
    assert said("folds", "verify")[0]["equal"] is True


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "update arrival_ledger set n_error = n_error + 1 where id ="
            " (select max(id) from arrival_ledger where n > 0)",
            "n_error",
        ),
        ("update arrival_ledger set reviews_edited = 0", "reviews_edited"),
        ("update measure_ledger set total = total + 1", "total"),
        ("delete from failure_ledger where category = 'vague'", "failure_ledger"),
    ],
)
def test_a_ledger_that_differs_is_named_and_put_right_with_its_folds(
    held: dict[str, Any], statement: str, words: str
) -> None:
    arrived = {(row.drain, row.arrived_at, row.backfill) for row in MeasureLedger.objects.all()}
    change(statement)
    with pytest.raises(CommandError, match=words):
        said("ledger", "verify", "--from-runs")

    rebuilt, proved = said("ledger", "rebuild", "--from-runs")

    assert rebuilt["rebuilt"]
    assert proved["equal"] is True
    assert said("folds", "verify")[0]["equal"] is True
    settle()
    assert every_fold() == held
    # What says when and by whom is as it was.
    again = {(row.drain, row.arrived_at, row.backfill) for row in MeasureLedger.objects.all()}
    assert again == arrived
    said("ledger", "rebuild", "--from-runs")
    assert every_fold() == held


def test_a_rebuild_loses_nothing_that_comes_meanwhile(held: dict[str, Any]) -> None:
    change("update minute_bucket set n = 0")
    change("update arrival_ledger set n_ok = n_ok + 1 where n > 0")
    more = some_items(23, 200, days=0.25)
    done = threading.Event()

    def report() -> None:
        for start in range(0, 200, 20):
            store(more[start : start + 20])
            work()
        connections.close_all()
        done.set()

    reporter = threading.Thread(target=report)
    reporter.start()
    while not done.is_set():
        try:
            said("ledger", "rebuild", "--from-runs")
            said("folds", "rebuild")
        except CommandError as error:
            raise AssertionError("a look met something half done") from error
    reporter.join(60)
    settle()

    assert said("ledger", "rebuild", "--from-runs")[1]["equal"] is True
    assert said("folds", "rebuild")[1]["equal"] is True
    every_fold()
    assert sum(MinuteBucket.objects.values_list("n", flat=True)) == 150 + 10 + 200


def test_what_became_of_actions_is_kept(held: dict[str, Any]) -> None:
    now = timezone.now()
    row = ArrivalLedger.objects.filter(backfill=False).latest("pk")
    key = ActionKey(
        workflow_id=row.workflow_id,
        path_id=row.path_id,
        segment_id=row.segment_id,
        release_id=row.release_id,
        arm=row.arm,
        mode=row.mode,
        requested_at=row.minute,
    )
    with transaction.atomic():
        action_result_count(key=key, ended=True, done=True, undone=False, now=now)
        action_result_count(key=key, ended=False, done=False, undone=True, now=now)
    settle()

    assert said("ledger", "verify", "--from-runs")[0]["equal"]
    ArrivalLedger.objects.filter(pk=row.pk).update(n=F("n") + 1)
    said("ledger", "rebuild", "--from-runs")

    assert said("ledger", "verify", "--from-runs")[0]["equal"]
    kept = MinuteBucket.objects.aggregate(n=Sum("actions_n"), undone=Sum("actions_undone"))
    assert kept == {"n": 1, "undone": 1}
    assert said("folds", "verify")[0]["equal"]


def test_a_span_is_whole_hours_and_batches_that_went_are_told(held: dict[str, Any]) -> None:
    for words, reason in (
        (("--since", "yesterday"), "a day or a time"),
        (("--since", "2026-11-24T10:30Z"), "a whole hour"),
        (("--since", "2026-11-24", "--until", "2026-11-24"), "before --until"),
    ):
        with pytest.raises(CommandError, match=reason):
            said("folds", "verify", *words)
    assert said("folds", "verify", "--until", "2000-01-01")[0] == {"hours": 0, "equal": True}

    IngestBatch.objects.filter(backfill=False, kind=BatchKind.RUNS).delete()
    assert said("ledger", "verify", "--from-runs")[0]["equal"] is True
    change("update arrival_ledger set n_ok = n_ok + 1 where n > 0 and not backfill")
    rows = sorted(ArrivalLedger.objects.values_list("pk", "n_ok"))
    with pytest.raises(CommandError, match="batches that are not kept any more"):
        said("ledger", "rebuild", "--from-runs", "--since", f"{timezone.now():%Y-%m-%d}")
    assert sorted(ArrivalLedger.objects.values_list("pk", "n_ok")) == rows
    assert len(FOLDS) == 7
