"""Ingest: acknowledged and drained runs a second beside COPY of the same rows, and growth."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from django.conf import settings
from django.db import connection
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.containment.work import KEEPER
from rollout_console.core.heartbeats import heartbeat_age_s
from rollout_console.core.models import Heartbeat
from rollout_console.rollouts.states import RolloutState
from rollout_console.services.ports import HOST
from signals.buckets.services import buckets_fold
from signals.ingest.drain import batches_drain
from signals.ingest.services import batch_store
from tests.benchmark.load import closed_loop, post
from tests.benchmark.rows import Row, beside, bound, noise
from tests.factories import rollout_at, token
from tests.live import ROOT, Console, granian
from tests.story import run_item

ROUNDS: Final = 3
BATCH: Final = 2_000
BATCHES: Final = 20
SECONDS: Final = 4.0
DRAINED_BATCHES: Final = 100
COPIED_BATCHES: Final = 100
STORED: Final = 10_000_000


def rows() -> list[Row]:
    rollout_at(RolloutState.LIVE)
    secret, _ = token(Scope.INGEST)
    with granian(dict(os.environ), "rollout_console.wsgi:application", workers=2) as console:
        acknowledged = _acknowledged(console, secret)
        _empty()
        sustained = _sustained(console, secret)
    _empty()
    return [acknowledged, sustained, *_growth()]


def _batch() -> list[dict[str, Any]]:
    return [run_item(context={"team": "internal"}, subject="u-17") for _ in range(BATCH)]


def _acknowledged(console: Console, secret: str) -> Row:
    batches = [_batch() for _ in range(BATCHES)]
    requests = [post("/api/v1/runs", json.dumps(batch).encode(), token=secret) for batch in batches]
    text = _rows_as_text()
    ours, ceiling = [], []
    for _ in range(ROUNDS):
        ceiling.append(_copied_per_s(text))
        load = closed_loop(console.port, requests, connections=4, seconds=SECONDS)
        ours.append(load.per_s * BATCH)
        _empty()
    return beside(
        f"acknowledged runs over HTTP, batches of {BATCH:,}, validated, durable",
        ours,
        ceiling,
        unit="runs/s",
        note="ceiling: COPY of the same rows as text, one stream, no index; floor 0.40. Two web "
        "processes; the load generator runs on the same two cores",
    )


def _sustained(console: Console, secret: str) -> Row:
    """Send everything once while one process drains and folds it."""
    text = _rows_as_text()
    ours, ceiling = [], []
    for _ in range(ROUNDS):
        bodies = [json.dumps(_batch()).encode() for _ in range(DRAINED_BATCHES)]
        ceiling.append(_copied_per_s(text))
        Heartbeat.objects.filter(name=KEEPER).delete()
        drainer = subprocess.Popen(
            [sys.executable, "manage.py", "keeper"], cwd=ROOT, env=dict(os.environ)
        )
        try:
            _wait(_keeper_looks, "the keeper to look")
            began = time.perf_counter()
            sender = threading.Thread(target=_send_all, args=[console, secret, bodies])
            sender.start()
            _wait(_folded, "the batches to be drained")
            ours.append(DRAINED_BATCHES * BATCH / (time.perf_counter() - began))
            sender.join()
        finally:
            drainer.terminate()
            drainer.wait(timeout=30)
        _empty()
    return beside(
        "runs drained into rows, ledger and buckets, one worker, while accepting them",
        ours,
        ceiling,
        unit="runs/s",
        note="ceiling as above; floor 0.12. Accepting, draining and the sender share two cores",
    )


def _growth() -> list[Row]:
    empty = [_drained_per_s() for _ in range(ROUNDS)]
    stored_bytes = _fill(STORED)
    grown = [_drained_per_s() for _ in range(ROUNDS)]
    growth = beside(
        f"growth: drain rate with {STORED:,} runs stored, random ids",
        grown,
        empty,
        unit="runs/s",
        note="ceiling: the same with none stored; floor 0.7; noise of the empty rounds "
        f"{noise(empty):.0%}",
    )
    return [
        growth,
        bound(
            "disk of one stored run, row and index",
            stored_bytes / STORED,
            unit="bytes",
            note=f"over {STORED:,} rows",
        ),
    ]


def _drained_per_s() -> float:
    _store(10)
    began = time.perf_counter()
    batches_drain(now=timezone.now())
    buckets_fold(now=timezone.now())
    return 10 * BATCH / (time.perf_counter() - began)


def _store(batches: int) -> None:
    _, reporter = token(Scope.INGEST)
    for _ in range(batches):
        batch_store(
            body=json.dumps(_batch()).encode(),
            content_type="application/json",
            content_encoding=None,
            principal=reporter,
            now=timezone.now(),
        )


def _rows_as_text() -> bytes:
    """Return stored runs in COPY's text format, as many as make a measurement worth its clock."""
    _store(COPIED_BATCHES)
    batches_drain(now=timezone.now())
    with (
        psycopg.connect(settings.DATABASE_URL) as owner,
        owner.cursor().copy("copy (select * from run) to stdout") as copy,
    ):
        text = b"".join(copy)
    _empty()
    return text


def _copied_per_s(text: bytes) -> float:
    """COPY the same rows, one stream, into a table of the same columns without an index."""
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as owner:
        owner.execute("create table bench_copy (like run)")
        try:
            began = time.perf_counter()
            with owner.cursor().copy("copy bench_copy from stdin") as copy:
                copy.write(text)
            return text.count(b"\n") / (time.perf_counter() - began)
        finally:
            owner.execute("drop table bench_copy")


def _send_all(console: Console, secret: str, bodies: Sequence[bytes]) -> None:
    line = http.client.HTTPConnection(HOST, console.port, timeout=60)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    for body in bodies:
        while True:
            line.request("POST", "/api/v1/runs", body=body, headers=headers)
            answer = line.getresponse()
            answer.read()
            if answer.status == 202:
                break
            time.sleep(0.1)
    line.close()


def _wait(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Waited five minutes for {what}.")
        time.sleep(0.05)


def _keeper_looks() -> bool:
    return heartbeat_age_s(name=KEEPER, now=timezone.now()) is not None


def _folded() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from ingest_batch where folded_at is not null")
        return bool(cursor.fetchone()[0] >= DRAINED_BATCHES)


def _fill(count: int) -> int:
    """Store `count` runs of today with random ids, as fast as SQL can; return their bytes."""
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as owner:
        template = owner.execute("select * from run limit 1")
        assert template.description is not None
        names = [column.name for column in template.description]
        fresh = {
            "id": "gen_random_uuid()::text",
            "id_hash": "gen_random_uuid()",
            "occurred_at": "occurred_at - (n % 60000) * interval '1 millisecond'",
        }
        values = ", ".join(fresh.get(name, name) for name in names)
        step = 250_000
        before = _run_bytes(owner)
        for start in range(0, count, step):
            owner.execute(
                f"insert into run ({', '.join(names)}) select {values} from"  # noqa: S608
                f" (select * from run limit 1) one,"
                f" generate_series({start}, {min(start + step, count) - 1}) n".encode()
            )
        return _run_bytes(owner) - before


def _run_bytes(owner: psycopg.Connection[Any]) -> int:
    row = owner.execute(
        "select sum(pg_total_relation_size(inhrelid)) from pg_inherits"
        " where inhparent = 'run'::regclass"
    ).fetchone()
    return int(row[0] or 0) if row else 0


def _empty() -> None:
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as owner:
        owner.execute("truncate run, arrival_ledger, minute_bucket, ingest_batch")
