"""Price sheet, mapping and traces over the API; metrics sent again, or beside each other."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Release
from signals.ingest.models import Run
from signals.otlp.models import PriceSheetVersion
from signals.points.models import MetricPointRow, PointSeries
from tests.factories import token
from tests.integration.test_otlp_intake import Sender, send
from tests.otlp import (
    RESOURCE,
    drain,
    model_call,
    span_told,
    told_attributes,
    traces_told,
)

__all__ = ["send"]


def call(method: str, path: str, *scopes: Scope, body: Any = None) -> tuple[int, dict[str, Any]]:
    secret, _ = token(*scopes)
    answer = getattr(Client(), method)(
        f"/api/v1/{path}",
        *([] if body is None else [json.dumps(body)]),
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )
    return answer.status_code, answer.json()


def test_prices_are_put_once_audited_and_price_what_is_counted_from_then(send: Sender) -> None:
    sheet = {"models": {"gpt-4o": {"input": "0.0000025", "output": "0.00001"}}}
    send(traces_told(model_call(1)))
    drain()

    status, answer = call("put", "price-sheet", Scope.RELEASE, body=sheet)
    assert (status, answer["models"]) == (201, sheet["models"])
    assert call("put", "price-sheet", Scope.RELEASE, body=sheet)[0] == 200
    assert call("get", "price-sheet", Scope.READ)[1]["version"] == answer["version"]
    assert call("get", "price-sheet", Scope.INGEST)[0] == 403
    assert AuditEntry.objects.filter(action="price_sheet.put").count() == 1
    assert PriceSheetVersion.objects.count() == 1

    send(traces_told(model_call(1, trace=2)))
    drain()
    costs = dict(Run.objects.values_list("trace_id", "cost_usd"))
    assert costs == {f"{1:032x}": None, f"{2:032x}": pytest.approx(0.00035)}

    status, answer = call("put", "price-sheet", Scope.RELEASE, body={"models": {"a": {"in": 1}}})
    assert (status, answer["errors"][0]["pointer"]) == (400, "/models/a/in")


def test_a_mapping_is_put_once_audited_and_says_what_belongs_where(send: Sender) -> None:
    address = "workflows/support/otlp-mapping"
    assert call("get", address, Scope.RELEASE)[1]["rules"] == []
    mapping = {"rules": [{"match": {"service.name": "bot"}, "path": "refunds", "release": "3"}]}
    status, answer = call("put", address, Scope.RELEASE, body=mapping)
    assert (status, answer["rules"]) == (201, mapping["rules"])
    assert call("put", address, Scope.RELEASE, body=mapping)[0] == 200
    assert AuditEntry.objects.filter(action="span_mapping.put").count() == 1

    send(traces_told(model_call(1), resource={"service.name": "bot"}))
    drain()
    (run,) = Run.objects.all()
    assert Release.objects.get(pk=run.release_id).version == "3"

    bad = {"rules": [{"match": {"scope": "x"}, "path": "nowhere"}]}
    status, answer = call("put", address, Scope.RELEASE, body=bad)
    assert (status, answer["errors"][0]["pointer"]) == (400, "/rules/0/path")


def test_a_trace_is_shown_without_what_people_wrote(send: Sender) -> None:
    secret_words = "my card is 4711"
    send(
        traces_told(
            span_told(1, name="answer", odd__attribute=[1, "two"]),
            model_call(2, 1, **{"gen_ai__prompt__0__content": secret_words}),
        )
    )
    choice = {
        "timeUnixNano": str(int(timezone.now().timestamp() * 1e9)),
        "eventName": "gen_ai.choice",
        "traceId": f"{1:032x}",
        "spanId": f"{2:016x}",
        "body": {"stringValue": secret_words},
    }
    send({"resourceLogs": [{"scopeLogs": [{"logRecords": [choice]}]}]}, path="/v1/logs")
    drain()

    status, trace = call("get", f"traces/{1:032x}", Scope.READ)

    assert status == 200
    assert secret_words not in json.dumps(trace)
    assert [span["name"] for span in trace["spans"]] == ["answer", "work"]
    assert trace["spans"][0]["attributes"]["odd.attribute"] == [1, "two"]
    assert trace["spans"][1]["hidden"] == ["gen_ai.prompt.0.content"]
    assert trace["runs"][0]["run_id"] == f"{1:032x}-{1:016x}"
    assert trace["logs"][0]["event"] == "gen_ai.choice"
    assert call("get", f"traces/{2:032x}", Scope.READ)[0] == 404


def counter(value: int, *, at_s: int, start_s: int = -600, **attributes: Any) -> dict[str, Any]:
    now = timezone.now() - timedelta(minutes=30)
    point = {
        "startTimeUnixNano": str(int((now + timedelta(seconds=start_s)).timestamp()) * 10**9),
        "timeUnixNano": str(int((now + timedelta(seconds=at_s)).timestamp()) * 10**9),
        "asInt": str(value),
        "attributes": told_attributes(attributes),
    }
    metric = {
        "name": "tokens",
        "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]},
    }
    resource = {"attributes": told_attributes(RESOURCE)}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}


def test_cumulative_points_add_up_through_retries_and_a_restart(send: Sender) -> None:
    sent = [
        counter(100, at_s=0),
        counter(100, at_s=0),
        counter(130, at_s=10),
        # Overtaken by the one before, which holds it already.
        counter(120, at_s=5),
        # The sender began again.
        counter(7, at_s=30, start_s=20),
        # Another stream of the same series.
        counter(1000, at_s=30, model="other"),
    ]
    for request in sent:
        assert send(request, path="/v1/metrics") == b"{}"

    (series,) = PointSeries.objects.all()
    assert (series.name, series.kind, series.source) == ("tokens", "sum", "otlp")
    totals = sorted(row.total or 0 for row in MetricPointRow.objects.all())
    assert totals == [7, 30, 100, 1000]


def test_points_without_a_place_or_a_number_are_told(send: Sender) -> None:
    request = counter(1, at_s=0)
    request["resourceMetrics"][0]["resource"]["attributes"] = []
    answer = json.loads(send(request, path="/v1/metrics"))["partialSuccess"]
    assert answer["rejectedDataPoints"] == "1"
    assert "rollout.workflow" in answer["errorMessage"]

    request = counter(1, at_s=0)
    (metric,) = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    (point,) = metric["sum"]["dataPoints"]
    point["asDouble"] = "NaN"
    point.pop("asInt")
    answer = json.loads(send(request, path="/v1/metrics"))["partialSuccess"]
    assert answer["rejectedDataPoints"] == "1"
    assert send.code == 200
    assert MetricPointRow.objects.count() == 0
