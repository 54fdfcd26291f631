"""Ingest: acknowledged and drained runs a second beside COPY of the same rows, and growth."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import psutil
import psycopg
from django.conf import settings
from django.db import connection, connections
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.core.heartbeats import KEEPER, heartbeat_age_s
from rollout_console.core.models import Heartbeat
from rollout_console.rollouts.states import RolloutState
from rollout_console.services.ports import HOST
from signals.buckets.folds import FOLDS
from signals.buckets.services import buckets_fold
from signals.ingest.drain import batches_drain
from signals.ingest.services import batch_store
from tests.benchmark.load import closed_loop, post
from tests.benchmark.rows import Row, beside, bound
from tests.factories import rollout_at, token
from tests.live import ROOT, Console, granian
from tests.story import run_item

ROUNDS: Final = 3
BATCH: Final = 2_000
BATCHES: Final = 20
SECONDS: Final = 4.0
DRAINED_BATCHES: Final = 100
COPIED_BATCHES: Final = 100
# So many batches at most wait while a paced sender goes on.
WAITING: Final = 30


def rows() -> list[Row]:
    rollout_at(RolloutState.LIVE)
    secret, _ = token(Scope.INGEST)
    with granian(dict(os.environ), "rollout_console.wsgi:application", workers=2) as console:
        acknowledged = _acknowledged(console, secret)
        tables_empty()
        sustained = _sustained(console, secret)
    tables_empty()
    return [acknowledged, *sustained]


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
        tables_empty()
    return beside(
        f"acknowledged runs over HTTP, batches of {BATCH:,}, validated, durable",
        ours,
        ceiling,
        unit="runs/s",
        note="ceiling: COPY of the same rows as text, one stream, no index; floor 0.40. Two web "
        "processes; the load generator runs on the same two cores",
    )


def _sustained(console: Console, secret: str) -> list[Row]:
    """Send as fast as one process drains and folds, no faster, and see what memory both take."""
    text = _rows_as_text()
    ours, ceiling, backlog = [], [], 0
    pss = {"web": 0.0, "worker": 0.0}
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
            sender = threading.Thread(target=_send_paced, args=[console, secret, bodies])
            sender.start()
            while not _folded():
                backlog = max(backlog, _waiting())
                _pss_note(pss, web=console.process.pid, worker=drainer.pid)
                time.sleep(0.1)
            ours.append(DRAINED_BATCHES * BATCH / (time.perf_counter() - began))
            sender.join()
        finally:
            drainer.terminate()
            drainer.wait(timeout=30)
        tables_empty()
    row = beside(
        "runs drained into rows, ledgers and buckets, one worker, while accepting them",
        ours,
        ceiling,
        unit="runs/s",
        note=f"sustained: the sender waits while {WAITING} batches do, at most {backlog} waited; "
        "ceiling as above; floor 0.12. Accepting, draining and the sender share two cores",
    )
    memory = [
        bound(
            f"memory of {name} under full ingest, largest",
            pss[key],
            unit="MB",
            note="proportional set size, looked at ten times a second. Floor 300 MB, goal 150 MB",
        )
        for key, name in (("web", "one web process"), ("worker", "the worker"))
    ]
    return [row, *memory]


def _send_paced(console: Console, secret: str, bodies: Sequence[bytes]) -> None:
    line = http.client.HTTPConnection(HOST, console.port, timeout=60)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    for body in bodies:
        while _waiting() >= WAITING:
            time.sleep(0.02)
        line.request("POST", "/api/v1/runs", body=body, headers=headers)
        answer = line.getresponse()
        answer.read()
        if answer.status != 202:
            raise RuntimeError(f"a batch was not accepted: {answer.status}")
    line.close()
    connections.close_all()


def _waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from ingest_batch where state = 'pending'")
        return int(cursor.fetchone()[0])


def _pss_note(pss: dict[str, float], *, web: int, worker: int) -> None:
    """Keep the largest memory seen of one of granian's workers, and of the keeper."""
    found = {"web": psutil.Process(web).children(), "worker": [psutil.Process(worker)]}
    for name, processes in found.items():
        for process in processes:
            with contextlib.suppress(psutil.Error):
                pss[name] = max(pss[name], process.memory_full_info().pss / 1e6)


def drained_per_s() -> float:
    """Drain and fold ten batches by one worker that has nothing else to do."""
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
    tables_empty()
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


def tables_empty(*, keep: Collection[str] = ()) -> None:
    """Empty what ingest fills."""
    tables = {table for fold in FOLDS for table in (fold.ledger, *fold.tables.values())}
    tables |= {"run", "ingest_batch", "stale_bucket", "stored_day", "requested_review"}
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as owner:
        names = ", ".join(sorted(tables - set(keep)))
        owner.execute(f"truncate {names}".encode())
