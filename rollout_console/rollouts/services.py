"""Plans applied, releases registered, drafts made ready. What exposes or contains is above."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import IntegrityError, connection, transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import NotAllowed, Principal, require
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Person, Workflow
from rollout_console.core.canonical import digest
from rollout_console.core.errors import NotFound
from rollout_console.rollouts import locks, plan_store, rollout_store
from rollout_console.rollouts.change_store import change_propose, change_void
from rollout_console.rollouts.errors import (
    PlanConflict,
    PlanInvalid,
    ReleaseDiffers,
    RolloutInForce,
    StepRefused,
    errors_of,
    faults_sentence,
)
from rollout_console.rollouts.gate import gate_check
from rollout_console.rollouts.in_force import effects_of
from rollout_console.rollouts.models import PlanChange, PlanVersion, Rollout
from rollout_console.rollouts.plan_change import Change, Direction
from rollout_console.rollouts.plan_check import KEY_SLUG, Fault
from rollout_console.rollouts.plan_diff import plan_diff
from rollout_console.rollouts.plan_schema import plan_read
from rollout_console.rollouts.plan_types import Plan
from rollout_console.rollouts.plan_yaml import PlanUnreadable, yaml_dump, yaml_load
from rollout_console.rollouts.releases import release_register, release_store
from rollout_console.rollouts.states import MoveNotAllowed, RolloutState, next_move

# The workflow's own: whose it is and who is told when, which no rollout's version stands for.
NOT_OF_ROLLOUTS: Final = frozenset(
    {"workflow.owner", "workflow.deputy", "workflow.hold_s", "workflow.escalation"}
)

__all__ = ["PlanResult", "plan_apply", "release_register", "rollout_ready"]


@dataclass(frozen=True, slots=True)
class PlanResult:
    """What applying came to: the plan's number, whether it is new, and what differs."""

    workflow: str
    number: int
    created: bool
    diff: list[str]
    rollout: str | None = None
    # What it loosens under a rollout in force, and the change that waits for approval of that.
    loosens: list[str] = field(default_factory=list)
    change: int | None = None
    expires_at: datetime | None = None


class _DryRun(Exception):
    """Carries the result out of the transaction that it undoes."""

    def __init__(self, result: PlanResult) -> None:
        super().__init__()
        self.result = result


def plan_apply(
    *, document: Any, text: str, principal: Principal, now: datetime, dry_run: bool = False
) -> PlanResult:
    """Make a plan what is stored; the same again changes nothing.

    `text` is the YAML it came as, "" for JSON: errors then carry no lines. A dry run does all of
    it, so that it meets every refusal, and undoes it. What loosens anything under a rollout in
    force is not applied: it waits as the result's `change` for a second person.

    Raises:
        NotAllowed: not the principal's to edit.
        PlanInvalid: it does not fit, or names people who do not exist; all errors at once.
        PlanConflict: it contradicts a release, a stable release or a rollout that is stored.
        PlanInForce: it would change what a rollout in force stands on.
        PlanChangeWaits: it loosens something, and somebody else's such change waits.
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
    taken = rollout_store.in_force_on(paths, but=rollout)
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
    rollout_store.roles_set(paths, candidate=rollout.candidate, stable=rollout.stable)
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
    rollout_store.rollout_tell(rollout, facts, now=now)
    return rollout


def plan_apply_approved(*, change: PlanChange, principal: Principal, now: datetime) -> PlanResult:
    """Apply a change that `principal` just approved, in the caller's transaction.

    Raises:
        PlanInvalid, PlanConflict, PlanInForce: it can no longer be applied.
    """
    lines = _lines(change.text) if change.text else {}
    plan, faults = plan_read(change.document)
    if plan is None:
        raise _invalid(faults, lines)
    return _apply(
        plan,
        document=change.document,
        text=change.text,
        lines=lines,
        principal=principal,
        now=now,
        approved_for=change.requested_by,
    )


def plan_lock(slug: str) -> None:
    """Let one plan of a workflow be applied at a time, also before the workflow is there."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 1))", [slug])


@dataclass(frozen=True, slots=True)
class _Told:
    """A sound plan as it came, and what it meets."""

    plan: Plan
    document: Any
    text: str
    people: dict[str, Person]
    latest: PlanVersion | None
    diff: list[str]
    effects: list[Change]
    standing: dict[str, Rollout]


def _apply(
    plan: Plan,
    *,
    document: Any,
    text: str,
    lines: Mapping[str, int],
    principal: Principal,
    now: datetime,
    approved_for: str | None = None,
) -> PlanResult:
    plan_lock(plan.slug)
    latest = (
        PlanVersion.objects.filter(workflow__slug=plan.slug)
        .select_related("workflow")
        .order_by("-number")
        .first()
    )
    rollout_slug = plan.rollout.slug if plan.rollout else None
    if latest is not None and latest.digest == digest(document):
        version = _text_store(latest, text=text, principal=principal, now=now)
        return PlanResult(
            plan.slug,
            version.number,
            created=version.pk != latest.pk,
            diff=[],
            rollout=rollout_slug,
        )
    people = _people(plan, lines)
    # Locked before anything of theirs is compared: a containment waits, or is seen.
    standing = {
        rollout.slug: rollout for rollout in locks.rollouts().filter(workflow__slug=plan.slug)
    }
    told = _Told(
        plan=plan,
        document=document,
        text=text,
        people=people,
        latest=latest,
        diff=plan_diff(latest.document if latest else {}, document),
        effects=effects_of(plan, latest, standing.values()),
        standing=standing,
    )
    loosens = [effect.sentence for effect in told.effects if effect.direction is Direction.LOOSER]
    if latest is None or not loosens or approved_for is not None:
        version = _store(told, principal=principal, applied_by=approved_for, now=now)
        return PlanResult(
            plan.slug, version.number, created=True, diff=told.diff, rollout=rollout_slug
        )
    with transaction.atomic():
        # Tried in full and undone, so that nobody is asked to approve what cannot be applied.
        _store(told, principal=principal, applied_by=None, now=now)
        transaction.set_rollback(True)
    change = change_propose(
        base=latest,
        document=document,
        text=text,
        effects=told.effects,
        diff=told.diff,
        # Read again: the trial moved those in memory.
        standing=[
            rollout
            for rollout in locks.rollouts().filter(workflow=latest.workflow)
            if rollout.in_force
        ],
        principal=principal,
        now=now,
    )
    return PlanResult(
        plan.slug,
        latest.number,
        created=False,
        diff=told.diff,
        rollout=rollout_slug,
        loosens=loosens,
        change=change.pk,
        expires_at=change.expires_at,
    )


def _text_store(
    latest: PlanVersion, *, text: str, principal: Principal, now: datetime
) -> PlanVersion:
    """Keep the same plan's new comments and layout as a version of their own."""
    if text in ("", latest.text) or (not latest.text and text == yaml_dump(latest.document)):
        return latest
    version = PlanVersion.objects.create(
        workflow=latest.workflow,
        number=latest.number + 1,
        document=latest.document,
        text=text,
        digest=latest.digest,
        applied_at=now,
        applied_by=principal.name,
    )
    audit.append(
        "plan.applied",
        actor=principal,
        at=now,
        workflow=latest.workflow.slug,
        subject_type="plan",
        subject=latest.workflow.slug,
        data={"number": version.number, "digest": version.digest, "diff": []},
    )
    return version


def _store(
    told: _Told, *, principal: Principal, applied_by: str | None, now: datetime
) -> PlanVersion:
    plan, latest = told.plan, told.latest
    workflow = plan_store.workflow_store(plan, people=told.people, now=now)
    sensitivities = dict(workflow.paths.values_list("slug", "sensitivity"))
    paths = plan_store.paths_store(workflow, plan)
    segments = plan_store.segments_store(workflow, plan, people=told.people)
    plan_store.action_routes_store(workflow, plan)
    plan_store.signals_store(workflow, plan, by=applied_by or principal.name, now=now)
    for index, release in enumerate(plan.releases):
        try:
            release_store(workflow=workflow, told=release, principal=principal, now=now)
        except ReleaseDiffers as refusal:
            raise PlanConflict(
                refusal.detail, errors=[{"pointer": f"/releases/{index}", "detail": refusal.detail}]
            ) from refusal
    version = PlanVersion.objects.create(
        workflow=workflow,
        number=1 if latest is None else latest.number + 1,
        document=told.document,
        text=told.text,
        digest=digest(told.document),
        applied_at=now,
        applied_by=applied_by or principal.name,
    )
    audit.append(
        "plan.applied",
        actor=principal,
        at=now,
        workflow=workflow.slug,
        subject_type="plan",
        subject=workflow.slug,
        data={
            "number": version.number,
            "digest": version.digest,
            "diff": told.diff[:200],
            **({"proposed_by": applied_by} if applied_by else {}),
        },
    )
    if plan.rollout is not None:
        rollout_store.rollout_store(
            plan.rollout,
            existing=told.standing.get(plan.rollout.slug),
            touched=any(effect.where not in NOT_OF_ROLLOUTS for effect in told.effects),
            version=version,
            workflow=workflow,
            paths=paths,
            segments=segments,
            principal=principal,
            now=now,
        )
    rollout_store.sensitivities_follow(
        [
            rollout
            for slug, rollout in told.standing.items()
            if plan.rollout is None or plan.rollout.slug != slug
        ],
        moved={
            path.pk
            for slug, path in paths.items()
            if sensitivities.get(slug, path.sensitivity) != path.sensitivity
        },
        now=now,
    )
    plan_store.dropped_remove(workflow, plan, latest.document if latest else {})
    if applied_by is None:
        change_void(
            workflow_id=workflow.pk, why=f"plan {version.number} was applied meanwhile", now=now
        )
    return version


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
