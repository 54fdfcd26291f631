"""Widening: what may be asked for, what waits for whom, and one request whole."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, Staff, who_can
from approvals.expansions import policy
from approvals.expansions.evidence import Reach, ask_of, facts_of, known_of
from approvals.expansions.models import OPEN_STATES, STATES
from approvals.expansions.policy import Precondition, RequestState
from approvals.expansions.selectors import (
    RequestRow,
    Waiting,
    outstanding,
    request_row,
    request_rows,
    standing_of,
)
from rollout_console.core.errors import NotFound
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.parts import Parts
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.selectors.changes import ChangeView, change_told
from rollout_console.web.selectors.cockpit import rollout_get
from rollout_console.web.selectors.mix import MixCard, mix_frozen
from rollout_console.web.selectors.shell import readable_ids
from rollout_console.web.words import (
    EXPANSIONS,
    VERDICTS,
    Shown,
    rate_text,
    share_text,
)
from rollout_console.web.words import (
    STATES as ROLLOUT_STATES,
)
from signals.catalogue import SIGNALS, signal_of
from signals.format import MISSING, limit_text, range_text, value_text
from signals.guards.selectors import VerdictRow, verdict_rows

LIST_MAX: Final = 100

_BASES: Final = {
    "measured": "by the last hour's traffic",
    "planned": "by the plan's tasks a day",
    "unknown": "not known: no traffic, and no tasks a day in the plan",
}
_WAITS: Final = {
    "decide": "waits for your decision",
    "start": "waits for you to start it",
    "review": "waits for your review",
}


@dataclass(frozen=True, slots=True)
class ExpansionState:
    """Where a rollout stands with widening, for one reader.

    `blocked` names what is missing before a request, empty where one may be made; at most one of
    `pending` and `approved` is a request's id. `may_start` is for the approved one.
    """

    rung: str
    may_request: bool
    who: list[str]
    blocked: list[str]
    pending: int | None
    approved: int | None
    may_start: bool
    review: int | None


@dataclass(frozen=True, slots=True)
class ReachRow:
    """What an exposed set reaches, as text."""

    text: str
    share: str
    tasks: str
    people: str


@dataclass(frozen=True, slots=True)
class ExpandView:
    """What would be asked for, each thing that it takes, and who may ask."""

    rollout: Rollout
    shown: Shown
    stage: int
    stages: int
    after_stage: int | None
    now: ReachRow
    after: ReachRow | None
    basis: str
    approvers: str
    preconditions: list[Precondition]
    missing: int
    waiting: RequestRow | None
    may: bool
    who: list[str]
    may_break_glass: bool
    glass_blocked: list[str]
    action_routes: list[str]


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """A guard in the pack, beside what it says now."""

    guard: str
    title: str
    where: str
    shown: Shown
    verdict: str
    asked: Shown
    value: str
    asked_value: str
    limit: str
    range: str
    n: int
    sentence: str
    asked_sentence: str
    ledger_block: int


@dataclass(frozen=True, slots=True)
class Slot:
    """One half of the sign-off: somebody's word, or an open place."""

    person: str
    shown: Shown
    decided_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class RequestView:
    row: RequestRow
    rollout: Rollout
    state: Shown
    rollout_shown: Shown
    title: str
    now: ReachRow
    after: ReachRow
    criteria: list[EvidenceRow]
    triggers: list[EvidenceRow]
    mixes: list[MixCard]
    slots: list[Slot]
    changes: list[ChangeView]
    alerts: list[dict[str, Any]]
    action_routes: list[str]
    may_decide: bool
    decide_note: str
    may_start: bool
    start_missing: list[str]
    who_starts: list[str]
    may_break_glass: bool
    may_review: bool
    who_reviews: list[str]
    read_at: datetime


@dataclass(frozen=True, slots=True)
class ListedRequest:
    row: RequestRow
    state: Shown
    text: str
    what: str


def expansion_state(
    rollout: Rollout,
    *,
    parts: Parts,
    verdicts: list[VerdictRow],
    staff: Staff,
    principal: Principal,
    now: datetime,
) -> ExpansionState:
    """Return where a rollout stands with widening; select plan, candidate and workflow with it."""
    standing = standing_of(rollout, parts=parts, verdicts=verdicts, now=now)
    rung, missing = standing.facts.rung, policy.missing(policy.preconditions(standing.facts))
    may = principal.may(Verb.EXPANSION_REQUEST, rollout.workflow_id)
    return ExpansionState(
        rung="" if rung is None else f"Stage {rung.position}",
        may_request=may and standing.open is None and not missing,
        who=[] if may else staff.who_can(Verb.EXPANSION_REQUEST),
        # A request that only nobody has closed yet does not stand in the way of the next.
        blocked=[
            f"{each.title}: {each.detail}"
            for each in missing
            if each.slug != "waiting" or standing.open is not None
        ],
        pending=None if standing.approved else standing.open,
        approved=standing.open if standing.approved else None,
        may_start=standing.approved and principal.may(Verb.EXPANSION_START, rollout.workflow_id),
        review=standing.review,
    )


def expand_view(rollout: Rollout, *, principal: Principal, now: datetime) -> ExpandView:
    """Return the form to ask for the next stage."""
    ask = ask_of(rollout, now=now)
    rows = request_rows(rollout_slugs=[rollout.slug], states=OPEN_STATES, read_at=now)
    waiting = next((row for row in rows if row.open), None)
    found = policy.preconditions(ask.facts)
    if waiting is None:
        found = [each for each in found if each.slug != "waiting"]
    workflow = rollout.workflow
    may = principal.may(Verb.EXPANSION_REQUEST, workflow.pk)
    glass = principal.may(Verb.EXPANSION_START, workflow.pk)
    mine = waiting is not None and waiting.requester_id == principal.person_id
    in_the_way = policy.missing(found, break_glass=True)
    return ExpandView(
        rollout=rollout,
        shown=ROLLOUT_STATES[RolloutState(rollout.state)],
        stage=rollout.stage,
        stages=rollout.stages.count(),
        after_stage=None if ask.facts.rung is None else ask.facts.rung.position,
        now=_reach_now(ask.now),
        after=None if ask.after is None else _reach_now(ask.after),
        basis=_BASES["unknown" if ask.after is None else ask.after.share.basis],
        approvers=_approvers(ask.approvers),
        preconditions=found,
        missing=len(policy.missing(found)),
        waiting=waiting,
        may=may,
        who=[] if may else who_can(Verb.EXPANSION_REQUEST, workflow),
        may_break_glass=glass,
        glass_blocked=[each.title for each in in_the_way if not (mine and each.slug == "waiting")],
        action_routes=list(workflow.action_routes.order_by("slug").values_list("slug", flat=True)),
    )


def request_view(*, request_id: int, principal: Principal, now: datetime) -> RequestView:
    """Return one readable request.

    Raises:
        NotFound: there is none, or its workflow is not theirs to read.
    """
    row = request_row(request_id=request_id, now=now) if request_id < 2**63 else None
    if row is None or not principal.may(Verb.READ, row.workflow_id):
        raise NotFound(
            f"There is no expansion request {request_id} in your workflows. Nothing is affected."
        )
    rollout = rollout_get(row.rollout, principal)
    evidence, names = row.evidence, row.evidence["segments"]
    says_now = {each.guard: each for each in verdict_rows([row.rollout], now)} if row.open else {}
    left = []
    if row.state is RequestState.APPROVED:
        found = policy.preconditions(facts_of(rollout, known_of(rollout, now=now), now=now))
        left = policy.missing(each for each in found if each.slug != "waiting")
    approver = principal.may(Verb.EXPANSION_APPROVE, row.workflow_id)
    starter = principal.may(Verb.EXPANSION_START, row.workflow_id)
    mine = principal.person_id == row.requester_id
    note = _decide_note(row, rollout, approver=approver, mine=mine, person=principal.person_id)
    return RequestView(
        row=row,
        rollout=rollout,
        state=EXPANSIONS[row.state.value],
        rollout_shown=ROLLOUT_STATES[RolloutState(rollout.state)],
        title=f"Widen {row.workflow_name} to {_names(row.exposed, names)}?",
        now=_reach_of(evidence, "now"),
        after=_reach_of(evidence, "after"),
        criteria=[_evidence(each, says_now) for each in evidence["criteria"]],
        triggers=[_evidence(each, says_now) for each in evidence["triggers"]],
        mixes=mix_frozen(evidence),
        slots=_slots(row, yours=row.open and not note),
        changes=[change_told(**each) for each in evidence["release"]["changes"]],
        alerts=evidence["alerts"],
        action_routes=evidence["action_routes"],
        may_decide=row.open and not note,
        decide_note=note,
        may_start=row.state is RequestState.APPROVED and starter,
        start_missing=[f"{each.title}: {each.detail}" for each in left],
        who_starts=[] if starter else who_can(Verb.EXPANSION_START, rollout.workflow),
        may_break_glass=row.state is RequestState.PENDING and starter and mine,
        may_review=row.review_open and approver and not mine,
        who_reviews=who_can(Verb.EXPANSION_APPROVE, rollout.workflow) if row.review_open else [],
        read_at=datetime.fromisoformat(evidence["read_at"]),
    )


def approvals_list(*, principal: Principal, show: str) -> list[ListedRequest]:
    """Return readable requests, the newest first; `show` is "waiting" or "decided"."""
    ids = readable_ids(principal)
    to_do = outstanding(principal, workflow_ids=ids)
    waiting = {each.request: each for each in to_do.waiting}
    states = (
        OPEN_STATES if show == "waiting" else [each for each in STATES if each not in OPEN_STATES]
    )
    rows = request_rows(workflow_ids=ids, states=states, limit=LIST_MAX)
    if show == "waiting":
        seen = {row.id for row in rows}
        reviews = [pk for pk, each in waiting.items() if each.what == "review" and pk not in seen]
        rows += request_rows(request_ids=reviews, limit=LIST_MAX) if reviews else []
    return [
        ListedRequest(
            row=row,
            state=EXPANSIONS[row.state.value],
            text=f"{_text(row.exposed_now, row.evidence['segments'])} → "
            f"{_text(row.exposed, row.evidence['segments'])}",
            what=_what(row, waiting.get(row.id)),
        )
        for row in rows
    ]


def _what(row: RequestRow, waiting: Waiting | None) -> str:
    if waiting is not None and (row.open or row.review_open):
        return _WAITS[waiting.what]
    if row.review_open:
        return "started by break-glass, its review is open"
    if row.state is RequestState.PENDING:
        return f"{row.approvals} of {row.approvals_needed} approved"
    if row.state is RequestState.APPROVED:
        return "waits for its owner to start it"
    return row.void_reason


def _decide_note(
    row: RequestRow, rollout: Rollout, *, approver: bool, mine: bool, person: int | None
) -> str:
    """Return why the reader cannot decide on an open request, empty where they can."""
    if not approver or mine:
        names = who_can(Verb.EXPANSION_APPROVE, rollout.workflow)
        if mine:
            names = [name for name in names if name != row.requested_by]
        asked = "You asked for it, so somebody else decides" if mine else "Can decide now"
        return f"{asked}: {', '.join(names) or 'nobody yet'}."
    if person in row.decided_by:
        return "Your word stands."
    return ""


def _slots(row: RequestRow, *, yours: bool) -> list[Slot]:
    slots = [
        Slot(
            person=each.person,
            shown=EXPANSIONS["approved" if each.decision == "approve" else "rejected"],
            decided_at=each.decided_at,
            reason=each.reason,
        )
        for each in row.decisions
    ]
    if row.state is RequestState.PENDING and not row.for_break_glass:
        open_slots = row.approvals_needed - row.approvals
        who = "An approver (you, or a colleague)" if yours else "An approver"
        slots += [Slot(who, EXPANSIONS["pending"], None, "")] * open_slots
    return slots


def _evidence(frozen: Mapping[str, Any], says_now: Mapping[str, Any]) -> EvidenceRow:
    # Frozen with the request: what a team's own signal is called and counted in may change.
    known = signal_of(frozen["signal"])
    signal = replace(
        known,
        unit=frozen["unit"],
        better=frozen.get("better", known.better),
        own=frozen["signal"] not in SIGNALS,
    )
    current = says_now.get(frozen["guard"])
    word = frozen["verdict"] if current is None else current.verdict
    value = frozen["value"] if current is None else current.value
    low, high = (frozen["low"], frozen["high"]) if current is None else (current.low, current.high)
    return EvidenceRow(
        guard=frozen["guard"],
        title=frozen["title"],
        where=", ".join(part for part in (frozen["path"], frozen["segment"]) if part),
        shown=VERDICTS[word],
        verdict=word,
        asked=VERDICTS[frozen["verdict"]],
        value=value_text(signal, value) if current is not None else MISSING,
        asked_value=value_text(signal, frozen["value"]),
        limit=limit_text(signal, frozen["limit"]),
        range=range_text(signal, low, high),
        n=frozen["n"] if current is None else current.n,
        sentence=frozen["sentence"] if current is None else current.sentence,
        asked_sentence=frozen["sentence"],
        ledger_block=frozen["ledger_block"],
    )


def _reach_now(reach: Reach) -> ReachRow:
    return _reach(reach.exposed, reach.names, reach.share.share, reach.tasks_per_min, reach.people)


def _reach_of(evidence: Mapping[str, Any], which: str) -> ReachRow:
    reach = evidence["reach"][which]
    return _reach(
        evidence["exposed"][which],
        evidence["segments"],
        reach["share"],
        reach["tasks_per_min"],
        reach["people"],
    )


def _reach(
    exposed: list[dict[str, str]],
    names: Mapping[str, str],
    share: float | None,
    tasks_per_min: float | None,
    people: int | None,
) -> ReachRow:
    tasks = "not known"
    if tasks_per_min is not None:
        tasks = f"{rate_text(tasks_per_min)} a minute, {rate_text(tasks_per_min * 1440)} a day"
    return ReachRow(
        text=_text(exposed, names) or "nobody",
        share=share_text(share) if share is not None else "an unknown part",
        tasks=tasks,
        people=f"{people:,}" if people is not None else "not known",
    )


def _text(exposed: Iterable[Mapping[str, str]], names: Mapping[str, str]) -> str:
    return " + ".join(
        f"{names[part['segment']]} {share_text(float(part['share']))}" for part in exposed
    )


def _names(exposed: Iterable[Mapping[str, str]], names: Mapping[str, str]) -> str:
    return " + ".join(names[part["segment"]] for part in exposed)


def _approvers(approvers: policy.Approvers | None) -> str:
    if approvers is None:
        return ""
    people = "One approver" if approvers.needed == 1 else "Two approvers"
    return f"{people}: {approvers.why}."
