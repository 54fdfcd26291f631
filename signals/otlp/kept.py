"""Spans read back as they were told, by trace."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from signals.otlp.models import OtlpLog, OtlpSource, OtlpSpan
from signals.otlp.spans import Source, Span

# More spans than a trace is put together from; such a one is kept and refused as a run.
SPANS_MAX = 10_000


def spans_of(trace_ids: Sequence[str]) -> dict[str, list[Span]]:
    """Return the kept spans of some traces, by trace, at most one more than `SPANS_MAX` of each."""
    rows = list(OtlpSpan.objects.filter(trace_id__in=trace_ids))
    sources = sources_of(row.source_id for row in rows)
    found: dict[str, list[Span]] = {}
    for row in rows:
        detail: dict[str, Any] = dict(row.detail)
        attributes = detail.pop("attributes", {})
        found.setdefault(row.trace_id, []).append(
            Span(
                trace_id=row.trace_id,
                span_id=row.span_id,
                parent_id=row.parent_id,
                name=row.name,
                kind=row.kind,
                start_ns=row.start_ns,
                end_ns=row.end_ns,
                status=row.status,
                source=sources[row.source_id],
                attributes=attributes,
                more=detail,
                reach=None if row.reach is None else frozenset(row.reach),
            )
        )
    return found


def sources_of(ids: Iterable[UUID]) -> dict[UUID, Source]:
    rows = OtlpSource.objects.filter(pk__in=set(ids))
    return {row.id: Source(row.id, row.resource, row.scope) for row in rows}


def tool_requests_of(trace_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many tools each span's answer asked for, as log records tell, by trace."""
    found: dict[str, dict[str, int]] = {}
    rows = OtlpLog.objects.filter(
        trace_id__in=trace_ids, tool_requests__gt=0, span_id__isnull=False
    ).values_list("trace_id", "span_id", "tool_requests")
    for trace_id, span_id, requests in rows:
        assert trace_id is not None
        assert span_id is not None
        of_trace = found.setdefault(trace_id, {})
        of_trace[span_id] = of_trace.get(span_id, 0) + requests
    return found


def run_roots(roots: Mapping[str, frozenset[str]]) -> dict[tuple[str, str], str]:
    """Return the root over each span of some traces, by (trace, span).

    Args:
        roots: ids of the spans that runs were made of, by trace.
    """
    parents: dict[str, dict[str, str | None]] = {}
    rows = OtlpSpan.objects.filter(trace_id__in=list(roots)).values_list(
        "trace_id", "span_id", "parent_id"
    )
    for trace_id, span_id, parent_id in rows:
        parents.setdefault(trace_id, {})[span_id] = parent_id
    found: dict[tuple[str, str], str] = {}
    for trace_id, of_trace in parents.items():
        for span_id in of_trace:
            at: str | None = span_id
            seen: set[str] = set()
            while at is not None and at not in roots[trace_id] and at not in seen:
                seen.add(at)
                at = of_trace.get(at)
            if at is not None and at in roots[trace_id]:
                found[trace_id, span_id] = at
    return found
