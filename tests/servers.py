"""A pytest plugin: gives the run real servers, before Django's settings are read.

With DATABASE_URL and REDIS_URL set, those. Otherwise embedded ones under `.local/test/N`: the
first N that no other run holds, so that runs beside each other in one checkout never meet.
"""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

_server: subprocess.Popen[str] | None = None
_described: dict[str, Any] = {}


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(args: list[str]) -> Generator[None, None, None]:
    """Start the servers and name them in the environment, ahead of pytest-django's own hook."""
    if not _wanted_none(args):
        _servers_start()
    return (yield)


def _servers_start() -> None:
    global _server
    given = [name for name in ("DATABASE_URL", "REDIS_URL") if os.environ.get(name)]
    if len(given) == 2:
        return
    base = Path(os.environ.get("LOCAL_DIR") or ROOT / ".local") / "test"
    for number in range(20):
        local = base / str(number)
        _server = _start(local, given)
        line = _server.stdout.readline() if _server.stdout else ""
        if line:
            _described.update(json.loads(line))
            os.environ.update(_described["env"])
            os.environ["LOCAL_DIR"] = str(local)
            return
        _, words = _server.communicate()
        if "already running here" not in words:
            raise pytest.UsageError(f"The servers for tests did not start:\n{words}")
    raise pytest.UsageError("Twenty test runs are under way in this checkout already.")


def pytest_unconfigure() -> None:
    """End the servers: theirs is the end of our pipe."""
    if _server is not None and _server.stdin is not None:
        _server.stdin.close()
        _server.wait(timeout=60)


def server_pids() -> dict[str, int]:
    """Return the process ids that the embedded servers started with, by name."""
    return dict(_described.get("pids", {}))


def _wanted_none(args: list[str]) -> bool:
    # Of several processes each has servers of its own, and the one that hands out tests none.
    processes = args[args.index("-n") + 1] if "-n" in args[:-1] else "0"
    hands_out = processes != "0" and "PYTEST_XDIST_WORKER" not in os.environ
    told = {"--help", "-h", "--version", "--markers", "--fixtures"} & set(args)
    return hands_out or bool(told)


def _start(local: Path, given: list[str]) -> subprocess.Popen[str]:
    flags = {"DATABASE_URL": "--no-database", "REDIS_URL": "--no-broker"}
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "rollout_console.services", str(local), "--not-durable"),
            *(flags[name] for name in given),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A Ctrl-C ends pytest, and then, through the pipe, the servers.
        start_new_session=True,
    )
