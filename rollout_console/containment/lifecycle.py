"""The steps of a rollout that change exposure and are not containment."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from approvals.authority.matrix import Role, Verb
from approvals.authority.principals import (
    NotAllowed,
    Principal,
    person_principal,
    require,
    who_can,
)
from rollout_console.catalog.models import Person
from rollout_console.containment.services import MoveRefused, exposure_end, rollout_changed
from rollout_console.core.errors import DomainError, InvalidInput, NotFound
from rollout_console.exposure.services import current_number, version_publish
from rollout_console.rollouts import locks
from rollout_console.rollouts.gate import gate_check
from rollout_console.rollouts.models import Confirmation, ExposedSegment, Rollout
from rollout_console.rollouts.services import PlanResult, plan_apply
from rollout_console.rollouts.states import MoveNotAllowed, RolloutState, next_move
from signals.guards.services import guards_arm

CONFIRMATION_S: Final = 15 * 60
# What each half of going live takes, still, when the other half comes.
HALVES: Final = {Role.OWNER: Verb.GO_LIVE, Role.APPROVER: Verb.GO_LIVE_CONFIRM}


class VersionMoved(DomainError):
    code = "version-moved"
    title = "The rollout changed meanwhile"


class SecondPersonNeeded(DomainError):
    code = "second-person-needed"
    title = "A second person must confirm"
    status = 403


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
    workflow = rollout.workflow
    as_owner = principal.may(Verb.GO_LIVE, workflow.pk)
    as_approver = principal.may(Verb.GO_LIVE_CONFIRM, workflow.pk)
    if principal.person_id is None or not (as_owner or as_approver):
        names = [*who_can(Verb.GO_LIVE, workflow), *who_can(Verb.GO_LIVE_CONFIRM, workflow)]
        raise NotAllowed(
            f"Going live in {workflow.name} takes its owner and an approver: {', '.join(names)}.",
            who_can=names,
        )
    if rollout.state == RolloutState.LIVE:
        return _outcome(rollout)
    _move_check(rollout, "go_live")
    if expected_version is not None and expected_version != rollout.version:
        raise VersionMoved(
            f"You saw version {expected_version}, it is {rollout.version} now: read it again.",
            version=rollout.version,
        )
    # A plan applied since may have taken something away, or named another owner.
    gate_check(rollout, now=now)
    held = {
        role: confirmation.person_id
        for role, confirmation in go_live_confirmations(rollout, now=now).items()
    }
    mine = [role for role, person_id in held.items() if person_id == principal.person_id]
    if not mine:
        role = _role_to_confirm(held, as_owner=as_owner, as_approver=as_approver)
        if role is None:
            names = who_can(Verb.GO_LIVE_CONFIRM if Role.OWNER in held else Verb.GO_LIVE, workflow)
            raise SecondPersonNeeded(
                f"Your side has confirmed already; now it takes: {', '.join(names)}.",
                who_can=names,
            )
        Confirmation.objects.update_or_create(
            rollout=rollout,
            verb="go_live",
            version=rollout.version,
            person_id=principal.person_id,
            defaults={"role": role, "expires_at": now + timedelta(seconds=CONFIRMATION_S)},
        )
        held[role] = principal.person_id
    waiting = [role.value for role in (Role.OWNER, Role.APPROVER) if role not in held]
    if waiting:
        return _outcome(rollout, waiting_for=waiting)
    return _go_live(rollout, confirmed_by=held.values(), principal=principal, now=now)


def go_live_confirmations(rollout: Rollout, *, now: datetime) -> dict[Role, Confirmation]:
    """Return the halves of going live that stand, by role: their people still hold it."""
    found = rollout.confirmations.filter(
        verb="go_live", version=rollout.version, expires_at__gt=now, person__is_active=True
    )
    return {
        Role(confirmation.role): confirmation
        for confirmation in found.select_related("person")
        if person_principal(confirmation.person).may(
            HALVES[Role(confirmation.role)], rollout.workflow_id
        )
    }


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
    if not 1 <= len(findings) <= 10_000 or "\x00" in findings:
        raise InvalidInput(
            "Say what was found, in 1 to 10,000 characters: the next plan carries it.",
            errors=[{"pointer": "/findings", "detail": "Write the findings."}],
        )
    _move_check(rollout, "abandon")
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
    rollout: Rollout, *, confirmed_by: Iterable[int], principal: Principal, now: datetime
) -> StepOutcome:
    first = rollout.stages.get(position=1)
    segments = list(first.segments.select_related("segment").order_by("position"))
    rollout.state = _move_check(rollout, "go_live")
    rollout.stage = 1
    rollout.stage_at = now
    rollout.live_at = now
    rollout.bake_from = now
    ExposedSegment.objects.bulk_create(
        ExposedSegment(rollout=rollout, segment=row.segment, share=row.share) for row in segments
    )
    guards_arm(rollout_slug=rollout.slug, now=now)
    exposed = " + ".join(f"{row.segment.name} {row.share:.1%}" for row in segments)
    people = Person.objects.filter(pk__in=list(confirmed_by)).order_by("username")
    number = rollout_changed(
        rollout,
        action="rollout.went_live",
        principal=principal,
        now=now,
        mark=f"{rollout.candidate.version} live: {exposed}",
        mark_kind="release",
        data={"confirmed_by": [person.username for person in people]},
    )
    return _outcome(rollout, exposure_version=number)


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


def _role_to_confirm(held: dict[Role, int], *, as_owner: bool, as_approver: bool) -> Role | None:
    """Return the half that this person can add, the owner's first, or None."""
    if as_owner and Role.OWNER not in held:
        return Role.OWNER
    if as_approver and Role.APPROVER not in held:
        return Role.APPROVER
    return None


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
