"""Bodies that unmodified packages sent, posted as they were: runs and kept spans, nothing lost."""

import base64
import json
from collections import Counter
from datetime import datetime
from typing import Any

import pytest
import time_machine
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from approvals.authority.matrix import Scope
from rollout_console.api.bare.front import Front
from rollout_console.api.bare.routes import ROUTES
from signals.ingest.models import Run
from signals.ingest.rows import OUTCOMES
from signals.otlp.models import EvaluationState, OtlpEvaluation, OtlpLog, OtlpSource, OtlpSpan
from signals.points.models import MetricPointRow, PointSeries
from tests.bare import Caller, behind
from tests.factories import token
from tests.otlp import SETS, Recorded, drain, folder, recorded, workflow_made

pytestmark = pytest.mark.django_db

# A minute after the last of the sets was recorded.
RECORDED_AT = datetime.fromisoformat("2026-11-23T21:15:00+00:00")


def post(caller: Caller, secret: str, one: Recorded) -> bytes:
    headers = {f"HTTP_{name.upper().replace('-', '_')}": v for name, v in one.headers.items()}
    return caller(
        "POST",
        one.path,
        one.body,
        CONTENT_TYPE=headers.pop("HTTP_CONTENT_TYPE"),
        HTTP_AUTHORIZATION=f"Bearer {secret}",
        **headers,
    )


@pytest.mark.parametrize("name", SETS)
def test_a_recorded_set_becomes_the_runs_that_its_ledger_says(name: str) -> None:
    expected = json.loads((folder(name) / "expected.json").read_text())
    with time_machine.travel(RECORDED_AT, tick=False):
        workflow_made("support", "refunds", "refunds-action")
        secret, _ = token(Scope.INGEST)
        caller = Caller(Front(ROUTES, behind))
        for one in [*recorded(name)] * 2:
            answer = post(caller, secret, one)

            assert caller.code == 200, answer
            assert caller.headers["Content-Type"] == one.headers["Content-Type"]
            assert answer == (b"{}" if one.headers["Content-Type"].endswith("json") else b"")
        drain(RECORDED_AT)

    runs = Run.objects.all()
    tokens = expected.get("served", expected["raw_sum_over_spans"])
    assert len(runs) == expected["traces"]
    assert sum(run.input_tokens or 0 for run in runs) == tokens["input_tokens"]
    assert sum(run.output_tokens or 0 for run in runs) == tokens["output_tokens"]
    failed = [run for run in runs if run.outcome == OUTCOMES["error"]]
    assert Counter(run.failure_category for run in failed) == Counter(expected["error_types"])
    longest = max(run.latency_ms or 0 for run in runs)
    assert longest == pytest.approx(expected["longest_span_ms"], abs=0.05)
    models = Counter(str((run.attributes or {})["model_requested"]) for run in runs)
    assert models == Counter(
        {
            span.removeprefix("chat ").removeprefix("embeddings "): count
            for span, count in expected["names"].items()
            if span.startswith(("chat ", "embeddings "))
        }
    )
    assert sum(run.tool_calls or 0 for run in runs) == (1 if name.startswith("openai") else 0)


@pytest.mark.parametrize("name", SETS)
def test_a_recorded_set_is_kept_with_every_attribute(name: str) -> None:
    with time_machine.travel(RECORDED_AT, tick=False):
        workflow_made("support", "refunds", "refunds-action")
        secret, _ = token(Scope.INGEST)
        caller = Caller(Front(ROUTES, behind))
        for one in recorded(name):
            post(caller, secret, one)

    sources = {source.id: source for source in OtlpSource.objects.all()}
    kept = {
        span.span_id: (
            span.trace_id,
            span.parent_id,
            span.name,
            span.start_ns,
            span.end_ns,
            span.detail["attributes"],
            [(event["name"], event["attributes"]) for event in span.detail.get("events", [])],
            sources[span.source_id].resource["attributes"],
            sources[span.source_id].scope["name"],
        )
        for span in OtlpSpan.objects.all()
    }
    assert kept == {span["span_id"]: span["told"] for span in decoded_spans(name)}
    logs = Counter(OtlpLog.objects.values_list("event", flat=True))
    told = [*decoded_logs(name)]
    assert logs == Counter(log["eventName"] for log in told)
    bodies = sorted(json.dumps(log.detail["body"], sort_keys=True) for log in OtlpLog.objects.all())
    assert bodies == sorted(json.dumps(value(log.get("body", {})), sort_keys=True) for log in told)


@pytest.mark.parametrize("name", ["sdk-json", "sdk-proto"])
def test_a_recorded_evaluation_waits_for_the_response_it_is_about(name: str) -> None:
    with time_machine.travel(RECORDED_AT, tick=False):
        workflow_made("support", "refunds", "refunds-action")
        secret, _ = token(Scope.INGEST)
        caller = Caller(Front(ROUTES, behind))
        for one in recorded(name):
            post(caller, secret, one)

    (evaluation,) = OtlpEvaluation.objects.all()
    assert (evaluation.name, evaluation.score, evaluation.passed) == ("groundedness", 0.42, False)
    assert evaluation.response_id == "chatcmpl-1"
    assert evaluation.state == EvaluationState.WAITING


@pytest.mark.parametrize("name", SETS)
def test_recorded_metrics_add_up_to_what_was_sent(name: str) -> None:
    with time_machine.travel(RECORDED_AT, tick=False):
        workflow_made("support", "refunds", "refunds-action")
        secret, _ = token(Scope.INGEST)
        caller = Caller(Front(ROUTES, behind))
        for one in [*recorded(name)] * 2:
            answer = post(caller, secret, one)
            assert answer in (b"", b"{}"), answer

    names = {series.pk: series.name for series in PointSeries.objects.all()}
    kept: dict[str, list[float]] = {}
    buckets: Counter[tuple[str, str]] = Counter()
    for row in MetricPointRow.objects.all():
        counted = kept.setdefault(names[row.series_id], [0, 0.0])
        # Of a sum there is no count to compare.
        counted[0] += row.n if row.cnt is not None else 0
        counted[1] += row.total or 0
        bounds = row.bounds if row.bounds is not None else row.idx or []
        for at, count in zip([*bounds, "last"], row.cnt or [], strict=False):
            if count:
                buckets[names[row.series_id], f"{row.scale}:{at}"] += count
    expected, expected_buckets = sent_metrics(name)
    assert kept == {metric: pytest.approx(told) for metric, told in expected.items()}
    assert buckets == expected_buckets


# --- A decoder of our test's own: protobuf's JSON form, or the JSON as it is ---


def value(told: dict[str, Any]) -> Any:
    if not told:
        return None
    ((kind, inner),) = told.items()
    if kind == "arrayValue":
        return [value(one) for one in inner.get("values", [])]
    if kind == "kvlistValue":
        return attributes(inner.get("values", []))
    return int(inner) if kind == "intValue" else inner


def attributes(told: list[dict[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: value(pair.get("value", {})) for pair in told}


def decoded(name: str, path: str, message: Any) -> list[dict[str, Any]]:
    found = []
    for one in recorded(name):
        if one.path == path:
            if one.headers["Content-Type"].endswith("json"):
                found.append(json.loads(one.unpacked))
            else:
                parsed = message()
                parsed.ParseFromString(one.unpacked)
                found.append(MessageToDict(parsed))
    return found


def hexed(told: str, name: str) -> str:
    return told if name.endswith("json") else base64.b64decode(told).hex()


def decoded_spans(name: str) -> list[dict[str, Any]]:
    return [
        {
            "span_id": hexed(span["spanId"], name),
            "told": (
                hexed(span["traceId"], name),
                hexed(span["parentSpanId"], name) if "parentSpanId" in span else None,
                span["name"],
                int(span["startTimeUnixNano"]),
                int(span["endTimeUnixNano"]),
                attributes(span.get("attributes", [])),
                [
                    (event["name"], attributes(event["attributes"]))
                    for event in span.get("events", [])
                ],
                attributes(group["resource"]["attributes"]),
                scoped["scope"]["name"],
            ),
        }
        for request in decoded(name, "/v1/traces", ExportTraceServiceRequest)
        for group in request["resourceSpans"]
        for scoped in group["scopeSpans"]
        for span in scoped["spans"]
    ]


def decoded_logs(name: str) -> list[dict[str, Any]]:
    return [
        log
        for request in decoded(name, "/v1/logs", ExportLogsServiceRequest)
        for group in request["resourceLogs"]
        for scoped in group["scopeLogs"]
        for log in scoped["logRecords"]
    ]


def sent_metrics(name: str) -> tuple[dict[str, list[float]], Counter[tuple[str, str]]]:
    """Return count, sum and buckets by metric: deltas added up, of cumulative streams the last."""
    last: dict[str, tuple[str, dict[str, Any]]] = {}
    deltas: list[tuple[str, dict[str, Any]]] = []
    for request in decoded(name, "/v1/metrics", ExportMetricsServiceRequest):
        for group in request["resourceMetrics"]:
            for scoped in group["scopeMetrics"]:
                for metric in scoped["metrics"]:
                    kinds = ("sum", "gauge", "histogram", "exponentialHistogram")
                    (data,) = [metric[kind] for kind in kinds if kind in metric]
                    for point in data["dataPoints"]:
                        cumulative = str(data["aggregationTemporality"]) in (
                            "2",
                            "AGGREGATION_TEMPORALITY_CUMULATIVE",
                        )
                        if cumulative:
                            key = json.dumps([metric["name"], point["attributes"]])
                            last[key] = (metric["name"], point)
                        else:
                            deltas.append((metric["name"], point))
    sums: dict[str, list[float]] = {}
    buckets: Counter[tuple[str, str]] = Counter()
    for metric_name, point in [*deltas, *last.values()]:
        counted = sums.setdefault(metric_name, [0, 0.0])
        counted[0] += int(point.get("count", 0))
        counted[1] += float(point.get("sum", point.get("asInt", point.get("asDouble", 0))))
        if "positive" in point:
            offset = point["positive"].get("offset", 0)
            for number, count in enumerate(point["positive"]["bucketCounts"]):
                if int(count):
                    buckets[metric_name, f"{point['scale']}:{offset + number}"] += int(count)
        for at, count in zip(
            [*point.get("explicitBounds", []), "last"], point.get("bucketCounts", []), strict=False
        ):
            if int(count):
                buckets[metric_name, f"None:{at}"] += int(count)
    return sums, buckets
