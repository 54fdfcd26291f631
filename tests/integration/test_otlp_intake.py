"""OTLP as it is sent: every refusal in its encoding, every span once, late ones told apart."""

import gzip
import json
import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.utils import timezone
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from approvals.authority.matrix import Scope
from rollout_console.api.bare.front import Front
from rollout_console.api.bare.routes import ROUTES
from rollout_console.catalog.models import Workflow
from signals.ingest.models import IngestBatch, Run
from signals.ingest.models import Observation as KeptObservation
from signals.otlp import retention, sweep
from signals.otlp.assemble import trace_assemble
from signals.otlp.models import (
    EvaluationState,
    OtlpEvaluation,
    OtlpRun,
    OtlpSpan,
    OtlpTrace,
)
from signals.otlp.selectors import duplicates_read, refused_read
from tests.bare import Caller, behind
from tests.factories import token
from tests.otlp import (
    drain,
    model_call,
    span_told,
    told_attributes,
    traces_told,
    workflow_made,
)

Send = Callable[..., bytes]
JSON = "application/json"
PROTOBUF = "application/x-protobuf"
PACKED_TOO_LARGE = gzip.compress(bytes(2**26 + 1), mtime=0)


class Sender:
    """Posts OTLP with a token and keeps the last answer."""

    def __init__(self, *workflows: Workflow) -> None:
        self.secret, _ = token(Scope.INGEST, workflows=workflows)
        self.caller = Caller(Front(ROUTES, behind))

    def __call__(
        self, body: Any, *, path: str = "/v1/traces", kind: str = JSON, **extra: str
    ) -> bytes:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"HTTP_AUTHORIZATION": f"Bearer {self.secret}", "CONTENT_TYPE": kind, **extra}
        return self.caller("POST", path, raw, **given)

    @property
    def code(self) -> int:
        return self.caller.code


@pytest.fixture
def send(db: None) -> Sender:
    workflow_made("support", "refunds")
    return Sender()


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs"])
def test_an_empty_request_is_a_success_in_its_own_encoding(send: Sender, path: str) -> None:
    assert send({}, path=path) == b"{}"
    assert send.code == 200
    assert send(b"", path=path, kind=PROTOBUF) == b""
    assert (send.code, send.caller.headers["Content-Type"]) == (200, PROTOBUF)


@pytest.mark.parametrize(
    ("body", "kind", "extra", "status"),
    [
        (b"\xff\xff\xff", PROTOBUF, {}, 400),
        (b'{"resourceSpans": [', JSON, {}, 400),
        (b'{"resourceSpans": 1}', JSON, {}, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": NaN}]}]}]}', JSON, {}, 400),
        (b"not gzip", PROTOBUF, {"HTTP_CONTENT_ENCODING": "gzip"}, 400),
        (gzip.compress(b"{}", mtime=0)[:-4], JSON, {"HTTP_CONTENT_ENCODING": "gzip"}, 400),
        (b"{}", JSON, {"HTTP_CONTENT_ENCODING": "br"}, 415),
        (b"{}", "text/plain", {}, 415),
        (PACKED_TOO_LARGE, PROTOBUF, {"HTTP_CONTENT_ENCODING": "gzip"}, 413),
        (b"{}", JSON, {"HTTP_AUTHORIZATION": "Bearer wrong"}, 401),
    ],
)
def test_a_refusal_is_a_status_in_the_encoding_of_its_request(
    send: Sender, body: bytes, kind: str, extra: dict[str, str], status: int
) -> None:
    answer = send(body, kind=kind, **extra)

    assert send.code == status
    if kind == PROTOBUF:
        assert send.caller.headers["Content-Type"] == PROTOBUF
        # google.rpc.Status: field 2 is the message.
        assert answer[:1] == b"\x12"
    else:
        assert send.caller.headers["Content-Type"] == JSON
        assert set(json.loads(answer)) == {"message"}
    assert OtlpSpan.objects.count() == 0


def test_millions_of_empty_spans_are_refused_unread(send: Sender) -> None:
    # Two bytes each on the wire, a hundred and more in memory.
    spans = b"\x12\x00" * 3_000_000
    scoped = b"\x12" + varint(len(spans)) + spans
    body = b"\x0a" + varint(len(scoped)) + scoped
    send(gzip.compress(body), kind=PROTOBUF, HTTP_CONTENT_ENCODING="gzip")
    assert send.code == 413


def varint(value: int) -> bytes:
    octets = b""
    while value > 0x7F:
        octets += bytes([value & 0x7F | 0x80])
        value >>= 7
    return octets + bytes([value])


def test_what_cannot_be_kept_is_counted_and_the_rest_is_kept(send: Sender) -> None:
    bad_id = span_told(2) | {"traceId": "00" * 16}
    backwards = span_told(3, ms=-5)
    ancient = span_told(4, began=timezone.now() - timedelta(days=400))

    answer = send(traces_told(model_call(1), bad_id, backwards, ancient))

    assert send.code == 200
    partial = json.loads(answer)["partialSuccess"]
    assert partial["rejectedSpans"] == "3"
    assert "trace id has 16 bytes" in partial["errorMessage"]
    assert "must not end before it starts" in partial["errorMessage"]
    assert list(OtlpSpan.objects.values_list("span_id", flat=True)) == [f"{1:016x}"]

    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"short")
    response = ExportTraceServiceResponse.FromString(
        send(request.SerializeToString(), kind=PROTOBUF)
    )
    assert response.partial_success.rejected_spans == 1


def test_a_database_that_is_away_and_a_bug_of_ours_are_503(
    send: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (OperationalError("away"), RuntimeError("a bug")):

        def fail(error: Exception = error, **_: Any) -> None:
            raise error

        monkeypatch.setattr("signals.otlp.services.spans_read", lambda *_, **__: fail())
        answer = send(traces_told(model_call(1)))

        assert send.code == 503
        assert int(send.caller.headers["Retry-After"]) >= 1
        assert "message" in json.loads(answer)


def test_any_order_and_splitting_of_spans_makes_the_same_runs(send: Sender) -> None:
    order = random.Random(11)
    began = timezone.now() - timedelta(minutes=1)
    expected: dict[str, tuple[int, int, int]] = {}
    spans: list[dict[str, Any]] = []
    for trace in range(1, 13):
        calls = order.randint(1, 4)
        base = trace * 100
        spans.append(span_told(base, trace=trace, began=began, ms=500))
        spans.append(span_told(base + 1, base, trace=trace, began=began, ms=400))
        for number in range(calls):
            spans.append(
                model_call(
                    base + 10 + number,
                    base + order.randint(0, 1),
                    trace=trace,
                    began=began,
                    at_ms=number * 100,
                    ms=90,
                )
            )
        expected[f"{trace:032x}"] = (calls * 100, calls * 10, calls)
    # Every span three times, shuffled, in requests of all sizes.
    many = spans * 3
    order.shuffle(many)
    while many:
        size = order.randint(1, 9)
        send(traces_told(*many[:size]))
        assert send.code == 200
        many = many[size:]

    drain()
    drain()

    found = {
        str(run.trace_id): (run.input_tokens, run.output_tokens, run.steps)
        for run in Run.objects.all()
    }
    assert found == expected
    assert Run.objects.count() == 12


def test_a_trace_is_looked_at_once_it_is_quiet_and_its_root_is_there(send: Sender) -> None:
    now = timezone.now()
    send(traces_told(model_call(2, 1)))

    # Not yet quiet; then quiet, but its root may still come.
    sweep.traces_assemble(now=now)
    assert OtlpRun.objects.count() == 0
    sweep.traces_assemble(now=now + timedelta(seconds=10))
    assert OtlpRun.objects.count() == 0

    send(traces_told(span_told(1)))
    sweep.traces_assemble(now=timezone.now() + timedelta(seconds=10))

    (run,) = OtlpRun.objects.all()
    assert (run.span_id, run.spans) == (f"{1:016x}", 2)


def test_a_parent_that_never_comes_is_given_up(send: Sender) -> None:
    send(traces_told(model_call(2, 1)))
    drain()
    (run,) = Run.objects.all()
    assert run.run_id == f"{1:032x}-{2:016x}"


def test_a_late_span_is_kept_and_told_and_changes_nothing(send: Sender) -> None:
    began = timezone.now() - timedelta(minutes=1)
    # Its parent is given up, and comes all the same: its run would hold the same call again.
    send(traces_told(model_call(2, 1, began=began)))
    drain()
    send(traces_told(model_call(3, 2, began=began), model_call(2, 1, began=began)))
    send(traces_told(span_told(1, began=began, ms=500)))
    drain()

    (run,) = Run.objects.all()
    assert run.input_tokens == 100
    (kept,) = OtlpRun.objects.all()
    assert (kept.span_id, kept.spans, kept.late_spans) == (f"{2:016x}", 1, 1)
    assert OtlpSpan.objects.count() == 3


def test_a_sweep_that_dies_leaves_nothing_half_done(
    send: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(traces_told(span_told(1), model_call(2, 1)))

    def dies(*_: Any, **__: Any) -> None:
        raise OperationalError("the server closed the connection")

    with monkeypatch.context() as broken:
        broken.setattr(sweep, "_runs_note", dies)
        with pytest.raises(OperationalError):
            drain()
    assert IngestBatch.objects.count() == 0

    drain()
    drain()
    assert Run.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_sweeps_beside_each_other_count_each_trace_once() -> None:
    workflow_made("support", "refunds")
    send = Sender()
    for trace in range(1, 61):
        send(traces_told(span_told(1, trace=trace), model_call(2, 1, trace=trace)))

    def work() -> None:
        try:
            drain()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    drain()

    assert Run.objects.count() == 60
    assert sum(batch.n_accepted for batch in IngestBatch.objects.all()) == 60


def test_a_trace_that_breaks_the_code_is_set_aside_and_the_others_go_on(
    send: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trace in (1, 2, 3):
        send(traces_told(model_call(2, trace=trace)))
    whole = trace_assemble

    def picky(spans: Any, **options: Any) -> Any:
        if spans[0].trace_id == f"{2:032x}":
            raise ValueError("odd")
        return whole(spans, **options)

    monkeypatch.setattr(sweep, "trace_assemble", picky)
    drain()

    assert Run.objects.count() == 2
    assert OtlpTrace.objects.get(trace_id=f"{2:032x}").error == "ValueError: odd"


def test_what_has_no_release_is_refused_with_the_reason(send: Sender) -> None:
    resource = {"service.name": "support"}
    send(traces_told(model_call(1), resource=resource))
    send(traces_told(model_call(1, trace=2, rollout__workflow="elsewhere"), resource=resource))
    drain()

    assert Run.objects.count() == 0
    since = timezone.now() - timedelta(hours=1)
    (refused,) = refused_read(workflows=["support"], since=since)
    assert "rollout.release" in refused.fault
    (unknown,) = refused_read(workflows=["elsewhere"], since=since)
    assert "There is no workflow 'elsewhere'" in unknown.fault


def test_a_token_limited_to_workflows_adds_to_no_other(send: Sender) -> None:
    workflow_made("claims", "review")
    limited = Sender(Workflow.objects.get(slug="claims"))
    limited(traces_told(model_call(1)))
    # The trace id of another's run, known from a header, say.
    send(traces_told(span_told(1, trace=2), model_call(2, 1, trace=2)))
    limited(traces_told(model_call(3, 1, trace=2)))
    drain()

    (run,) = Run.objects.all()
    assert (run.trace_id, run.input_tokens) == (f"{2:032x}", 100)


def test_spans_without_ai_work_are_no_run(send: Sender) -> None:
    send(traces_told(span_told(1, name="GET /healthz"), span_told(2, 1, name="select")))
    drain()
    assert OtlpRun.objects.count() == 0
    assert OtlpSpan.objects.count() == 2


def test_a_call_that_two_instrumentations_report_counts_once_and_is_told(send: Sender) -> None:
    began = timezone.now() - timedelta(minutes=1)
    outer = model_call(2, 1, began=began, at_ms=1, ms=98)
    inner = span_told(
        3,
        2,
        began=began,
        at_ms=2,
        ms=95,
        openinference__span__kind="LLM",
        llm__model_name="gpt-4o",
        llm__token_count__prompt=100,
        llm__token_count__completion=10,
    )
    send(traces_told(span_told(1, began=began), outer))
    send(traces_told(inner, scope="openinference"))
    drain()

    (run,) = Run.objects.all()
    assert (run.input_tokens, run.output_tokens, run.steps) == (100, 10, 1)
    (row,) = duplicates_read(workflows=["support"], since=began.date())
    assert (row.counted_scope, row.other_scope, row.calls) == ("openinference", "app", 1)
    assert "“app”" in row.hint


def test_an_evaluation_is_joined_by_its_span_or_by_the_response(send: Sender) -> None:
    now_ns = str(int(timezone.now().timestamp() * 1e9))

    def judged(name: str, label: str, **where: Any) -> dict[str, Any]:
        attributes = {
            "gen_ai.evaluation.name": name,
            "gen_ai.evaluation.score.label": label,
            "gen_ai.evaluation.explanation": "the customer's words",
        }
        extra = {"gen_ai.response.id": where.pop("response")} if "response" in where else {}
        return {
            "timeUnixNano": now_ns,
            "eventName": "gen_ai.evaluation.result",
            "attributes": told_attributes({**attributes, **extra}),
            **where,
        }

    logs = {
        "resourceLogs": [
            {
                "scopeLogs": [
                    {
                        "logRecords": [
                            judged("by span", "pass", traceId=f"{1:032x}", spanId=f"{2:016x}"),
                            judged("by response", "fail", response="chatcmpl-9"),
                            judged("of another", "pass", response="chatcmpl-unknown"),
                            judged("in words", "so-so", response="chatcmpl-9"),
                        ]
                    }
                ]
            }
        ]
    }
    event = {
        "name": "gen_ai.evaluation.result",
        "timeUnixNano": now_ns,
        "attributes": told_attributes(
            {"gen_ai.evaluation.name": "event", "gen_ai.evaluation.score.value": 0.75}
        ),
    }
    # Ahead of the run they are about, and sent twice.
    for _ in range(2):
        assert send(logs, path="/v1/logs") == b"{}"
    drain()
    assert KeptObservation.objects.count() == 0

    send(
        traces_told(
            span_told(1),
            model_call(2, 1, gen_ai__response__id="chatcmpl-9", events=[event]),
        )
    )
    drain()
    drain()

    (run,) = Run.objects.all()
    found = {
        row.name: (row.run_id, row.passed, row.score, row.state)
        for row in KeptObservation.objects.all()
    }
    assert found == {
        "by span": (run.run_id, True, None, 1),
        "by response": (run.run_id, False, None, 1),
        "event": (run.run_id, None, 0.75, 1),
    }
    states = dict(OtlpEvaluation.objects.values_list("name", "state"))
    assert states["of another"] == EvaluationState.WAITING
    assert states["in words"] == EvaluationState.REFUSED


@pytest.mark.django_db(transaction=True)
def test_what_is_kept_no_longer_goes_and_the_rest_stays(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_Round", type("_Round", (), {"due_at": float("-inf")}))
    workflow_made("support", "refunds")
    send = Sender()
    now = timezone.now()
    send(traces_told(model_call(1, began=now - timedelta(days=20))))
    send(traces_told(model_call(1, trace=2)))
    drain()
    assert Run.objects.count() == 2
    # A trace of three weeks ago is history: charts show it, guards never see it.
    assert sorted(IngestBatch.objects.values_list("backfill", flat=True)) == [False, True]

    settings.RUN_DAYS_KEPT = 10
    OtlpRun.objects.filter(trace_id=f"{1:032x}").update(assembled_at=now - timedelta(days=12))
    OtlpTrace.objects.filter(trace_id=f"{1:032x}").update(last_at=now - timedelta(days=12))
    assert retention.otlp_prune(now=now) == 3

    for kept in (OtlpSpan, OtlpRun, OtlpTrace):
        assert list(kept.objects.values_list("trace_id", flat=True)) == [f"{2:032x}"]
