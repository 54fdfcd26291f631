"""The console as it is served: granian in a process of its own, on the test's database."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rollout_console.services.ports import HOST, any_free

ROOT = Path(__file__).resolve().parent.parent
START_S = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Console:
    """A running console; `send` speaks plain HTTP to it, one connection a call."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request; a body that is not bytes goes as JSON."""
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(HOST, self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=given)
            response = connection.getresponse()
            content = response.read()
            return Reply(response.status, dict(response.headers.items()), content)
        finally:
            connection.close()

    def wait_until(
        self, ready: Callable[[], bool], *, deadline_s: float = START_S, what: str = "it"
    ) -> None:
        """Ask again until `ready` holds; fail in words after `deadline_s`."""
        until = time.monotonic() + deadline_s
        while not ready():
            if self.process.poll() is not None:
                raise AssertionError(f"The console ended with {self.process.returncode}.")
            if time.monotonic() > until:
                raise AssertionError(f"Waited {deadline_s} s for {what}.")
            time.sleep(0.01)


@contextlib.contextmanager
def served(env: Mapping[str, str], *, workers: int = 1) -> Iterator[Console]:
    """Serve `rollout_console.wsgi` until the block ends; ready when /readyz says so."""
    with granian(env, "rollout_console.wsgi:application", workers=workers) as console:
        yield console


@contextlib.contextmanager
def granian(env: Mapping[str, str], target: str, *, workers: int) -> Iterator[Console]:
    """Serve a WSGI application until the block ends; ready when its /readyz answers 200."""
    port = any_free()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", HOST),
            *("--port", str(port), "--workers", str(workers), "--blocking-threads", "8"),
            *("--no-ws", "--log-level", "error", target),
        ],
        cwd=ROOT,
        env=dict(env),
        # A group of its own, so that granian's workers end with it.
        start_new_session=True,
    )
    console = Console(port, process)
    try:
        console.wait_until(lambda: _is_ready(console), what="/readyz to say ready")
        yield console
    finally:
        _end(process)


def _is_ready(console: Console) -> bool:
    try:
        return console.send("GET", "/readyz").status == 200
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


@pytest.fixture
def console(stack_env: dict[str, str]) -> Iterator[Console]:
    """One web process on the test's own database; its data is what the test commits."""
    with served(stack_env) as running:
        yield running
