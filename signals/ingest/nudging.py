"""Tell the workers that a batch waits: off the request's path, and not more often than needed."""

import threading
import time
from typing import Final

from django.db import connections

from rollout_console.core.nudge import task_send

TASK: Final = "console.work"
EVERY_S: Final = 0.05


class Nudger:
    """A thread, started on first use, that sends one task for all wishes of 50 ms.

    A wish during the pause is served after it, so no batch waits for the next second's round; a
    broker that is away holds up this thread and no request.
    """

    def __init__(self) -> None:
        self._wished = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def nudge(self) -> None:
        self._wished.set()
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="nudger", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                self._wished.wait()
                self._wished.clear()
                task_send(TASK)
                time.sleep(EVERY_S)
        finally:
            connections.close_all()


nudger: Final = Nudger()
