"""What closes a rollout for good: completing it, or abandoning it with what was found."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, Staff, who_can
from rollout_console.catalog.models import WorkflowPath
from rollout_console.containment.lifecycle import (
    COMPLETE_SIDES,
    Condition,
    complete_conditions,
)
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import EXPOSING, MoveNotAllowed, RolloutState, next_move
from rollout_console.web.selectors.readiness import Half, signing
from rollout_console.web.words import STATES, Shown


@dataclass(frozen=True, slots=True)
class Complete:
    """Completing as a page; `blocked` says why its state does not admit it."""

    rollout: Rollout
    shown: Shown
    candidate: str
    paths: list[str]
    conditions: list[Condition]
    missing: int
    blocked: str
    done: bool
    halves: list[Half]
    may: bool
    who: list[str]
    note: str


@dataclass(frozen=True, slots=True)
class Abandon:
    """Closing for redesign as a page; `back_to` serves afterwards what is exposed now."""

    rollout: Rollout
    shown: Shown
    exposing: bool
    back_to: str
    paths: list[str]
    blocked: str
    done: bool
    may: bool
    who: list[str]


@dataclass(frozen=True, slots=True)
class Ended:
    """What a final rollout leaves: its findings, and a way to start a new rollout of it."""

    findings: str
    again: bool
    may: bool
    who: list[str]


def complete_view(rollout: Rollout, *, principal: Principal, now: datetime) -> Complete:
    """Return what completing this rollout takes, and who has signed."""
    blocked = _blocked(rollout, "complete")
    conditions = [] if blocked else complete_conditions(rollout, now=now)
    signed = signing(rollout, verb="complete", sides=COMPLETE_SIDES, principal=principal, now=now)
    return Complete(
        rollout=rollout,
        shown=STATES[RolloutState(rollout.state)],
        candidate=rollout.candidate.version,
        paths=_paths(rollout),
        conditions=conditions,
        missing=sum(bool(condition.missing) for condition in conditions),
        blocked=blocked,
        done=rollout.state == RolloutState.COMPLETED,
        halves=signed.halves,
        may=signed.may,
        who=signed.who,
        note=signed.note,
    )


def abandon_view(rollout: Rollout, *, principal: Principal) -> Abandon:
    """Return what closing this rollout for redesign does."""
    may = principal.may(Verb.ABANDON, rollout.workflow_id)
    return Abandon(
        rollout=rollout,
        shown=STATES[RolloutState(rollout.state)],
        exposing=RolloutState(rollout.state) in EXPOSING,
        back_to=rollout.stable.version if rollout.stable else "the way without AI",
        paths=_paths(rollout),
        blocked=_blocked(rollout, "abandon"),
        done=rollout.state == RolloutState.ABANDONED,
        may=may,
        who=[] if may else who_can(Verb.ABANDON, rollout.workflow),
    )


def ended(
    rollout: Rollout, *, paths: Iterable[WorkflowPath], staff: Staff, principal: Principal
) -> Ended:
    """Return what a final rollout leaves; none is started of a release that serves already."""
    may = principal.may(Verb.PLAN_EDIT, rollout.workflow_id)
    return Ended(
        findings=rollout.findings,
        again=any(path.stable_id != rollout.candidate_id for path in paths),
        may=may,
        who=[] if may else staff.who_can(Verb.PLAN_EDIT),
    )


def _paths(rollout: Rollout) -> list[str]:
    return list(rollout.rollout_paths.order_by("pk").values_list("path__name", flat=True))


def _blocked(rollout: Rollout, verb: str) -> str:
    try:
        next_move(RolloutState(rollout.state), verb)
    except MoveNotAllowed as refusal:
        return str(refusal)
    return ""
