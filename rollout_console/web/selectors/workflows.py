"""Workflows: all of them, and one with what was counted on each path by release."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from approvals.authority.principals import Principal
from rollout_console.catalog.models import Release, Workflow, WorkflowPath
from rollout_console.core.errors import NotFound
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import IN_FORCE, RolloutState
from rollout_console.web.selectors.economics import RouteRow, limit_said, route_rows
from rollout_console.web.selectors.runs import runs_href
from rollout_console.web.selectors.shell import readable_ids, readable_workflows
from rollout_console.web.words import STATES, Shown
from signals.buckets.measures import Measures
from signals.buckets.selectors import ReleaseTotal, release_totals, traffic
from signals.catalogue import signal_of
from signals.format import MISSING, measured_text, range_text, value_text
from signals.ingest.drill import NONE, SPAN_MAX
from signals.points.selectors import point_names
from signals.pulls.selectors import pull_rows
from signals.stats.estimate import estimate

SPANS: Final[dict[str, tuple[str, timedelta | None]]] = {
    "1h": ("1 h", timedelta(hours=1)),
    "24h": ("24 h", timedelta(hours=24)),
    "30d": ("30 d", timedelta(days=30)),
    "all": ("All", None),
}
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The signals of the table, in its order.
SHOWN: Final = ("quality_pass_rate", "latency_p50_ms", "latency_p95_ms", "cost_per_task_usd")


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    slug: str
    name: str
    owner: str
    paths: int
    tasks_per_min: float
    last_arrival_at: datetime | None
    rollout: str
    shown: Shown | None


@dataclass(frozen=True, slots=True)
class Figure:
    """A number as text: its value, 95 % range and how many tasks it stands on.

    `href` leads to the runs behind it, the worst first.
    """

    name: str
    value: str
    range: str
    n: int
    href: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release on a path: counts and sums are exact, quantiles within 1.1 % of a value.

    The hrefs lead to the runs behind the counts, of the newest 31 days.
    """

    release: str
    role: str
    n: int
    errors: int
    escalated: int
    input_tokens: str
    output_tokens: str
    cost: str
    cost_n: int
    figures: list[Figure]
    first_at: datetime
    last_at: datetime
    href: str
    errors_href: str
    escalated_href: str


@dataclass(frozen=True, slots=True)
class PathTable:
    slug: str
    name: str
    sensitive: bool
    rows: list[ReleaseRow]
    slow_limit: str
    routes: list[RouteRow]


@dataclass(frozen=True, slots=True)
class PointRow:
    """A name of metric points on a path: its newest value, and how many the span holds.

    `failing` says why the pull that brings them does not go well; empty where it does.
    """

    path: str
    name: str
    kind: str
    value: str
    at: datetime | None
    n: int
    source: str
    failing: str


@dataclass(frozen=True, slots=True)
class WorkflowView:
    workflow: Workflow
    span: str
    paths: list[PathTable]
    rollouts: list[tuple[str, str, Shown]]
    points: list[PointRow]
    read_at: datetime


def workflow_list(*, principal: Principal, now: datetime) -> list[WorkflowRow]:
    """Return the workflows that `principal` may read, by name."""
    workflows = list(readable_workflows(principal).values())
    ids = [workflow.pk for workflow in workflows]
    flows = traffic(workflow_ids=ids, now=now)
    paths: dict[int, list[int]] = {pk: [] for pk in ids}
    for path_id, workflow_id in WorkflowPath.objects.filter(workflow__in=ids).values_list(
        "pk", "workflow_id"
    ):
        paths[workflow_id].append(path_id)
    in_force = {
        rollout.workflow_id: rollout
        for rollout in Rollout.objects.filter(workflow__in=ids, state__in=IN_FORCE).order_by("pk")
    }
    rows = []
    for workflow in sorted(workflows, key=lambda each: (each.name, each.slug)):
        here = [flows[path_id] for path_id in paths[workflow.pk]]
        rollout = in_force.get(workflow.pk)
        arrivals = [flow.last_arrival_at for flow in here if flow.last_arrival_at is not None]
        rows.append(
            WorkflowRow(
                slug=workflow.slug,
                name=workflow.name,
                owner=workflow.owner.shown_name,
                paths=len(here),
                tasks_per_min=sum(flow.tasks_per_min for flow in here),
                last_arrival_at=max(arrivals, default=None),
                rollout=rollout.slug if rollout else "",
                shown=STATES[RolloutState(rollout.state)] if rollout else None,
            )
        )
    return rows


def workflow_get(slug: str, principal: Principal) -> Workflow:
    """Return a workflow that `principal` may read.

    Raises:
        NotFound: there is none, or it is not theirs to read.
    """
    found = Workflow.objects.select_related("owner", "deputy")
    ids = readable_ids(principal)
    if ids is not None:
        found = found.filter(pk__in=ids)
    workflow = found.filter(slug=slug).first() if "\x00" not in slug else None
    if workflow is None:
        raise NotFound(f"There is no workflow “{slug}” in yours. Nothing is affected.")
    return workflow


def workflow_view(slug: str, *, span: str, principal: Principal, now: datetime) -> WorkflowView:
    """Return one workflow with its totals over `span`, a key of `SPANS`.

    Raises:
        NotFound: there is none, or it is not theirs to read.
    """
    workflow = workflow_get(slug, principal)
    paths = list(workflow.paths.select_related("workflow").order_by("slug"))
    length = SPANS[span][1]
    since, until = _NEVER if length is None else now - length, now + timedelta(minutes=6)
    ids = [path.pk for path in paths]
    totals = release_totals(path_ids=ids, since=since, until=until)
    routes = route_rows(paths, since=since, until=until)
    versions = dict(Release.objects.filter(workflow=workflow).values_list("pk", "version"))
    return WorkflowView(
        workflow=workflow,
        span=span,
        paths=[_table(path, totals, versions, routes.get(path.pk, [])) for path in paths],
        rollouts=[
            (rollout.slug, rollout.candidate.version, STATES[RolloutState(rollout.state)])
            for rollout in workflow.rollouts.select_related("candidate").order_by("-pk")[:20]
        ],
        points=_points(workflow, paths, since=_NEVER if length is None else now - length, now=now),
        read_at=now,
    )


def _points(
    workflow: Workflow, paths: list[WorkflowPath], *, since: datetime, now: datetime
) -> list[PointRow]:
    """Return what the workflow has metric points of, and pulls that brought none yet."""
    path_names = {path.pk: path.name for path in paths}
    pulls = {f"pull:{pull.name}": pull for pull in pull_rows(workflow_ids=[workflow.pk])}
    rows = []
    for each in point_names(
        workflow_ids=[workflow.pk], since=since, until=now + timedelta(minutes=6)
    ):
        pull = pulls.pop(each.source, None)
        value = MISSING if each.value is None else measured_text(each.value, each.unit)
        rows.append(
            PointRow(
                path=path_names.get(each.path_id, MISSING),
                name=each.name,
                kind=each.kind,
                value=value,
                at=each.at,
                n=each.n,
                source=each.source,
                failing=pull.error if pull else "",
            )
        )
    by_slug = {path.slug: path.name for path in paths}
    for source, pull in pulls.items():
        failing = pull.error or ("switched off" if not pull.enabled else "")
        rows.append(
            PointRow(
                path=by_slug.get(pull.path, pull.path),
                name=pull.name,
                kind="gauge",
                value=MISSING,
                at=None,
                n=0,
                source=source,
                failing=failing,
            )
        )
    return rows


def _table(
    path: WorkflowPath,
    totals: Mapping[tuple[int, int], ReleaseTotal],
    versions: Mapping[int, str],
    routes: list[RouteRow],
) -> PathTable:
    here = {
        release_id: found for (path_id, release_id), found in totals.items() if path_id == path.pk
    }
    order = sorted(here, key=lambda release_id: here[release_id].last_at, reverse=True)
    roles = {path.candidate_id: "candidate", path.stable_id: "stable"}
    return PathTable(
        slug=path.slug,
        name=path.name,
        sensitive=path.sensitivity == "sensitive",
        rows=[
            _row(path, versions.get(pk, ""), roles.get(pk, "") if pk else "", here[pk])
            for pk in order
        ],
        slow_limit=limit_said(path.limits.get("slow_path_ms")),
        routes=routes,
    )


def _row(path: WorkflowPath, release: str, role: str, found: ReleaseTotal) -> ReleaseRow:
    measures = found.measures
    until = found.last_at + timedelta(minutes=1)
    behind = {
        "workflow": path.workflow.slug,
        "path": path.slug,
        "release": release or NONE,
        "from_": max(found.first_at, until - SPAN_MAX).isoformat(),
        "to": until.isoformat(),
    }
    span_s = max(60.0, (found.last_at - found.first_at).total_seconds())
    return ReleaseRow(
        release=release or "no release",
        role=role,
        n=measures.n,
        errors=measures.n_error,
        escalated=measures.n_escalated,
        input_tokens=_sum(measures.input_tokens_sum, measures.input_tokens_n),
        output_tokens=_sum(measures.output_tokens_sum, measures.output_tokens_n),
        cost=f"${measures.cost_sum:,.2f}" if measures.cost_n else MISSING,
        cost_n=measures.cost_n,
        figures=[
            _figure(slug, measures, span_s, runs_href(**behind, order="worst", signal=slug))
            for slug in SHOWN
        ],
        first_at=found.first_at,
        last_at=found.last_at,
        href=runs_href(**behind),
        errors_href=runs_href(**behind, outcome="error"),
        escalated_href=runs_href(**behind, outcome="escalated"),
    )


def _sum(value: float, n: int) -> str:
    return f"{value:,.0f}" if n else MISSING


def _figure(slug: str, measures: Measures, span_s: float, href: str) -> Figure:
    signal = signal_of(slug)
    seen = estimate(signal, measures, span_s=span_s)
    if seen is None:
        return Figure(signal.name, MISSING, "", 0)
    return Figure(
        name=signal.name,
        value=value_text(signal, seen.value),
        range=range_text(signal, seen.low, seen.high),
        n=seen.n,
        href=href,
    )
