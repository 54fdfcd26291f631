"""What stands between a rollout and its first exposure: the gate, and who signs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, Staff, who_can
from rollout_console.containment.confirm import Side, halves_held
from rollout_console.containment.lifecycle import GO_LIVE_SIDES
from rollout_console.rollouts.gate import Gate, gate_read, gates_read
from rollout_console.rollouts.models import Rollout, StageSegment
from rollout_console.rollouts.pacing import first_stage_paces
from rollout_console.rollouts.readiness import ReadinessItem
from rollout_console.rollouts.selectors import Lesson, lesson_before
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.selectors.shell import readable_ids
from rollout_console.web.words import READINESS, STATES, Shown, share_text
from signals.format import limit_text
from signals.guards.evidence import limit_of, signal_of_guard

BEFORE_LIVE: Final = (RolloutState.DRAFT, RolloutState.READY)
WAITING_MAX: Final = 100
# Item of the gate → the editor's step where what it asks for is written.
EDITED_IN: Final = {
    "first_segment": "rollout",
    "criteria": "criteria",
    "fallbacks": "paths",
    "triggers": "triggers",
    "limits": "paths",
    "review": "paths",
    "owner": "workflow",
}


@dataclass(frozen=True, slots=True)
class Half:
    """One side of the two-person sign-off: who holds it until when, or who may."""

    role: str
    by: str
    until: datetime | None
    who: list[str]


@dataclass(frozen=True, slots=True)
class Signing:
    """How a sign-off by two stands, and whether the reader may give the half that is open."""

    halves: list[Half]
    may: bool
    who: list[str]
    note: str


@dataclass(frozen=True, slots=True)
class Step:
    """A step that the reader may take, or sees who can; `blocked` says what the gate misses."""

    name: str
    url: str
    may: bool
    who: list[str]
    note: str
    blocked: str
    halves: list[Half]
    gate: Gate


@dataclass(frozen=True, slots=True)
class ItemRow:
    number: int
    item: ReadinessItem
    shown: Shown
    edited_in: str


@dataclass(frozen=True, slots=True)
class PaceRow:
    """A criterion, and how long it needs on the first stage."""

    title: str
    path: str
    limit: str
    sentence: str
    never: bool


@dataclass(frozen=True, slots=True)
class Readiness:
    """A rollout's gate as a page; `step` is None once it is live or has ended.

    Whoever `may_edit` is led to the editor, others to the file.
    """

    rollout: Rollout
    shown: Shown
    plan_number: int
    rows: list[ItemRow]
    present: int
    findings: list[tuple[str, str]]
    lesson: Lesson | None
    paces: list[PaceRow]
    first: str
    step: Step | None
    may_edit: bool


@dataclass(frozen=True, slots=True)
class WaitingRow:
    slug: str
    name: str
    candidate: str
    shown: Shown
    owner: str
    present: int
    missing: list[str]


def readiness_view(rollout: Rollout, *, principal: Principal, now: datetime) -> Readiness:
    """Return the gate of a rollout, whatever its state."""
    step = rollout_step(rollout, principal=principal, now=now)
    gate = gate_read(rollout, now=now) if step is None else step.gate
    rows = [
        ItemRow(number, item, READINESS[_word(item)], EDITED_IN[item.item])
        for number, item in enumerate(gate.items, start=1)
    ]
    first = StageSegment.objects.filter(stage__rollout=rollout, stage__position=1)
    return Readiness(
        rollout=rollout,
        shown=STATES[RolloutState(rollout.state)],
        plan_number=gate.plan_number,
        rows=rows,
        present=sum(item.present for item in gate.items),
        findings=[(item.title, each) for item in gate.items for each in item.findings],
        lesson=lesson_before(workflow_id=rollout.workflow_id, before=rollout.pk),
        paces=[] if step is None else _paces(rollout, now=now),
        first=" + ".join(
            f"{row.segment.name} {share_text(float(row.share))}"
            for row in first.select_related("segment").order_by("position")
        ),
        step=step,
        may_edit=principal.may(Verb.PLAN_EDIT, rollout.workflow_id),
    )


def _paces(rollout: Rollout, *, now: datetime) -> list[PaceRow]:
    return [
        PaceRow(
            title=signal_of_guard(guard).title,
            path=guard.path.name,
            limit=limit_text(signal_of_guard(guard), limit_of(guard)),
            sentence=pace.sentence,
            never=not pace.per_hour,
        )
        for guard, pace in first_stage_paces(rollout, now=now)
    ]


def waiting_rows(*, principal: Principal, now: datetime) -> list[WaitingRow]:
    """Return the readable rollouts that are not live yet, the newest first."""
    found = Rollout.objects.filter(state__in=[state.value for state in BEFORE_LIVE])
    ids = readable_ids(principal)
    if ids is not None:
        found = found.filter(workflow__in=ids)
    rollouts = list(
        found.select_related("workflow__owner", "candidate", "plan").order_by("-pk")[:WAITING_MAX]
    )
    gates = gates_read(rollouts, now=now)
    return [
        WaitingRow(
            slug=rollout.slug,
            name=rollout.workflow.name,
            candidate=rollout.candidate.version,
            shown=STATES[RolloutState(rollout.state)],
            owner=rollout.workflow.owner.shown_name,
            present=sum(item.present for item in gates[rollout.pk].items),
            missing=[item.title for item in gates[rollout.pk].items if not item.present],
        )
        for rollout in rollouts
    ]


def rollout_step(rollout: Rollout, *, principal: Principal, now: datetime) -> Step | None:
    """Return the step that a draft or ready rollout waits for, with who may take it."""
    if rollout.state not in BEFORE_LIVE:
        return None
    gate = gate_read(rollout, now=now)
    numbers = [str(n) for n, item in enumerate(gate.items, start=1) if not item.present]
    blocked = ""
    if numbers:
        blocked = f"Blocked by item{'s' * (len(numbers) > 1)} {', '.join(numbers)} of the gate."
    if rollout.state == RolloutState.DRAFT:
        return _mark_ready(rollout, principal, gate, blocked)
    return _confirm(rollout, principal, gate, blocked, now)


def _mark_ready(rollout: Rollout, principal: Principal, gate: Gate, blocked: str) -> Step:
    may = principal.may(Verb.ROLLOUT_READY, rollout.workflow_id)
    return Step(
        name="Mark ready",
        url="web:ready",
        may=may and not blocked,
        who=[] if may else who_can(Verb.ROLLOUT_READY, rollout.workflow),
        note=blocked or "Marking it ready exposes nothing.",
        blocked=blocked,
        halves=[],
        gate=gate,
    )


def _confirm(
    rollout: Rollout, principal: Principal, gate: Gate, blocked: str, now: datetime
) -> Step:
    signed = signing(rollout, verb="go_live", sides=GO_LIVE_SIDES, principal=principal, now=now)
    return Step(
        name="Confirm go-live",
        url="web:go_live",
        may=signed.may and not blocked,
        who=signed.who,
        note=blocked or signed.note,
        blocked=blocked,
        halves=signed.halves,
        gate=gate,
    )


def signing(
    rollout: Rollout, *, verb: str, sides: Sequence[Side], principal: Principal, now: datetime
) -> Signing:
    """Return who confirmed a step of owner and approver until when, and who is to."""
    workflow = rollout.workflow
    staff = Staff(workflow)
    held = halves_held(rollout, verb=verb, sides=sides, now=now)
    halves = [
        Half(
            role=side.name,
            by=held[side.name].person.shown_name if side.name in held else "",
            until=held[side.name].expires_at if side.name in held else None,
            who=[] if side.name in held else staff.who_can(side.verb),
        )
        for side in sides
    ]
    mine = any(confirmation.person_id == principal.person_id for confirmation in held.values())
    may = any(principal.may(side.verb, workflow.pk) for side in sides if side.name not in held)
    missing = [
        {"owner": "its owner", "approver": "an approver"}[half.role]
        for half in halves
        if not half.by
    ]
    by = ", ".join(half.by for half in halves if half.by)
    note = f"Waits for {' and '.join(missing)}."
    if by:
        note = f"Confirmed by {by}. {note}"
    return Signing(
        halves=halves,
        may=may and not mine,
        who=[] if may else list(dict.fromkeys(name for half in halves for name in half.who)),
        note=note,
    )


def _word(item: ReadinessItem) -> str:
    if not item.present:
        return "missing"
    return "noted" if item.findings else "complete"
