"""Widen what a rollout exposes: the one way that the exposed set ever grows after going live."""

from datetime import datetime
from typing import Any

from approvals.authority.principals import Principal
from rollout_console.containment.services import rollout_changed
from rollout_console.core.errors import DomainError
from rollout_console.rollouts.ladder import NextRung, is_subset
from rollout_console.rollouts.models import ExposedSegment, Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.recurrences import reductions_forget


class NotWider(DomainError):
    """What is asked for would drop somebody, or nothing may widen now."""

    code = "not-wider"
    title = "This does not widen"


def rollout_widen(
    rollout: Rollout,
    *,
    rung: NextRung,
    principal: Principal,
    now: datetime,
    reason: dict[str, str] | None = None,
    data: dict[str, Any] | None = None,
) -> int:
    """Expose a rung in the caller's transaction, on a locked rollout; a fresh bake starts.

    Who may, and on what evidence, is the caller's to know. Returns the exposure version that
    serves it.

    Raises:
        NotWider: the rollout is not live, or somebody who is exposed would not be any more.
    """
    if rollout.state != RolloutState.LIVE:
        raise NotWider(
            f"A {str(rollout.state).replace('_', ' ')} rollout does not widen.",
            state=str(rollout.state),
        )
    before = {row.segment.slug: row for row in rollout.exposed.select_related("segment")}
    if not is_subset({slug: row.share for slug, row in before.items()}, rung.exposed):
        raise NotWider(
            f"Stage {rung.position} leaves out somebody who is exposed now; narrow instead."
        )
    stage = rollout.stages.get(position=rung.position)
    for part in stage.segments.select_related("segment").order_by("position"):
        ExposedSegment.objects.update_or_create(
            rollout=rollout,
            segment=part.segment,
            defaults={"share": rung.exposed[part.segment.slug]},
        )
    from_stage = rollout.stage
    rollout.stage = rung.position
    rollout.stage_at = now
    exposed = {slug: format(share.normalize(), "f") for slug, share in rung.exposed.items()}
    words = " + ".join(f"{slug} {float(share):.1%}" for slug, share in rung.exposed.items())
    number = rollout_changed(
        rollout,
        action="rollout.expanded",
        principal=principal,
        now=now,
        mark=f"{rollout.candidate.version} widened to stage {rung.position}: {words}",
        mark_kind="release",
        reason=reason,
        data={
            "from_stage": from_stage,
            "stage": rung.position,
            "exposed_before": {
                slug: format(row.share.normalize(), "f") for slug, row in before.items()
            },
            "exposed": exposed,
            **(data or {}),
        },
    )
    # After the guards, which were changed with the rollout: alerts are locked last.
    reductions_forget(rollout_slug=rollout.slug)
    return number
