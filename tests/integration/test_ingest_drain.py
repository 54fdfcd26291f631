"""Draining and folding on the real Postgres: every run once, every ledger row what its runs say."""

import json
import random
import threading
from datetime import datetime
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.catalog.models import Release
from rollout_console.containment import work
from rollout_console.core.heartbeats import WORKER
from rollout_console.rollouts.states import RolloutState
from signals.buckets.services import buckets_fold
from signals.ingest.drain import batches_drain
from signals.ingest.models import BatchState, IngestBatch, Run
from signals.ingest.services import BatchReceipt, batch_store, caches_forget
from tests.factories import rollout_at, token
from tests.story import run_item


def store(items: list[dict[str, Any]]) -> BatchReceipt:
    _, reporter = token(Scope.INGEST)
    return batch_store(
        body=json.dumps(items).encode(),
        content_type="application/json",
        content_encoding=None,
        principal=reporter,
        now=timezone.now(),
    )


def totals(table: str) -> tuple[int, int, float, int]:
    """Return runs, runs with a latency, the sum of latencies, and values in the histogram."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"select sum(n), sum(latency_n), sum(latency_sum), sum(latency_zero)"  # noqa: S608
            f" + sum((select coalesce(sum(c), 0) from unnest(latency_cnt) c)) from {table}"
        )
        runs, measured, total, binned = cursor.fetchone()
    return int(runs or 0), int(measured or 0), float(total or 0), int(binned or 0)


@pytest.mark.django_db(transaction=True)
def test_many_drains_at_once_count_each_run_once() -> None:
    rollout_at(RolloutState.LIVE)
    caches_forget()
    random_order = random.Random(7)
    items = [run_item(latency_ms=random_order.choice([0, 5, 900, 31_000])) for _ in range(300)]
    parts = [random_order.sample(items, 60) for _ in range(12)]
    parts += [items[start : start + 50] for start in range(0, 300, 50)]
    random_order.shuffle(parts)
    for part in parts:
        store(part)

    def drain() -> None:
        batches_drain(now=timezone.now())
        buckets_fold(now=timezone.now())
        connections.close_all()

    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    drain()

    expected = (300, 300, float(sum(item["latency_ms"] for item in items)), 300)
    assert Run.objects.count() == 300
    assert totals("arrival_ledger") == pytest.approx(expected)
    assert totals("minute_bucket") == pytest.approx(expected)
    assert not IngestBatch.objects.exclude(state=BatchState.DRAINED).exists()
    again = sum(batch.duplicates or 0 for batch in IngestBatch.objects.all())
    assert again == sum(len(part) for part in parts) - 300


@pytest.mark.django_db
def test_a_segment_follows_from_the_context_and_an_unknown_one_is_told() -> None:
    rollout_at(RolloutState.LIVE)
    caches_forget()
    internal = run_item(context={"team": "internal"})
    del internal["segment"]
    receipt = store([internal, run_item(segment="nobody-knows")])

    batches_drain(now=timezone.now())

    batch = IngestBatch.objects.get(id=receipt.batch_id)
    assert batch.unknown_segments == {"nobody-knows": 1}
    with connection.cursor() as cursor:
        cursor.execute(
            "select (select slug from catalog_segment s where s.id = run.segment_id) from run"
            " order by 1"
        )
        assert [slug for (slug,) in cursor.fetchall()] == ["internal-ops", None]


@pytest.mark.django_db
def test_a_drill_counts_nowhere_and_a_new_release_is_shown_as_such() -> None:
    rollout_at(RolloutState.LIVE)
    caches_forget()
    store([run_item(drill="d-1"), run_item(release="surprise")])

    batches_drain(now=timezone.now())

    assert Run.objects.count() == 2
    assert totals("arrival_ledger")[0] == 1
    assert Release.objects.get(version="surprise").registered is False


@pytest.mark.django_db
def test_guards_look_between_the_turns_of_a_long_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout_at(RolloutState.LIVE)
    caches_forget()
    # One batch a turn, as if each took a second.
    monkeypatch.setattr("signals.ingest.drain.GROUP_RUNS", 1)
    monkeypatch.setattr(work, "TURN_S", 0.0)
    left: list[int] = []

    def look(*, now: datetime) -> int:
        left.append(IngestBatch.objects.filter(state=BatchState.PENDING).count())
        return 0

    monkeypatch.setattr(work, "guards_watch", look)
    for _ in range(4):
        store([run_item()])

    assert work.work_once(name=WORKER, periodic=False) == 4
    assert left == [3, 2, 1, 0]
