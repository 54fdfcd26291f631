"""OpenFeature Remote Evaluation Protocol: what a context gets, decided here."""

import hashlib
from typing import Any, Final

import msgspec

from approvals.authority.matrix import Scope
from rollout_console.api.bare.auth import authenticate
from rollout_console.api.bare.http import (
    JSON,
    BodyTooLarge,
    BodyUnreadable,
    Request,
    Response,
    Unavailable,
    json_response,
    refusal_headers,
)
from rollout_console.core.errors import DomainError
from rollout_console.exposure.evaluate import Answer, Failure, Snapshot
from rollout_console.exposure.store import store

BODY_LIMIT: Final = 64 * 1024
_HEADERS: Final = [("Content-Type", JSON)]
_STATUS: Final = {"FLAG_NOT_FOUND": 404}

_decode: Final = msgspec.json.Decoder().decode


class BadContext(DomainError):
    """The request cannot be evaluated as a whole; `code_` is OFREP's."""

    code = "bad-context"
    title = "The context cannot be read"
    status = 400

    def __init__(self, error_code: str, detail: str) -> None:
        super().__init__(detail)
        self.error_code = error_code


def evaluate_one(request: Request) -> Response:
    principal = authenticate(request, Scope.EVALUATE, api_key=True)
    snapshot = loaded()
    key = request.params["key"]
    if not snapshot.holds(key, principal.reaches):
        return _failed(Failure(key, "FLAG_NOT_FOUND", f"There is no flag {key!r} for this token."))
    targeting_key, attributes = _context(request)
    decision = snapshot.decide(key, targeting_key=targeting_key, attributes=attributes)
    if isinstance(decision, Answer):
        return Response(200, decision.body, [*_HEADERS])
    return _failed(decision)


def evaluate_all(request: Request) -> Response:
    principal = authenticate(request, Scope.EVALUATE, api_key=True)
    snapshot = loaded()
    targeting_key, attributes = _context(request)
    decisions = [
        snapshot.decide(key, targeting_key=targeting_key, attributes=attributes).body
        for key in snapshot.keys(principal.reaches)
    ]
    body = b'{"flags":[' + b",".join(decisions) + b"]}"
    # Of the answer, not of the document: the same document gives others to other contexts.
    etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    headers = [("ETag", etag), ("Cache-Control", "no-cache")]
    if matches(request.header("If-None-Match"), etag):
        return Response(304, b"", headers)
    return Response(200, body, [*_HEADERS, *headers])


def loaded() -> Snapshot:
    """Return the exposure version in force, or raise Unavailable before it is loaded."""
    snapshot = store.snapshot
    if snapshot is None:
        raise Unavailable("No exposure document is loaded yet. Try again.")
    return snapshot


def matches(if_none_match: str | None, etag: str) -> bool:
    """Say whether an `If-None-Match` header names `etag`, weak or not, alone or in a list."""
    if if_none_match is None:
        return False
    named = [entry.strip().removeprefix("W/") for entry in if_none_match.split(",")]
    return etag in named or "*" in named


def refuse(error: DomainError, request: Request) -> Response:
    """Put a refusal in OFREP's own words; problem documents stay off these routes."""
    body: dict[str, Any] = {"errorDetails": error.detail}
    if isinstance(error, BadContext):
        body["errorCode"] = error.error_code
    elif isinstance(error, BodyTooLarge | BodyUnreadable):
        body["errorCode"] = "PARSE_ERROR"
    elif error.status != 500:
        body["errorCode"] = "GENERAL"
    if key := request.params.get("key"):
        body["key"] = key
    return json_response(error.status, body, headers=refusal_headers(error))


def fail(error_id: str, request: Request) -> Response:
    return json_response(500, {"errorDetails": f"Our fault; in the log under {error_id}."})


def _failed(failure: Failure) -> Response:
    return Response(_STATUS.get(failure.code, 400), failure.body, [*_HEADERS])


def _context(request: Request) -> tuple[str | None, dict[str, Any]]:
    """Return (targeting key, the other members) of the request's context."""
    raw = request.body(BODY_LIMIT)
    try:
        body = _decode(raw) if raw.strip() else {}
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadContext("PARSE_ERROR", "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise BadContext("PARSE_ERROR", 'The body is not an object like {"context": {…}}.')
    context = body.get("context")
    if context is None:
        # Unmodified clients send no context where they have none.
        context = {}
    if not isinstance(context, dict):
        raise BadContext("INVALID_CONTEXT", "The context is not an object.")
    targeting_key = context.pop("targetingKey", None)
    if targeting_key is not None and not isinstance(targeting_key, str):
        raise BadContext("INVALID_CONTEXT", "targetingKey is not text.")
    return targeting_key or None, context
