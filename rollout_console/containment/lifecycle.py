"""The steps of a rollout that change exposure and are not containment."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction

from approvals.authority.matrix import Role, Verb
from approvals.authority.principals import Principal, require
from rollout_console.catalog.models import Workflow
from rollout_console.containment.changes import exposed_set, stage_sets
from rollout_console.containment.confirm import Side, half_confirm, sides_check
from rollout_console.containment.services import (
    MoveRefused,
    VersionMoved,
    exposure_end,
    rollout_changed,
)
from rollout_console.core.errors import DomainError, InvalidInput, NotFound
from rollout_console.exposure.services import current_number, version_publish
from rollout_console.rollouts import locks
from rollout_console.rollouts.gate import gate_check
from rollout_console.rollouts.models import ExposedSegment, Rollout, StageSegment
from rollout_console.rollouts.services import PlanResult, plan_apply
from rollout_console.rollouts.states import MoveNotAllowed, RolloutState, next_move
from signals.alerts.services import tripped_since
from signals.guards.selectors import VerdictRow, verdict_rows
from signals.guards.services import guards_arm, guards_look

GO_LIVE_SIDES: Final = (
    Side(Role.OWNER.value, Verb.GO_LIVE),
    Side(Role.APPROVER.value, Verb.GO_LIVE_CONFIRM),
)
COMPLETE_SIDES: Final = (
    Side(Role.OWNER.value, Verb.COMPLETE),
    Side(Role.APPROVER.value, Verb.COMPLETE_CONFIRM),
)
FINDINGS_MAX: Final = 10_000


class NotComplete(DomainError):
    """Something is missing before a candidate may become the stable release; `missing` says it."""

    code = "not-complete"
    title = "Not everything holds yet"


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that completing takes, and in words what keeps it from holding."""

    slug: str
    title: str
    missing: list[str]


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """Where a step that may need two people stands; `waiting_for` names the roles missing."""

    rollout: str
    version: int
    exposure_version: int
    state: str
    waiting_for: list[str]


def plan_apply_and_publish(
    *,
    document: dict[str, Any],
    text: str,
    principal: Principal,
    now: datetime,
    dry_run: bool = False,
) -> PlanResult:
    """Apply a plan and publish what it serves, in one transaction."""
    with transaction.atomic():
        result = plan_apply(
            document=document, text=text, principal=principal, now=now, dry_run=dry_run
        )
        if not dry_run:
            slug = document["workflow"]["slug"]
            version_publish(
                cause=f"plan of {slug} applied",
                actor_name=principal.name,
                now=now,
                workflow=slug,
            )
    return result


@transaction.atomic
def rollout_go_live(
    *, slug: str, principal: Principal, now: datetime, expected_version: int | None = None
) -> StepOutcome:
    """Confirm going live; the owner's and an approver's confirmation together do it.

    A confirmation lasts 15 minutes and is void when the rollout's version moves, or its person
    loses the role. Each one reads the readiness gate again. Confirming again what is live changes
    nothing.

    Raises:
        NotFound, NotAllowed, SecondPersonNeeded, VersionMoved, MoveRefused, GateNotPassed.
    """
    rollout = _locked(slug, principal)
    sides_check(rollout, principal, GO_LIVE_SIDES, step="Going live")
    if rollout.state == RolloutState.LIVE:
        return _outcome(rollout)
    _move_check(rollout, "go_live")
    _version_check(rollout, expected_version)
    # A plan applied since may have taken something away.
    gate_check(rollout, now=now)
    halves = half_confirm(
        rollout, verb="go_live", sides=GO_LIVE_SIDES, principal=principal, now=now
    )
    if halves.waiting_for:
        return _outcome(rollout, waiting_for=halves.waiting_for)
    return _go_live(rollout, people=halves.people, principal=principal, now=now)


@transaction.atomic
def rollout_complete(
    *, slug: str, principal: Principal, now: datetime, expected_version: int | None = None
) -> StepOutcome:
    """Confirm that the candidate becomes the paths' stable release; owner and approver together.

    It takes the last stage in full, which has to be everybody; nothing tripped; every criterion
    holding. Confirming again what is completed changes nothing.

    Raises:
        NotFound, NotAllowed, InvalidInput, SecondPersonNeeded, VersionMoved, MoveRefused,
        NotComplete.
    """
    workflow = Workflow.objects.filter(rollouts__slug=slug).first()
    if workflow is not None and principal.may(Verb.READ, workflow.pk):
        # Looked at before the rollout is locked, as everywhere: what holds, holds now.
        guards_look(now=now, workflow_ids=[workflow.pk], reread=True, wait=True)
    rollout = _locked(slug, principal)
    sides_check(rollout, principal, COMPLETE_SIDES, step="Completing")
    if rollout.state == RolloutState.COMPLETED:
        return _outcome(rollout)
    _move_check(rollout, "complete")
    if expected_version is None:
        raise InvalidInput(
            "To complete, say the version that you saw.",
            errors=[{"pointer": "/expected_version", "detail": "Send the rollout's version."}],
        )
    _version_check(rollout, expected_version)
    missing = complete_missing(rollout, now=now)
    if missing:
        raise NotComplete(f"Not yet: {'; '.join(missing)}.", missing=missing)
    halves = half_confirm(
        rollout, verb="complete", sides=COMPLETE_SIDES, principal=principal, now=now
    )
    if halves.waiting_for:
        return _outcome(rollout, waiting_for=halves.waiting_for)
    return _complete(rollout, people=halves.people, principal=principal, now=now)


def complete_missing(rollout: Rollout, *, now: datetime) -> list[str]:
    """Return in words what keeps a live rollout from being completed."""
    return [
        each for condition in complete_conditions(rollout, now=now) for each in condition.missing
    ]


def complete_conditions(rollout: Rollout, *, now: datetime) -> list[Condition]:
    """Return what completing a live rollout takes, each with what is missing of it."""
    stages = stage_sets(rollout)
    stage = []
    if rollout.stage < len(stages):
        stage.append(f"it is on stage {rollout.stage} of {len(stages)}")
    elif exposed_set(rollout) != stages[-1]:
        stage.append("containment took some of the last stage away")
    everybody = []
    if not _serves_everybody(rollout):
        everybody.append(
            "its last stage is not everybody: add a stage with a segment whose rule is `true`, at"
            " share 1, and expand to it"
        )
    fallback = ["a fallback is in force"] if rollout.modes.exists() else []
    tripped = tripped_since(rollout_slug=rollout.slug, since=now)
    criteria = [
        f"{row.guard} is {row.verdict}: {row.sentence}"
        for row in _criteria(rollout, now)
        if row.verdict != "holding"
    ]
    return [
        Condition("stage", "On its last stage, in full", stage),
        Condition("everybody", "The last stage is everybody", everybody),
        Condition("fallback", "No fallback in force", fallback),
        Condition("triggers", "No trigger tripped", ["a trigger is tripped"] if tripped else []),
        Condition("criteria", "Every expansion criterion holds", criteria),
    ]


@transaction.atomic
def rollout_abandon(
    *, slug: str, findings: str, principal: Principal, now: datetime
) -> StepOutcome:
    """Close a rollout for redesign, with what was found; nothing of it stays exposed.

    Raises:
        NotFound, NotAllowed, InvalidInput, MoveRefused.
    """
    rollout = _locked(slug, principal)
    require(principal, Verb.ABANDON, rollout.workflow)
    if rollout.state == RolloutState.ABANDONED:
        return _outcome(rollout)
    findings = findings.strip()
    if not 1 <= len(findings) <= FINDINGS_MAX or "\x00" in findings:
        raise InvalidInput(
            f"Say what was found, in 1 to {FINDINGS_MAX:,} characters: the next plan carries it.",
            errors=[{"pointer": "/findings", "detail": "Write the findings."}],
        )
    _move_check(rollout, "abandon")
    rollout.findings = findings
    exposure_end(rollout, state=RolloutState.ABANDONED, now=now)
    number = rollout_changed(
        rollout,
        action="rollout.abandoned",
        principal=principal,
        now=now,
        mark=f"abandoned by {principal.name}",
        data={"findings": findings},
    )
    return _outcome(rollout, exposure_version=number)


def _go_live(
    rollout: Rollout, *, people: list[str], principal: Principal, now: datetime
) -> StepOutcome:
    first = rollout.stages.get(position=1)
    segments = list(first.segments.select_related("segment").order_by("position"))
    rollout.state = _move_check(rollout, "go_live")
    rollout.stage = 1
    rollout.stage_at = now
    rollout.live_at = now
    ExposedSegment.objects.bulk_create(
        ExposedSegment(rollout=rollout, segment=row.segment, share=row.share) for row in segments
    )
    guards_arm(rollout_slug=rollout.slug, now=now)
    exposed = " + ".join(f"{row.segment.name} {row.share:.1%}" for row in segments)
    number = rollout_changed(
        rollout,
        action="rollout.went_live",
        principal=principal,
        now=now,
        mark=f"{rollout.candidate.version} live: {exposed}",
        mark_kind="release",
        data={"confirmed_by": people},
    )
    return _outcome(rollout, exposure_version=number)


def _complete(
    rollout: Rollout, *, people: list[str], principal: Principal, now: datetime
) -> StepOutcome:
    for row in rollout.rollout_paths.select_related("path").order_by("path_id"):
        row.path.stable = rollout.candidate
        # What still reports the candidate is the stable arm from now on.
        row.path.candidate = None
        row.path.save(update_fields=["stable", "candidate"])
    exposure_end(rollout, state=RolloutState.COMPLETED, now=now)
    number = rollout_changed(
        rollout,
        action="rollout.completed",
        principal=principal,
        now=now,
        mark=f"{rollout.candidate.version} completed: stable for everybody",
        mark_kind="release",
        data={"confirmed_by": people, "stable": rollout.candidate.version},
    )
    return _outcome(rollout, exposure_version=number)


def _criteria(rollout: Rollout, now: datetime) -> list[VerdictRow]:
    return [row for row in verdict_rows([rollout.slug], now) if row.kind == "criterion"]


def _serves_everybody(rollout: Rollout) -> bool:
    """Whether the last stage exposes everybody: a segment of all contexts, whole."""
    return StageSegment.objects.filter(
        stage__rollout=rollout,
        stage__position=rollout.stages.count(),
        segment__rule=True,
        share=1,
    ).exists()


def _version_check(rollout: Rollout, expected_version: int | None) -> None:
    if expected_version is not None and expected_version != rollout.version:
        raise VersionMoved(
            f"You saw version {expected_version}, it is {rollout.version} now: read it again.",
            version=rollout.version,
        )


def _locked(slug: str, principal: Principal) -> Rollout:
    rollout = locks.rollouts().filter(slug=slug).first()
    if rollout is None or not principal.may(Verb.READ, rollout.workflow_id):
        raise NotFound(f"There is no rollout “{slug}”.")
    return rollout


def _move_check(rollout: Rollout, verb: str) -> RolloutState:
    try:
        return next_move(RolloutState(rollout.state), verb).to
    except MoveNotAllowed as refusal:
        raise MoveRefused(str(refusal), state=str(rollout.state)) from refusal


def _outcome(
    rollout: Rollout, *, waiting_for: list[str] | None = None, exposure_version: int | None = None
) -> StepOutcome:
    return StepOutcome(
        rollout=rollout.slug,
        version=rollout.version,
        exposure_version=current_number() if exposure_version is None else exposure_version,
        state=str(rollout.state),
        waiting_for=waiting_for or [],
    )
