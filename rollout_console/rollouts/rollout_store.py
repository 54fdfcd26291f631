"""Writes a sound plan's rollout: a draft whole, one in force as far as it may move. Checks no
rights."""

import secrets
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from approvals.authority.principals import Principal
from rollout_console.catalog.models import Release, Segment, Workflow, WorkflowPath
from rollout_console.core import outbox
from rollout_console.rollouts.errors import PlanConflict, PlanInForce
from rollout_console.rollouts.models import PlanVersion, Rollout, RolloutPath, Stage, StageSegment
from rollout_console.rollouts.plan_schema import plan_read
from rollout_console.rollouts.plan_types import RolloutPlan
from rollout_console.rollouts.releases import release_named
from rollout_console.rollouts.states import EXPOSING, FINAL, RolloutState
from signals.alerts.models import Alert, AlertState
from signals.guards.services import guards_arm, guards_define


def rollout_store(
    told: RolloutPlan,
    *,
    existing: Rollout | None,
    touched: bool,
    version: PlanVersion,
    workflow: Workflow,
    paths: Mapping[str, WorkflowPath],
    segments: Mapping[str, Segment],
    principal: Principal,
    now: datetime,
) -> None:
    """Write a draft, or as much of one in force as may move; what is final stays.

    `touched` says that what a rollout in force stands on changed; how far was checked before.
    """
    if existing is not None and existing.state != RolloutState.DRAFT:
        if touched and existing.in_force:
            _rollout_revise(existing, told, version, paths=paths, segments=segments, now=now)
        return
    chosen = [paths[slug] for slug in told.paths]
    candidate = release_named(workflow=workflow, version=told.candidate, now=now)
    stable = None
    if told.stable is not None:
        stable = release_named(workflow=workflow, version=told.stable, now=now)
    rollout = existing
    if rollout is None:
        rollout = _rollout_create(
            told.slug, version, workflow, candidate, stable, principal=principal, now=now
        )
    else:
        rollout.plan = version
        rollout.candidate = candidate
        rollout.stable = stable
        rollout.version += 1
        rollout.save(update_fields=["plan", "candidate", "stable", "version"])
        rollout.rollout_paths.all().delete()
        rollout.stages.all().delete()
    RolloutPath.objects.bulk_create(RolloutPath(rollout=rollout, path=path) for path in chosen)
    _stages_create(rollout, told, segments, beyond=0)
    taken = in_force_on(chosen, but=rollout)
    free = [path for path in chosen if path.pk not in taken]
    roles_set(free, candidate=candidate, stable=stable)
    guards_define(
        workflow=workflow,
        rollout_slug=rollout.slug,
        candidate=candidate,
        paths=chosen,
        document=_guards_document(told),
        now=now,
    )
    rollout_tell(rollout, {"version": rollout.version, "state": str(rollout.state)}, now=now)


def _rollout_revise(
    rollout: Rollout,
    told: RolloutPlan,
    version: PlanVersion,
    *,
    paths: Mapping[str, WorkflowPath],
    segments: Mapping[str, Segment],
    now: datetime,
) -> None:
    """Give a rollout in force its new plan: guards, bakes, and the stages it has not reached."""
    exposing = RolloutState(rollout.state) in EXPOSING
    reached = rollout.stage if exposing else 0
    rollout.plan = version
    rollout.version += 1
    rollout.save(update_fields=["plan", "version"])
    for position, stage in enumerate(told.stages[:reached], start=1):
        rollout.stages.filter(position=position).update(
            bake_s=stage.bake_s, min_runs=stage.min_runs
        )
    rollout.stages.filter(position__gt=reached).delete()
    _stages_create(rollout, told, segments, beyond=reached)
    _guards_revise(rollout, told, paths=[paths[slug] for slug in told.paths], now=now)
    rollout_tell(rollout, {"version": rollout.version, "state": str(rollout.state)}, now=now)


def sensitivities_follow(rollouts: Iterable[Rollout], *, moved: Set[int], now: datetime) -> None:
    """Give rollouts beside the plan's own the guards that their paths ask for by now.

    `moved` are ids of paths that became sensitive, or no longer are. A draft's guards go with
    them: it may be made ready without another plan.
    """
    for rollout in rollouts:
        if not moved or RolloutState(rollout.state) in FINAL:
            continue
        paths = [row.path for row in rollout.rollout_paths.select_related("path").order_by("pk")]
        stored, _ = plan_read(rollout.plan.document)
        if stored is None or stored.rollout is None or moved.isdisjoint(path.pk for path in paths):
            continue
        rollout.version += 1
        rollout.save(update_fields=["version"])
        _guards_revise(rollout, stored.rollout, paths=paths, now=now)
        rollout_tell(rollout, {"version": rollout.version, "state": str(rollout.state)}, now=now)


def _guards_revise(
    rollout: Rollout, told: RolloutPlan, *, paths: Sequence[WorkflowPath], now: datetime
) -> None:
    """Make a rollout's guards those of a plan; one whose alert waits stays as it is."""
    waiting = Alert.objects.filter(rollout=rollout.slug).exclude(state=AlertState.RESOLVED)
    watched = waiting.filter(guard__isnull=False, guard__retired_at=None)
    before = dict(watched.values_list("guard_id", "guard__slug"))
    guards_define(
        workflow=rollout.workflow,
        rollout_slug=rollout.slug,
        candidate=rollout.candidate,
        paths=paths,
        document=_guards_document(told),
        now=now,
    )
    after = set(watched.values_list("guard_id", flat=True))
    if retired := sorted(slug for pk, slug in before.items() if pk not in after):
        # Its clock asks whether it is still tripped, and a retired guard no longer says so.
        raise PlanInForce(
            f"An alert of {', '.join(retired)} waits, and its trigger does not change under it. "
            "Contain or resolve the alert first.",
            errors=[
                {"pointer": "/rollout/triggers", "detail": f"Keep the trigger “{slug}”."}
                for slug in retired
            ],
        )
    if RolloutState(rollout.state) in EXPOSING:
        # A guard that is new watches from now on; the others went on by themselves.
        guards_arm(rollout_slug=rollout.slug, now=now)


def _stages_create(
    rollout: Rollout, told: RolloutPlan, segments: Mapping[str, Segment], *, beyond: int
) -> None:
    for position, stage in enumerate(told.stages, start=1):
        if position <= beyond:
            continue
        row = Stage.objects.create(
            rollout=rollout,
            position=position,
            slug=stage.slug,
            bake_s=stage.bake_s,
            min_runs=stage.min_runs,
        )
        StageSegment.objects.bulk_create(
            StageSegment(stage=row, segment=segments[slug], position=place, share=share)
            for place, (slug, share) in enumerate(stage.segments, start=1)
        )


def _guards_document(told: RolloutPlan) -> dict[str, Any]:
    """Return the checked guards in the form of the plan's `rollout` part, defaults filled in."""
    return {
        "stages": [{"bake_s": stage.bake_s} for stage in told.stages],
        "criteria": [asdict(guard) for guard in told.guards if guard.kind == "criterion"],
        "triggers": [asdict(guard) for guard in told.guards if guard.kind == "trigger"],
    }


def _rollout_create(
    slug: str,
    version: PlanVersion,
    workflow: Workflow,
    candidate: Release,
    stable: Release | None,
    *,
    principal: Principal,
    now: datetime,
) -> Rollout:
    try:
        with transaction.atomic():
            return Rollout.objects.create(
                slug=slug,
                workflow=workflow,
                plan=version,
                candidate=candidate,
                stable=stable,
                salt=secrets.token_hex(8),
                created_at=now,
                state_at=now,
                state_by=principal.name,
            )
    except IntegrityError as error:
        sentence = f"A rollout “{slug}” belongs to another workflow; give this one another slug."
        raise PlanConflict(
            sentence, errors=[{"pointer": "/rollout/slug", "detail": sentence}]
        ) from error


def roles_set(paths: Iterable[WorkflowPath], *, candidate: Release, stable: Release | None) -> None:
    """Name the candidate on paths, and the stable release where there was none."""
    for path in paths:
        if path.stable_id is None:
            path.stable = stable
        elif stable is None or path.stable_id != stable.pk:
            assert path.stable is not None
            sentence = (
                f"The stable release of “{path.slug}” is {path.stable.version}; the plan says "
                f"{stable.version if stable else 'there is none'}. Correct “rollout.stable”."
            )
            raise PlanConflict(
                sentence, errors=[{"pointer": "/rollout/stable", "detail": sentence}]
            )
        path.candidate = candidate
        path.save(update_fields=["stable", "candidate"])


def in_force_on(paths: Iterable[WorkflowPath], *, but: Rollout) -> dict[int, str]:
    """Return path id → slug of the other rollout that is in force there."""
    return dict(
        RolloutPath.objects.filter(path__in=list(paths), in_force=True)
        .exclude(rollout=but)
        .values_list("path_id", "rollout__slug")
    )


def rollout_tell(rollout: Rollout, facts: dict[str, Any], *, now: datetime) -> None:
    outbox.add(
        "rollout.changed",
        workflow=rollout.workflow.slug,
        key=rollout.slug,
        at=now,
        data={"workflow": rollout.workflow.slug, "rollout": rollout.slug, **facts},
    )
