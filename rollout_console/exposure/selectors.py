"""What the exposure document is made of, and the one that is in force."""

from collections import defaultdict

from rollout_console.catalog.models import ActionRoute, Workflow, WorkflowPath
from rollout_console.exposure.compile import (
    ActionSetting,
    ExposureState,
    PathExposure,
    Restriction,
    RolloutExposure,
    SegmentShare,
)
from rollout_console.exposure.evaluate import FRACTIONAL, Snapshot
from rollout_console.exposure.models import ExposureHead, ExposureVersion
from rollout_console.rollouts.models import (
    ExposedSegment,
    PathMode,
    RolloutPath,
    RouteRestriction,
)
from rollout_console.rollouts.states import EXPOSING


def current_number() -> int:
    """Return the number of the exposure version in force; 0 before the first."""
    return ExposureHead.objects.values_list("version", flat=True).first() or 0


def snapshot_current() -> Snapshot | None:
    """Return the version in force, ready to evaluate; None before the first."""
    number = current_number()
    found = ExposureVersion.objects.filter(number=number).first()
    if found is None:
        return None
    workflow_ids = dict(Workflow.objects.values_list("slug", "pk"))
    return Snapshot(number=found.number, document=found.document, workflow_ids=workflow_ids)


def exposure_state() -> ExposureState:
    """Return everything that is exposed now, of all workflows, in six queries."""
    actions = _actions()
    restrictions = _restrictions()
    rollouts = _rollouts()
    paths = WorkflowPath.objects.select_related("workflow", "stable").order_by(
        "workflow__slug", "slug"
    )
    return ExposureState(
        paths=tuple(
            PathExposure(
                workflow=path.workflow.slug,
                path=path.slug,
                stable=None if path.stable is None else path.stable.version,
                no_ai_mode=path.no_ai_mode,
                unreachable_mode=path.unreachable_mode,
                fallbacks=path.fallbacks,
                actions=tuple(actions[path.workflow_id]),
                restrictions=tuple(restrictions[path.pk]),
                rollout=rollouts.get(path.pk),
            )
            for path in paths
        ),
        fractional=FRACTIONAL,
    )


def _actions() -> dict[int, list[ActionSetting]]:
    actions: dict[int, list[ActionSetting]] = defaultdict(list)
    for route in ActionRoute.objects.order_by("slug"):
        actions[route.workflow_id].append(ActionSetting(route.slug, route.effect, route.default))
    return actions


def _restrictions() -> dict[int, list[Restriction]]:
    """Return by path id what is held tighter there, for the path and for each segment."""
    states: dict[tuple[int, str | None], dict[str, str]] = defaultdict(dict)
    rules: dict[tuple[int, str | None], object] = {}
    rows = RouteRestriction.objects.select_related("segment", "action_route")
    for row in rows.order_by("path_id", "segment__slug", "action_route__slug"):
        segment = None if row.segment is None else row.segment.slug
        # By path: segments of two workflows may share a slug.
        rules[row.path_id, segment] = None if row.segment is None else row.segment.rule
        states[row.path_id, segment][row.action_route.slug] = row.state
    found: dict[int, list[Restriction]] = defaultdict(list)
    for (path_id, segment), held in states.items():
        found[path_id].append(Restriction(segment, rules[path_id, segment], held))
    return found


def _rollouts() -> dict[int, RolloutExposure]:
    """Return live and paused rollouts by the id of the path that they are on."""
    segments: dict[int, list[SegmentShare]] = defaultdict(list)
    exposed = ExposedSegment.objects.filter(rollout__state__in=EXPOSING)
    for row in exposed.select_related("segment").order_by("segment__slug", "pk"):
        share = SegmentShare(row.segment.slug, row.segment.rule, row.share)
        segments[row.rollout_id].append(share)
    modes: dict[tuple[int, int], dict[str | None, str]] = defaultdict(dict)
    rows = PathMode.objects.filter(rollout__state__in=EXPOSING).select_related("segment")
    for mode in rows.order_by("pk"):
        segment = None if mode.segment is None else mode.segment.slug
        modes[mode.rollout_id, mode.path_id][segment] = mode.mode
    on_paths = RolloutPath.objects.filter(rollout__state__in=EXPOSING)
    return {
        on_path.path_id: RolloutExposure(
            slug=on_path.rollout.slug,
            salt=on_path.rollout.salt,
            candidate=on_path.rollout.candidate.version,
            segments=tuple(segments[on_path.rollout_id]),
            modes=modes[on_path.rollout_id, on_path.path_id],
        )
        for on_path in on_paths.select_related("rollout__candidate").order_by("pk")
    }
