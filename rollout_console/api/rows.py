"""What the API reads, in `api.md`'s shapes: plain dicts, every query done here."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from rollout_console.catalog.models import ReleaseChange, Workflow, WorkflowPath
from rollout_console.containment.policy import safest
from rollout_console.exposure.compile import tightest
from rollout_console.rollouts.advising import recommendation_of
from rollout_console.rollouts.models import Rollout
from signals.alerts.models import Alert, AlertState
from signals.alerts.selectors import AlertRow
from signals.buckets.keys import ARM_CANDIDATE
from signals.buckets.scopes import Span
from signals.buckets.selectors import span_measures, traffic
from signals.guards.selectors import SignalCell, VerdictRow, signal_cells, verdict_rows

MIX_WINDOW_S: Final = 300


def workflow_rows(workflows: Sequence[Workflow]) -> list[dict[str, Any]]:
    """Return workflows; give them with owner and deputy selected."""
    paths: dict[int, list[dict[str, Any]]] = defaultdict(list)
    ids = [workflow.pk for workflow in workflows]
    found = WorkflowPath.objects.filter(workflow__in=ids)
    for path in found.order_by("workflow_id", "pk"):
        paths[path.workflow_id].append(
            {"slug": path.slug, "name": path.name, "sensitivity": path.sensitivity}
        )
    return [
        {
            "slug": workflow.slug,
            "name": workflow.name,
            "owner": workflow.owner.username,
            "deputy": workflow.deputy.username,
            "paths": paths[workflow.pk],
        }
        for workflow in workflows
    ]


def rollout_dicts(rollouts: Sequence[Rollout], *, now: datetime) -> list[dict[str, Any]]:
    """Return rollouts; select workflow with owner and deputy, candidate and stable with them.

    `exposed_share` is the measured part of the rollout's paths' tasks over five minutes, None
    where none arrived.
    """
    measured = _measured(rollouts, now=now)
    changes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for change in ReleaseChange.objects.filter(
        release__in=[rollout.candidate_id for rollout in rollouts]
    ).order_by("release_id", "position"):
        changes[change.release_id].append(change_dict(change))
    return [
        {
            "slug": rollout.slug,
            "workflow": rollout.workflow.slug,
            "candidate": rollout.candidate.version,
            "stable": None if rollout.stable is None else rollout.stable.version,
            "state": str(rollout.state),
            "version": rollout.version,
            "stage": rollout.stage,
            "stages": len(rollout.stages.all()),
            "exposed": [
                {
                    "segment": row.segment.slug,
                    "share": float(row.share),
                    "exposed_share": _share_of(measured, rollout.pk, row.segment_id),
                }
                for row in sorted(rollout.exposed.all(), key=lambda row: row.pk)
            ],
            "modes": _modes(rollout),
            "actions": _actions(rollout),
            "changes": changes[rollout.candidate_id],
            "owner": rollout.workflow.owner.username,
            "deputy": rollout.workflow.deputy.username,
            "since": rollout.state_at,
            "by": rollout.state_by,
        }
        for rollout in rollouts
    ]


def rollouts_whole() -> Any:
    """Return rollouts with everything that `rollout_dicts` reads."""
    return Rollout.objects.select_related(
        "workflow__owner", "workflow__deputy", "candidate", "stable"
    ).prefetch_related(
        "stages",
        "exposed__segment",
        "modes",
        "rollout_paths__path__restrictions",
        "workflow__action_routes",
    )


def _modes(rollout: Rollout) -> dict[str, str]:
    """Return by path the mode it is in; where its segments differ, the safest of them."""
    held: dict[int, list[str]] = defaultdict(list)
    for row in rollout.modes.all():
        held[row.path_id].append(row.mode)
    return {
        row.path.slug: safest(held[row.path_id] or ["normal"])
        for row in rollout.rollout_paths.all()
    }


def _actions(rollout: Rollout) -> dict[str, str]:
    """Return by action route its state as set; where paths or segments differ, the tightest."""
    held: dict[int, list[str]] = defaultdict(list)
    for row in rollout.rollout_paths.all():
        for restriction in row.path.restrictions.all():
            held[restriction.action_route_id].append(restriction.state)
    return {
        route.slug: tightest([route.default, *held[route.pk]])
        for route in rollout.workflow.action_routes.all()
    }


def change_dict(change: ReleaseChange) -> dict[str, str]:
    return {
        "component": change.component,
        "name": change.name,
        "before": change.before,
        "after": change.after,
        "note": change.note,
    }


def overview_dicts(rollouts: Sequence[Rollout], *, now: datetime) -> list[dict[str, Any]]:
    """Return rollouts with traffic, signals and how many alerts wait."""
    slugs = [rollout.slug for rollout in rollouts]
    cells = signal_cells(slugs, now)
    flows = traffic(workflow_ids={rollout.workflow_id for rollout in rollouts}, now=now)
    waiting: dict[str, int] = defaultdict(int)
    for slug in (
        Alert.objects.filter(rollout__in=slugs)
        .exclude(state=AlertState.RESOLVED)
        .values_list("rollout", flat=True)
    ):
        waiting[slug] += 1
    return [
        {
            **told,
            "tasks_per_min": sum(
                flows[row.path_id].tasks_per_min
                for row in rollout.rollout_paths.all()
                if row.path_id in flows
            ),
            "signals": [signal_dict(cell) for cell in cells.get(rollout.slug, [])],
            "alerts": waiting[rollout.slug],
        }
        for rollout, told in zip(rollouts, rollout_dicts(rollouts, now=now), strict=True)
    ]


def signal_dict(cell: SignalCell) -> dict[str, Any]:
    return {
        "signal": cell.signal,
        "path": cell.path_slug,
        "value": cell.value,
        "unit": cell.unit,
        "low": cell.low,
        "high": cell.high,
        "n": cell.n,
        "window_s": cell.window_s,
        "age_s": cell.age_s,
        "limit": cell.limit,
        "state": cell.state,
    }


def verdict_dicts(slug: str, *, now: datetime) -> list[dict[str, Any]]:
    return [_verdict(row) for row in verdict_rows([slug], now)]


def alert_dict(row: AlertRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "rollout": row.rollout,
        "guard": row.guard,
        "problem": row.problem,
        "state": row.state,
        "opened_at": row.opened_at,
        "acked_at": row.acked_at,
        "owner": row.owner_username,
        "sentence": row.sentence,
        "due_at": row.due_at,
        "due_action": row.due_action,
        "incident": row.incident,
        "recurrences": row.recurrences,
        "contained_at": row.contained_at,
        "quiet": row.quiet,
    }


def recommendation_dict(rollout: Rollout, *, now: datetime) -> dict[str, Any]:
    """Return the recommendation; no advice for a rollout that exposes nobody."""
    stages = rollout.stages.values_list("position", flat=True).distinct().count()
    found = recommendation_of(rollout, verdict_rows([rollout.slug], now), stages=stages)
    return {"advice": None, "reasons": []} if found is None else found.document()


def _verdict(row: VerdictRow) -> dict[str, Any]:
    needs = None
    if row.pace is not None:
        needs = {
            "runs": row.pace.runs,
            "seconds": row.pace.seconds,
            "per_hour": row.pace.per_hour,
            "counted": row.pace.counted,
        }
    return {
        "guard": row.guard,
        "kind": row.kind,
        "path": row.path,
        "segment": row.segment,
        "verdict": row.verdict,
        "value": row.value,
        "low": row.low,
        "high": row.high,
        "unit": row.unit,
        "reference": row.reference,
        "n": row.n,
        "window_s": row.window_s,
        "age_s": row.age_s,
        "evidence": row.evidence,
        "needs": needs,
        "sentence": row.sentence,
        "ledger_block": row.ledger_block,
    }


def _share_of(
    measured: dict[int, dict[int, float]], rollout_id: int, segment_id: int
) -> float | None:
    shares = measured.get(rollout_id)
    return None if shares is None else shares.get(segment_id, 0.0)


def _measured(rollouts: Iterable[Rollout], *, now: datetime) -> dict[int, dict[int, float]]:
    """Return by rollout and segment id the candidate's part of the rollout's tasks."""
    since = now - timedelta(seconds=MIX_WINDOW_S)
    paths = {
        rollout.pk: [row.path_id for row in rollout.rollout_paths.all()]
        for rollout in rollouts
        if rollout.exposed.all()
    }
    wanted = sorted({path_id for ids in paths.values() for path_id in ids})
    spans = [Span(path_id, since, now) for path_id in wanted]
    found = {
        span.path_id: scopes
        for span, scopes in span_measures(
            spans, normal_only=False, histograms_of=(), fields=("n",)
        ).items()
    }
    shares: dict[int, dict[int, float]] = {}
    for pk, ids in paths.items():
        counts: dict[int, int] = defaultdict(int)
        total = 0
        for path_id in ids:
            for scope, measures in found.get(path_id, {}).items():
                total += measures.n
                if scope.arm == ARM_CANDIDATE:
                    counts[scope.segment_id] += measures.n
        if total:
            shares[pk] = {segment_id: n / total for segment_id, n in counts.items()}
    return shares
