"""Charts and traffic read from the ledger and the minute buckets."""

from datetime import UTC, datetime, timedelta

import pytest

from rollout_console.catalog.models import WorkflowPath
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE
from signals.buckets.models import ArrivalLedger, FailureLedger
from signals.buckets.selectors import Traffic, signal_series, traffic, window_measures
from tests.factories import rollout_at
from tests.ledger import arrive, bucket

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


@pytest.fixture
def live() -> Rollout:
    return rollout_at(RolloutState.LIVE)


@pytest.fixture
def path(live: Rollout) -> WorkflowPath:
    return WorkflowPath.objects.get(workflow=live.workflow, slug="draft")


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_live_charts_read_arrivals_by_step_and_leave_gaps(
    live: Rollout, path: WorkflowPath
) -> None:
    candidate = live.candidate_id
    arrive(path, after(1), release_id=candidate, passed=8, failed=2)
    arrive(path, after(9), release_id=candidate, passed=10)
    arrive(path, after(31), release_id=candidate, passed=5, failed=5)
    arrive(path, after(31), release_id=candidate, mode=3, failed=50)
    arrive(path, after(31), release_id=live.stable_id, arm=ARM_STABLE, failed=50)
    arrive(path, after(900), release_id=candidate, failed=50)

    points = signal_series(
        signal="quality_pass_rate",
        workflow_id=live.workflow_id,
        path_id=path.pk,
        arms=[ARM_CANDIDATE],
        segment_ids=None,
        start=START,
        end=after(900),
        step_s=10,
    )

    assert [(point.t, point.value, point.n) for point in points] == [
        (START, 0.9, 20),
        (after(30), 0.5, 10),
    ]
    assert (round(points[0].low or 0, 3), round(points[0].high or 0, 3)) == (0.591, 0.996)


def test_after_a_rollback_the_line_goes_on_with_what_the_segment_gets(
    live: Rollout, path: WorkflowPath
) -> None:
    for second in range(0, 60, 5):
        arm, release = (
            (ARM_CANDIDATE, live.candidate_id) if second < 30 else (ARM_STABLE, live.stable_id)
        )
        latency = 9000.0 if second < 30 else 1000.0
        arrive(
            path,
            after(second + 1),
            release_id=release,
            arm=arm,
            segment_id=5,
            latencies=[latency] * 10,
        )
        arrive(
            path,
            after(second + 1),
            release_id=live.stable_id,
            arm=ARM_STABLE,
            segment_id=6,
            latencies=[50.0] * 10,
        )

    points = signal_series(
        signal="latency_p95_ms",
        workflow_id=live.workflow_id,
        path_id=path.pk,
        arms=[ARM_CANDIDATE],
        segment_ids=[5],
        start=START,
        end=after(60),
        step_s=10,
        served_until=after(28),
    )

    assert [point.t for point in points] == [after(second) for second in range(0, 60, 10)]
    assert [round(point.value, -3) for point in points] == [9000.0] * 3 + [1000.0] * 3


def fail(row: ArrivalLedger, n: int) -> None:
    """Let so many of a ledger row's tasks have failed alike."""
    same = ("workflow_id", "path_id", "segment_id", "release_id", "arm", "mode", "arrived_at")
    FailureLedger.objects.create(
        **{name: getattr(row, name) for name in (*same, "minute", "input_condition", "risk")},
        drain=row.drain,
        category="loop",
        n=n,
        subjects=[],
    )


def test_repeats_are_those_of_the_release_whose_tasks_are_counted(
    live: Rollout, path: WorkflowPath
) -> None:
    fail(arrive(path, after(1), release_id=live.candidate_id, passed=10), 2)
    fail(arrive(path, after(1), release_id=live.stable_id, passed=10), 7)

    def points(release_id: int | None) -> list[tuple[float, int]]:
        found = signal_series(
            signal="repeated_failures",
            workflow_id=live.workflow_id,
            path_id=path.pk,
            arms=[ARM_CANDIDATE],
            segment_ids=None,
            start=START,
            end=after(60),
            step_s=60,
            release_id=release_id,
        )
        return [(point.value, point.n) for point in found]

    assert points(live.candidate_id) == [(2, 10)]
    assert points(live.stable_id) == [(7, 10)]
    assert points(None) == [(9, 20)]


def test_after_a_rollback_repeats_are_those_of_what_is_served(
    live: Rollout, path: WorkflowPath
) -> None:
    fail(arrive(path, after(1), release_id=live.candidate_id, passed=10), 5)
    for second in (1, 31):
        row = arrive(path, after(second), release_id=live.stable_id, arm=ARM_STABLE, passed=20)
        fail(row, second // 10)

    points = signal_series(
        signal="repeated_failures",
        workflow_id=live.workflow_id,
        path_id=path.pk,
        arms=[ARM_CANDIDATE],
        segment_ids=None,
        start=START,
        end=after(60),
        step_s=10,
        served_until=after(8),
    )

    assert [(point.t, point.value, point.n) for point in points] == [
        (START, 5, 10),
        (after(30), 3, 20),
    ]


def test_long_charts_read_minutes(live: Rollout, path: WorkflowPath) -> None:
    for minute, passed in ((0, 10), (1, 5), (7, 10)):
        bucket(
            path,
            after(60 * minute),
            release_id=live.candidate_id,
            passed=passed,
            failed=10 - passed,
            latencies=[1000.0] * 10,
        )

    points = signal_series(
        signal="quality_pass_rate",
        workflow_id=live.workflow_id,
        path_id=path.pk,
        arms=[ARM_CANDIDATE, ARM_STABLE],
        segment_ids=[0],
        start=START,
        end=after(3600),
        step_s=300,
    )

    assert [(point.t, point.value, point.n) for point in points] == [
        (START, 0.75, 20),
        (after(300), 1.0, 10),
    ]


def test_no_points_for_what_is_not_collected(live: Rollout, path: WorkflowPath) -> None:
    for signal in ("action_undo_rate", "data_age_s", "something_own"):
        assert (
            signal_series(
                signal=signal,
                workflow_id=live.workflow_id,
                path_id=path.pk,
                arms=[ARM_CANDIDATE],
                segment_ids=None,
                start=START,
                end=after(60),
                step_s=5,
            )
            == []
        )


def test_window_measures_by_arm(live: Rollout, path: WorkflowPath) -> None:
    arrive(path, after(0), release_id=live.candidate_id, failed=9)
    arrive(path, after(5), release_id=live.candidate_id, passed=2, latencies=[0.0, 800.0])
    arrive(path, after(6), release_id=live.candidate_id, segment_id=4, latencies=[900.0])
    arrive(path, after(6), release_id=live.stable_id, arm=ARM_STABLE, passed=3)

    found = window_measures(path_ids=[path.pk], since=START, until=after(6))

    candidate = found[path.pk, ARM_CANDIDATE]
    assert (candidate.n, candidate.quality_n, candidate.latency_n) == (3, 2, 3)
    assert (candidate.latency.zero, candidate.latency.n, candidate.latency_max) == (1, 3, 900.0)
    assert found[path.pk, ARM_STABLE].quality_passed == 3


def test_traffic_over_five_minutes_or_since_the_first_task(
    live: Rollout, path: WorkflowPath
) -> None:
    now = after(600)
    assert traffic(workflow_ids=[live.workflow_id], now=now) == {
        path.pk: Traffic(0.0, 0.0, None, None)
    }
    arrive(path, now - timedelta(seconds=60), release_id=live.candidate_id, passed=30)
    arrive(path, now - timedelta(seconds=30), release_id=live.stable_id, arm=ARM_STABLE, passed=90)
    [young] = traffic(workflow_ids=[live.workflow_id], now=now).values()
    assert (young.tasks_per_min, young.candidate_per_min, young.exposed_share) == (120, 30, 0.25)
    assert young.last_arrival_at == now - timedelta(seconds=30)

    arrive(path, now - timedelta(hours=1), release_id=live.candidate_id, passed=1)
    [settled] = traffic(workflow_ids=[live.workflow_id], now=now).values()
    assert (settled.tasks_per_min, settled.candidate_per_min) == (24, 6)
