"""Both servers of one stack: embedded, or named by URLs."""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from rollout_console.services.attach import is_process
from rollout_console.services.place import Place, place_of
from rollout_console.services.postgres import APP, OWNER, EmbeddedPostgres
from rollout_console.services.process import Child, log_file
from rollout_console.services.valkey import EmbeddedValkey

STOP_S: Final = 8.0


class AlreadyRunning(Exception):
    """Another process supervises this checkout's stack."""


class CheckoutLock:
    """Held by whoever supervises a checkout's stack; freed by the system when that one dies."""

    def __init__(self, local: Path) -> None:
        local.mkdir(parents=True, exist_ok=True)
        self._file = (local / "up.lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise AlreadyRunning(
                f"A stack is already running here (process {holder}). End it first, with Ctrl-C "
                f"or `kill {holder}`."
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Urls:
    """How to reach the servers: the owner's for migrations, the application's own, the broker."""

    database: str
    database_app: str | None
    redis: str

    def env(self) -> dict[str, str]:
        """Return the environment that makes settings use exactly these."""
        found = {"DATABASE_URL": self.database, "REDIS_URL": self.redis}
        return found | ({"DATABASE_APP_URL": self.database_app} if self.database_app else {})


class Servers:
    """Starts what no URL names, keeps it running, and stops it."""

    def __init__(
        self,
        local: Path,
        *,
        database_url: str = "",
        database_app_url: str = "",
        redis_url: str = "",
        durable: bool = True,
    ) -> None:
        self.given = (database_url, database_app_url, redis_url)
        self.postgres: EmbeddedPostgres | None = None
        self.valkey: EmbeddedValkey | None = None
        if database_url and redis_url:
            return
        place: Place = place_of(local)
        logs = local / "log"
        if not database_url:
            self.postgres = EmbeddedPostgres(place, log=log_file(logs, "postgres"), durable=durable)
        if not redis_url:
            self.valkey = EmbeddedValkey(place, log=log_file(logs, "valkey"))

    @property
    def children(self) -> list[Child]:
        return [server.child for server in (self.postgres, self.valkey) if server is not None]

    def start(self) -> Urls:
        """Start the servers and return how to reach them.

        Raises:
            ServerFailed: one did not come up.
        """
        database, database_app, redis = self.given
        if self.postgres is not None:
            self.postgres.start()
            database, database_app = self.postgres.url(OWNER), self.postgres.url(APP)
        if self.valkey is not None:
            self.valkey.start()
            redis = self.valkey.url()
        return Urls(database, database_app or None, redis)

    def stop(self) -> None:
        deadline = time.monotonic() + STOP_S
        for child in self.children:
            child.ask_to_stop()
        for child in self.children:
            child.stop(deadline=deadline)


def leftovers_end(recorded: list[dict[str, Any]], *, grace_s: float = 5.0) -> None:
    """End processes that a killed supervisor left: exactly those recorded, by id and start."""
    deadline = time.monotonic() + grace_s
    while left := [facts for facts in recorded if is_process(facts)]:
        late = time.monotonic() > deadline
        for facts in left:
            try:
                process = psutil.Process(int(facts["pid"]))
                family = [process, *process.children(recursive=True)] if late else [process]
                for member in family:
                    member.kill() if late else member.terminate()
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.1)
