"""The whole stack as a user starts it, in a folder of its own, for stories and faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
import psycopg

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")


def wait_until(look: Callable[[], T], *, within_s: float, what: str) -> T:
    """Return the first true answer of `look`, asked about every 50 ms; fail after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s:g} s; last answer {found!r}")
        time.sleep(0.05)


class Stack:
    """`manage.py up` as a child process; use it as a context manager."""

    def __init__(self, *, demo: bool = False, **env: str) -> None:
        self.local = Path(tempfile.mkdtemp(prefix="console-"))
        # Under root the servers run as another account, which has to reach its data here.
        self.local.chmod(0o755)
        self.demo = demo
        # The test run's own servers are not this stack's.
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in {"DATABASE_URL", "DATABASE_APP_URL", "REDIS_URL", "PORT", "LOCAL_DIR"}
        }
        self.env = {
            **kept,
            "DJANGO_SETTINGS_MODULE": "rollout_console.settings.dev",
            "LOCAL_DIR": str(self.local),
            **env,
        }
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "manage.py", "up", *(["--demo"] if self.demo else [])]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=(self.local / "up.log").open("w"),
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("Rollout Console http://"):
                break
        else:
            raise AssertionError((self.local / "up.log").read_text()[-3000:])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(timeout=30)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            if error is None:
                shutil.rmtree(self.local, ignore_errors=True)

    @property
    def url(self) -> str:
        return self.lines[0].removeprefix("Rollout Console ")

    @property
    def described(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.local / "stack.json").read_text())
        return found

    def pid(self, name: str) -> int:
        return int(self.described["pids"][name])

    def kill(self, name: str) -> None:
        """End a part with SIGKILL, its own children included, and nothing said before."""
        parent = psutil.Process(self.pid(name))
        for process in [*parent.children(recursive=True), parent]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def manage(self, *command: str, given: str = "") -> str:
        """Run a management command beside the stack and return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=self.env,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection as the application's own role."""
        described = self.described
        return psycopg.connect(
            described["database_app_url"] or described["database_url"], autocommit=True
        )

    def call(
        self, method: str, path: str, *, token: str = "", body: Any = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Send JSON and return status and body; 0 where no answer came."""
        request = urllib.request.Request(  # noqa: S310  # our own address
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {token}"} if token else {}),
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as refusal:
            return refusal.code, _json_or_nothing(refusal.read())
        except OSError:
            return 0, {}


def _json_or_nothing(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
