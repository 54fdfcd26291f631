"""Keep the data points of OTLP's metrics as metric points, each once, before they are answered."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connection, transaction
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from approvals.authority.principals import Principal
from rollout_console.catalog.models import Segment, WorkflowPath
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE, ARM_UNKNOWN
from signals.ingest.drain import releases_ensure
from signals.ingest.services import backlog_check
from signals.otlp.aliases import facts_of
from signals.otlp.assemble import release_of, said_or_taken
from signals.otlp.catalogue import workflows_known
from signals.otlp.mapping import Known, Place, place_of
from signals.otlp.metrics import (
    Before,
    Told,
    added,
    delta_told,
    points_read,
    value_document,
    value_of,
)
from signals.otlp.models import OtlpCumulative
from signals.otlp.services import Kept
from signals.otlp.spans import RELEASE, Span, faults_told, moment
from signals.points.kinds import MetricPoint, Series, point_fault
from signals.points.services import points_store

SOURCE: Final = "otlp"


def metrics_store(
    *, request: ExportMetricsServiceRequest, principal: Principal, now: datetime
) -> Kept:
    """Keep a request's data points for the path that their resource or attributes name.

    Of a cumulative one what it adds is kept. One sent again changes nothing.

    Raises:
        BacklogFull: more waits to be drained than the setting allows.
    """
    backlog_check(now=now)
    told, faults = points_read(request)
    placed: list[tuple[Told, Span, Place]] = []
    workflows = {
        slug: known for slug, known in workflows_known().items() if principal.reaches(known.id)
    }
    for one in told:
        span = _as_span(one)
        place = place_of(span, facts=facts_of(one.attributes), ancestors=(), workflows=workflows)
        fault = _fault(place, workflows) or _value_fault(one)
        if place is None or fault:
            faults.append(str(fault))
        else:
            placed.append((one, span, place))
    with transaction.atomic():
        points = _points(_deltas(placed, now=now), workflows, now=now)
        receipt = points_store(points=points, now=now)
    faults += [refused.detail for refused in receipt.refused]
    return Kept(len(faults), faults_told(faults))


def _as_span(told: Told) -> Span:
    """Return a point in the shape that rules read: its attributes and its source."""
    return Span(
        trace_id="",
        span_id="",
        parent_id=None,
        name=told.name,
        kind=0,
        start_ns=told.time_ns,
        end_ns=told.time_ns,
        status=0,
        source=told.source,
        attributes=told.attributes,
    )


def _fault(place: Place | None, workflows: Mapping[str, Known]) -> str:
    if place is None:
        return "Nothing says which workflow a point belongs to: send `rollout.workflow`."
    if place.fault:
        return place.fault
    if place.path not in workflows[place.workflow].paths:
        return f"Workflow {place.workflow!r} has no path {str(place.path)[:100]!r}."
    return ""


def _value_fault(told: Told) -> str | None:
    """Return what is wrong with a value: before it is compared, which takes a sound one."""
    series = Series(0, 0, told.name, told.kind, SOURCE, told.unit)
    return point_fault(MetricPoint(series, moment(told.time_ns), told.value))


def _deltas(
    placed: Sequence[tuple[Told, Span, Place]], *, now: datetime
) -> list[tuple[Told, Span, Place]]:
    """Return the points with cumulative ones made into what they add, in order of their time."""
    streams = {one.stream() for one, _, _ in placed if one.cumulative}
    before = _before_lock(sorted(streams), now=now) if streams else {}
    found: list[tuple[Told, Span, Place]] = []
    for one, span, place in sorted(placed, key=lambda each: each[0].time_ns):
        if not one.cumulative:
            found.append((one, span, place))
            continue
        stream = one.stream()
        last = before[stream]
        if last is not None and one.time_ns <= last.time_ns:
            # Sent again, or overtaken by a later one that holds it already.
            continue
        new = added(one, last)
        value: Any = one.value
        before[stream] = Before(one.start_ns, one.time_ns, value)
        if new is not None:
            found.append((delta_told(one, new), span, place))
    OtlpCumulative.objects.bulk_update(
        [
            OtlpCumulative(
                stream=stream,
                start_ns=last.start_ns,
                time_ns=last.time_ns,
                value=value_document(last.value),
                seen_at=now,
            )
            for stream, last in before.items()
            if last is not None
        ],
        ["start_ns", "time_ns", "value", "seen_at"],
    )
    return found


def _before_lock(streams: Sequence[Any], *, now: datetime) -> dict[Any, Before | None]:
    """Lock the streams in one order, new ones made first, and return where each stands."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into otlp_cumulative (stream, start_ns, time_ns, value, seen_at)"
            " select stream, 0, 0, '{}', %s from unnest(%s::uuid[]) as stream order by stream"
            " on conflict do nothing",
            [now, list(streams)],
        )
    rows = OtlpCumulative.objects.select_for_update().filter(pk__in=streams).order_by("pk")
    return {
        row.stream: Before(row.start_ns, row.time_ns, value_of(row.value)) if row.time_ns else None
        for row in rows
    }


def _points(
    told: Sequence[tuple[Told, Span, Place]], workflows: Mapping[str, Known], *, now: datetime
) -> list[MetricPoint]:
    slugs = {place.workflow for _, _, place in told}
    paths = {
        (row.workflow.slug, row.slug): row
        for row in WorkflowPath.objects.select_related("workflow").filter(workflow__slug__in=slugs)
    }
    segments = {
        (slug, segment): pk
        for slug, segment, pk in Segment.objects.filter(workflow__slug__in=slugs).values_list(
            "workflow__slug", "slug", "pk"
        )
    }
    versions = [_release(span, place) for _, span, place in told]
    wanted = {
        (workflows[place.workflow].id, version)
        for version, (_, _, place) in zip(versions, told, strict=True)
        if version is not None
    }
    releases = releases_ensure(sorted(wanted), now=now)
    points: list[MetricPoint] = []
    for version, (one, span, place) in zip(versions, told, strict=True):
        path = paths[place.workflow, str(place.path)]
        release_id = 0 if version is None else releases[path.workflow_id, version]
        segment = said_or_taken("rollout.segment", "segment", span, (), place)
        points.append(
            MetricPoint(
                series=Series(
                    workflow_id=path.workflow_id,
                    path_id=path.pk,
                    name=one.name,
                    kind=one.kind,
                    source=SOURCE,
                    unit=one.unit,
                    segment_id=segments.get((place.workflow, segment or ""), 0),
                    release_id=release_id,
                    arm=_arm(path, release_id),
                ),
                at=moment(one.time_ns),
                value=one.value,
                stream=str(one.stream()),
            )
        )
    return points


def _release(span: Span, place: Place) -> str | None:
    version = release_of(span, (), place)
    # A point needs no release; one that is none is not known.
    return version if version is not None and RELEASE.fullmatch(version) else None


def _arm(path: WorkflowPath, release_id: int) -> int:
    if release_id == 0:
        return ARM_UNKNOWN
    if release_id == path.candidate_id:
        return ARM_CANDIDATE
    return ARM_STABLE if release_id == path.stable_id else ARM_UNKNOWN
