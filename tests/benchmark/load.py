"""A load generator that costs little: plain sockets on one epoll, requests built beforehand.

It shares the machine with what it measures, so that its figures count beside a ceiling measured
by the same generator, and not alone.
"""

import selectors
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rollout_console.services.ports import HOST

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Load:
    """What a load came to: answers a second, and the 99th percentile of their latency."""

    per_s: float
    p50_ms: float
    p99_ms: float
    other_statuses: int


@dataclass(slots=True)
class _Line:
    """One keep-alive connection with one request under way."""

    socket: socket.socket
    sent_at: float = 0.0
    got: bytearray = field(default_factory=bytearray)
    turn: int = 0


def post(path: str, body: bytes, *, token: str) -> bytes:
    """Return a whole HTTP/1.1 request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def closed_loop(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Send on every connection as soon as the last answer is whole; `seconds` of wall time."""
    poll = selectors.DefaultSelector()
    lines = [_Line(socket.create_connection((HOST, port))) for _ in range(connections)]
    for number, line in enumerate(lines):
        line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.turn = number * len(requests) // connections
        poll.register(line.socket, selectors.EVENT_READ, line)
        _send(line, requests)
    latencies: list[float] = []
    other = 0
    began = time.perf_counter()
    until = began + seconds
    while (now := time.perf_counter()) < until:
        for key, _ in poll.select(timeout=1.0):
            line = key.data
            status = _receive(line)
            if status is None:
                continue
            now = time.perf_counter()
            latencies.append(now - line.sent_at)
            other += status != b"200"
            _send(line, requests)
    elapsed = now - began
    for line in lines:
        line.socket.close()
    poll.close()
    ranks = statistics.quantiles(latencies, n=100)
    return Load(len(latencies) / elapsed, ranks[49] * 1e3, ranks[98] * 1e3, other)


def _send(line: _Line, requests: Sequence[bytes]) -> None:
    line.turn = (line.turn + 1) % len(requests)
    line.sent_at = time.perf_counter()
    line.socket.sendall(requests[line.turn])


def _receive(line: _Line) -> bytes | None:
    """Return the status once the answer is whole, else None."""
    piece = line.socket.recv(65_536)
    if not piece:
        raise ConnectionError("the server closed a connection under load")
    line.got += piece
    head_end = line.got.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = bytes(line.got[:head_end]).lower()
    start = head.find(b"content-length:")
    if start < 0:
        raise ConnectionError("an answer without Content-Length")
    length = int(head[start + 15 :].split(b"\r\n", 1)[0])
    if len(line.got) < head_end + 4 + length:
        return None
    line.got.clear()
    return head[9:12]


def alternate(rounds: int, **measure: Callable[[], T]) -> dict[str, list[T]]:
    """Measure each in turn, A B A B, so that a slow minute of the machine hits all of them."""
    found: dict[str, list[T]] = {name: [] for name in measure}
    for number in range(rounds):
        names = list(measure) if number % 2 == 0 else list(measure)[::-1]
        for name in names:
            found[name].append(measure[name]())
    return found
