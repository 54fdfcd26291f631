"""Keep what OTLP requests carry, each span and record once, before they are answered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import connection, transaction
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from approvals.authority.principals import Principal
from signals.ingest.runs import FARTHEST_AHEAD
from signals.ingest.services import backlog_check
from signals.otlp import evaluations
from signals.otlp.aliases import content_tool_requests, facts_of
from signals.otlp.evaluations import Evaluation
from signals.otlp.models import EvaluationState
from signals.otlp.spans import Log, Source, Span, faults_told, logs_read, spans_read

CHOICE: Final = "gen_ai.choice"
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a request: how much of it was not taken, and what is said of that."""

    rejected: int = 0
    told: str = ""


def spans_store(*, request: ExportTraceServiceRequest, principal: Principal, now: datetime) -> Kept:
    """Keep the spans of a request and have their traces looked at once they are quiet.

    A span sent again changes nothing.

    Raises:
        BacklogFull: more waits to be drained than the setting allows.
    """
    backlog_check(now=now)
    spans, faults = spans_read(request, **_bounds(now))
    if spans:
        with transaction.atomic():
            _sources_keep((span.source for span in spans), now=now)
            _days_ensure("otlp_span", (span.started_at for span in spans))
            traces = _spans_keep(spans, principal=principal, now=now)
            _traces_note(traces, now=now)
            _evaluations_keep(evaluations.of_spans(spans), principal=principal, now=now)
    return Kept(len(faults), faults_told(faults))


def logs_store(*, request: ExportLogsServiceRequest, principal: Principal, now: datetime) -> Kept:
    """Keep the log records of a request, and the evaluations among them until their run is found.

    Raises:
        BacklogFull: more waits to be drained than the setting allows.
    """
    backlog_check(now=now)
    logs, faults = logs_read(request, **_bounds(now))
    if logs:
        with transaction.atomic():
            _sources_keep((log.source for log in logs), now=now)
            _days_ensure("otlp_log", (log.at for log in logs))
            # What an answer asked for may still come into the run that is being put together.
            _traces_note(_logs_keep(logs, now=now), now=now)
            _evaluations_keep(evaluations.of_logs(logs), principal=principal, now=now)
    return Kept(len(faults), faults_told(faults))


def _bounds(now: datetime) -> dict[str, datetime]:
    keep = timedelta(days=settings.RUN_DAYS_KEPT)
    return {"earliest": now - keep, "latest": now + FARTHEST_AHEAD}


def _sources_keep(sources: Iterable[Source], *, now: datetime) -> None:
    distinct = {source.id: source for source in sources}
    rows = [distinct[key] for key in sorted(distinct)]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            insert into otlp_source (id, resource, scope, first_seen_at)
            select id, resource::jsonb, scope::jsonb, %s
            from unnest(%s::uuid[], %s::text[], %s::text[]) as told (id, resource, scope)
            on conflict do nothing
            """,
            [
                now,
                [row.id for row in rows],
                [_json(row.resource) for row in rows],
                [_json(row.scope) for row in rows],
            ],
        )


def _days_ensure(parent: str, times: Iterable[datetime]) -> None:
    days = sorted({time.astimezone(UTC).date() for time in times})
    with connection.cursor() as cursor:
        cursor.execute(
            "select otlp_day_ensure(%s, day) from unnest(%s::date[]) as day order by day",
            [parent, days],
        )


def _spans_keep(spans: Sequence[Span], *, principal: Principal, now: datetime) -> list[str]:
    """Insert what is new, in the order of its key; return the traces that have something new."""
    ordered = sorted(spans, key=lambda span: (span.trace_id, span.span_id, span.start_ns))
    with connection.cursor() as cursor:
        cursor.execute(
            """
            with fresh as (
                insert into otlp_span (
                    started_at, received_at, start_ns, end_ns, source_id, kind, status, trace_id,
                    span_id, parent_id, name, response_id, reach, detail
                )
                select started_at, %s, start_ns, end_ns, source_id, kind, status, trace_id,
                    span_id, parent_id, name, response_id, %s::jsonb, detail::jsonb
                from unnest(
                    %s::timestamptz[], %s::bigint[], %s::bigint[], %s::uuid[], %s::smallint[],
                    %s::smallint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                    %s::text[]
                ) as told (
                    started_at, start_ns, end_ns, source_id, kind, status, trace_id, span_id,
                    parent_id, name, response_id, detail
                )
                on conflict do nothing
                returning trace_id
            )
            select distinct trace_id from fresh
            """,
            [
                now,
                _reach(principal),
                [span.started_at for span in ordered],
                [span.start_ns for span in ordered],
                [span.end_ns for span in ordered],
                [span.source.id for span in ordered],
                [_small(span.kind) for span in ordered],
                [_small(span.status) for span in ordered],
                [span.trace_id for span in ordered],
                [span.span_id for span in ordered],
                [span.parent_id for span in ordered],
                [span.name for span in ordered],
                [facts_of(span.attributes).response_id for span in ordered],
                [_json({"attributes": span.attributes, **span.more}) for span in ordered],
            ],
        )
        return [trace_id for (trace_id,) in cursor.fetchall()]


def _logs_keep(logs: Sequence[Log], *, now: datetime) -> list[str]:
    """Insert what is new; return the traces whose tool calls it tells of."""
    ordered = sorted(logs, key=lambda log: (log.digest, log.at))
    with connection.cursor() as cursor:
        cursor.execute(
            """
            with fresh as (
                insert into otlp_log (
                    at, received_at, digest, source_id, tool_requests, severity, event, trace_id,
                    span_id, detail
                )
                select at, %s, digest, source_id, tool_requests, severity, event, trace_id,
                    span_id, detail::jsonb
                from unnest(
                    %s::timestamptz[], %s::uuid[], %s::uuid[], %s::integer[], %s::smallint[],
                    %s::text[], %s::text[], %s::text[], %s::text[]
                ) as told (
                    at, digest, source_id, tool_requests, severity, event, trace_id, span_id,
                    detail
                )
                on conflict do nothing
                returning trace_id, tool_requests
            )
            select distinct trace_id from fresh where tool_requests > 0 and trace_id is not null
            """,
            [
                now,
                [log.at for log in ordered],
                [log.digest for log in ordered],
                [log.source.id for log in ordered],
                [content_tool_requests(log.body) if log.event == CHOICE else 0 for log in ordered],
                [_small(log.severity) for log in ordered],
                [log.event for log in ordered],
                [log.trace_id for log in ordered],
                [log.span_id for log in ordered],
                [
                    _json({"attributes": log.attributes, "body": log.body, **log.more})
                    for log in ordered
                ],
            ],
        )
        return [trace_id for (trace_id,) in cursor.fetchall()]


def _traces_note(trace_ids: Iterable[str], *, now: datetime) -> None:
    """Have the traces looked at once nothing more came for a while, but not later than the most."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            insert into otlp_trace (trace_id, first_at, last_at, due_at)
            select trace_id, %(now)s, %(now)s, %(now)s + make_interval(secs => %(settle)s)
            from unnest(%(traces)s::text[]) as trace_id order by trace_id
            on conflict (trace_id) do update set
                last_at = excluded.last_at,
                due_at = case
                    when otlp_trace.due_at is null then excluded.due_at
                    else least(
                        excluded.due_at,
                        greatest(
                            otlp_trace.first_at + make_interval(secs => %(most)s),
                            excluded.last_at
                        )
                    )
                end
            """,
            {
                "now": now,
                "settle": settings.OTLP_SETTLE_S,
                "most": settings.OTLP_SETTLE_MAX_S,
                "traces": sorted(trace_ids),
            },
        )


def _evaluations_keep(found: Sequence[Evaluation], *, principal: Principal, now: datetime) -> None:
    if not found:
        return
    ordered = sorted(found, key=lambda one: one.digest)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            insert into otlp_evaluation (
                digest, received_at, occurred_at, trace_id, span_id, response_id, reach, name,
                score, passed, state, look_at, fault
            )
            select digest, %s, occurred_at, trace_id, span_id, response_id, %s::jsonb, name,
                score, passed, case when fault = '' then %s else %s end, %s, fault
            from unnest(
                %s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[],
                %s::float8[], %s::boolean[], %s::text[]
            ) as told (
                digest, occurred_at, trace_id, span_id, response_id, name, score, passed, fault
            )
            on conflict do nothing
            """,
            [
                now,
                _reach(principal),
                EvaluationState.WAITING,
                EvaluationState.REFUSED,
                now,
                [one.digest for one in ordered],
                [one.occurred_at for one in ordered],
                [one.trace_id for one in ordered],
                [one.span_id for one in ordered],
                [one.response_id for one in ordered],
                [one.name for one in ordered],
                [one.score for one in ordered],
                [one.passed for one in ordered],
                [one.fault for one in ordered],
            ],
        )


def _reach(principal: Principal) -> str | None:
    limited = principal.workflow_ids
    return None if limited is None else _json(sorted(limited))


def _json(value: Any) -> str:
    return _encode(value).decode()


def _small(number: int) -> int:
    """Return a number that its sender chose, as far as the column holds it."""
    return max(-32768, min(32767, number))
