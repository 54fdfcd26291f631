"""Parts are killed while runs come in: what was acknowledged is there, once."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.stack import Stack, wait_until
from tests.story import Prepared, prepare, run_item

BATCH = 40


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as running:
        yield running


@pytest.fixture(scope="module")
def live(stack: Stack) -> Prepared:
    return prepare(stack)


class Sender(threading.Thread):
    """Sends batches until told to stop; an unanswered one is sent again, with the same ids."""

    def __init__(self, stack: Stack, token: str) -> None:
        super().__init__(daemon=True)
        self.stack = stack
        self.token = token
        self.stop = threading.Event()
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()
        self.repeats = 0

    def run(self) -> None:
        batch: list[dict[str, Any]] = []
        while batch or not self.stop.is_set():
            if not batch:
                batch = [run_item() for _ in range(BATCH)]
                self.sent |= {item["id"] for item in batch}
            status, body = self.stack.call("POST", "/api/v1/runs", token=self.token, body=batch)
            if status == 202:
                assert body["accepted"] == BATCH, body
                self.acknowledged |= {item["id"] for item in batch}
                batch = []
            else:
                self.repeats += 1
                time.sleep(0.05)


def count(stack: Stack, query: str) -> int:
    with stack.connect() as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0] or 0)


def test_killing_any_part_loses_and_doubles_nothing(stack: Stack, live: Prepared) -> None:
    senders = [Sender(stack, live.ingest) for _ in range(2)]
    for sender in senders:
        sender.start()

    def acknowledged() -> int:
        return sum(len(sender.acknowledged) for sender in senders)

    def traffic_goes_on(what: str) -> None:
        enough = acknowledged() + 4 * BATCH
        wait_until(lambda: acknowledged() >= enough, within_s=60, what=what)

    traffic_goes_on("the first batches")
    for part in ("worker", "postgres", "web", "valkey", "keeper", "worker", "postgres"):
        stack.kill(part)
        traffic_goes_on(f"batches after {part} was killed")
    for sender in senders:
        sender.stop.set()
    for sender in senders:
        sender.join(60)
    sent = set().union(*(sender.sent for sender in senders))
    promised = set().union(*(sender.acknowledged for sender in senders))
    assert promised == sent

    waiting = "select count(*) from ingest_batch where folded_at is null"
    wait_until(lambda: count(stack, waiting) == 0, within_s=60, what="drained and folded")
    with stack.connect() as connection:
        stored = [row[0] for row in connection.execute("select run_id from run").fetchall()]
    assert len(stored) == len(set(stored))
    assert set(stored) == sent
    assert count(stack, "select sum(n) from arrival_ledger") == len(sent)
    assert count(stack, "select sum(n) from minute_bucket") == len(sent)
    # Something was in fact cut off: otherwise this test has shown nothing.
    assert sum(sender.repeats for sender in senders) > 0
