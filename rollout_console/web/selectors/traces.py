"""The spans of a run's trace, as the page of the run shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from approvals.authority.principals import Principal
from rollout_console.core.errors import NotFound
from rollout_console.web.words import Shown
from signals.otlp.selectors import trace_document

SPANS_SHOWN: Final = 200
# OTLP's status codes; most spans that went well never say so.
_STATUS: Final = {
    0: Shown("Not said", "none", "none"),
    1: Shown("Ok", "ok", "ok"),
    2: Shown("Error", "breach", "breach"),
}


@dataclass(frozen=True, slots=True)
class SpanLine:
    """A span beneath its parent; `depth` is how far, and at most 5."""

    name: str
    depth: int
    scope: str
    started_at: datetime
    duration_ms: float
    shown: Shown
    attributes: list[tuple[str, str]]
    hidden: int


@dataclass(frozen=True, slots=True)
class TraceView:
    """The first spans of a trace, each after its parent, and how many there are."""

    trace_id: str
    lines: list[SpanLine]
    spans: int
    late_spans: int


def trace_view(trace_id: str | None, *, principal: Principal) -> TraceView | None:
    """Return the spans of a trace, None where none of it is kept or theirs to read."""
    if not trace_id:
        return None
    try:
        document = trace_document(trace_id=trace_id.lower(), principal=principal)
    except NotFound:
        return None
    lines = [_line(span, depth) for span, depth in _ordered(document["spans"])]
    return TraceView(
        trace_id=document["trace_id"],
        lines=lines[:SPANS_SHOWN],
        spans=len(lines),
        late_spans=sum(run["late_spans"] for run in document["runs"]),
    )


def _ordered(spans: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    """Return spans with their depth, each after its parent; those without one here first."""
    ids = {span["span_id"] for span in spans}
    children: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        parent = span["parent_id"] or ""
        parent = parent if parent in ids else ""
        children.setdefault(parent, []).append(span)
    found: list[tuple[dict[str, Any], int]] = []
    seen: set[str] = set()
    waiting = [(span, 0) for span in reversed(children.get("", []))]
    while waiting:
        span, depth = waiting.pop()
        if span["span_id"] in seen:
            continue
        seen.add(span["span_id"])
        found.append((span, depth))
        waiting += [(each, depth + 1) for each in reversed(children.get(span["span_id"], []))]
    # Spans that are each other's parents have no first one.
    return found + [(span, 0) for span in spans if span["span_id"] not in seen]


def _line(span: Mapping[str, Any], depth: int) -> SpanLine:
    return SpanLine(
        name=span["name"],
        depth=min(depth, 5),
        scope=span["scope"],
        started_at=span["started_at"],
        duration_ms=span["duration_ms"],
        shown=_STATUS.get(span["status"], _STATUS[0]),
        attributes=[(name, _text(value)) for name, value in sorted(span["attributes"].items())],
        hidden=len(span["hidden"]),
    )


def _text(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 300 else f"{text[:299]}…"
