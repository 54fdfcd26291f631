"""How a command finds the stack of its own checkout."""

from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from rollout_console.services.place import private_json

NO_STACK: Final = (
    "No stack is running here: start one with `make run` or `manage.py up`, or set DATABASE_URL."
)


class NoStackRunning(psycopg.OperationalError):
    """Nothing to attach to; its text is one sentence for people."""

    def __init__(self) -> None:
        super().__init__(NO_STACK)


def stack_file(local: Path) -> Path:
    return local / "stack.json"


def stack_described(local: Path) -> dict[str, Any]:
    """Return what the running stack left for others: URLs, ports, process ids; or nothing."""
    return private_json(stack_file(local))


def stack_is_running(local: Path) -> bool:
    """Say whether the process that supervises this checkout's stack lives."""
    supervisor = stack_described(local).get("supervisor")
    return isinstance(supervisor, dict) and is_process(supervisor)


def process_facts(pid: int) -> dict[str, Any]:
    """Return what tells this process from a later one with the same id."""
    return {"pid": pid, "started": psutil.Process(pid).create_time()}


def is_process(facts: dict[str, Any]) -> bool:
    """Say whether exactly that process still runs (a zombie does not)."""
    try:
        process = psutil.Process(int(facts["pid"]))
        same = abs(process.create_time() - float(facts["started"])) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError):
        return False
