"""OTLP requests and answers as bytes, in either of its two encodings. Pure."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from signals.ingest.framing import MediaTypeUnsupported, TooLarge, Unreadable
from signals.otlp.json_messages import message_fill
from signals.otlp.weigh import MOST_MESSAGES, messages_count

# As the protocol's specification recommends; of what a request holds unpacked.
MAX_UNPACKED: Final = 64 * 1024 * 1024
# Smaller bodies cannot hold enough to hurt, so they are not weighed first.
WEIGHED_FROM: Final = 4 * 1024 * 1024


class Encoding(StrEnum):
    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Signal:
    """One of the three things a request may carry."""

    request: type[Message]
    response: type[Message]
    # The response's count of what was not taken, in protobuf's and in JSON's spelling.
    rejected: str
    rejected_json: str


TRACES: Final = Signal(
    ExportTraceServiceRequest, ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"
)
METRICS: Final = Signal(
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
    "rejected_data_points",
    "rejectedDataPoints",
)
LOGS: Final = Signal(
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
    "rejected_log_records",
    "rejectedLogRecords",
)


def encoding_of(content_type: str | None) -> Encoding:
    """Return how a request is encoded.

    Raises:
        MediaTypeUnsupported: it is neither of OTLP's two.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    try:
        return Encoding(media_type)
    except ValueError as error:
        takes = [str(encoding) for encoding in Encoding]
        raise MediaTypeUnsupported(
            f"Content-Type {media_type!r} is not read here; send {' or '.join(takes)}.",
            takes=takes,
        ) from error


def request_decode(signal: Signal, body: bytes, encoding: Encoding) -> Message:
    """Return the request that an unpacked body holds; unknown fields are passed over.

    Raises:
        Unreadable: it is not such a request.
        TooLarge: it holds more messages than a process could bear to unfold.
    """
    message = signal.request()
    if encoding is Encoding.PROTOBUF:
        if len(body) >= WEIGHED_FROM and messages_count(body, message) > MOST_MESSAGES:
            raise _too_many()
        try:
            message.ParseFromString(body)
        except DecodeError as error:
            raise Unreadable(
                f"The body is no {message.DESCRIPTOR.name} in protobuf's encoding."
            ) from error
        return message
    if len(body) >= WEIGHED_FROM and body.count(b"{") + body.count(b",") > 4 * MOST_MESSAGES:
        raise _too_many()
    message_fill(message, _json(body))
    return message


def answer_encode(signal: Signal, encoding: Encoding, *, rejected: int, told: str) -> bytes:
    """Return a success; `partialSuccess` is set only where something was rejected or is told."""
    if encoding is Encoding.JSON:
        if not rejected and not told:
            return b"{}"
        partial: dict[str, Any] = {"errorMessage": told}
        if rejected:
            partial = {signal.rejected_json: str(rejected), **partial}
        return json.dumps({"partialSuccess": partial}).encode()
    response: Any = signal.response()
    if rejected or told:
        setattr(response.partial_success, signal.rejected, rejected)
        response.partial_success.error_message = told
    return bytes(response.SerializeToString())


def status_encode(encoding: Encoding, detail: str) -> bytes:
    """Return a refusal as google.rpc.Status with a message; its `code` is not used by OTLP."""
    if encoding is Encoding.JSON:
        return json.dumps({"message": detail}).encode()
    text = detail.encode()
    # Field 2, length-delimited: the message's only set field.
    return b"\x12" + _varint(len(text)) + text


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _json(body: bytes) -> Any:
    def refuse(name: str) -> None:
        raise Unreadable(f"The body is not JSON: {name} is no number; send it as text.")

    try:
        return json.loads(body.decode(), parse_constant=refuse)
    except UnicodeDecodeError as error:
        raise Unreadable(f"The body is not UTF-8 at byte {error.start}.") from error
    except RecursionError as error:
        raise Unreadable("The JSON is nested too deeply.") from error
    except ValueError as error:
        raise Unreadable(f"The body is not JSON: {error}.") from error


def _too_many() -> TooLarge:
    return TooLarge(
        f"A request holds at most {MOST_MESSAGES:,} messages, attributes counted; send fewer "
        "spans, points or records at a time."
    )
