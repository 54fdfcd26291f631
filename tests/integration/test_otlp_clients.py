"""Unmodified SDKs and instrumentations over the wire: their runs equal what the model served."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from approvals.authority.matrix import Scope
from signals.ingest.models import Run
from signals.ingest.rows import OUTCOMES
from signals.otlp.models import OtlpDuplicate
from tests.factories import token
from tests.live import ROOT, Console, console
from tests.model_server import DELAY_S, ModelServer, model_server
from tests.otlp import RESOURCE, drain, workflow_made

__all__ = ["console"]

ERRORS = {429: "RateLimitError", 500: "InternalServerError"}


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with model_server() as served:
        yield served


def client_run(console: Console, model: ModelServer, *words: str) -> dict[str, float]:
    secret, _ = token(Scope.INGEST)
    done = subprocess.run(
        [sys.executable, "-m", "tests.telemetry_client", *words, console.url, secret, model.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    took: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return took


@pytest.mark.parametrize(
    ("instrumentations", "protocol"),
    [
        ("openai_v2", "protobuf"),
        ("openinference", "json"),
        ("traceloop", "protobuf"),
        ("openai_v2+openinference", "protobuf"),
        ("traceloop+openinference", "json"),
    ],
)
def test_a_client_s_calls_are_runs_with_what_was_served(
    console: Console, model: ModelServer, instrumentations: str, protocol: str
) -> None:
    workflow_made("support", "refunds")

    took = client_run(console, model, instrumentations, protocol)
    drain()

    runs = {(run.attributes or {})["model_requested"]: run for run in Run.objects.all()}
    assert set(runs) == {served.model for served in model.ledger}
    assert Run.objects.count() == len(model.ledger) == 6
    for served in model.ledger:
        run = runs[served.model]
        ok = served.status == 200
        assert run.outcome == OUTCOMES["ok" if ok else "error"]
        assert run.failure_category == (None if ok else ERRORS[served.status])
        assert run.input_tokens == (served.input_tokens if ok else None)
        assert run.output_tokens == (served.output_tokens if ok else None)
        assert run.tool_calls == served.tool_calls
        assert run.latency_ms is not None
        assert DELAY_S * 1000 <= run.latency_ms <= took[served.model]
        assert run.retries == 0
        assert run.steps == 1
    twice = sum(OtlpDuplicate.objects.values_list("calls", flat=True))
    assert twice == (6 if "+" in instrumentations else 0)


@contextlib.contextmanager
def answers_lost(console: Console, *, first: int) -> Iterator[tuple[str, list[int]]]:
    """Serve the console at another address that loses its first answers to requests it took."""
    forwarded: list[int] = []

    class Lossy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            reply = console.send("POST", self.path, body=body, headers=dict(self.headers.items()))
            forwarded.append(reply.status)
            self.send_response(503 if len(forwarded) <= first else reply.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing: what was forwarded is counted."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Lossy)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}", forwarded
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def test_what_an_exporter_sends_again_counts_once(console: Console) -> None:
    workflow_made("support", "refunds")
    secret, _ = token(Scope.INGEST)
    resource = Resource.create(RESOURCE)
    with answers_lost(console, first=2) as (url, forwarded):
        exporter = OTLPSpanExporter(
            endpoint=f"{url}/v1/traces", headers={"Authorization": f"Bearer {secret}"}
        )
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        with provider.get_tracer("app").start_as_current_span("answer") as span:
            span.set_attribute("gen_ai.operation.name", "chat")
            span.set_attribute("gen_ai.usage.input_tokens", 7)
        assert provider.force_flush()
        provider.shutdown()
        assert forwarded == [200, 200, 200]
    drain()

    (run,) = Run.objects.all()
    assert run.input_tokens == 7
