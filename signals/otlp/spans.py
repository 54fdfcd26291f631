"""What one span and one log record are, and what is said of one that cannot be kept. Pure."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from signals.otlp.values import attributes_plain, plain, text_clean

TRACE_BYTES: Final = 16
RELEASE: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
SPAN_BYTES: Final = 8
STATUS_ERROR: Final = 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Past this no datetime exists.
LAST_NS: Final = 253_402_300_799 * 10**9


class Refused(Exception):
    """Carries the sentence of what is wrong with a span or record."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where spans come from: a resource and an instrumentation scope, as told."""

    id: UUID
    resource: dict[str, Any]
    scope: dict[str, Any]

    @property
    def scope_name(self) -> str:
        return str(self.scope.get("name", ""))


@dataclass(frozen=True, slots=True)
class Span:
    """A span as kept. `parent_id` is None for a trace's own root; times are nanoseconds."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    source: Source
    attributes: Mapping[str, Any] = field(default_factory=dict)
    # Events, links, the status's message and what was dropped: whatever else was told.
    more: Mapping[str, Any] = field(default_factory=dict)
    # The workflows that the token may report for; None is all.
    reach: frozenset[int] | None = None

    @property
    def started_at(self) -> datetime:
        return moment(self.start_ns)

    def events(self) -> list[Mapping[str, Any]]:
        return list(self.more.get("events", ()))


@dataclass(frozen=True, slots=True)
class Log:
    """A log record as kept; `digest` tells a repeated one."""

    digest: UUID
    at: datetime
    trace_id: str | None
    span_id: str | None
    event: str
    severity: int
    source: Source
    attributes: Mapping[str, Any]
    body: Any
    more: Mapping[str, Any]


def moment(nanoseconds: int) -> datetime:
    """Return the time, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=min(nanoseconds, LAST_NS) // 1000)


def spans_read(
    request: ExportTraceServiceRequest, *, earliest: datetime, latest: datetime
) -> tuple[list[Span], list[str]]:
    """Return the spans that can be kept, and what is wrong with each of the others."""
    spans: list[Span] = []
    faults: list[str] = []
    for group in request.resource_spans:
        for scoped in group.scope_spans:
            source = source_of(group.resource, group.schema_url, scoped.scope, scoped.schema_url)
            for told in scoped.spans:
                try:
                    spans.append(_span(told, source, earliest, latest))
                except Refused as refused:
                    faults.append(str(refused))
    return spans, faults


def logs_read(
    request: ExportLogsServiceRequest, *, earliest: datetime, latest: datetime
) -> tuple[list[Log], list[str]]:
    """Return the log records that can be kept, and what is wrong with each of the others."""
    logs: list[Log] = []
    faults: list[str] = []
    for group in request.resource_logs:
        for scoped in group.scope_logs:
            source = source_of(group.resource, group.schema_url, scoped.scope, scoped.schema_url)
            for told in scoped.log_records:
                try:
                    logs.append(_log(told, source, earliest, latest))
                except Refused as refused:
                    faults.append(str(refused))
    return logs, faults


def faults_told(faults: list[str], *, most: int = 5) -> str:
    """Return one message of what was not taken: each sentence once, the first few."""
    told = [
        f"{sentence} ({n} times)" if n > 1 else sentence for sentence, n in Counter(faults).items()
    ]
    more = f" And {len(told) - most} more kinds." if len(told) > most else ""
    return " ".join(told[:most]) + more


def digest_of(*parts: Any) -> UUID:
    """Return 16 bytes of BLAKE2b over JSON values, whatever order their members came in."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest())


def source_of(
    resource: Resource, resource_schema: str, scope: InstrumentationScope, scope_schema: str
) -> Source:
    of_resource: dict[str, Any] = {"attributes": attributes_plain(resource.attributes)}
    of_scope: dict[str, Any] = {"name": text_clean(scope.name)}
    if scope.version:
        of_scope["version"] = text_clean(scope.version)
    if scope.attributes:
        of_scope["attributes"] = attributes_plain(scope.attributes)
    for told, kept in ((resource_schema, of_resource), (scope_schema, of_scope)):
        if told:
            kept["schema_url"] = text_clean(told)
    for counted, kept in ((resource, of_resource), (scope, of_scope)):
        if counted.dropped_attributes_count:
            kept["dropped_attributes_count"] = counted.dropped_attributes_count
    return Source(digest_of(of_resource, of_scope), of_resource, of_scope)


def _span(told: WireSpan, source: Source, earliest: datetime, latest: datetime) -> Span:
    trace_id = _id(told.trace_id, TRACE_BYTES, "trace id")
    span_id = _id(told.span_id, SPAN_BYTES, "span id")
    parent = told.parent_span_id
    # Eight zero bytes are how some senders say: none.
    parent_id = _id(parent, SPAN_BYTES, "parent span id") if any(parent) else None
    start_ns, end_ns = told.start_time_unix_nano, told.end_time_unix_nano
    _time_check(start_ns, "A span's start", earliest, latest)
    if not start_ns <= end_ns <= LAST_NS:
        raise Refused("A span must not end before it starts.")
    more: dict[str, Any] = {}
    if told.events:
        more["events"] = [
            {
                "name": text_clean(event.name),
                "time_ns": event.time_unix_nano,
                "attributes": attributes_plain(event.attributes),
                **_counts(event, "dropped_attributes_count"),
            }
            for event in told.events
        ]
    if told.links:
        more["links"] = [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "trace_state": text_clean(link.trace_state),
                "attributes": attributes_plain(link.attributes),
                **_counts(link, "dropped_attributes_count", "flags"),
            }
            for link in told.links
        ]
    if told.status.message:
        more["status_message"] = text_clean(told.status.message)
    if told.trace_state:
        more["trace_state"] = text_clean(told.trace_state)
    more |= _counts(
        told, "flags", "dropped_attributes_count", "dropped_events_count", "dropped_links_count"
    )
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=text_clean(told.name),
        kind=told.kind,
        start_ns=start_ns,
        end_ns=end_ns,
        status=told.status.code,
        source=source,
        attributes=attributes_plain(told.attributes),
        more=more,
    )


def _log(told: LogRecord, source: Source, earliest: datetime, latest: datetime) -> Log:
    # Where the event's own time is not known, the protocol says to use when it was seen.
    time_ns = told.time_unix_nano or told.observed_time_unix_nano
    _time_check(time_ns, "A log record's time", earliest, latest)
    # Ids are optional here, and ones that are none are as good as not sent.
    trace_id = told.trace_id.hex() if _is_id(told.trace_id, TRACE_BYTES) else None
    span_id = told.span_id.hex() if trace_id and _is_id(told.span_id, SPAN_BYTES) else None
    attributes = attributes_plain(told.attributes)
    event = text_clean(told.event_name) or str(attributes.get("event.name", ""))
    body = plain(told.body)
    more: dict[str, Any] = _counts(
        told, "time_unix_nano", "observed_time_unix_nano", "flags", "dropped_attributes_count"
    )
    if told.severity_text:
        more["severity_text"] = text_clean(told.severity_text)
    severity = told.severity_number
    digest = digest_of(str(source.id), trace_id, span_id, event, severity, attributes, body, more)
    return Log(
        digest, moment(time_ns), trace_id, span_id, event, severity, source, attributes, body, more
    )


def _counts(told: Any, *names: str) -> dict[str, int]:
    return {name: value for name in names if (value := getattr(told, name))}


def _is_id(octets: bytes, size: int) -> bool:
    return len(octets) == size and any(octets)


def _id(octets: bytes, size: int, what: str) -> str:
    if not _is_id(octets, size):
        raise Refused(f"A {what} has {size} bytes, not all of them zero.")
    return octets.hex()


def _time_check(time_ns: int, what: str, earliest: datetime, latest: datetime) -> None:
    if not 0 < time_ns <= LAST_NS or not earliest <= moment(time_ns) <= latest:
        raise Refused(
            f"{what} must lie between {earliest:%Y-%m-%dT%H:%M:%SZ} and "
            f"{latest:%Y-%m-%dT%H:%M:%SZ}, in nanoseconds since 1970."
        )
