"""Whether this process lives, whether it is ready, and its figures for Prometheus."""

import ipaddress
import os
from pathlib import Path
from typing import Any, Final

import psutil
import redis
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.api.bare import counters
from rollout_console.api.bare.auth import authenticate
from rollout_console.api.bare.http import Request, Response, json_response
from rollout_console.core.heartbeats import KEEPER, WORKER, heartbeat_age_s
from rollout_console.exposure.store import store
from signals.ingest.selectors import labels_waiting, queue_state, storage_state

# A background process counts as working while its last round is younger than this.
WORKING_S: Final = 10.0
VALKEY_TIMEOUT_S: Final = 0.2

_NO_CACHE: Final = [("Cache-Control", "no-store")]
_migrated = False


def healthz(request: Request) -> Response:
    """Answer as long as this process can answer at all."""
    return json_response(200, {"status": "alive"}, headers=_NO_CACHE)


def readyz(request: Request) -> Response:
    """Say whether people and machines can be served, and name what is waited for."""
    snapshot = store.snapshot
    needed = {
        "migrations": _migrations_applied(),
        "exposure": snapshot is not None,
        "demo": _demo_is_there(),
    }
    waiting_for = [name for name, there in needed.items() if not there]
    body: dict[str, Any] = {
        "status": "not ready" if waiting_for else "ready",
        "waiting_for": waiting_for,
        "exposure_version": None if snapshot is None else snapshot.number,
        # Reported, never required: containment and serving do without them.
        "valkey": "answers" if _valkey_answers() else "away",
        **_background(),
    }
    return json_response(503 if waiting_for else 200, body, headers=_NO_CACHE)


def metrics(request: Request) -> Response:
    """Answer Prometheus's text format; from elsewhere than this machine with scope `read`.

    Each web process counts for itself; the label `process` tells them apart.
    """
    if not _from_this_machine(request):
        authenticate(request, Scope.READ)
    process = str(os.getpid())
    lines = [*_request_lines(process), *_gauge_lines(process)]
    body = "\n".join([*lines, ""]).encode()
    return Response(200, body, [("Content-Type", "text/plain; version=0.0.4"), *_NO_CACHE])


def _migrations_applied() -> bool:
    """Say whether no migration waits; once it is so, it stays so for this process."""
    global _migrated
    if not _migrated:
        try:
            executor = MigrationExecutor(connection)
            _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
        except (OperationalError, InterfaceError):
            return False
    return _migrated


def _demo_is_there() -> bool:
    flag: Path | None = getattr(settings, "DEMO_READY_FILE", None)
    return flag is None or flag.exists()


def _valkey_answers() -> bool:
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_connect_timeout=VALKEY_TIMEOUT_S,
            socket_timeout=VALKEY_TIMEOUT_S,
            retry=None,
        ) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _background() -> dict[str, str]:
    now = timezone.now()
    found = {}
    for name in (WORKER, KEEPER):
        try:
            age_s = heartbeat_age_s(name=name, now=now)
        except (OperationalError, InterfaceError):
            age_s = None
        found[name] = "works" if age_s is not None and age_s < WORKING_S else "away"
    return found


def _from_this_machine(request: Request) -> bool:
    """Say whether the caller is on loopback itself, not behind a proxy that is."""
    if request.header("X-Forwarded-For") or request.header("Forwarded"):
        return False
    try:
        return ipaddress.ip_address(request.remote_address).is_loopback
    except ValueError:
        return False


def _request_lines(process: str) -> list[str]:
    requests, seconds = counters.requests_seen()
    lines = ["# TYPE console_requests_total counter"]
    for (route, status), count in sorted(requests.items()):
        labels = f'process="{process}",route="{route}",status="{status}"'
        lines.append(f"console_requests_total{{{labels}}} {count}")
    lines.append("# TYPE console_request_seconds_total counter")
    for route, total in sorted(seconds.items()):
        labels = f'process="{process}",route="{route}"'
        lines.append(f"console_request_seconds_total{{{labels}}} {total:.6f}")
    return lines


def _gauge_lines(process: str) -> list[str]:
    snapshot = store.snapshot
    own = f'{{process="{process}"}}'
    gauges: dict[str, float] = {
        f"console_exposure_version{own}": 0 if snapshot is None else snapshot.number,
        f"process_resident_memory_bytes{own}": psutil.Process().memory_info().rss,
    }
    try:
        queue = queue_state(now=timezone.now())
        gauges["console_ingest_pending_batches"] = queue.pending
        gauges["console_ingest_oldest_batch_age_seconds"] = queue.oldest_age_s or 0.0
        gauges["console_labels_without_run"] = labels_waiting()
        storage = storage_state()
        gauges["console_run_days_kept"] = storage.run_days
        gauges["console_run_days_dropped"] = storage.days_dropped
        gauges["console_runs_dropped"] = storage.runs_dropped
        gauges["console_stale_buckets"] = storage.stale_buckets
        gauges["console_database_up"] = 1
    except (OperationalError, InterfaceError):
        gauges["console_database_up"] = 0
    lines = []
    for name, value in gauges.items():
        lines.append(f"# TYPE {name.partition('{')[0]} gauge")
        lines.append(f"{name} {value}")
    return lines
