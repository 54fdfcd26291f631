"""Unmodified SDKs and instrumentations over the wire: their runs equal what the model served."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from approvals.authority.matrix import Scope
from signals.ingest.models import Run
from signals.ingest.rows import OUTCOMES
from signals.otlp.models import OtlpDuplicate
from tests.factories import token
from tests.live import ROOT, Console, console
from tests.model_server import DELAY_S, ModelServer, model_server
from tests.otlp import drain, workflow_made

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
