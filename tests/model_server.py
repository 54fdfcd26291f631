"""A model's API on loopback, for unmodified clients: answers, streams, tool calls, and failures.

What it answers is canned; it keeps a ledger of what it served, which the console must agree with.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DELAY_S = 0.05


@dataclass(frozen=True)
class Served:
    """One answer, as it was sent."""

    model: str
    status: int
    input_tokens: int
    output_tokens: int
    cache_read: int
    tool_calls: int


@dataclass
class ModelServer:
    port: int
    ledger: list[Served] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@contextlib.contextmanager
def model_server() -> Iterator[ModelServer]:
    """Serve until the block ends."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    served = ModelServer(http.server_address[1])
    http.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ledger: list[Served] = self.server.served.ledger  # type: ignore[attr-defined]
        model = told["model"]
        number = len(ledger) + 1
        time.sleep(DELAY_S)
        for status in (429, 500):
            if model.endswith(str(status)):
                ledger.append(Served(model, status, 0, 0, 0, 0))
                self._send({"error": {"message": "no", "type": "canned"}}, status=status)
                return
        if self.path.endswith("/embeddings"):
            ledger.append(Served(model, 200, 7, 0, 0, 0))
            self._send(_embeddings(model))
            return
        tools = 2 if told.get("tools") else 0
        served = Served(model, 200, 100 + number, 10 + number, 3, tools)
        ledger.append(served)
        if told.get("stream"):
            self._stream(_chunks(served, number))
        else:
            self._send(_completion(served, number))

    def _send(self, body: Any, *, status: int = 200) -> None:
        octets = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    def _stream(self, chunks: list[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
            time.sleep(DELAY_S / 5)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Say nothing: the ledger is the log."""


def _usage(served: Served) -> dict[str, Any]:
    return {
        "prompt_tokens": served.input_tokens,
        "completion_tokens": served.output_tokens,
        "total_tokens": served.input_tokens + served.output_tokens,
        "prompt_tokens_details": {"cached_tokens": served.cache_read},
    }


def _head(served: Served, number: int, what: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "object": what,
        "created": int(time.time()),
        "model": f"{served.model}-2026-01-01",
    }


def _completion(served: Served, number: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "Canned."}
    if served.tool_calls:
        message |= {
            "content": None,
            "tool_calls": [
                {
                    "id": f"call-{one}",
                    "type": "function",
                    "function": {"name": "issue_refund", "arguments": "{}"},
                }
                for one in range(served.tool_calls)
            ],
        }
    reason = "tool_calls" if served.tool_calls else "stop"
    return {
        **_head(served, number, "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": _usage(served),
    }


def _chunks(served: Served, number: int) -> list[dict[str, Any]]:
    head = _head(served, number, "chat.completion.chunk")
    words: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "Can"}, None),
        ({"content": "ned."}, None),
        ({}, "stop"),
    ]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in words
    ]
    return [*chunks, {**head, "choices": [], "usage": _usage(served)}]


def _embeddings(model: str) -> dict[str, Any]:
    return {
        "object": "list",
        "model": model,
        "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
