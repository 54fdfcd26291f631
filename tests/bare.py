"""Calls the bare routes in this process, on the test's own transaction."""

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from rollout_console.api.bare.front import Front


def environ(method: str, path: str, body: bytes = b"", **extra: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **extra,
    }


class Caller:
    """Calls a WSGI application and keeps what it answered."""

    def __init__(self, app: Front) -> None:
        self.app = app
        self.status = ""
        self.headers: dict[str, str] = {}

    @property
    def code(self) -> int:
        return int(self.status.split()[0])

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Call with a body that goes as JSON unless it is bytes, and return the answer's."""
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        extra = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in given.items()}
        path, _, query = path.partition("?")
        return self(method, path, raw, QUERY_STRING=query, REMOTE_ADDR="192.0.2.7", **extra)

    def __call__(self, method: str, path: str, body: bytes = b"", **extra: Any) -> bytes:
        return b"".join(self.app(environ(method, path, body, **extra), self._start))

    def _start(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status, self.headers = status, dict(headers)


def behind(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"django"]
