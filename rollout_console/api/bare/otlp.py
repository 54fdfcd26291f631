"""OTLP over HTTP: traces, metrics and logs, answered in the encoding they came in."""

import threading
from collections.abc import Callable
from typing import Final

from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.api.bare.auth import authenticate
from rollout_console.api.bare.http import Request, Response, Unavailable, refusal_headers
from rollout_console.core.errors import DomainError
from signals.ingest.framing import MediaTypeUnsupported, unpacked
from signals.otlp.metric_points import metrics_store
from signals.otlp.services import Kept, logs_store, spans_store
from signals.otlp.wire import (
    LOGS,
    MAX_UNPACKED,
    METRICS,
    TRACES,
    WEIGHED_FROM,
    Encoding,
    Signal,
    answer_encode,
    encoding_of,
    request_decode,
    status_encode,
)

# A body of many megabytes takes its tenfold to unfold, so a process unfolds one at a time.
_large: Final = threading.Lock()


def post_traces(request: Request) -> Response:
    """Answer 200 once the spans are durable; `partialSuccess` says what was not taken."""
    return _post(request, TRACES, spans_store)


def post_logs(request: Request) -> Response:
    """Likewise for log records."""
    return _post(request, LOGS, logs_store)


def post_metrics(request: Request) -> Response:
    """Likewise for metrics' data points."""
    return _post(request, METRICS, metrics_store)


def _post(request: Request, signal: Signal, store: Callable[..., Kept]) -> Response:
    principal = authenticate(request, Scope.INGEST)
    encoding = encoding_of(request.header("Content-Type"))
    body = unpacked(
        request.body(MAX_UNPACKED), request.header("Content-Encoding"), limit=MAX_UNPACKED
    )

    def kept() -> Kept:
        message = request_decode(signal, body, encoding)
        return store(request=message, principal=principal, now=timezone.now())

    if len(body) < WEIGHED_FROM:
        done = kept()
    else:
        with _large:
            done = kept()
    answer = answer_encode(signal, encoding, rejected=done.rejected, told=done.told)
    return Response(200, answer, [("Content-Type", encoding)])


def refuse(error: DomainError, request: Request) -> Response:
    """Return a refusal as google.rpc.Status; OTLP's senders read no problem documents."""
    encoding = _encoding(request)
    return Response(
        error.status,
        status_encode(encoding, error.detail),
        [("Content-Type", encoding), *refusal_headers(error)],
    )


def fail(error_id: str, request: Request) -> Response:
    """Answer a bug of ours with 503: after a 500 its sender would throw the data away."""
    detail = f"Something broke on our side; it is in the log under {error_id}. Send it again."
    return refuse(Unavailable(detail), request)


def _encoding(request: Request) -> Encoding:
    try:
        return encoding_of(request.header("Content-Type"))
    except MediaTypeUnsupported:
        return Encoding.JSON
