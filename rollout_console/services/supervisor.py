"""Everything that `manage.py up` starts, in order, kept running and ended together."""

import hashlib
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from rollout_console.services.attach import process_facts, stack_described, stack_file
from rollout_console.services.place import private_json_write
from rollout_console.services.ports import HOST, public_port_hold
from rollout_console.services.process import Child, log_file
from rollout_console.services.servers import CheckoutLock, Servers, Urls, leftovers_end

FIRST_PORT: Final = 8000
READY_S: Final = 180.0
# A web server that ends this often before it was ever ready will not come up by waiting.
WEB_ENDS_AT_MOST: Final = 4
# Both together stay well inside the 30 seconds in which everything has to be gone.
STOP_PROCESSES_S: Final = 12.0
LOOK_EVERY_S: Final = 0.2


class StartFailed(Exception):
    """A step of the start failed; the text says which and where to read more."""


class Stopped(Exception):
    """Somebody asked to end while things were still starting."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start: where, with which servers, and with the demo or without."""

    root: Path
    local: Path
    settings_module: str
    port: int | None
    demo: bool
    database_url: str
    database_app_url: str
    redis_url: str


@dataclass(slots=True)
class Supervisor:
    """Runs one checkout's stack until it is told to end.

    Words about the start and about trouble go to `say`; what scripts read goes to `announce`.
    """

    plan: Plan
    say: Callable[[str], None]
    announce: Callable[[str], None]
    env: dict[str, str] = field(default_factory=dict, init=False)
    port: int = field(default=0, init=False)
    processes: list[Child] = field(default_factory=list, init=False)
    stops: int = field(default=0, init=False)

    def run(self) -> None:
        """Start, announce, watch, stop.

        Raises:
            AlreadyRunning, PortTaken, ServerFailed, StartFailed: in words for people.
        """
        lock = CheckoutLock(self.plan.local)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._asked_to_stop)
        servers: Servers | None = None
        held: socket.socket | None = None
        try:
            leftovers_end(stack_described(self.plan.local).get("processes", []))
            held = public_port_hold(self.plan.port, first=FIRST_PORT)
            self.port = held.getsockname()[1]
            servers = Servers(
                self.plan.local,
                database_url=self.plan.database_url,
                database_app_url=self.plan.database_app_url,
                redis_url=self.plan.redis_url,
            )
            self.say("Starting Postgres and Valkey …")
            urls = servers.start()
            self._describe(urls, servers)
            self._prepare()
            for child in self._children():
                child.start()
                self.processes.append(child)
            self._describe(urls, servers)
            self._wait_until_ready(urls, servers)
            self._announce_all()
            while not self.stops:
                self._watch(urls, servers)
        except Stopped:
            self.say("Ended while starting.")
        finally:
            self._stop(servers)
            if held is not None:
                held.close()
            stack_file(self.plan.local).unlink(missing_ok=True)
            lock.release()

    # --- starting ---

    def _describe(self, urls: Urls, servers: Servers) -> None:
        """Leave for other commands how to attach, and for the next start what to clear away."""
        supervised = [child for child in [*servers.children, *self.processes] if child.pid]
        url = f"http://{HOST}:{self.port}"
        self.env = {
            **os.environ,
            **urls.env(),
            "DJANGO_SETTINGS_MODULE": self.plan.settings_module,
            "LOCAL_DIR": str(self.plan.local),
            "CONSOLE_URL": url,
            "PYTHONUNBUFFERED": "1",
            **({"DEMO": "1"} if self.plan.demo else {}),
        }
        private_json_write(
            stack_file(self.plan.local),
            {
                "database_url": urls.database,
                "database_app_url": urls.database_app,
                "redis_url": urls.redis,
                "console_url": url,
                "port": self.port,
                "supervisor": process_facts(os.getpid()),
                "pids": {child.name: child.pid for child in supervised},
                "processes": [
                    process_facts(child.pid)
                    for child in supervised
                    # Postgres clears up after itself at its own next start.
                    if child.pid and child.is_running() and child.name != "postgres"
                ],
            },
        )

    def _prepare(self) -> None:
        # The fleet makes it anew once the console has taken its first runs.
        (self.plan.local / "demo-ready").unlink(missing_ok=True)
        self.say("Bringing the database up to date …")
        self._step("migrate", "--no-input")
        self._collect_static()
        if self.plan.demo:
            self.say("Preparing the demo …")
            self._step("demo_seed")

    def _collect_static(self) -> None:
        """Collect static files, unless their sources are those of the last time."""
        kept = self.plan.local / "static.digest"
        digest = sources_digest(self.plan.root)
        if kept.exists() and kept.read_text() == digest and (self.plan.local / "static").exists():
            return
        self.say("Collecting static files …")
        kept.unlink(missing_ok=True)
        self._step("collectstatic", "--no-input", "--clear")
        kept.write_text(digest)

    def _step(self, *command: str) -> None:
        """Run one management command to its end.

        Raises:
            StartFailed, Stopped
        """
        child = self._child(command[0], [sys.executable, "manage.py", *command])
        child.start()
        process = child.process
        while process is not None and process.poll() is None:
            if self.stops:
                child.ask_to_stop()
                child.stop(deadline=time.monotonic() + 5.0)
                raise Stopped
            time.sleep(0.02)
        if process is not None and process.returncode:
            raise StartFailed(
                f"`manage.py {' '.join(command)}` failed:\n{_tail(child.log)}\n"
                f"The whole log is {child.log}"
            )

    def _children(self) -> list[Child]:
        python = sys.executable
        celery = [python, "-m", "celery", "-A", "rollout_console"]
        granian = [
            *(python, "-m", "granian", "--interface", "wsgi", "--host", HOST),
            *("--port", str(self.port), "--workers", "2", "--blocking-threads", "8"),
            *("--respawn-failed-workers", "--respawn-interval", "0.5", "--no-ws"),
            *("--workers-kill-timeout", "5", "rollout_console.wsgi:application"),
        ]
        worker = [*celery, "worker", "--concurrency", "2", "--loglevel", "warning"]
        commands: dict[str, Sequence[str]] = {
            "web": granian,
            "worker": [*worker, "--without-gossip", "--without-mingle", "--without-heartbeat"],
            "beat": [*celery, "beat", "--loglevel", "warning", "--pidfile="],
            "keeper": [python, "manage.py", "keeper"],
        }
        if self.plan.demo:
            commands["demo"] = [python, "manage.py", "demo"]
        return [self._child(name, command) for name, command in commands.items()]

    def _child(self, name: str, command: Sequence[str]) -> Child:
        return Child(
            name=name,
            prepare=lambda: command,
            log=log_file(self.plan.local / "log", name),
            env=self.env,
            cwd=self.plan.root,
        )

    def _wait_until_ready(self, urls: Urls, servers: Servers) -> None:
        self.say("Waiting until everything is ready …")
        deadline = time.monotonic() + READY_S
        while not _is_ready(self.port):
            if self.stops:
                raise Stopped
            ends = max(child.failures for child in self.processes if child.name == "web")
            if time.monotonic() > deadline or ends > WEB_ENDS_AT_MOST:
                log = self.plan.local / "log" / "web.log"
                raise StartFailed(
                    f"The console did not come up:\n{_tail(log)}\nThe logs are in {log.parent}"
                )
            self._watch(urls, servers)

    def _announce_all(self) -> None:
        self.announce(f"Rollout Console http://{HOST}:{self.port}")
        if self.plan.demo:
            for person in demo_logins(self.plan.local):
                self.announce(f"log-in: {person['name']} {person['password']} ({person['role']})")
        self.say(f"Logs are in {self.plan.local / 'log'}. Ctrl-C ends everything.")

    # --- watching and stopping ---

    def _watch(self, urls: Urls, servers: Servers) -> None:
        """Look once after every child, then wait a moment."""
        changed = False
        for child in [*servers.children, *self.processes]:
            pid = child.pid
            if child.keep_running():
                self.say(f"{child.name} ended and starts again; its log is {child.log}")
            changed = changed or child.pid != pid
        if changed:
            self._describe(urls, servers)
        time.sleep(LOOK_EVERY_S)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1

    def _stop(self, servers: Servers | None) -> None:
        if self.stops:
            self.say("Ending everything …")
        deadline = time.monotonic() + STOP_PROCESSES_S
        for child in self.processes:
            child.ask_to_stop()
        while any(child.is_running() for child in self.processes):
            # Asked a second time, everything ends at once.
            if self.stops > 1 or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        for child in self.processes:
            child.stop(deadline=0.0)
        if servers is not None:
            servers.stop()


def demo_logins(local: Path) -> Iterable[dict[str, Any]]:
    """Return the demo's people as `demo_seed` left them: name, password and role each."""
    path = local / "demo-logins.json"
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return found


def sources_digest(root: Path) -> str:
    """Return a digest of what collecting static files starts from."""
    digest = hashlib.sha256()
    # The lock file stands for the static files that packages bring.
    for path in [root / "requirements" / "base.txt", *sorted((root / "static").rglob("*"))]:
        if path.is_file():
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=5) as answer:
            return int(answer.status) == 200
    except (urllib.error.URLError, OSError):
        return False


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
