"""Observations: read item by item, counted once with their run, whichever comes first."""

import gzip
import json
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from rollout_console.catalog.models import Segment
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.buckets.models import ArrivalLedger, FailureLedger, MinuteBucket, RequestedReview
from signals.ingest.drain import batches_drain
from signals.ingest.models import AwaitedRun, IngestBatch, Observation, ObservationState, TaskFact
from tests.factories import rollout_at
from tests.labels import Reports, counted, observation, work
from tests.story import run_item

pytestmark = pytest.mark.django_db


@pytest.fixture
def live() -> Rollout:
    return rollout_at(RolloutState.LIVE)


@pytest.fixture
def reports(live: Rollout) -> Reports:
    return Reports()


def unlabelled(**fields: Any) -> dict[str, Any]:
    return run_item(**fields, quality=None)


def ago(**spans: float) -> str:
    return (datetime.now(UTC) - timedelta(**spans)).isoformat()


# --- Input ---


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"id": ""}, "/id"),
        ({"id": "x" * 201}, "/id"),
        ({"id": "a\x00b"}, "/id"),
        ({"workflow": "nobody-knows"}, "/workflow"),
        ({"run_id": ""}, "/run_id"),
        ({"run_id": 7}, "/run_id"),
        ({"run_occurred_at": "2026-11-23T10:00:00"}, "/run_occurred_at"),
        ({"run_occurred_at": ago(days=-1)}, "/run_occurred_at"),
        ({"occurred_at": ago(days=8)}, "/occurred_at"),
        ({"occurred_at": ago(days=-1)}, "/occurred_at"),
        ({"kind": "rumour"}, "/kind"),
        ({"kind": "evaluation", "passed": None}, "/passed"),
        ({"score": 1.01}, "/score"),
        ({"passed": "yes"}, "/passed"),
        ({"kind": "review"}, "/verdict"),
        ({"kind": "review", "verdict": "liked"}, "/verdict"),
        ({"kind": "review", "verdict": "edited", "duration_ms": -1}, "/duration_ms"),
        ({"kind": "feedback"}, "/value"),
        ({"kind": "feedback", "value": "meh"}, "/value"),
        ({"kind": "outcome"}, "/outcome"),
        ({"kind": "outcome", "failure_category": "x" * 101}, "/failure_category"),
    ],
)
def test_a_bad_item_is_named_and_the_good_ones_are_kept(
    reports: Reports, fields: dict[str, Any], pointer: str
) -> None:
    run = unlabelled()
    bad = {**observation(run, passed=True), **fields}

    status, body = reports.post("observations", [observation(run), bad, observation(run)])

    assert (status, body["accepted"], body["rejected"]) == (202, 2, 1)
    (error,) = body["errors"]
    assert (error["index"], error["pointer"]) == (1, pointer)
    assert len(error["detail"]) > 10
    work()
    assert Observation.objects.count() == 2


@pytest.mark.parametrize("field", ["id", "workflow", "run_id", "occurred_at", "kind"])
def test_a_missing_field_is_named(reports: Reports, field: str) -> None:
    item = observation(unlabelled())
    del item[field]

    _, body = reports.post("observations", [item])

    assert [error["pointer"] for error in body["errors"]] == [f"/{field}"]


def test_framing_and_limits_are_those_of_runs(reports: Reports) -> None:
    item = observation(unlabelled())
    raw = json.dumps([item]).encode()
    lines = b"\n".join(json.dumps(observation(unlabelled())).encode() for _ in range(3))

    assert reports.post("observations", item)[1]["accepted"] == 1
    assert reports.post("observations", lines, kind="application/x-ndjson")[1]["accepted"] == 3
    packed = gzip.compress(raw)
    assert reports.post("observations", packed, HTTP_CONTENT_ENCODING="gzip")[1]["accepted"] == 1
    assert reports.post("observations", [])[0] == 202
    stored = IngestBatch.objects.count()
    assert reports.post("observations", b'[{"score": NaN}]')[0] == 400
    assert reports.post("observations", packed[:-9], HTTP_CONTENT_ENCODING="gzip")[0] == 400
    assert reports.post("observations", b"[" + b",".join([b"{}"] * 10_001) + b"]")[0] == 413
    assert reports.post("observations", b"<x/>", kind="application/xml")[0] == 415
    reports.secret = "nobody"
    assert reports.post("observations", [item])[0] == 401
    assert IngestBatch.objects.count() == stored


def test_free_text_arrives_as_it_was_sent(reports: Reports) -> None:
    odd = 'tab\there, "quote", \\N and\nnew line'
    run = unlabelled(id=f"odd {odd}")
    reports.runs(run)
    reports.observations(observation(run, name=odd, passed=True))

    work()

    seen = Observation.objects.get()
    assert (seen.name, seen.run_id, seen.state) == (odd, run["id"], ObservationState.APPLIED)


# --- Counted once ---


def test_an_evaluation_counts_with_its_run(live: Rollout, reports: Reports) -> None:
    minute_ago = datetime.now(UTC) - timedelta(minutes=7)
    run = unlabelled(occurred_at=minute_ago.isoformat(), risk="high", input_condition="messy")
    reports.runs(run)
    work()

    reports.observations(observation(run, passed=True, score=0.5))
    work()

    label = ArrivalLedger.objects.get(n=0)
    assert (label.quality_n, label.quality_passed, label.labelled) == (1, 1, 1)
    assert (label.score_n, label.score_sum, label.score_sq) == (1, 0.5, 0.25)
    segment = Segment.objects.get(slug="internal-ops")
    key = (label.segment_id, label.release_id, label.arm, label.risk, label.input_condition)
    assert key == (segment.pk, live.candidate_id, 2, 2, 2)
    # In the ledger when it arrives, in the bucket of its run.
    minute = minute_ago.replace(second=0, microsecond=0)
    assert label.minute == minute
    assert label.arrived_at == Observation.objects.get().received_at
    bucket = MinuteBucket.objects.get()
    assert (bucket.minute, bucket.n, bucket.quality_n, bucket.labelled) == (minute, 1, 1, 1)


@pytest.mark.parametrize("told", [True, False])
def test_early_and_late_come_to_the_same(reports: Reports, told: bool) -> None:
    found = []
    for early in (True, False):
        run = unlabelled(review_requested=True)
        labels = [
            observation(run, passed=False),
            observation(run, "review", verdict="rejected"),
            observation(run, "feedback", value="down"),
            observation(run, "outcome", critical=True, failure_category="loop"),
        ]
        if not told:
            for label in labels:
                del label["run_occurred_at"]
        before = counted() if IngestBatch.objects.exists() else {}
        if early:
            batch = reports.observations(*labels)
            work()
            assert counted_or_none() == before
            assert reports.batch(batch)["waiting"] == 4
            reports.runs(run)
        else:
            reports.runs(run)
            work()
            batch = reports.observations(*labels)
        work()
        assert reports.batch(batch)["waiting"] == 0
        after = counted()
        found.append({name: n - before.get(name, 0) for name, n in after.items()})

    assert found[0] == found[1]
    assert found[0] == {
        "n": 1,
        "n_ok": 1,
        "latency_n": 1,
        "cost_n": 1,
        "review_requested": 1,
        "quality_n": 1,
        "labelled": 1,
        "n_critical": 1,
        "reviews_n": 1,
        "reviews_rejected": 1,
        "feedback_negative": 1,
    }
    assert counted("minute_bucket") == counted()
    assert not RequestedReview.objects.filter(closed_at=None).exists()
    assert not AwaitedRun.objects.exists()
    assert [row.n for row in FailureLedger.objects.all()] == [1, 1]


def counted_or_none() -> dict[str, int]:
    return counted() if ArrivalLedger.objects.exists() else {}


def test_an_early_one_arrives_with_its_run(reports: Reports) -> None:
    run = unlabelled()
    reports.observations(observation(run))
    work()
    reports.runs(run)
    work()

    label, task = ArrivalLedger.objects.get(n=0), ArrivalLedger.objects.get(n=1)
    assert label.arrived_at == task.arrived_at
    assert label.drain > task.drain


def test_a_retry_counts_once_whatever_it_repeats(reports: Reports) -> None:
    run = unlabelled()
    reports.runs(run)
    label = observation(run, passed=False)
    first = reports.observations(label, label)
    again = reports.observations({**label, "occurred_at": ago(seconds=5)}, observation(run))

    work()
    last = reports.observations(label)
    work()

    assert counted()["quality_n"] == 1
    assert [reports.batch(batch)["duplicates"] for batch in (first, again, last)] == [1, 1, 1]


@pytest.mark.django_db(transaction=True)
def test_many_drains_at_once_count_each_observation_once(reports: Reports) -> None:
    runs = [unlabelled(review_requested=place % 2 == 0) for place in range(120)]
    labels = [observation(run, passed=place % 3 > 0) for place, run in enumerate(runs)]
    labels += [observation(run, "review", verdict="approved") for run in runs]
    labels += [observation(run, "feedback", value="down") for run in runs[:40]] * 2
    for start in range(0, 120, 20):
        reports.observations(*labels[start * 2 :: 3])
        reports.runs(*runs[start : start + 20], *runs[:5])
        reports.observations(*labels[start : start + 90])
    reports.observations(*labels)

    def drain() -> None:
        work()
        connections.close_all()

    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Two that met at the same moment look again a little later.
    work(timezone.now() + timedelta(seconds=3))

    expected = {
        "n": 120,
        "n_ok": 120,
        "latency_n": 120,
        "cost_n": 120,
        "review_requested": 60,
        "quality_n": 120,
        "labelled": 120,
        "reviews_n": 120,
        "feedback_negative": 40,
    }
    found = counted()
    passed = found.pop("quality_passed")
    assert found == expected
    # A label that came first says whether a task passed: its evaluation, or its review.
    assert 80 <= passed <= 120
    assert counted("minute_bucket") == {**expected, "quality_passed": passed}
    assert RequestedReview.objects.filter(closed_at=None).count() == 0
    assert Observation.objects.exclude(state=ObservationState.APPLIED).count() == 0


def test_one_task_has_one_quality(reports: Reports) -> None:
    """The run's own word stands; else the first label that arrives."""
    told, scored, quiet = run_item(quality={"passed": True}), run_item(), unlabelled()
    scored["quality"] = {"score": 0.9}
    reports.runs(told, scored, quiet)
    work()
    reports.observations(
        observation(told, passed=False, score=0.2),
        observation(scored, passed=False, score=0.1),
        observation(quiet, passed=False),
    )
    work()
    reports.observations(observation(quiet, passed=True), observation(scored, passed=True))
    work()

    found = counted()
    assert (found["quality_n"], found["quality_passed"], found["labelled"]) == (3, 1, 3)
    assert found["score_n"] == 2
    scores = [row.score_sum for row in ArrivalLedger.objects.exclude(score_n=0)]
    assert sorted(scores) == [0.2, 0.9]


def test_a_review_says_quality_unless_it_edited(reports: Reports) -> None:
    runs = [unlabelled() for _ in range(3)]
    reports.runs(*runs)
    verdicts = ("approved", "rejected", "edited")
    reports.observations(
        *(observation(run, "review", verdict=v) for run, v in zip(runs, verdicts, strict=True))
    )
    work()

    found = counted()
    assert (found["reviews_n"], found["reviews_rejected"], found["reviews_edited"]) == (3, 1, 1)
    assert (found["quality_n"], found["quality_passed"], found["labelled"]) == (2, 1, 2)


def test_a_task_is_unhappy_critical_and_failing_at_most_once(reports: Reports) -> None:
    run = unlabelled(failure_category="loop", critical=True, subject="u-1", outcome="error")
    plain = unlabelled()
    reports.runs(run, plain)
    work()
    reports.observations(
        *(observation(run, "feedback", value=v) for v in ("down", "complaint", "undo", "up")),
        observation(run, "feedback", value="rerun"),
        observation(run, "outcome", critical=True, failure_category="loop"),
        observation(run, "outcome", critical=True, failure_category="other"),
        observation(plain, "outcome", outcome="error", critical=True),
        observation(plain, "outcome", outcome="error", critical=True),
    )
    work()

    found = counted()
    assert (found["feedback_negative"], found["feedback_positive"]) == (1, 1)
    assert found["n_critical"] == 2
    failures = FailureLedger.objects.order_by("category").values_list("category", "n")
    assert list(failures) == [("loop", 1), ("other", 1)]
    assert [len(row.subjects) for row in FailureLedger.objects.all()] == [1, 1]


def test_a_drill_run_and_what_is_said_of_it_count_nowhere(reports: Reports) -> None:
    run = unlabelled(drill="d-1", review_requested=True, failure_category="loop")
    reports.runs(run)
    reports.observations(
        observation(run),
        observation(run, "review", verdict="rejected"),
        observation(run, "outcome", critical=True, failure_category="odd"),
    )
    work()

    assert not ArrivalLedger.objects.exists()
    assert not FailureLedger.objects.exists()
    assert not RequestedReview.objects.exists()
    assert not TaskFact.objects.exists()
    assert set(Observation.objects.values_list("state", flat=True)) == {ObservationState.APPLIED}


def test_another_workflows_run_of_the_same_id_is_another_run(reports: Reports) -> None:
    rollout_at(RolloutState.LIVE, workflow="order-status")
    reports = Reports()
    run = unlabelled(id="shared")
    reports.runs(run)
    batch = reports.observations(observation({**run, "workflow": "order-status"}))
    work()

    assert reports.batch(batch)["waiting"] == 1
    assert "quality_n" not in counted()


def test_without_its_time_a_run_is_found_on_the_days_before(reports: Reports) -> None:
    old = unlabelled(occurred_at=ago(days=5))
    newer = unlabelled(id="twice", occurred_at=ago(days=1))
    older = unlabelled(id="twice", occurred_at=ago(days=2), risk="high")
    reports.runs(old, newer, older)
    work()
    labels = [observation(old), observation(newer)]
    for label in labels:
        del label["run_occurred_at"]
    reports.observations(*labels)
    work()

    assert counted()["quality_n"] == 2
    # Of two runs with one id the newest is meant.
    assert sorted(ArrivalLedger.objects.filter(n=0).values_list("risk", flat=True)) == [0, 0]


def test_a_label_waits_eight_days_and_is_then_said_to_be_unknown(reports: Reports) -> None:
    now = timezone.now()
    run = unlabelled()
    batch = reports.observations(observation(run))
    work(now + timedelta(seconds=1))
    state = reports.batch(batch)
    assert (state["kind"], state["state"], state["duplicates"]) == ("observations", "drained", 0)
    assert (state["waiting"], state["unknown"]) == (1, 0)
    assert "unknown_segments" not in state

    for days in range(0, 9):
        work(now + timedelta(days=days, minutes=10))

    state = reports.batch(batch)
    assert (state["waiting"], state["unknown"]) == (0, 1)
    reports.runs(run)
    work()
    assert "quality_n" not in counted()


def test_a_run_that_came_at_the_same_moment_is_found_at_the_next_look(reports: Reports) -> None:
    """Both drained, neither saw the other: what a note of the run would say is lost."""
    now = timezone.now()
    run = unlabelled()
    reports.observations(observation(run))
    work(now + timedelta(seconds=1))
    reports.runs(run)
    batches_drain(now=now)
    AwaitedRun.objects.all().delete()

    work(now + timedelta(seconds=2))
    assert "quality_n" not in counted()
    work(now + timedelta(seconds=4))
    assert counted()["quality_n"] == 1


def test_a_review_closes_what_its_run_asked_for(reports: Reports) -> None:
    runs = [unlabelled(review_requested=True, occurred_at=ago(minutes=9)) for _ in range(3)]
    reports.runs(*runs)
    reports.observations(observation(runs[0], "review", verdict="edited"))
    reports.observations(observation(runs[1], "feedback", value="up"))
    work()

    assert RequestedReview.objects.filter(closed_at=None).count() == 2
    closed = RequestedReview.objects.exclude(closed_at=None).get()
    assert closed.asked_at.isoformat() == runs[0]["occurred_at"]
    assert closed.closed_drain is not None
    assert closed.closed_drain > closed.opened_drain
    work()
    assert RequestedReview.objects.filter(closed_at=None).count() == 2


def test_metrics_name_the_labels_without_a_run(reports: Reports) -> None:
    reports.observations(*(observation(unlabelled()) for _ in range(3)))
    work()

    answer = reports.caller.send("GET", "/metrics", token=reports.secret).decode()

    assert "console_labels_without_run 3\n" in answer


def test_an_old_writers_ledger_row_has_zeros(live: Rollout) -> None:
    """A web or worker of the version before goes on writing while this one is rolled out."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into ingest_batch (id, received_at, token_name, n_accepted, n_rejected,"
            " errors, body_bytes, state, attempts, error, unknown_segments)"
            " values (%s, now(), 't', 0, 0, '[]', 0, 'pending', 0, '', '{}')",
            [uuid.uuid4()],
        )
    batch = IngestBatch.objects.get()
    assert (batch.kind, batch.unknown_runs) == ("runs", 0)
