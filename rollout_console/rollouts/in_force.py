"""What a new plan would do to the rollouts in force of its workflow."""

from collections.abc import Iterable

from rollout_console.rollouts.errors import PlanConflict, PlanInForce
from rollout_console.rollouts.models import PlanVersion, Rollout, RouteRestriction
from rollout_console.rollouts.plan_change import Change, Direction, Standing, plan_changes
from rollout_console.rollouts.plan_diff import diff_pointer
from rollout_console.rollouts.plan_schema import plan_read
from rollout_console.rollouts.plan_types import Plan
from rollout_console.rollouts.states import EXPOSING, FINAL, RolloutState


def effects_of(plan: Plan, latest: PlanVersion | None, rollouts: Iterable[Rollout]) -> list[Change]:
    """Return what `plan` tightens and loosens under rollouts in force.

    Raises:
        PlanConflict: it reuses the slug of a closed rollout, or moves an action route's
            restriction where no rollout is in force to approve it under.
        PlanInForce: it changes what a rollout in force stands on for good.
    """
    standing = []
    states = []
    for rollout in rollouts:
        stored, _ = plan_read(rollout.plan.document)
        if stored is None or stored.rollout is None:
            continue
        if RolloutState(rollout.state) in FINAL:
            _closed_check(plan, rollout, stored)
        elif rollout.in_force:
            reached = rollout.stage if RolloutState(rollout.state) in EXPOSING else 0
            standing.append(Standing(rollout.slug, reached, stored.rollout))
            states.append(f"{rollout.slug} is {rollout.state}")
    before, _ = plan_read(latest.document) if latest is not None else (None, [])
    if latest is None or before is None:
        return []
    changes = plan_changes(before, plan, standing, _restricted(latest))
    if changes and not standing:
        raise PlanConflict(
            f"{changes[0].sentence} Enable it first, or keep the rule.",
            errors=[
                {"pointer": diff_pointer(latest.document, each.where), "detail": each.sentence}
                for each in changes
            ],
        )
    refused = [change for change in changes if change.direction is Direction.REFUSED]
    if refused:
        raise PlanInForce(
            f"While {' and '.join(states)}, a plan keeps "
            f"{', '.join(change.sentence for change in refused)} as they are. Roll back or "
            "abandon it first, or put the change into the next rollout.",
            errors=[
                {
                    "pointer": diff_pointer(latest.document, change.where),
                    "detail": f"Keep {change.sentence}.",
                }
                for change in refused
            ],
        )
    return changes


def _restricted(latest: PlanVersion) -> dict[str, str]:
    """Return by segment which action routes are held tighter for it."""
    rows = RouteRestriction.objects.filter(segment__workflow=latest.workflow_id)
    found: dict[str, list[str]] = {}
    for row in rows.select_related("action_route", "path", "segment").order_by("pk"):
        assert row.segment is not None
        found.setdefault(row.segment.slug, []).append(row.words)
    return {segment: ", ".join(words) for segment, words in found.items()}


def _closed_check(plan: Plan, rollout: Rollout, stored: Plan) -> None:
    if plan.rollout is None or plan.rollout.slug != rollout.slug or plan.rollout == stored.rollout:
        return
    sentence = (
        f"The rollout “{rollout.slug}” is {str(rollout.state).replace('_', ' ')}, for good. Give "
        "the next one a slug of its own."
    )
    raise PlanConflict(sentence, errors=[{"pointer": "/rollout/slug", "detail": sentence}])
