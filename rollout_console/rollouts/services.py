"""Plans applied, releases registered, drafts made ready. What exposes or contains is above."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import NotAllowed, Principal, require
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Person, Release, Segment, Workflow, WorkflowPath
from rollout_console.core import outbox
from rollout_console.core.canonical import digest
from rollout_console.core.errors import NotFound
from rollout_console.rollouts import locks, plan_store
from rollout_console.rollouts.errors import (
    PlanConflict,
    PlanInForce,
    PlanInvalid,
    ReleaseDiffers,
    RolloutInForce,
    StepRefused,
    errors_of,
    faults_sentence,
)
from rollout_console.rollouts.gate import gate_check
from rollout_console.rollouts.models import PlanVersion, Rollout, RolloutPath, Stage, StageSegment
from rollout_console.rollouts.plan_check import KEY_SLUG, Fault
from rollout_console.rollouts.plan_diff import plan_diff
from rollout_console.rollouts.plan_schema import plan_read
from rollout_console.rollouts.plan_types import Plan, RolloutPlan
from rollout_console.rollouts.plan_yaml import PlanUnreadable, yaml_load
from rollout_console.rollouts.releases import release_named, release_register, release_store
from rollout_console.rollouts.states import FINAL, MoveNotAllowed, RolloutState, next_move
from signals.guards.services import guards_define

__all__ = ["PlanResult", "plan_apply", "release_register", "rollout_ready"]


@dataclass(frozen=True, slots=True)
class PlanResult:
    """What applying came to: the plan's number, whether it is new, and what differs."""

    workflow: str
    number: int
    created: bool
    diff: list[str]
    rollout: str | None = None


class _DryRun(Exception):
    """Carries the result out of the transaction that it undoes."""

    def __init__(self, result: PlanResult) -> None:
        super().__init__()
        self.result = result


def plan_apply(
    *, document: Any, text: str, principal: Principal, now: datetime, dry_run: bool = False
) -> PlanResult:
    """Make a plan what is stored; the same content again changes nothing.

    `text` is the YAML it came as, "" for JSON: errors then carry no lines. A dry run does all of
    it, so that it meets every refusal, and undoes it.

    Raises:
        NotAllowed: not the principal's to edit.
        PlanInvalid: it does not fit, or names people who do not exist; all errors at once.
        PlanConflict: it contradicts a release, a stable release or a rollout that is stored.
        PlanInForce: it would change what a rollout in force stands on.
    """
    slug = _slug_of(document)
    # Without a sound slug there is no workflow to be allowed in, and the reader says so.
    if slug is not None and KEY_SLUG.fullmatch(slug):
        principal_may_plan(principal, slug)
    plan, faults = plan_read(document)
    lines = _lines(text) if text else {}
    if plan is None:
        raise _invalid(faults, lines)
    try:
        with transaction.atomic():
            result = _apply(
                plan, document=document, text=text, lines=lines, principal=principal, now=now
            )
            if dry_run:
                raise _DryRun(result)
    except _DryRun as undone:
        return undone.result
    return result


def principal_may_plan(principal: Principal, slug: str) -> None:
    """Raise NotAllowed unless `principal` may edit the plan of `slug`.

    A workflow that is not there yet takes the right in every workflow.
    """
    workflow = Workflow.objects.filter(slug=slug).first()
    if workflow is not None:
        require(principal, Verb.PLAN_EDIT, workflow)
    elif not principal.may(Verb.PLAN_EDIT, None):
        raise NotAllowed(
            "A new workflow is added by an owner or deputy of every workflow, or by a token with "
            "the scope “release” that is not limited to workflows."
        )


@transaction.atomic
def rollout_ready(*, slug: str, principal: Principal, now: datetime) -> Rollout:
    """Make a draft ready; one that is ready already stays as it is.

    Raises:
        NotFound, NotAllowed, StepRefused.
        GateNotPassed: the readiness gate misses something; nobody may go round it.
        PlanConflict: a path's stable release is not the one that the plan names.
        RolloutInForce: another rollout is ready, live or paused on one of its paths.
    """
    rollout = locks.rollouts().filter(slug=slug).first()
    if rollout is None or not (
        principal.may(Verb.READ, rollout.workflow_id)
        or principal.may(Verb.ROLLOUT_READY, rollout.workflow_id)
    ):
        raise NotFound(f"There is no rollout “{slug}”.")
    require(principal, Verb.ROLLOUT_READY, rollout.workflow)
    if rollout.state == RolloutState.READY:
        return rollout
    try:
        state = next_move(RolloutState(rollout.state), "mark_ready").to
    except MoveNotAllowed as refusal:
        raise StepRefused(str(refusal), state=str(rollout.state)) from refusal
    gate_check(rollout, now=now)
    paths = [row.path for row in rollout.rollout_paths.select_related("path").order_by("pk")]
    taken = _in_force_on(paths, but=rollout)
    try:
        with transaction.atomic():
            rollout.rollout_paths.update(in_force=True)
    except IntegrityError as error:
        others = ", ".join(sorted(set(taken.values()))) or "another one"
        raise RolloutInForce(
            f"On a path of {slug} a rollout is in force: {others}. Complete, roll back or abandon "
            "it first.",
            missing=[f"No other rollout on its paths: {others}"],
        ) from error
    _roles_set(paths, candidate=rollout.candidate, stable=rollout.stable)
    rollout.state = state
    rollout.version += 1
    rollout.state_at = now
    rollout.state_by = principal.name
    rollout.save(update_fields=["state", "version", "state_at", "state_by"])
    facts = {"version": rollout.version, "state": state.value}
    audit.append(
        "rollout.readied",
        actor=principal,
        at=now,
        workflow=rollout.workflow.slug,
        subject_type="rollout",
        subject=slug,
        data=facts,
    )
    _rollout_tell(rollout, facts, now=now)
    return rollout


def _apply(
    plan: Plan,
    *,
    document: Any,
    text: str,
    lines: Mapping[str, int],
    principal: Principal,
    now: datetime,
) -> PlanResult:
    with connection.cursor() as cursor:
        # One plan of a workflow at a time, also before the workflow is there to be locked.
        cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 1))", [plan.slug])
    content = digest(document)
    latest = PlanVersion.objects.filter(workflow__slug=plan.slug).order_by("-number").first()
    rollout_slug = plan.rollout.slug if plan.rollout else None
    if latest is not None and latest.digest == content:
        return PlanResult(plan.slug, latest.number, created=False, diff=[], rollout=rollout_slug)
    people = _people(plan, lines)
    before: dict[str, Any] = latest.document if latest is not None else {}
    # Locked before anything of theirs is compared: a containment waits, or is seen.
    standing = {
        rollout.slug: rollout for rollout in locks.rollouts().filter(workflow__slug=plan.slug)
    }
    _in_force_check(plan, standing.values())
    workflow = plan_store.workflow_store(plan, people=people, now=now)
    paths = plan_store.paths_store(workflow, plan)
    segments = plan_store.segments_store(workflow, plan, people=people)
    plan_store.action_routes_store(workflow, plan)
    for told in plan.releases:
        try:
            release_store(workflow=workflow, told=told, principal=principal, now=now)
        except ReleaseDiffers as refusal:
            raise PlanConflict(refusal.detail) from refusal
    version = PlanVersion.objects.create(
        workflow=workflow,
        number=1 if latest is None else latest.number + 1,
        document=document,
        text=text,
        digest=content,
        applied_at=now,
        applied_by=principal.name,
    )
    diff = plan_diff(before, document)
    audit.append(
        "plan.applied",
        actor=principal,
        at=now,
        workflow=workflow.slug,
        subject_type="plan",
        subject=workflow.slug,
        data={"number": version.number, "digest": content, "diff": diff[:200]},
    )
    if plan.rollout is not None:
        _rollout_store(
            plan.rollout,
            existing=standing.get(plan.rollout.slug),
            version=version,
            workflow=workflow,
            paths=paths,
            segments=segments,
            principal=principal,
            now=now,
        )
    plan_store.dropped_remove(workflow, plan, before)
    return PlanResult(workflow.slug, version.number, created=True, diff=diff, rollout=rollout_slug)


def _rollout_store(
    told: RolloutPlan,
    *,
    existing: Rollout | None,
    version: PlanVersion,
    workflow: Workflow,
    paths: Mapping[str, WorkflowPath],
    segments: Mapping[str, Segment],
    principal: Principal,
    now: datetime,
) -> None:
    """Write a draft; what is in force was compared before, and what is final stays."""
    if existing is not None and existing.state != RolloutState.DRAFT:
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
    for position, stage in enumerate(told.stages, start=1):
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
    taken = _in_force_on(chosen, but=rollout)
    free = [path for path in chosen if path.pk not in taken]
    _roles_set(free, candidate=candidate, stable=stable)
    guards_define(
        workflow=workflow,
        rollout_slug=rollout.slug,
        candidate=candidate,
        paths=chosen,
        document=_guards_document(told),
        now=now,
    )
    _rollout_tell(rollout, {"version": rollout.version, "state": str(rollout.state)}, now=now)


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
        raise PlanConflict(
            f"A rollout “{slug}” belongs to another workflow; give this one another slug."
        ) from error


def _roles_set(
    paths: Iterable[WorkflowPath], *, candidate: Release, stable: Release | None
) -> None:
    """Name the candidate on paths, and the stable release where there was none."""
    for path in paths:
        if path.stable_id is None:
            path.stable = stable
        elif stable is None or path.stable_id != stable.pk:
            assert path.stable is not None
            raise PlanConflict(
                f"The stable release of “{path.slug}” is {path.stable.version}; the plan says "
                f"{stable.version if stable else 'there is none'}. Correct “rollout.stable”."
            )
        path.candidate = candidate
        path.save(update_fields=["stable", "candidate"])


def _in_force_on(paths: Iterable[WorkflowPath], *, but: Rollout) -> dict[int, str]:
    """Return path id → slug of the other rollout that is in force there."""
    return dict(
        RolloutPath.objects.filter(path__in=list(paths), in_force=True)
        .exclude(rollout=but)
        .values_list("path_id", "rollout__slug")
    )


def _in_force_check(plan: Plan, rollouts: Iterable[Rollout]) -> None:
    """Refuse what would change under a rollout in force, or reuse the slug of a closed one."""
    for rollout in rollouts:
        stored, _ = plan_read(rollout.plan.document)
        if stored is None or stored.rollout is None:
            continue
        same_slug = plan.rollout is not None and plan.rollout.slug == rollout.slug
        if RolloutState(rollout.state) in FINAL:
            if same_slug and plan.rollout != stored.rollout:
                raise PlanConflict(
                    f"The rollout “{rollout.slug}” is {str(rollout.state).replace('_', ' ')}, for "
                    "good. Give the next one a slug of its own."
                )
            continue
        if not rollout.in_force:
            continue
        touched = _touched(plan, stored, stored.rollout, same_slug=same_slug)
        if touched:
            raise PlanInForce(
                f"While {rollout.slug} is {rollout.state}, a plan keeps {', '.join(touched)} as "
                "they are. Roll back or abandon it first, or put the change into the next rollout.",
                errors=[{"pointer": "/rollout", "detail": f"Keep {each}."} for each in touched],
            )


def _touched(plan: Plan, stored: Plan, rollout: RolloutPlan, *, same_slug: bool) -> list[str]:
    """Return what of `stored` a rollout in force stands on and `plan` changes."""
    touched = []
    if same_slug and plan.rollout != rollout:
        touched.append("its rollout section")
    paths = {path.slug: path for path in plan.paths}
    touched += [
        f"the path “{path.slug}”"
        for path in stored.paths
        if path.slug in rollout.paths and paths.get(path.slug) != path
    ]
    rules = {segment.slug: segment.rule for segment in plan.segments}
    used = {slug for stage in rollout.stages for slug, _ in stage.segments}
    touched += [
        f"the rule of segment “{segment.slug}”"
        for segment in stored.segments
        if segment.slug in used
        and (segment.slug not in rules or digest(rules[segment.slug]) != digest(segment.rule))
    ]
    if plan.action_routes != stored.action_routes:
        touched.append("the action routes")
    return touched


def _people(plan: Plan, lines: Mapping[str, int]) -> dict[str, Person]:
    """Return the people whom the plan names.

    Raises:
        PlanInvalid: some of them do not exist.
    """
    found = {
        person.username: person
        for person in Person.objects.filter(username__in=set(plan.people.values()), is_active=True)
    }
    faults = [
        Fault(pointer, f"There is no person “{name[:80]}”; create them, or name another.")
        for pointer, name in plan.people.items()
        if name not in found
    ]
    if faults:
        raise _invalid(faults, lines)
    return found


def _rollout_tell(rollout: Rollout, facts: dict[str, Any], *, now: datetime) -> None:
    outbox.add(
        "rollout.changed",
        workflow=rollout.workflow.slug,
        key=rollout.slug,
        at=now,
        data={"workflow": rollout.workflow.slug, "rollout": rollout.slug, **facts},
    )


def _invalid(faults: list[Fault], lines: Mapping[str, int]) -> PlanInvalid:
    errors = errors_of(faults, lines)
    return PlanInvalid(faults_sentence(errors), errors=errors)


def _lines(text: str) -> Mapping[str, int]:
    try:
        return yaml_load(text).lines
    except PlanUnreadable:
        return {}


def _slug_of(document: Any) -> str | None:
    workflow = document.get("workflow") if isinstance(document, dict) else None
    slug = workflow.get("slug") if isinstance(workflow, dict) else None
    return slug if isinstance(slug, str) else None
