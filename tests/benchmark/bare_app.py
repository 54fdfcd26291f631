"""The ceiling beside which ours is measured: the least that a WSGI application can do here."""

from collections.abc import Callable, Iterable
from typing import Any, Final

# About as long as one OFREP answer.
BODY: Final = b'{"value":"' + b"x" * 600 + b'"}'
HEADERS: Final = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read the body and answer a constant."""
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", HEADERS)
    return [BODY]
