"""Chart data from folds beside naive SQL on the same runs, growth, disk, and the sketch's error."""

import gzip
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
from django.conf import settings
from django.db import connection
from django.utils import timezone

from rollout_console.catalog.models import WorkflowPath
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.figures import Series, figure
from signals.buckets.keys import ARM_CANDIDATE
from signals.buckets.many import Asked, many_series
from signals.buckets.selectors import Point
from signals.buckets.services import buckets_fold, stale_fold
from signals.catalogue import signal_of
from signals.ingest import drain_sql
from signals.ingest.ids import uuid7
from signals.ingest.models import BatchState, IngestBatch
from tests.benchmark.ingest import drained_per_s, tables_empty
from tests.benchmark.rows import Row, beside, bound, noise
from tests.factories import rollout_at
from tests.tails import STATED_ERROR, TAILS, sketched, worst_error

SIZES: Final = (100_000, 1_000_000, 10_000_000)
PATHS: Final = 6
SIGNALS: Final = (
    "quality_pass_rate",
    "latency_p50_ms",
    "latency_p95_ms",
    "cost_per_task_usd",
    "error_rate",
    "input_tokens_per_task",
    "retry_rate",
    "escalation_rate",
)
HOURS: Final = 24
STEP_S: Final = 3600
FINE_STEP_S: Final = 900
LOOKS: Final = 30
ROUNDS: Final = 3

# The same eight numbers, by step and path, from the runs themselves.
NAIVE: Final = """
select path_id, floor(extract(epoch from occurred_at) / %(step)s) as step, count(*),
    avg(quality_passed::int), percentile_cont(array[0.5, 0.95]) within group (order by latency_ms),
    avg(cost_usd), stddev(cost_usd), avg((outcome = 1)::int), avg(input_tokens), avg(retries),
    avg((outcome = 3)::int)
from run where path_id = any(%(paths)s) and occurred_at >= %(since)s and occurred_at < %(until)s
    and arm = 2 and mode = 0
group by 1, 2
"""


def rows() -> list[Row]:
    # Another benchmark of the same run may have made it.
    rollout = Rollout.objects.first() or rollout_at(RolloutState.LIVE)
    first = WorkflowPath.objects.filter(workflow=rollout.workflow).order_by("pk").first()
    assert first is not None
    paths = [first.pk] + [
        WorkflowPath.objects.create(
            workflow=rollout.workflow, slug=f"bench-{number}", name=f"Path {number}"
        ).pk
        for number in range(1, PATHS)
    ]
    empty = [drained_per_s() for _ in range(ROUNDS)]
    tables_empty()
    until = timezone.now().replace(minute=0, second=0, microsecond=0)
    reading: dict[str, Any] = {
        "workflow_id": rollout.workflow_id,
        "arms": [ARM_CANDIDATE],
        "segment_ids": None,
        "start": until - timedelta(hours=HOURS),
        "end": until,
        "step_s": STEP_S,
    }
    fine = {**reading, "step_s": FINE_STEP_S}
    asked = [Asked(path_id, slug) for path_id in paths for slug in SIGNALS]
    found: list[Row] = []
    folded_ms: dict[int, float] = {}
    stored = 0
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as owner:
        for size in SIZES:
            _runs_add(owner, stored, size, paths, rollout.workflow_id, since=reading["start"])
            stored = size
            _ledger_fill(reading["start"])
            owner.execute("vacuum analyze run")
            owner.execute("vacuum analyze five_minute_bucket, minute_bucket, hour_bucket")
            ours = _times_ms(lambda: many_series(asked, **reading), LOOKS)
            naive = _times_ms(lambda: _naive(paths, reading), 1 if size > 1_000_000 else 3)
            folded_ms[size] = _p95(ours)
            found.append(_query_row(size, ours, naive))
            took = _times_ms(lambda: many_series(asked, **fine), LOOKS // 3)
            found.append(_fine_row(size, took))
        found.append(_growth_row(folded_ms))
        found.append(_cockpit_row(asked, reading, until))
        found += _json_rows(many_series(asked, **reading))
        found += _disk_rows(owner)
    grown = [drained_per_s() for _ in range(ROUNDS)]
    found.append(
        beside(
            f"growth: drain rate with {stored:,} runs stored, random ids",
            grown,
            empty,
            unit="runs/s",
            note="ceiling: the same with none stored; floor 0.7; noise of the empty rounds "
            f"{noise(empty):.0%}",
        )
    )
    tables_empty()
    return [*found, *_sketch_rows()]


def _runs_add(
    owner: psycopg.Connection[Any],
    stored: int,
    size: int,
    paths: list[int],
    workflow_id: int,
    *,
    since: datetime,
) -> None:
    """Add runs until there are `size`, spread over the span, with random ids and heavy tails."""
    for day in range(HOURS // 24 + 1):
        owner.execute("select run_day_ensure(%s)", [(since + timedelta(days=day)).date()])
    drains = _drains(since)
    step = 250_000
    for start in range(stored, size, step):
        end = min(start + step, size)
        # Whole hours in turn, so that rows lie in the order of time, as reports come.
        owner.execute(
            """
            insert into run (occurred_at, drain, workflow_id, path_id, segment_id, release_id, arm,
                mode, input_condition, risk, outcome, critical, review_requested, quality_passed,
                id_hash, run_id, latency_ms, cost_usd, input_tokens, output_tokens, retries)
            select %(since)s::timestamptz + at * interval '1 second',
                (%(drains)s::bigint[])[1 + floor(at / 3600)::int],
                %(workflow)s, (%(paths)s::int[])[1 + n %% 6], 1 + (n / 12) %% 3, 1 + (n / 6) %% 2,
                1 + (n / 6) %% 2, 0, (n / 36) %% 3, 0, case when n %% 50 = 0 then 1 else 0 end,
                false, false, n %% 9 > 0, gen_random_uuid(), gen_random_uuid()::text,
                exp(6.5 + 0.8 * sqrt(-2 * ln(1 - random())) * cos(6.2831853 * random())),
                0.01 * power(1 - random(), -0.7), 1000 + n %% 800, 200, n %% 3
            from (
                select n, (n - %(first)s) * %(span)s::float8 / %(count)s as at
                from generate_series(%(first)s::bigint, %(last)s::bigint) as n
            ) as q
            """,
            {
                "since": since,
                "drains": drains,
                "workflow": workflow_id,
                "paths": paths,
                "first": start,
                "last": end - 1,
                "count": end - start,
                "span": HOURS * 3600,
            },
        )


def _drains(since: datetime) -> list[int]:
    """Return the drain of each hour, made where it is not there yet."""
    found = []
    for hour in range(HOURS):
        batch, _ = IngestBatch.objects.get_or_create(
            token_name=f"bench {hour}",
            defaults={
                "id": uuid7(),
                "received_at": since + timedelta(hours=hour),
                "n_accepted": 0,
                "n_rejected": 0,
                "body_bytes": 0,
                "state": BatchState.DRAINED,
                "drained_at": since,
                "folded_at": since,
                "duplicates": 0,
            },
        )
        found.append(batch.seq)
    return found


def _ledger_fill(since: datetime) -> None:
    """Append to empty ledgers what the stored runs add, by the drain's own statement; fold it."""
    tables_empty(keep=("run", "ingest_batch"))
    with connection.cursor() as cursor:
        for hour in range(HOURS):
            start = since + timedelta(hours=hour)
            cursor.execute(
                drain_sql.RECOUNT[0], {"since": start, "until": start + timedelta(hours=1)}
            )
    IngestBatch.objects.update(folded_at=None)
    buckets_fold(now=timezone.now())
    while stale_fold(now=timezone.now() + timedelta(hours=3)):
        pass


def _naive(paths: list[int], reading: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            NAIVE,
            {
                "paths": paths,
                "since": reading["start"],
                "until": reading["end"],
                "step": STEP_S,
            },
        )
        cursor.fetchall()


def _times_ms(look: Callable[[], Any], looks: int) -> list[float]:
    took = []
    for _ in range(looks):
        began = time.perf_counter()
        look()
        took.append((time.perf_counter() - began) * 1e3)
    return took


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[18]


def _query_row(size: int, ours: list[float], naive: list[float]) -> Row:
    return Row(
        name=f"chart data of 24 h, 8 signals by 6 paths, {size:,} runs, p95",
        ours=_p95(ours),
        ceiling=statistics.median(naive),
        ratio=_p95(ours) / statistics.median(naive),
        unit="ms",
        noise=noise(ours),
        note=f"by the hour, from hour folds, median {statistics.median(ours):.0f} ms of "
        f"{len(ours)} looks; beside it percentile_cont and averages over the runs themselves, "
        f"{len(naive)} looks. Floor 250 ms, goal 80 ms",
    )


def _fine_row(size: int, took: list[float]) -> Row:
    return bound(
        f"the same by steps of 15 min, {size:,} runs, p95",
        _p95(took),
        unit="ms",
        note=f"from five-minute folds, median {statistics.median(took):.0f} ms of {len(took)} "
        "looks; most of it merges the sketches",
    )


def _growth_row(folded_ms: dict[int, float]) -> Row:
    middle, last = SIZES[-2:]
    growth = folded_ms[last] / folded_ms[middle]
    return Row(
        name=f"growth of chart data, {middle:,} → {last:,} runs",
        ours=folded_ms[last],
        ceiling=folded_ms[middle],
        ratio=growth,
        unit="ms",
        noise=None,
        note="every key has a row each minute at both; floor ≤ 1.5. Bucket rows stop growing "
        "there, so 100,000,000 runs are extrapolated, not measured, to at most "
        f"{folded_ms[last] * max(1.0, growth):.0f} ms",
    )


def _cockpit_row(asked: list[Asked], reading: dict[str, Any], until: datetime) -> Row:
    one = [line for line in asked if line.path_id == asked[0].path_id]
    hour = {**reading, "start": until - timedelta(hours=1), "end": until, "step_s": 60}
    took = _times_ms(lambda: many_series(one, **hour), LOOKS)
    return bound(
        "cockpit data: 1 h by the minute, one path, 8 signals, p95",
        _p95(took),
        unit="ms",
        note=f"median {statistics.median(took):.1f} ms, {SIZES[-1]:,} runs stored. Floor 50 ms, "
        "goal 20 ms",
    )


def _json_rows(found: dict[Asked, list[Point]]) -> Iterator[Row]:
    def body() -> bytes:
        drawn = []
        for line, points in found.items():
            series = Series(
                signal=signal_of(str(line.signal)),
                candidate=points,
                stable=[],
                limit=None,
                marks=[],
                start=points[0].t,
                end=points[-1].t,
                step_s=STEP_S,
            )
            drawn.append({"key": f"{line.path_id}.{line.signal}", "figure": figure(series)})
        return json.dumps({"charts": drawn}).encode()

    took = _times_ms(body, LOOKS)
    text = body()
    yield bound(
        "building their JSON in Plotly's form, p95",
        _p95(took),
        unit="ms",
        note=f"{len(found)} charts with ranges and hover texts. Floor 50 ms, goal 5 ms",
    )
    yield bound(
        "the same, gzip",
        len(gzip.compress(text, 6)) / 1000,
        unit="kB",
        note=f"{len(text) / 1000:,.0f} kB plain. Floor 100 kB, goal 40 kB",
    )


def _disk_rows(owner: psycopg.Connection[Any]) -> Iterator[Row]:
    run = owner.execute(
        "select sum(pg_total_relation_size(inhrelid)) from pg_inherits"
        " where inhparent = 'run'::regclass"
    ).fetchone()
    assert run is not None
    yield bound(
        "disk of one stored run, row and index",
        int(run[0]) / SIZES[-1],
        unit="bytes",
        note=f"over {SIZES[-1]:,} rows; at 100,000,000 about "
        f"{int(run[0]) / SIZES[-1] / 10:.0f} GB, extrapolated",
    )
    for table, name in (("minute_bucket", "a minute"), ("hour_bucket", "an hour")):
        row = owner.execute(
            f"select pg_total_relation_size('{table}'), count(*),"  # noqa: S608
            " avg(pg_column_size(latency_idx) + pg_column_size(latency_cnt)),"
            f" avg(latency_n) from {table}".encode()
        ).fetchone()
        assert row is not None
        yield bound(
            f"disk of the bucket of one key and {name}, row and indexes",
            row[0] / row[1],
            unit="bytes",
            note=f"over {row[1]:,} rows of {row[3]:.0f} runs each; of it the latency's sketch "
            f"{row[2]:.0f} bytes",
        )


def _sketch_rows() -> Iterator[Row]:
    rng = random.Random(7)
    worst: dict[str, float] = {}
    for name, draw in TAILS.items():
        values = [draw(rng) for _ in range(200_000)]
        worst[name] = worst_error(values, sketched(values))
    largest = max(worst, key=lambda name: worst[name])
    yield bound(
        "largest relative error of a quantile, heavy tails",
        max(worst.values()) * 100,
        unit="%",
        note=f"{len(TAILS)} tails of 200,000 values, p1 to p99.9, against the value that occurred; "
        f"worst: {largest}. Stated {STATED_ERROR:.2%}; floor 2.2 %",
    )
