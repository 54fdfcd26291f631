"""Reports the fleet's runs, or labels: a collector, as an agent beside a workflow would be."""

import json
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import requests
import structlog

log = structlog.get_logger(__name__)

# Runs kept while the console is away, about ten minutes of the demo; the oldest are dropped.
QUEUE_BOUND: Final = 30_000
BATCH_MOST: Final = 2_000
BACK_OFF_MOST_S: Final = 5.0


class Reporter:
    """Sends batches, each again with the same ids until the console has taken it.

    `noun` is what they hold: runs or observations.
    """

    def __init__(
        self,
        *,
        url: str,
        token: str,
        every_s: float,
        noun: str = "runs",
        on_first_accepted: Callable[[], object] = lambda: None,
    ) -> None:
        self._url = f"{url}/api/v1/{noun}"
        self._every_s = every_s
        self._on_first_accepted = on_first_accepted
        self._waiting: deque[dict[str, Any]] = deque(maxlen=QUEUE_BOUND)
        self._unsent: bytes | None = None
        self._unsent_n = 0
        self._session = requests.Session()
        self._session.headers.update(
            {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Rollout-Client": "demo-reporter",
            }
        )
        self.accepted = 0
        self.rejected = 0

    def add(self, item: dict[str, Any]) -> None:
        """Queue one item; safe from any thread, never waits."""
        self._waiting.append(item)

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set, then once more what is left."""
        pause_s = self._every_s
        while not stop.wait(pause_s):
            pause_s = self.send_once()
        self.send_once()

    def send_once(self) -> float:
        """Send one batch, if there is any; return how many seconds to wait before the next."""
        if self._unsent is None and not self._batch_taken():
            return self._every_s
        try:
            answer = self._session.post(self._url, data=self._unsent, timeout=5)
        except requests.RequestException:
            return min(BACK_OFF_MOST_S, self._every_s * 4)
        if answer.status_code in (429, 502, 503, 504):
            return self._asked_wait_s(answer)
        self._unsent = None
        if answer.status_code != 202:
            # Nothing in this batch will do better on another try; the next one may.
            self.rejected += self._unsent_n
            log.warning("demo.batch_refused", status=answer.status_code, body=answer.text[:500])
            return self._every_s
        self._count(answer.json())
        return 0.0 if len(self._waiting) >= BATCH_MOST else self._every_s

    def _batch_taken(self) -> bool:
        batch: list[dict[str, Any]] = []
        while self._waiting and len(batch) < BATCH_MOST:
            batch.append(self._waiting.popleft())
        self._unsent_n = len(batch)
        self._unsent = json.dumps(batch, separators=(",", ":")).encode() if batch else None
        return bool(batch)

    def _count(self, receipt: dict[str, Any]) -> None:
        first = self.accepted == 0 and receipt["accepted"] > 0
        self.accepted += receipt["accepted"]
        if receipt["rejected"]:
            self.rejected += receipt["rejected"]
            log.warning("demo.items_rejected", n=receipt["rejected"], first=receipt["errors"][:1])
        if first:
            self._on_first_accepted()

    def _asked_wait_s(self, answer: requests.Response) -> float:
        try:
            return min(BACK_OFF_MOST_S, float(answer.headers.get("Retry-After", "1")))
        except ValueError:
            return 1.0
