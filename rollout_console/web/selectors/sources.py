"""What the sources page shows: by workflow and path, each number with its window and age."""

from dataclasses import dataclass
from datetime import datetime

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal
from rollout_console.catalog.models import WorkflowPath
from rollout_console.web.selectors.shell import readable_workflows
from rollout_console.web.words import SOURCES, Shown
from signals.format import MISSING
from signals.ingest.source_reads import (
    DAY,
    Queue,
    Rejected,
    SourceRow,
    WorkflowNotes,
    notes_read,
    queue_read,
    rejected_read,
    source_rows,
    source_state,
)
from signals.points.selectors import PointName, point_names

_KINDS = {"runs": "runs", "observations": "observations"}


@dataclass(frozen=True, slots=True)
class SourceLine:
    row: SourceRow
    kind: str
    shown: Shown


@dataclass(frozen=True, slots=True)
class PathSources:
    """A path with what reports to it; the one without a slug takes a workflow's observations."""

    slug: str
    name: str
    lines: list[SourceLine]
    clients: list[str]
    unknown_segments: dict[str, int]


@dataclass(frozen=True, slots=True)
class MetricLine:
    """What is stored under one name on a path, from one source; `n` of the last 24 h."""

    path: str
    point: PointName
    value: str
    shown: Shown


@dataclass(frozen=True, slots=True)
class WorkflowSources:
    slug: str
    name: str
    paths: list[PathSources]
    notes: WorkflowNotes
    metrics: list[MetricLine]


@dataclass(frozen=True, slots=True)
class SourcesView:
    queue: Queue
    workflows: list[WorkflowSources]
    rejected: Rejected
    never: Shown


def sources_view(*, principal: Principal, now: datetime) -> SourcesView:
    """Return what reports to the workflows that `principal` may read."""
    workflows = readable_workflows(principal)
    ids = list(workflows)
    lines: dict[tuple[int, int], list[SourceLine]] = {}
    for row in source_rows(workflow_ids=ids, now=now):
        kind = f"{_KINDS.get(row.kind, row.kind)}{' of the past' if row.state == 'history' else ''}"
        lines.setdefault((row.workflow_id, row.path_id), []).append(
            SourceLine(row, kind, SOURCES[row.state])
        )
    notes = notes_read(workflow_ids=ids, now=now)
    paths: dict[int, list[PathSources]] = {pk: [] for pk in ids}
    found = list(WorkflowPath.objects.filter(workflow__in=ids).order_by("slug"))
    for path in found:
        of = notes[path.workflow_id]
        paths[path.workflow_id].append(
            PathSources(
                slug=path.slug,
                name=path.name,
                lines=lines.get((path.workflow_id, path.pk), []),
                clients=of.clients.get(path.pk, []),
                unknown_segments=of.unknown_segments.get(path.pk, {}),
            )
        )
    for pk in ids:
        if (pk, 0) in lines:
            paths[pk].append(PathSources("", "any path", lines[pk, 0], [], {}))
    names = {path.pk: path.name for path in found}
    metrics: dict[int, list[MetricLine]] = {pk: [] for pk in ids}
    for point in point_names(workflow_ids=ids, since=now - DAY, until=now):
        state = source_state(last_received_at=point.arrived_at, backfill=False, now=now)
        metrics[point.workflow_id].append(
            MetricLine(
                path=names.get(point.path_id, "any path"),
                point=point,
                value=MISSING if point.value is None else f"{point.value:,.6g}",
                shown=SOURCES[state],
            )
        )
    return SourcesView(
        queue=queue_read(),
        workflows=[
            WorkflowSources(row.slug, row.name, paths[pk], notes[pk], metrics[pk])
            for pk, row in sorted(workflows.items(), key=lambda item: (item[1].name, item[0]))
        ],
        rejected=rejected_read(
            workflow_ids=ids, all_of_them=principal.may(Verb.READ, None), now=now
        ),
        never=SOURCES["never"],
    )
