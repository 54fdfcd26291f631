"""What the exposure document is made of, and the one that is in force."""

from collections import defaultdict

from rollout_console.catalog.models import ActionRoute, Workflow, WorkflowPath
from rollout_console.exposure.compile import (
    ActionSetting,
    ExposureState,
    PathExposure,
    RolloutExposure,
    SegmentShare,
)
from rollout_console.exposure.evaluate import FRACTIONAL, Snapshot
from rollout_console.exposure.models import ExposureHead, ExposureVersion
from rollout_console.rollouts.models import ExposedSegment, RolloutPath
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
    """Return everything that is exposed now, of all workflows, in four queries."""
    actions = _actions()
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


def _rollouts() -> dict[int, RolloutExposure]:
    """Return live and paused rollouts by the id of the path that they are on."""
    segments: dict[int, list[SegmentShare]] = defaultdict(list)
    exposed = ExposedSegment.objects.filter(rollout__state__in=EXPOSING)
    for row in exposed.select_related("segment").order_by("segment__slug", "pk"):
        share = SegmentShare(row.segment.slug, row.segment.rule, row.share)
        segments[row.rollout_id].append(share)
    on_paths = RolloutPath.objects.filter(rollout__state__in=EXPOSING)
    return {
        on_path.path_id: RolloutExposure(
            slug=on_path.rollout.slug,
            salt=on_path.rollout.salt,
            candidate=on_path.rollout.candidate.version,
            segments=tuple(segments[on_path.rollout_id]),
        )
        for on_path in on_paths.select_related("rollout__candidate").order_by("pk")
    }
