"""Expansion requests as rows for pages and the API."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from django.db.models import Exists, OuterRef, Q, QuerySet

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal
from approvals.expansions import policy
from approvals.expansions.evidence import (
    Known,
    bound_on,
    facts_of,
    newest_alert,
    newest_plan,
)
from approvals.expansions.lapses import lapse_by, lapse_of
from approvals.expansions.models import OPEN_STATES, Decision, ExpansionRequest
from approvals.expansions.policy import Facts, RequestState
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.parts import Parts
from signals.guards.selectors import VerdictRow

_REVIEW_OPEN: Final = Q(state="started", reviewed_by=None) & ~Q(break_glass_reason="")


@dataclass(frozen=True, slots=True)
class DecisionRow:
    person: str
    username: str
    decision: str
    reason: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request as it is written down, or at the time of reading: void or expired, then, where it
    no longer stands.

    `evidence` is what was frozen, and `digest` what a decision on it has to name.
    """

    id: int
    workflow_id: int
    workflow: str
    workflow_name: str
    rollout: str
    candidate: str
    state: RequestState
    state_at: datetime
    void_reason: str
    from_version: int
    from_stage: int
    stage: int
    stages: int
    exposed_now: list[dict[str, str]]
    exposed: list[dict[str, str]]
    evidence: dict[str, Any]
    digest: str
    approvals_needed: int
    approvals_why: str
    for_break_glass: bool
    requested_by: str
    requester: str
    requester_id: int
    at: datetime
    expires_at: datetime
    decisions: list[DecisionRow]
    decided_by: frozenset[int]
    started_by: str | None
    starter: str | None
    exposure_version: int | None
    break_glass_reason: str
    reviewed_by: str | None
    reviewer: str | None
    reviewed_at: datetime | None
    review_note: str

    @property
    def open(self) -> bool:
        return self.state in policy.OPEN

    @property
    def approvals(self) -> int:
        return sum(each.decision == "approve" for each in self.decisions)

    @property
    def review_open(self) -> bool:
        return bool(self.break_glass_reason) and self.reviewed_at is None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a rollout stands: its facts, and the ids of what was asked for.

    `open` still stands at the time of reading, and is `approved` or waits for that; `review` was
    started by break-glass and is not reviewed.
    """

    facts: Facts
    open: int | None
    approved: bool
    review: int | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that waits for one person: a decision, a start, or a review."""

    request: int
    rollout: str
    what: Literal["decide", "start", "review"]


@dataclass(frozen=True, slots=True)
class OpenReview:
    """An expansion that one person started alone and nobody else has looked at since."""

    request: int
    rollout: str
    workflow_name: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What waits for one person, and every review that is open, whoever's it is to do."""

    waiting: list[Waiting]
    reviews: list[OpenReview]


def request_rows(
    *,
    request_ids: Iterable[int] | None = None,
    workflow_ids: Iterable[int] | None = None,
    rollout_slugs: Iterable[str] | None = None,
    states: Iterable[str] | None = None,
    before_id: int | None = None,
    limit: int = 100,
    read_at: datetime | None = None,
) -> list[RequestRow]:
    """Return requests, the newest first; `states` are as stored, `before_id` continues a list.

    They are told as they are written down, which the watch does each second. With `read_at` each
    open one is looked at whether it still stands then: about ten queries each, for one rollout's.
    """
    found = _requests()
    if request_ids is not None:
        found = found.filter(pk__in=list(request_ids))
    if workflow_ids is not None:
        found = found.filter(rollout__workflow__in=list(workflow_ids))
    if rollout_slugs is not None:
        found = found.filter(rollout__slug__in=list(rollout_slugs))
    if states is not None:
        found = found.filter(state__in=list(states))
    if before_id is not None:
        found = found.filter(pk__lt=before_id)
    return [_row(request, read_at) for request in found.order_by("-pk")[:limit]]


def request_row(*, request_id: int, now: datetime) -> RequestRow | None:
    """Return one request as it stands at `now`, None where there is none."""
    request = _requests().filter(pk=request_id).first()
    return None if request is None else _row(request, now)


def standing_of(
    rollout: Rollout, *, parts: Parts, verdicts: list[VerdictRow], now: datetime
) -> Standing:
    """Return where a rollout stands; select plan, candidate and workflow with it."""
    found = ExpansionRequest.objects.filter(rollout=rollout).annotate(
        newest_plan=newest_plan("rollout__workflow"), newest_alert=newest_alert("rollout__slug")
    )
    requests = list(found.filter(Q(state__in=OPEN_STATES) | _REVIEW_OPEN).order_by("-pk"))
    asked = next((each for each in requests if each.state in OPEN_STATES), None)
    known = Known(parts, verdicts, waiting=None if asked is None else asked.pk)
    facts = facts_of(rollout, known, now=now)
    stands = asked
    if asked is not None:
        bound = bound_on(rollout, plan=asked.newest_plan, alert=asked.newest_alert)
        if lapse_by(asked, bound=bound, facts=facts) is not None:
            stands = None
    return Standing(
        facts=facts,
        open=None if stands is None else stands.pk,
        approved=stands is not None and stands.state == RequestState.APPROVED,
        review=next((each.pk for each in requests if each.state not in OPEN_STATES), None),
    )


def outstanding(principal: Principal, *, workflow_ids: Iterable[int] | None) -> Outstanding:
    """Return what is still to be done in these workflows (None: all), the oldest first."""
    found = ExpansionRequest.objects.filter(Q(state__in=OPEN_STATES) | _REVIEW_OPEN)
    if workflow_ids is not None:
        found = found.filter(rollout__workflow__in=list(workflow_ids))
    found = found.select_related("rollout__workflow", "requested_by")
    mine = Decision.objects.filter(request=OuterRef("pk"), person=principal.person_id)
    waiting, reviews = [], []
    for request in found.annotate(decided=Exists(mine)).defer("evidence").order_by("pk"):
        what = _waits_for(request, principal, decided=request.decided)
        if what is not None:
            waiting.append(Waiting(request.pk, request.rollout.slug, what))
        if request.state == RequestState.STARTED:
            reviews.append(
                OpenReview(
                    request=request.pk,
                    rollout=request.rollout.slug,
                    workflow_name=request.rollout.workflow.name,
                    by=request.requested_by.shown_name,
                    at=request.state_at,
                )
            )
    return Outstanding(waiting, reviews)


def _waits_for(
    request: ExpansionRequest, principal: Principal, *, decided: bool
) -> Literal["decide", "start", "review"] | None:
    workflow_id = request.rollout.workflow_id
    mine = request.requested_by_id == principal.person_id
    if request.state == RequestState.APPROVED:
        return "start" if principal.may(Verb.EXPANSION_START, workflow_id) else None
    if mine or not principal.may(Verb.EXPANSION_APPROVE, workflow_id):
        return None
    if request.state == RequestState.STARTED:
        return "review"
    return None if request.for_break_glass or decided else "decide"


def _requests() -> QuerySet[ExpansionRequest]:
    return ExpansionRequest.objects.select_related(
        "rollout__workflow",
        "rollout__plan",
        "rollout__candidate",
        "requested_by",
        "started_by",
        "reviewed_by",
    ).prefetch_related("decisions__person")


def _row(request: ExpansionRequest, read_at: datetime | None) -> RequestRow:
    rollout = request.rollout
    state, why = RequestState(request.state), request.void_reason
    if read_at is not None and state in policy.OPEN:
        state, why = lapse_of(request, rollout, now=read_at) or (state, why)
    evidence = request.evidence
    decisions = sorted(request.decisions.all(), key=lambda each: each.pk)
    starter, reviewer = request.started_by, request.reviewed_by
    return RequestRow(
        id=request.pk,
        workflow_id=rollout.workflow_id,
        workflow=rollout.workflow.slug,
        workflow_name=rollout.workflow.name,
        rollout=rollout.slug,
        candidate=rollout.candidate.version,
        state=state,
        state_at=request.state_at,
        void_reason=why,
        from_version=request.from_version,
        from_stage=evidence["stage"]["now"],
        stage=request.stage,
        stages=evidence["stage"]["of"],
        exposed_now=evidence["exposed"]["now"],
        exposed=request.exposed,
        evidence=evidence,
        digest=request.digest,
        approvals_needed=request.approvals_needed,
        approvals_why=evidence["approvers"]["why"],
        for_break_glass=request.for_break_glass,
        requested_by=request.requested_by.shown_name,
        requester=request.requested_by.username,
        requester_id=request.requested_by_id,
        at=request.at,
        expires_at=request.expires_at,
        decisions=[
            DecisionRow(
                person=each.person.shown_name,
                username=each.person.username,
                decision=each.decision,
                reason=each.reason,
                decided_at=each.decided_at,
            )
            for each in decisions
        ],
        decided_by=frozenset(each.person_id for each in decisions),
        started_by=None if starter is None else starter.shown_name,
        starter=None if starter is None else starter.username,
        exposure_version=request.exposure_version,
        break_glass_reason=request.break_glass_reason,
        reviewed_by=None if reviewer is None else reviewer.shown_name,
        reviewer=None if reviewer is None else reviewer.username,
        reviewed_at=request.reviewed_at,
        review_note=request.review_note,
    )
