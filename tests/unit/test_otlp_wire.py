"""OTLP's JSON with its deviations, its answers in both encodings, and bodies weighed unread."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from signals.ingest.framing import MediaTypeUnsupported, TooLarge, Unreadable
from signals.otlp.values import plain
from signals.otlp.weigh import messages_count
from signals.otlp.wire import (
    LOGS,
    TRACES,
    Encoding,
    answer_encode,
    encoding_of,
    request_decode,
    status_encode,
)


def decoded(span: dict[str, Any]) -> Any:
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    request: Any = request_decode(TRACES, body, Encoding.JSON)
    return request.resource_spans[0].scope_spans[0].spans[0]


def test_json_is_read_as_the_protocol_deviates() -> None:
    span = decoded(
        {
            "traceId": "5B8EFFF798038103D269B633813FC60C",
            "spanId": "eee19b7ec3c1b174",
            "kind": 2,
            "startTimeUnixNano": "1544712660000000000",
            "endTimeUnixNano": 1544712661000000000,
            "trace_state": "snake_case is not a name here",
            "somethingNew": {"a": [1]},
            "name": None,
            "attributes": [
                {"key": "whole", "value": {"intValue": "9223372036854775807"}},
                {"key": "number", "value": {"intValue": 7}},
                {"key": "none", "value": {}},
                {"key": "nan", "value": {"doubleValue": "NaN"}},
                {"key": "bytes", "value": {"bytesValue": "AQI="}},
                {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": False}]}}},
                {"key": "empty", "value": {"kvlistValue": {}}},
            ],
        }
    )
    assert span.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert (span.kind, span.trace_state, span.name) == (2, "", "")
    assert span.start_time_unix_nano == 1544712660000000000
    assert span.end_time_unix_nano == 1544712661000000000
    assert {pair.key: plain(pair.value) for pair in span.attributes} == {
        "whole": 9223372036854775807,
        "number": 7,
        "none": None,
        "nan": {"double": "nan"},
        "bytes": {"bytes_base64": "AQI="},
        "list": [False],
        "empty": {},
    }


@pytest.mark.parametrize(
    ("span", "at"),
    [
        ({"traceId": "W47/95gDgQPSabYzgT/GDA=="}, "traceId"),
        ({"kind": "SPAN_KIND_SERVER"}, "kind"),
        ({"startTimeUnixNano": "-1"}, "startTimeUnixNano"),
        ({"startTimeUnixNano": 1.5}, "startTimeUnixNano"),
        ({"startTimeUnixNano": str(2**64)}, "startTimeUnixNano"),
        ({"attributes": {}}, "attributes"),
        ({"attributes": [{"key": 1}]}, "attributes/0/key"),
        ({"attributes": [{"key": "a", "value": {"boolValue": 1}}]}, "boolValue"),
    ],
)
def test_json_that_does_not_fit_is_pointed_at(span: dict[str, Any], at: str) -> None:
    with pytest.raises(Unreadable, match=at):
        decoded(span)


def test_json_nested_without_end_is_refused() -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    with pytest.raises(Unreadable, match="too deeply"):
        request_decode(TRACES, deep, Encoding.JSON)
    value: dict[str, Any] = {"intValue": 1}
    for _ in range(200):
        value = {"arrayValue": {"values": [value]}}
    with pytest.raises(Unreadable, match="too deeply"):
        decoded({"attributes": [{"key": "a", "value": value}]})


def test_an_answer_says_no_more_than_there_is_to_say() -> None:
    assert answer_encode(TRACES, Encoding.JSON, rejected=0, told="") == b"{}"
    assert answer_encode(TRACES, Encoding.PROTOBUF, rejected=0, told="") == b""
    assert json.loads(answer_encode(LOGS, Encoding.JSON, rejected=2, told="why")) == {
        "partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "why"}
    }
    response = ExportLogsServiceResponse.FromString(
        answer_encode(LOGS, Encoding.PROTOBUF, rejected=2, told="why")
    )
    assert MessageToDict(response)["partialSuccess"] == {
        "rejectedLogRecords": "2",
        "errorMessage": "why",
    }


@given(st.text(max_size=400))
def test_a_refusal_is_a_status_message(detail: str) -> None:
    # Field 2 of google.rpc.Status is text, as `string_value` would be with number 1.
    encoded = status_encode(Encoding.PROTOBUF, detail)
    assert AnyValue.FromString(b"\x0a" + encoded[1:]).string_value == detail
    assert json.loads(status_encode(Encoding.JSON, detail)) == {"message": detail}


def test_only_its_two_media_types_are_read() -> None:
    assert encoding_of("application/json; charset=utf-8") is Encoding.JSON
    assert encoding_of("Application/X-Protobuf") is Encoding.PROTOBUF
    for other in (None, "", "text/plain", "application/x-ndjson"):
        with pytest.raises(MediaTypeUnsupported):
            encoding_of(other)


def test_a_body_is_weighed_as_it_would_unfold() -> None:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="a").value.string_value = "x"
    scoped = group.scope_spans.add()
    scoped.scope.name = "app"
    for number in range(10):
        span = scoped.spans.add(name=f"span {number}", start_time_unix_nano=number)
        span.attributes.add(key="n").value.int_value = number
        span.events.add(name="seen")
    body = request.SerializeToString()
    # One group, its resource with an attribute and its value, one scoped group with its scope,
    # and ten times: a span, an attribute with its value, an event.
    assert messages_count(body, request) == 1 + 3 + 2 + 10 * 4
    assert messages_count(body, request, most=5) == 6
    assert messages_count(body[:50], request) <= 46


@given(st.binary(max_size=200))
def test_weighing_and_decoding_survive_any_bytes(body: bytes) -> None:
    messages_count(body, ExportTraceServiceRequest())
    try:
        request_decode(TRACES, body, Encoding.PROTOBUF)
        request_decode(TRACES, body, Encoding.JSON)
    except (Unreadable, TooLarge):
        pass
