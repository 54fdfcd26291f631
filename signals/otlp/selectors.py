"""What came by OTLP: duplicates, runs refused and late, evaluations that wait, a trace's spans."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from django.db.models import Count, Max, Sum

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import NotFound
from signals.otlp.content import without_content
from signals.otlp.kept import sources_of, spans_of
from signals.otlp.models import (
    EvaluationState,
    OtlpDuplicate,
    OtlpEvaluation,
    OtlpLog,
    OtlpRun,
    PriceSheetVersion,
)
from signals.otlp.spans import Span, moment

FAULTS_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class DuplicateRow:
    """Calls that two instrumentations both reported. `hint` says what a mapping can leave out."""

    workflow: str
    counted_scope: str
    other_scope: str
    calls: int
    last_at: datetime
    hint: str


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """Roots of traces that are no runs, by what is wrong with them; the last as an example."""

    workflow: str
    fault: str
    runs: int
    last_at: datetime
    trace_id: str


@dataclass(frozen=True, slots=True)
class OtlpHealth:
    """How a workflow's spans fare since a time."""

    runs: int
    refused: int
    late_spans: int
    evaluations_waiting: int


def duplicates_read(*, workflow: str, since: date) -> list[DuplicateRow]:
    """Return what was reported twice from a day on, the most calls first."""
    rows = (
        OtlpDuplicate.objects.filter(workflow=workflow, day__gte=since)
        .values("counted_scope", "other_scope")
        .annotate(total=Sum("calls"), last=Max("last_at"))
        .order_by("-total", "counted_scope", "other_scope")
    )
    return [
        DuplicateRow(
            workflow=workflow,
            counted_scope=row["counted_scope"],
            other_scope=row["other_scope"],
            calls=row["total"],
            last_at=row["last"],
            hint=(
                f"Both report the same calls. Each counts once; to leave one out, put "
                f"{row['other_scope']!r} into `drop_scopes` of the workflow's mapping."
            ),
        )
        for row in rows
    ]


def refused_read(*, workflow: str, since: datetime) -> list[RefusedRow]:
    """Return why roots of traces were no runs since a time, the latest first."""
    rows = (
        OtlpRun.objects.filter(workflow=workflow, assembled_at__gte=since)
        .exclude(fault="")
        .values("fault")
        .annotate(runs=Count("run_id"), last=Max("assembled_at"), example=Max("trace_id"))
        .order_by("-last", "fault")[:FAULTS_SHOWN]
    )
    return [
        RefusedRow(workflow, row["fault"], row["runs"], row["last"], row["example"]) for row in rows
    ]


def health_read(*, workflow: str, since: datetime) -> OtlpHealth:
    """Return how many roots became runs since a time, and what went wrong with others."""
    roots = OtlpRun.objects.filter(workflow=workflow, assembled_at__gte=since)
    return OtlpHealth(
        runs=roots.filter(fault="").count(),
        refused=roots.exclude(fault="").count(),
        late_spans=roots.aggregate(n=Sum("late_spans"))["n"] or 0,
        evaluations_waiting=OtlpEvaluation.objects.filter(
            state=EvaluationState.WAITING, received_at__gte=since
        ).count(),
    )


def price_sheet_document() -> dict[str, Any]:
    """Return the price sheet in force, as put, and who put it when."""
    newest = PriceSheetVersion.objects.order_by("-id").first()
    if newest is None:
        return {"version": 0, "put_at": None, "put_by": "", "models": {}}
    return version_document(newest)


def span_mapping_document(*, workflow: Workflow) -> dict[str, Any]:
    """Return a workflow's rules for spans in force, as put, and who put them when."""
    newest = workflow.span_mapping_versions.order_by("-id").first()
    if newest is None:
        return {"version": 0, "put_at": None, "put_by": "", "rules": [], "drop_scopes": []}
    return {"rules": [], "drop_scopes": [], **version_document(newest)}


def version_document(version: Any) -> dict[str, Any]:
    return {
        "version": version.pk,
        "put_at": version.put_at,
        "put_by": version.put_by,
        **version.document,
    }


def trace_document(*, trace_id: str, principal: Principal) -> dict[str, Any]:
    """Return a trace's spans and log records for drill-down, without what people wrote.

    Raises:
        NotFound: nothing of it is kept, or its runs are not the caller's to read.
    """
    runs = list(OtlpRun.objects.filter(trace_id=trace_id).order_by("occurred_at", "span_id"))
    readable = {
        workflow.slug
        for workflow in Workflow.objects.filter(slug__in={run.workflow for run in runs})
        if principal.may(Verb.READ, workflow.pk)
    }
    spans = spans_of([trace_id]).get(trace_id, [])
    if not spans or not readable:
        raise NotFound(f"There is no trace {trace_id[:64]!r} for you to read.")
    spans.sort(key=lambda span: (span.start_ns, span.span_id))
    logs = list(OtlpLog.objects.filter(trace_id=trace_id).order_by("at", "digest"))
    sources = sources_of(log.source_id for log in logs)
    return {
        "trace_id": trace_id,
        "runs": [
            {
                "run_id": run.run_id,
                "workflow": run.workflow,
                "span_id": run.span_id,
                "occurred_at": run.occurred_at,
                "spans": run.spans,
                "late_spans": run.late_spans,
                "fault": run.fault or None,
            }
            for run in runs
            if run.workflow in readable
        ],
        "spans": [_span_document(span) for span in spans],
        "logs": [
            {
                "at": log.at,
                "event": log.event,
                "span_id": log.span_id,
                "severity": log.severity,
                "scope": sources[log.source_id].scope_name,
                **_shown(log.detail.get("attributes", {})),
            }
            for log in logs
        ],
    }


def _span_document(span: Span) -> dict[str, Any]:
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "name": span.name,
        "kind": span.kind,
        "started_at": span.started_at,
        "ended_at": moment(span.end_ns),
        "duration_ms": (span.end_ns - span.start_ns) / 1e6,
        "status": span.status,
        "scope": span.source.scope,
        "resource": span.source.resource.get("attributes", {}),
        **_shown(span.attributes),
        "events": [
            {"name": event["name"], "at": moment(event["time_ns"]), **_shown(event["attributes"])}
            for event in span.events()
        ],
        "links": span.more.get("links", []),
    }


def _shown(attributes: Any) -> dict[str, Any]:
    shown, hidden = without_content(attributes)
    return {"attributes": shown, "hidden": hidden}
