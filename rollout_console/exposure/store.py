"""The exposure version in force, in this process's memory: told by NOTIFY, polled besides."""

import threading
from typing import Final

import psycopg
import structlog
from django.db import InterfaceError, OperationalError, ProgrammingError, connection
from django.utils import timezone

from rollout_console.exposure import selectors
from rollout_console.exposure.evaluate import Snapshot
from rollout_console.exposure.services import CHANNEL, version_publish

log = structlog.get_logger()

POLL_S: Final = 1.0
BACK_OFF_S: Final = (0.1, 0.25, 0.5, 1.0, 2.0)
# ProgrammingError: the tables are not migrated yet.
AWAY: Final = (OperationalError, InterfaceError, ProgrammingError, psycopg.Error)


class Store:
    """Keeps one snapshot. While Postgres is away it goes on serving the last one."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def snapshot(self) -> Snapshot | None:
        return self._snapshot

    def start(self) -> None:
        """Load at once and follow from then on, in a thread; a second call does nothing."""
        with self._lock:
            if self._thread is not None:
                return
            self._stop.clear()
            self._thread = threading.Thread(target=self._follow, name="exposure", daemon=True)
        try:
            self.refresh()
        except AWAY:
            log.warning("exposure.not_loaded")
        self._thread.start()

    def stop(self) -> None:
        """End the thread and forget the snapshot."""
        with self._lock:
            thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread.is_alive():
            thread.join(timeout=5)
        self._snapshot = None

    def refresh(self) -> None:
        """Load the version in force where it is another than the one held."""
        number = selectors.current_number()
        if number == 0:
            # A new console exposes nobody, and says so: clients need a document to hold.
            number = version_publish(
                cause="first start", actor_name="console", now=timezone.now()
            ).number
        held = self._snapshot
        if held is None or held.number != number:
            found = selectors.snapshot_current()
            if found is not None:
                self._snapshot = found

    def _follow(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self._listen()
                failures = 0
                while not self._stop.is_set():
                    # Look after listening began and after each wait, told or not: a notice that
                    # came in between is never missed for longer than the poll.
                    self.refresh()
                    self._wait()
            except AWAY as error:
                log.warning("exposure.not_followed", error=str(error))
                self._stop.wait(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
                failures += 1
            finally:
                connection.close()

    def _listen(self) -> None:
        # Django's connection of this thread: nobody else uses it.
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute(f"listen {CHANNEL}")

    def _wait(self) -> None:
        held = connection.connection
        if held is None:
            raise OperationalError("the listening connection is gone")
        for _ in held.notifies(timeout=POLL_S, stop_after=1):
            pass


store: Final = Store()
