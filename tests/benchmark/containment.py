"""From the commit of a containment to clients that obey; from a button to stable being served.

Workers, beat and keeper do not run here at all, and the last rows leave Valkey out too: nothing
measured may need them.
"""

import json
import os
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from unittest import mock

import psycopg
from django.db import connection, connections
from playwright.sync_api import Page, sync_playwright

from approvals.authority.matrix import Scope
from rollout_console.exposure import services as exposure
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from rollout_console.services.ports import HOST
from tests.benchmark.load import post
from tests.benchmark.rows import Row, beside, bound
from tests.chromium import chromium_found
from tests.factories import PASSWORD, contain, rollout_at, token
from tests.live import Console, served

CLIENTS: Final = 200
POLL_S: Final = 0.25
PRESSES: Final = 30
BLIND_PRESSES: Final = 10
BUTTONS: Final = 10
SETTLE_S: Final = 0.6


def rows() -> list[Row]:
    with served(os.environ, workers=2) as console:
        notified, lone = _presses(console, PRESSES, "told"), _notify_alone()
        with mock.patch.object(exposure, "channel_notify"):
            polled = _presses(console, BLIND_PRESSES, "polled", settle_s=1.6)
    found = [*_effect_rows(notified, lone, polled)]
    if chromium_found() is None:
        return found
    with served(os.environ, workers=2) as console:
        found.append(_button_row(console, "button pressed in Chromium → served stable", "with"))
    without = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"}
    with served(without, workers=2) as console:
        found.append(_button_row(console, "the same with Valkey and workers stopped", "without"))
    return found


@dataclass(frozen=True, slots=True)
class Effect:
    """One press. `seen_s`: per client, from the commit to its first new answer; `stale_s`: from
    the commit to the start of the last call that still got an old answer, 0 if none did."""

    seen_s: list[float]
    stale_s: float


@dataclass(slots=True)
class _Client:
    socket: socket.socket
    due_at: float
    sent_at: float | None = None
    # (sent at, answered at, exposure version) of every call.
    calls: list[tuple[float, float, int]] = field(default_factory=list)


def _presses(
    console: Console, presses: int, name: str, *, settle_s: float = SETTLE_S
) -> list[Effect]:
    """Roll back `presses` rollouts one by one while 200 clients go on asking."""
    rollouts = [
        rollout_at(RolloutState.LIVE, workflow=f"{name}-{n:02}", slug=f"{name}-{n:02}-2")
        for n in range(presses)
    ]
    secret, _ = token(Scope.EVALUATE)
    body = json.dumps({"context": {"targetingKey": "u", "team": "internal"}}).encode()
    request = post(f"/ofrep/v1/evaluate/flags/{name}-00.draft", body, token=secret)
    commits: list[tuple[float, int]] = []
    done = threading.Event()

    def press() -> None:
        try:
            done.wait(1.0)
            for rollout in rollouts:
                outcome = contain(rollout, "rollback")
                commits.append((time.perf_counter(), outcome.exposure_version))
                done.wait(settle_s)
        finally:
            connections.close_all()
            done.set()

    presser = threading.Thread(target=press)
    presser.start()
    clients = _poll_until(done, console.port, request)
    presser.join()
    return [_effect(clients, committed_at, version) for committed_at, version in commits]


def _poll_until(done: threading.Event, port: int, request: bytes) -> list[_Client]:
    poll = selectors.DefaultSelector()
    now = time.perf_counter()
    clients = [
        _Client(socket.create_connection((HOST, port)), now + n * POLL_S / CLIENTS)
        for n in range(CLIENTS)
    ]
    for client in clients:
        poll.register(client.socket, selectors.EVENT_READ, client)
    while not done.is_set():
        now = time.perf_counter()
        for client in clients:
            if client.sent_at is None and client.due_at <= now:
                client.sent_at = time.perf_counter()
                client.due_at = max(client.due_at + POLL_S, now)
                client.socket.sendall(request)
        for key, _ in poll.select(timeout=0.002):
            _answered(key.data)
    for client in clients:
        client.socket.close()
    poll.close()
    return clients


def _answered(client: _Client) -> None:
    # An answer is far smaller than a segment on loopback: it comes whole.
    answer = client.socket.recv(65_536)
    if not answer.startswith(b"HTTP/1.1 200") or client.sent_at is None:
        raise RuntimeError(f"an answer was not 200: {answer[:200]!r}")
    version = int(answer.rpartition(b'"exposureVersion":')[2].split(b",")[0].rstrip(b"}"))
    client.calls.append((client.sent_at, time.perf_counter(), version))
    client.sent_at = None


def _effect(clients: Sequence[_Client], committed_at: float, version: int) -> Effect:
    seen, stale = [], 0.0
    for client in clients:
        first = next(call for call in client.calls if call[2] >= version)
        seen.append(max(0.0, first[1] - committed_at))
        for sent_at, _, got in client.calls:
            if got < version and sent_at > committed_at:
                stale = max(stale, sent_at - committed_at)
    return Effect(seen, stale)


def _notify_alone(rounds: int = 100) -> list[float]:
    """Return seconds from a commit with NOTIFY to its arrival on another connection."""
    config = connection.get_connection_params()
    with (
        psycopg.connect(**config, autocommit=True) as listener,
        psycopg.connect(**config, autocommit=True) as speaker,
    ):
        listener.execute("listen benchmark")
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            speaker.execute("notify benchmark")
            next(listener.notifies(timeout=5))
            took.append(time.perf_counter() - began)
    return took


def _effect_rows(
    notified: Sequence[Effect], lone: Sequence[float], polled: Sequence[Effect]
) -> list[Row]:
    seen = [taken for effect in notified for taken in effect.seen_s]
    stale = [effect.stale_s for effect in notified]
    blind = [effect.stale_s for effect in polled]
    return [
        beside(
            "commit of a containment → no call gets the old version, p99",
            [_percentile(stale, 99) * 1e3],
            [_percentile(lone, 99) * 1e3],
            unit="ms",
            note=(
                f"p50 {_percentile(stale, 50) * 1e3:.1f} ms over {len(stale)} presses, two "
                f"processes, {CLIENTS} clients that ask each {POLL_S * 1e3:.0f} ms; ceiling: "
                "NOTIFY to another connection on an idle pair, p99. Floor 250 ms"
            ),
        ),
        bound(
            f"commit → every one of {CLIENTS} polling clients has the new version, p99",
            _percentile(seen, 99) * 1e3,
            unit="ms",
            note=(
                f"p50 {_percentile(seen, 50) * 1e3:.1f} ms; their own interval of "
                f"{POLL_S * 1e3:.0f} ms is in it"
            ),
        ),
        bound(
            "the same without NOTIFY, by the poll alone, longest",
            max(blind) * 1e3,
            unit="ms",
            note=f"{len(blind)} presses. Floor 1,200 ms",
        ),
    ]


def _percentile(values: Sequence[float], rank: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[rank - 1]


def _button_row(console: Console, name: str, prefix: str) -> Row:
    rollouts = [
        rollout_at(RolloutState.LIVE, workflow=f"{prefix}-{n:02}", slug=f"{prefix}-{n:02}-2")
        for n in range(BUTTONS)
    ]
    secret, _ = token(Scope.EVALUATE)
    # All queries are done: within Playwright's loop Django would refuse them.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_found(), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.goto(f"{console.url}/login/")
        page.fill("#username", "owner")
        page.fill("#password", PASSWORD)
        page.click("button[type=submit]")
        took = [_press_button(console, page, rollout, secret) for rollout in rollouts]
        browser.close()
    return bound(
        f"{name}, median",
        statistics.median(took) * 1e3,
        unit="ms",
        note=f"{len(took)} presses, longest {max(took) * 1e3:.0f} ms. Floor 2,000, goal 500 ms",
    )


def _press_button(console: Console, page: Page, rollout: Rollout, secret: str) -> float:
    """Return seconds from the click on the form's button to the first stable answer."""
    key = f"{rollout.slug.removesuffix('-2')}.draft"
    user = next(n for n in range(100) if _release(console, key, n, secret) == "2026.11.2")
    page.goto(f"{console.url}/rollouts/{rollout.slug}/contain/rollback/")
    page.check("input[name=reason][value=quality]", force=True)
    served_at: list[float] = []

    def ask() -> None:
        while _release(console, key, user, secret) != "2026.10.4":
            continue
        served_at.append(time.perf_counter())

    asker = threading.Thread(target=ask)
    asker.start()
    clicked_at = time.perf_counter()
    page.click("form.cform button[type=submit]")
    asker.join(20)
    return served_at[0] - clicked_at


def _release(console: Console, key: str, user: int, secret: str) -> str:
    body = {"context": {"targetingKey": f"user-{user}", "team": "internal"}}
    reply = console.send("POST", f"/ofrep/v1/evaluate/flags/{key}", body=body, token=secret)
    return str(reply.json["value"]["release"])
