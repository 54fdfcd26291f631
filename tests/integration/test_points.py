"""Metric points: stored once whoever sends them how often, and read back by step exactly."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import fmean
from threading import Barrier, Thread
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.catalog.models import WorkflowPath
from rollout_console.rollouts.states import RolloutState
from signals.points.histograms import Explicit, Exponential
from signals.points.kinds import Distribution, Gauge, MetricPoint, Series, Sum
from signals.points.models import MetricPointRow, PointSeries
from signals.points.selectors import PointStep, point_names, point_steps
from signals.points.services import PointReceipt, points_prune, points_store
from signals.pulls.models import PullSource
from tests.factories import rollout_at, token

START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
GAUGE = Series(1, 2, "queue_depth", "gauge", "otlp", unit="{task}")
SUM = Series(1, 2, "tokens", "sum", "otlp")
HISTOGRAM = Series(1, 2, "duration", "histogram", "otlp", unit="s")

pytestmark = pytest.mark.django_db


def gauges(values: list[float], *, series: Series = GAUGE, every_s: int = 20) -> list[MetricPoint]:
    return [
        MetricPoint(series, START + timedelta(seconds=every_s * place), Gauge.of(value))
        for place, value in enumerate(values)
    ]


def store(points: list[MetricPoint], **fields: Any) -> PointReceipt:
    return points_store(points=points, now=timezone.now(), any_age=True, **fields)


def steps_of(series: Series, *, step_s: int = 60, **fields: Any) -> list[PointStep]:
    found = point_steps(
        workflow_id=series.workflow_id,
        path_id=series.path_id,
        name=series.name,
        start=START - timedelta(days=1),
        end=START + timedelta(days=1),
        step_s=step_s,
        **fields,
    )
    assert found is not None
    return found.steps


def test_gauge_by_step_equals_the_values() -> None:
    values = [5.0, 1.0, 9.0, 2.0, 4.0]
    receipt = store(gauges(values))

    one, two = steps_of(GAUGE)

    assert (receipt.stored, receipt.duplicates) == (5, 0)
    assert (one.t, one.n, one.value, one.low, one.high, one.last) == (START, 3, 5.0, 1.0, 9.0, 9.0)
    assert one.squares == 25.0 + 1.0 + 81.0
    assert (two.t, two.n, two.value, two.last) == (START + timedelta(minutes=1), 2, 3.0, 4.0)
    assert two.newest_at == START + timedelta(seconds=80)


def test_minutes_without_data_have_no_step() -> None:
    store(gauges([1.0, 2.0], every_s=600))

    assert [step.t for step in steps_of(GAUGE)] == [START, START + timedelta(minutes=10)]
    assert (
        point_steps(workflow_id=1, path_id=2, name="unheard", start=START, end=START, step_s=60)
        is None
    )


def test_sent_twice_counts_once_and_the_first_value_stands() -> None:
    store(gauges([1.0, 2.0, 3.0]))
    again = store([*gauges([7.0, 7.0, 7.0, 4.0]), *gauges([7.0])])

    assert (again.stored, again.duplicates) == (1, 4)
    assert [step.total for step in steps_of(GAUGE)] == [6.0, 4.0]


def test_streams_of_one_series_at_one_time_are_two_points() -> None:
    at = [MetricPoint(SUM, START, Sum(5.0), stream=name) for name in ("pod-1", "pod-2", "pod-1")]

    receipt = store(at)

    assert (receipt.stored, receipt.duplicates) == (2, 1)
    assert [step.value for step in steps_of(SUM)] == [10.0]


def test_histograms_of_several_scales_add_up_to_the_coarser() -> None:
    two = timedelta(seconds=30)
    fine = Exponential(3, 1, 0.0, {8: 4, 9: 1, -3: 2}, {4: 1})
    coarse = Exponential(1, 2, 0.0, {2: 5}, {})
    store(
        [
            MetricPoint(HISTOGRAM, START, Distribution(9, 20.0, -2.0, 3.0, fine)),
            MetricPoint(HISTOGRAM, START + two, Distribution(7, 16.0, 0.0, 2.5, coarse)),
            MetricPoint(HISTOGRAM, START, Distribution(9, 20.0, -2.0, 3.0, fine), stream="b"),
        ]
    )

    (step,) = steps_of(HISTOGRAM)

    assert (step.n, step.total, step.low, step.high) == (25, 56.0, -2.0, 3.0)
    assert step.histogram == fine + coarse + fine
    assert step.value == 56.0 / 25
    assert step.quantile(0.999) is not None


def test_explicit_histograms_add_up_and_those_without_buckets_still_count() -> None:
    store(
        [
            MetricPoint(
                HISTOGRAM, START, Distribution(6, 9.0, None, None, Explicit((1.0, 2.0), (1, 2, 3)))
            ),
            MetricPoint(
                HISTOGRAM,
                START + timedelta(seconds=1),
                Distribution(3, 5.0, None, None, Explicit((2.0,), (2, 1))),
            ),
            MetricPoint(
                HISTOGRAM, START + timedelta(seconds=2), Distribution(2, 4.0, None, None, None)
            ),
        ]
    )

    (step,) = steps_of(HISTOGRAM)

    assert (step.n, step.total) == (11, 18.0)
    assert step.histogram == Explicit((2.0,), (5, 4))


def test_a_bad_point_is_refused_alone() -> None:
    now = START + timedelta(days=10)
    receipt = points_store(
        points=[
            MetricPoint(GAUGE, now, Gauge.of(1.0)),
            MetricPoint(GAUGE, now, Gauge.of(float("nan"))),
            MetricPoint(GAUGE, now, Sum(1.0)),
            MetricPoint(GAUGE, now + timedelta(hours=1), Gauge.of(1.0)),
            MetricPoint(GAUGE, START, Gauge.of(1.0)),
            MetricPoint(HISTOGRAM, now, Distribution(5, 1.0, None, None, Exponential(0, 1))),
        ],
        now=now,
    )

    refused = {each.index: each.detail for each in receipt.refused}
    assert receipt.stored == 1
    assert set(refused) == {1, 2, 3, 4, 5}
    assert "ahead" in refused[3]
    assert "7 days" in refused[4]
    assert "hold 1 values, the count says 5" in refused[5]


def test_narrowed_to_segment_release_arm_and_live() -> None:
    series = [
        Series(1, 2, "load", "gauge", "otlp", segment_id=7, release_id=3, arm=2),
        Series(1, 2, "load", "gauge", "otlp", segment_id=8, arm=1),
        Series(1, 2, "load", "gauge", "otlp"),
    ]
    for place, one in enumerate(series):
        store(gauges([10.0**place], series=one), backfill=place == 2)

    def total(**fields: Any) -> float:
        return sum(step.total or 0 for step in steps_of(series[0], **fields))

    assert total() == 111.0
    assert total(segment_ids=[7, 8]) == 11.0
    assert total(release_id=3) == 1.0
    assert total(arms=[1]) == 10.0
    assert total(live_only=True) == 11.0


def test_names_tell_the_newest_value_and_how_many_in_the_window() -> None:
    store(gauges([5.0, 1.0, 9.0], every_s=60))
    store(gauges([2.0], series=Series(1, 3, "other", "gauge", "pull:x")))
    store(gauges([2.0], series=Series(2, 4, "elsewhere", "gauge", "pull:x")))

    found = point_names(
        workflow_ids=[1], since=START + timedelta(seconds=30), until=START + timedelta(hours=1)
    )

    told = [(each.path_id, each.name, each.unit, each.value, each.n) for each in found]
    assert told == [(2, "queue_depth", "{task}", 9.0, 2), (3, "other", "", 2.0, 0)]
    assert found[0].at == START + timedelta(minutes=2)


def test_what_is_kept_no_longer_goes_by_its_time_and_by_when_it_came(settings: Any) -> None:
    settings.POINT_DAYS_KEPT = 9
    kept = timedelta(days=9)
    points_store(points=gauges([1.0, 2.0, 3.0], every_s=60), now=START)
    # Of the same time, but history that came later.
    late = Series(1, 2, "late", "gauge", "replay:x")
    points_store(points=gauges([4.0], series=late), now=START + timedelta(days=5), backfill=True)

    assert points_prune(now=START + kept + timedelta(minutes=2)) == 2
    assert [step.total for step in steps_of(GAUGE)] == [3.0]
    assert [step.total for step in steps_of(late)] == [4.0]
    assert points_prune(now=START + kept + timedelta(days=6)) == 2
    assert not MetricPointRow.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_concurrent_writers_of_the_same_points_store_each_once() -> None:
    """Four writers send overlapping parts of one set, shuffled, as retries would."""
    chance = random.Random(3)
    series = [Series(1, 2, f"m{place}", "gauge", "otlp") for place in range(5)]
    points = [
        point
        for one in series
        for point in gauges([chance.random() for _ in range(200)], series=one)
    ]
    cuts = sorted(chance.sample(range(1, len(points)), 9))
    parts = [points[a:b] for a, b in pairwise([0, *cuts, len(points)])]
    gate = Barrier(4)
    stored: list[int] = []
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        mine = parts * 2
        random.Random(seed).shuffle(mine)
        gate.wait(timeout=10)
        try:
            stored.extend(store(part).stored for part in mine)
        except BaseException as error:  # noqa: BLE001  # told by the test itself
            failures.append(error)
        finally:
            connections.close_all()

    for thread in (threads := [Thread(target=work, args=[seed]) for seed in range(4)]):
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert failures == []
    assert sum(stored) == len(points) == MetricPointRow.objects.count()
    assert PointSeries.objects.count() == 5
    for one in series:
        mine = [
            point.value.total
            for point in points
            if point.series == one and isinstance(point.value, Gauge)
        ]
        (step,) = steps_of(one, step_s=86_400)
        assert step.value == pytest.approx(fmean(mine))


def asked(path: WorkflowPath, **fields: Any) -> Any:
    secret, _ = token(Scope.READ)
    return Client().get(
        "/api/v1/signals/series",
        {
            "workflow": path.workflow.slug,
            "path": path.slug,
            "from": START.isoformat(),
            "to": (START + timedelta(hours=1)).isoformat(),
            "step": 60,
            **fields,
        },
        headers={"Authorization": f"Bearer {secret}"},
    )


@pytest.fixture
def path() -> WorkflowPath:
    return rollout_at(RolloutState.DRAFT).workflow.paths.get(slug="draft")


def test_the_series_api_answers_points_by_name(path: WorkflowPath) -> None:
    gauge = Series(path.workflow_id, path.pk, "queue_depth", "gauge", "otlp", unit="{task}")
    histogram = Series(path.workflow_id, path.pk, "duration", "histogram", "otlp", unit="s")
    store(gauges([5.0, 1.0, 9.0, 2.0], series=gauge))
    value = Distribution(4, 10.0, 1.0, 4.0, Exponential(5, 0, 0.0, {0: 1, 63: 3}))
    store([MetricPoint(histogram, START, value)])

    told = asked(path, signal="queue_depth").json()
    (durations,) = asked(path, signal="duration").json()["points"]

    assert (told["unit"], told["kind"], told["sources"]) == ("{task}", "gauge", ["otlp"])
    assert [(p["value"], p["n"], p["least"], p["most"]) for p in told["points"]] == [
        (5.0, 3, 1.0, 9.0),
        (2.0, 1, 2.0, 2.0),
    ]
    assert [p["low"] for p in told["points"]] == [None, None]
    assert (durations["value"], durations["n"]) == (2.5, 4)
    # Bucket 63 of scale 5 is (2^(63/32), 4].
    assert durations["p95"] == pytest.approx(4.0, rel=0.011)
    unknown = asked(path, signal="unheard")
    assert unknown.status_code == 400
    assert "queue_depth" in unknown.json()["errors"][0]["detail"]
    assert asked(path, signal="queue_depth", arm="nonsense").status_code == 400
    assert asked(path, signal="queue_depth", arm="candidate").json()["points"] == []


def test_the_workflows_page_lists_what_was_measured(client: Client, path: WorkflowPath) -> None:
    gauge = Series(path.workflow_id, path.pk, "<depth>", "gauge", "otlp", unit="{task}")
    store(gauges([1204.0, 1205.0], series=gauge))
    PullSource.objects.create(
        workflow=path.workflow,
        path=path,
        name="never",
        base_url="http://127.0.0.1:9",
        query="up",
        step_s=60,
        owner=path.workflow.owner,
        created_at=START,
        pulled_to=START,
        next_at=START,
        failures=1,
        error="The server cannot be reached.",
    )
    client.force_login(path.workflow.owner)

    page = client.get(f"/workflows/{path.workflow.slug}/?span=all").content.decode()

    assert "&lt;depth&gt;" in page
    assert "<depth>" not in page
    row = page[page.index("data-point=") : page.index("</tr>", page.index("data-point="))]
    assert "1,205 task" in row
    assert 'data-total="n">2<' in row
    assert "The server cannot be reached." in page
    assert "no data yet" in page
