"""Request and response of the bare handlers: as much of HTTP as they need, and no more."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs

import msgspec

from rollout_console.core.errors import DomainError, problem, problem_of

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"

_encode: Final = msgspec.json.Encoder().encode
_STATUS_LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_CONTENT_LENGTH: Final = re.compile(r"[0-9]{1,15}")


class BodyTooLarge(DomainError):
    code = "too-large"
    title = "Too large"
    status = 413


class BodyUnreadable(DomainError):
    """The body's framing is broken: a length that is none, or a body that ends early."""

    code = "unreadable-body"
    title = "The body cannot be read"
    status = 400


class Unavailable(DomainError):
    """Something passing is in the way; `retry_after_s` says when to try again (whole seconds)."""

    code = "unavailable"
    title = "Not available right now"
    status = 503
    retry_after_s: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


class Request:
    """One request, read lazily from its WSGI environment. `params` come from the route."""

    __slots__ = ("environ", "params")

    def __init__(self, environ: dict[str, Any], params: dict[str, str] | None = None) -> None:
        self.environ = environ
        self.params = params or {}

    @property
    def method(self) -> str:
        return str(self.environ["REQUEST_METHOD"])

    @property
    def path(self) -> str:
        return decoded_path(self.environ)

    @property
    def remote_address(self) -> str:
        return str(self.environ.get("REMOTE_ADDR", ""))

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one, the last."""
        parsed = parse_qs(self.environ.get("QUERY_STRING", ""), keep_blank_values=True)
        return {name: values[-1] for name, values in parsed.items()}

    def header(self, name: str) -> str | None:
        """Return a request header, or None where it was not sent."""
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        value = self.environ.get(key)
        return None if value is None or value == "" else str(value)

    def body(self, limit: int) -> bytes:
        """Return the body as sent, not unpacked.

        Raises:
            BodyTooLarge: it holds more than `limit` bytes.
            BodyUnreadable: its length is not a number, or fewer bytes came.
        """
        stream = self.environ["wsgi.input"]
        stated = self.header("Content-Length")
        if stated is None:
            read: bytes = stream.read(limit + 1)
        elif not _CONTENT_LENGTH.fullmatch(stated):
            raise BodyUnreadable("Content-Length is not a number of bytes.")
        elif int(stated) > limit:
            raise BodyTooLarge(f"A request holds at most {limit:,} bytes.", limit_bytes=limit)
        else:
            read = stream.read(int(stated))
            if len(read) < int(stated):
                raise BodyUnreadable("The body ended before its Content-Length.")
        if len(read) > limit:
            raise BodyTooLarge(f"A request holds at most {limit:,} bytes.", limit_bytes=limit)
        return read


def decoded_path(environ: dict[str, Any]) -> str:
    """Return the path as text; WSGI carries its bytes as Latin-1."""
    raw = str(environ.get("PATH_INFO", ""))
    if raw.isascii():
        return raw
    return raw.encode("latin-1", "replace").decode("utf-8", "replace")


def json_response(
    status: int,
    body: Any,
    *,
    headers: Iterable[tuple[str, str]] = (),
    content_type: str = JSON,
) -> Response:
    return Response(status, _encode(body), [("Content-Type", content_type), *headers])


def problem_response(error: DomainError, *, instance: str | None = None) -> Response:
    """Return a refusal as RFC 9457; what carries `retry_after_s` also says when to come back."""
    return json_response(
        error.status,
        problem_of(error, instance=instance),
        headers=refusal_headers(error),
        content_type=PROBLEM,
    )


def refusal_headers(error: DomainError) -> list[tuple[str, str]]:
    headers = []
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers.append(("WWW-Authenticate", "Bearer"))
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers.append(("Retry-After", str(retry_after_s)))
    return headers


def failure_response(*, error_id: str, instance: str | None = None) -> Response:
    """Return the answer to a bug of ours, with the id that the log carries."""
    body = problem(
        code="internal",
        title="Something broke on our side",
        status=500,
        detail=f"It is in the log under {error_id}. Nothing says that the request took effect.",
        instance=instance,
        error_id=error_id,
    )
    return json_response(500, body, content_type=PROBLEM)


def send(response: Response, start_response: Callable[..., Any]) -> list[bytes]:
    """Hand a response to the WSGI server."""
    headers = [*response.headers, ("Content-Length", str(len(response.body)))]
    start_response(_STATUS_LINES[response.status], headers)
    return [response.body]
