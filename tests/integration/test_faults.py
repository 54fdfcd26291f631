"""Parts are killed while runs come in: what was acknowledged is there, once."""

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psutil
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


class Presser(threading.Thread):
    """Presses again and again, each press with a key of its own until it is answered."""

    def __init__(self, stack: Stack, live: Prepared) -> None:
        super().__init__(daemon=True)
        self.stack = stack
        self.live = live
        self.stop = threading.Event()
        self.answered = 0
        self.repeats = 0

    def run(self) -> None:
        body = {"action": "escalate", "reason": {"code": "precaution"}}
        while not self.stop.is_set():
            key = uuid.uuid4().hex
            while True:
                status, _ = self.stack.call(
                    "POST",
                    f"/api/v1/rollouts/{self.live.rollout}/containment",
                    token=self.live.owner,
                    body=body,
                    Idempotency_Key=key,
                )
                if status == 200:
                    self.answered += 1
                    break
                # No answer, or the same press still running in a process that dies: again.
                assert status in (0, 409, 503), status
                self.repeats += 1
                time.sleep(0.02)


def test_a_press_counts_once_while_web_processes_die(stack: Stack, live: Prepared) -> None:
    pressed = "select count(*) from audit_entry where action = 'rollout.escalated'"
    kept = "select count(*) from containment_command where outcome is not null"
    before = (count(stack, pressed), count(stack, kept))
    pressers = [Presser(stack, live) for _ in range(3)]
    for presser in pressers:
        presser.start()

    def answered() -> int:
        return sum(presser.answered for presser in pressers)

    for _ in range(6):
        enough = answered() + 10
        wait_until(lambda: answered() >= enough, within_s=60, what="presses answered")  # noqa: B023
        workers = psutil.Process(stack.pid("web")).children()
        if workers:
            workers[0].kill()
    for presser in pressers:
        presser.stop.set()
    for presser in pressers:
        presser.join(60)

    assert (count(stack, pressed), count(stack, kept)) == (
        before[0] + answered(),
        before[1] + answered(),
    )
