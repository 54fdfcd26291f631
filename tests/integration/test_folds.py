"""Folds: whatever order, doubling, splitting or crash, every ledger is folded once, and no answer
depends on which fold it is read from."""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import connection, connections
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.catalog.models import WorkflowPath
from rollout_console.rollouts.states import RolloutState
from signals.buckets import event_time
from signals.buckets.beside import step_failures
from signals.buckets.folds import FOLDS, MINUTE_S, Fold
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE, ARM_UNKNOWN
from signals.buckets.many import Asked, arm_series, many_series
from signals.buckets.measures import Measures
from signals.buckets.models import HourBucket, MinuteBucket, StaleBucket
from signals.buckets.selectors import release_totals, series_measures, signal_series
from signals.buckets.services import buckets_fold, stale_fold
from signals.catalogue import SIGNALS
from signals.ingest.drain import batches_drain
from signals.ingest.labels import observations_attribute
from signals.ingest.models import BatchKind
from signals.ingest.services import batch_store, caches_forget
from tests.factories import rollout_at, token
from tests.labels import observation
from tests.live import ROOT
from tests.story import run_item

EVERY_ARM = [ARM_UNKNOWN, ARM_STABLE, ARM_CANDIDATE]


def some_items(seed: int, count: int, *, days: float = 2.0) -> list[dict[str, Any]]:
    """Return runs with everything that a ledger counts, over some days before now."""
    chance = random.Random(seed)
    now = datetime.now(UTC)
    items = []
    for number in range(count):
        fields: dict[str, Any] = {
            "occurred_at": (now - timedelta(days=chance.random() * days)).isoformat(),
            "latency_ms": chance.choice([0, 5, chance.paretovariate(0.8), 31_000.0]),
            "cost_usd": chance.choice([0.01, 0.25, 9000.0]),
            "outcome": chance.choice(["ok", "ok", "error", "fallback"]),
            "context": {"team": chance.choice(["internal", "customer"])},
            "subject": f"u-{number % 7}",
            "input_tokens": chance.randrange(4000),
            "retries": chance.randrange(3),
        }
        if chance.random() < 0.5:
            fields["route"] = chance.choice(["rag-large", "simple"])
        if chance.random() < 0.4:
            fields["measures"] = {"tone": chance.choice([-3.5, 0, 40.25])}
        if chance.random() < 0.3:
            fields["failure_category"] = chance.choice(["loop", "wrong tool"])
        item = run_item(**fields)
        if number % 2:
            del item["quality"]
        items.append(item)
    return items


def store(
    items: Sequence[dict[str, Any]],
    *,
    kind: BatchKind = BatchKind.RUNS,
    backfill: bool = False,
    any_age: bool = False,
) -> None:
    _, reporter = token(Scope.INGEST)
    batch_store(
        body=json.dumps(list(items)).encode(),
        content_type="application/json",
        content_encoding=None,
        principal=reporter,
        now=timezone.now(),
        kind=kind,
        any_age=any_age or backfill,
        backfill=backfill,
    )


def work() -> None:
    """One worker's round; its connection is closed after it."""
    now = timezone.now()
    batches_drain(now=now)
    observations_attribute(now=now)
    buckets_fold(now=now)
    stale_fold(now=now + timedelta(hours=3))


def settle() -> None:
    """Go on until nothing is left to do, buckets that still run included."""
    for _ in range(3):
        work()
    while stale_fold(now=timezone.now() + timedelta(hours=3)):
        pass
    assert not StaleBucket.objects.exists()


def held(table: str, fold: Fold, length_s: int) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Return what a ledger or fold holds by key, in buckets of a length, counted in Python."""
    names = [*fold.key, *fold.plain, *fold.arrays]
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    with connection.cursor() as cursor:
        cursor.execute(f"select {', '.join(names)} from {table}")  # noqa: S608  # of our own
        for values in cursor.fetchall():
            row = dict(zip(names, values, strict=True))
            row["minute"] = event_time.floor(row["minute"], length_s)
            into = found.setdefault(tuple(_hashed(row[name]) for name in fold.key), {})
            for name in (*fold.counts, *fold.sums):
                into[name] = into.get(name, 0) + row[name]
            for names_of, pick in ((fold.minima, min), (fold.maxima, max)):
                for name in names_of:
                    known = [value for value in (into.get(name), row[name]) if value is not None]
                    into[name] = pick(known, default=None)
            for name in fold.histograms:
                counts = into.setdefault(name, {})
                for index, count in zip(row[f"{name}idx"], row[f"{name}cnt"], strict=True):
                    counts[index] = counts.get(index, 0) + count
            for name in fold.sets:
                into[name] = into.get(name, frozenset()) | frozenset(row[name])
    return {key: _rounded(fold, row) for key, row in found.items()}


def _hashed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _rounded(fold: Fold, row: dict[str, Any]) -> tuple[Any, ...]:
    sums = tuple(float(f"{row[name]:.9g}") for name in fold.sums)
    rest = (*fold.counts, *fold.minima, *fold.maxima, *fold.histograms, *fold.sets)
    return (*sums, *(row[name] for name in rest))


def every_fold() -> dict[str, Any]:
    """Return what all folds hold, by table; each must be what its ledger adds up to."""
    found = {}
    for fold in FOLDS:
        for length_s, table in fold.tables.items():
            found[table] = held(table, fold, length_s)
            assert found[table] == held(fold.ledger, fold, length_s), table
    return found


def everything(
    seed: int, *, days: float = 2.0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return runs, and for some of them a label of each kind."""
    items = some_items(seed, 150, days=days)
    labels = [
        observation(item, passed=number % 2 > 0, score=0.5)
        for number, item in enumerate(items[::3])
    ]
    labels += [
        observation(item, "outcome", outcome="error", failure_category="vague", critical=True)
        for item in items[2::7]
    ]
    labels += [observation(item, "feedback", value="up") for item in items[4::9]]
    labels += [observation(item, "review", verdict="edited") for item in items[1::5]]
    return items, labels


def simplest(items: Sequence[dict[str, Any]], labels: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the folds after one batch of each kind and one worker; leave nothing behind."""
    store(items)
    store(labels, kind=BatchKind.OBSERVATIONS)
    settle()
    found = every_fold()
    clear()
    return found


def clear() -> None:
    tables = {table for fold in FOLDS for table in (fold.ledger, *fold.tables.values())}
    tables |= {"run", "ingest_batch", "observation", "awaited_run", "task_fact"}
    with connection.cursor() as cursor:
        for table in sorted({*tables, "requested_review", "stale_bucket"}):
            cursor.execute(f"delete from {table}")  # noqa: S608  # names of our own


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_order_doubling_splitting_and_interleaving_gives_the_same_folds(seed: int) -> None:
    rollout_at(RolloutState.LIVE)
    caches_forget()
    items, labels = everything(seed)
    expected = simplest(items, labels)
    chance = random.Random(seed)
    parts: list[tuple[list[dict[str, Any]], BatchKind]] = []
    for all_of, kind in ((items, BatchKind.RUNS), (labels, BatchKind.OBSERVATIONS)):
        parts += [(chance.sample(all_of, chance.randint(1, 60)), kind) for _ in range(8)]
        shuffled = chance.sample(all_of, len(all_of))
        parts += [(shuffled[start : start + 17], kind) for start in range(0, len(shuffled), 17)]
    chance.shuffle(parts)
    waiting = iter(parts)
    turn = threading.Lock()

    def worker() -> None:
        while True:
            with turn:
                part, kind = next(waiting, (None, BatchKind.RUNS))
            if part is None:
                break
            store(part, kind=kind)
            work()
        connections.close_all()

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    settle()

    assert every_fold() == expected


# Where a worker dies: with its work done and not committed.
_DIE_AFTER = {
    "drain": ("signals.ingest.drain", "_runs_keep"),
    "attribution": ("signals.ingest.labels", "drain_open"),
    "fold": ("signals.buckets.services", "batches_add"),
    "refold": ("signals.buckets.services", "buckets_refold"),
}
_CHILD = """
import sys, time, importlib
import django
django.setup()
module, name = importlib.import_module(sys.argv[1]), sys.argv[2]
real = getattr(module, name)
def dies(*args, **kwargs):
    found = real(*args, **kwargs)
    print("done, not committed", flush=True)
    time.sleep(600)
setattr(module, name, dies)
from tests.integration.test_folds import work
work()
"""


@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_in_the_middle_leaves_nothing_half_done(stack_env: dict[str, str]) -> None:
    rollout_at(RolloutState.LIVE)
    caches_forget()
    items, labels = everything(9)
    expected = simplest(items, labels)
    store(items[:90])
    store(labels, kind=BatchKind.OBSERVATIONS)
    store(items[60:])

    for module, name in _DIE_AFTER.values():
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, module, name],
            cwd=ROOT,
            env=stack_env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        said = child.stdout.readline()
        child.kill()
        child.wait(30)
        child.stdout.close()
        assert said == "done, not committed\n", name
    settle()

    assert every_fold() == expected


def test_late_arrivals_and_labels_reach_every_fold(db: None) -> None:
    rollout_at(RolloutState.LIVE)
    caches_forget()
    items, labels = everything(5)
    store(items[:80])
    settle()
    every_fold()
    store([*items[40:], *items[:10]])
    store(labels, kind=BatchKind.OBSERVATIONS)
    settle()

    every_fold()
    hours = list(HourBucket.objects.all())
    assert sum(row.n for row in hours) == 150
    told = {number for number in range(150) if number % 2 == 0 or number % 3 == 0}
    assert sum(row.quality_n for row in hours) == len(told)
    assert sum(row.reviews_edited for row in hours) == len(items[1::5])
    assert 2 < len({row.minute for row in hours}) <= 50


def answers(path: WorkflowPath, chance: random.Random) -> list[Any]:
    """Return what readers say of random spans by random steps."""
    now = timezone.now().replace(microsecond=0)
    found: list[Any] = []
    for step_s in (60, 300, 420, 900, 3600, 7200, 86_400):
        start = now - timedelta(seconds=chance.randrange(7200, 200_000))
        reading: dict[str, Any] = {
            "path_id": path.pk,
            "arms": EVERY_ARM,
            "segment_ids": None,
            "start": start,
            "end": start + timedelta(seconds=chance.randrange(3600, 200_000)),
            "step_s": step_s,
        }
        steps = series_measures(workflow_id=path.workflow_id, reach="arm", by_event=True, **reading)
        found.append([(at, rounded(measures)) for at, measures in steps])
        found.append(step_failures(live=False, **reading))
        totals = release_totals(path_ids=[path.pk], since=reading["start"], until=reading["end"])
        found.append(
            {key: (rounded(row.measures), row.first_at, row.last_at) for key, row in totals.items()}
        )
    return found


def rounded(measures: Measures) -> dict[str, Any]:
    return {
        name: float(f"{value:.9g}") if isinstance(value, float) else value
        for name, value in ((item.name, getattr(measures, item.name)) for item in fields(measures))
    }


def test_many_charts_are_what_each_alone_is(
    db: None, django_assert_max_num_queries: Callable[[int], AbstractContextManager[Any]]
) -> None:
    rollout = rollout_at(RolloutState.LIVE)
    caches_forget()
    path = WorkflowPath.objects.get(workflow=rollout.workflow, slug="draft")
    items = some_items(8, 200, days=1)
    for item in items[:30]:
        item["occurred_at"] = datetime.now(UTC).isoformat()
    for item in items[20:90]:
        item |= {"arm": "stable", "release": "2026.10.4"}
    store(items)
    batches_drain(now=timezone.now())
    buckets_fold(now=timezone.now())
    end = timezone.now() + timedelta(seconds=60)
    asked = [
        Asked(path.pk, slug, 20.0) for slug, known in SIGNALS.items() if known.source is not None
    ]
    for span_s, step_s in ((900, 10), (86_400, 900), (86_400, 3600)):
        reading: dict[str, Any] = {
            "workflow_id": rollout.workflow_id,
            "arms": [ARM_CANDIDATE],
            "segment_ids": None,
            "start": end - timedelta(seconds=span_s),
            "end": end,
            "step_s": step_s,
        }
        found = many_series(asked, **reading)
        for line in asked:
            alone = signal_series(
                signal=line.signal, path_id=line.path_id, slow_ms=line.slow_ms, **reading
            )
            assert found[line] == alone, (line.signal, step_s)
        assert sum(map(bool, found.values())) > 12
        ended: dict[str, Any] = {**reading, "served_until": end - timedelta(seconds=span_s / 3)}
        after = many_series(asked, **ended)
        for line in asked:
            alone = signal_series(
                signal=line.signal, path_id=line.path_id, slow_ms=line.slow_ms, **ended
            )
            assert after[line] == alone, (line.signal, step_s)
        plain = [Asked(path.pk, slug) for slug in ("cost_per_task_usd", "latency_p95_ms")]
        with django_assert_max_num_queries(2):
            many_series(plain, **reading)
        sides = [[ARM_CANDIDATE], [ARM_UNKNOWN, ARM_STABLE]]
        with django_assert_max_num_queries(2):
            of = {key: value for key, value in reading.items() if key != "arms"}
            both = arm_series(plain, sides=sides, **of)
        for arms, lines in zip(sides, both, strict=True):
            for line, points in many_series(plain, **{**reading, "arms": arms}).items():
                # In another order sums of floats differ in their last digits.
                assert points
                assert [(each.t, each.n) for each in lines[line]] == [
                    (each.t, each.n) for each in points
                ]
                assert [each.value for each in lines[line]] == pytest.approx(
                    [each.value for each in points]
                )


@pytest.mark.parametrize("seed", [4, 5])
def test_folding_changes_no_answer(db: None, seed: int) -> None:
    rollout = rollout_at(RolloutState.LIVE)
    caches_forget()
    path = WorkflowPath.objects.get(workflow=rollout.workflow, slug="draft")
    items = some_items(seed, 400)

    def compared() -> None:
        with mock.patch.object(Fold, "coarsest", return_value=MINUTE_S):
            expected = answers(path, random.Random(seed))
        assert answers(path, random.Random(seed)) == expected
        assert any(expected)

    store(items[:300])
    batches_drain(now=timezone.now())
    buckets_fold(now=timezone.now())
    compared()
    settle()
    compared()
    # Some are stale again.
    store(items[300:])
    batches_drain(now=timezone.now())
    buckets_fold(now=timezone.now())
    assert StaleBucket.objects.exists()
    compared()
    settle()
    compared()
    assert HourBucket.objects.count() < MinuteBucket.objects.count() / 2
