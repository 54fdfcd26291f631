"""Ask for a wider exposure, decide on it, start it. Only the start widens anything.

Every door looks whether the request still stands. One that does not is closed in the same
transaction, and the refusal that says so is raised after it, since what closed it is a fact.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from django.conf import settings
from django.db import transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import (
    NotAllowed,
    Principal,
    people_who_can,
    require,
    who_can,
)
from approvals.expansions import locks, policy
from approvals.expansions.errors import (
    AlreadyDecided,
    EvidenceChanged,
    ExpansionBlocked,
    ExpansionNotApproved,
    NotToReview,
)
from approvals.expansions.evidence import (
    ask_of,
    exposed_words,
    facts_of,
    known_of,
    pack_of,
)
from approvals.expansions.lapses import (
    closed_refuse,
    expansion_record,
    expansion_tell,
    lapse_close,
    lapsed_close,
    request_open,
    rollout_locked,
)
from approvals.expansions.models import Decision, ExpansionRequest
from approvals.expansions.policy import Precondition, RequestState
from rollout_console.catalog.models import Workflow
from rollout_console.containment.expand import rollout_widen
from rollout_console.containment.services import VersionMoved
from rollout_console.core.canonical import digest as digest_of
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.rollouts.errors import ApproverIsRequester
from rollout_console.rollouts.models import Rollout
from signals.guards.services import guards_look

TEXT_MAX: Final = 2000

Word = Literal["approve", "reject"]


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """The requester's second confirmation: why nobody else is waited for."""

    reason: str
    confirm: bool


def expansion_request(
    *,
    slug: str,
    principal: Principal,
    now: datetime,
    expected_version: int | None = None,
    for_break_glass: bool = False,
) -> tuple[ExpansionRequest, bool]:
    """Ask for the next rung with the evidence as it is now; return the request, and if it is new.

    Asking again while one's own request waits returns that one. `for_break_glass` asks before
    the evidence is there; nobody can approve such a request.

    Raises:
        NotFound, NotAllowed, VersionMoved, ExpansionBlocked.
    """
    verb = Verb.EXPANSION_START if for_break_glass else Verb.EXPANSION_REQUEST
    workflow = _workflow_of(slug, verb, principal)
    person_id = _person_id(principal)
    with transaction.atomic():
        rollout = _looked_and_locked(slug, workflow, now=now)
        lapsed_close(rollout, now=now)
        waiting = request_open(rollout)
        if waiting is not None and (waiting.requested_by_id, waiting.for_break_glass) == (
            person_id,
            for_break_glass,
        ):
            return waiting, False
        if expected_version is not None and expected_version != rollout.version:
            raise VersionMoved(
                f"You saw version {expected_version}, it is {rollout.version} now: read it again.",
                version=rollout.version,
            )
        ask = ask_of(rollout, now=now)
        _missing_refuse(
            policy.missing(policy.preconditions(ask.facts), break_glass=for_break_glass)
        )
        assert ask.facts.rung is not None
        assert ask.approvers is not None
        evidence = pack_of(rollout, ask, now=now)
        request = ExpansionRequest.objects.create(
            rollout=rollout,
            from_version=rollout.version,
            stage=ask.facts.rung.position,
            exposed=exposed_words(ask.facts.rung.exposed),
            evidence=evidence,
            digest=digest_of(evidence),
            approvals_needed=ask.approvers.needed,
            for_break_glass=for_break_glass,
            requested_by_id=person_id,
            at=now,
            expires_at=now + timedelta(seconds=settings.EXPANSION_VALID_S),
            state_at=now,
        )
        expansion_record("expansion.requested", request, principal=principal, now=now)
        expansion_tell("expansion.requested", request, now=now, by=principal.name)
    return request, True


def expansion_decide(
    *,
    request_id: int,
    decision: Word,
    reason: str,
    digest: str,
    principal: Principal,
    now: datetime,
) -> ExpansionRequest:
    """Add one person's word; repeating one's own changes nothing. Widens nothing by itself.

    Rejecting also takes back what is approved and not started. `digest` is of the evidence that
    this person was shown.

    Raises:
        NotFound, NotAllowed, ApproverIsRequester, InvalidInput, AlreadyDecided, ExpansionClosed,
        EvidenceChanged, ExpansionBlocked.
    """
    held = _request_of(request_id, Verb.EXPANSION_APPROVE, principal)
    if _person_id(principal) == held.requested_by_id:
        raise ApproverIsRequester(
            "Ask a colleague to decide on the expansion that you requested: "
            f"{', '.join(who_can(Verb.EXPANSION_APPROVE, held.rollout.workflow)) or 'nobody yet'}."
        )
    reason = _text(reason, pointer="/reason", needed=decision == "reject")
    with transaction.atomic():
        rollout, request = _both_locked(held)
        mine = request.decisions.filter(person_id=_person_id(principal)).first()
        if mine is not None:
            if mine.decision == decision:
                return request
            raise AlreadyDecided(f"You decided to {mine.decision} it; one word a person.")
        closed_refuse(request)
        if digest != request.digest or digest_of(request.evidence) != request.digest:
            raise EvidenceChanged(
                "The digest is not of the evidence that was asked on: read the request again."
            )
        lapsed = lapse_close(request, rollout, now=now)
        if not lapsed:
            _decide(request, decision, reason, principal=principal, now=now)
    if lapsed:
        closed_refuse(request)
    return request


def expansion_start(
    *,
    request_id: int,
    principal: Principal,
    now: datetime,
    break_glass: BreakGlass | None = None,
) -> ExpansionRequest:
    """Widen to what an approved request asked for; starting twice equals starting once.

    Criteria are read again, with the watch held up until this is decided. With `break_glass` the
    requester starts without approval, and without what is only not known yet.

    Raises:
        NotFound, NotAllowed, InvalidInput, ExpansionClosed, ExpansionNotApproved,
        ExpansionBlocked.
    """
    held = _request_of(request_id, Verb.EXPANSION_START, principal)
    why = "" if break_glass is None else _glass_check(held, break_glass, principal=principal)
    workflow = held.rollout.workflow
    with transaction.atomic():
        rollout = _looked_and_locked(held.rollout.slug, workflow, now=now)
        request = locks.requests().get(pk=held.pk)
        if request.state == RequestState.STARTED:
            return request
        closed_refuse(request)
        lapsed = lapse_close(request, rollout, now=now)
        if not lapsed:
            if not why:
                _approved_check(request)
            _start(request, rollout, why=why, principal=principal, now=now)
    if lapsed:
        closed_refuse(request)
    return request


def expansion_break_glass(
    *,
    slug: str,
    reason: str,
    confirm: bool,
    principal: Principal,
    now: datetime,
    expected_version: int | None = None,
) -> ExpansionRequest:
    """Ask for the next rung and start it alone, in one transaction, as its owner.

    Raises:
        What `expansion_request` and `expansion_start` raise.
    """
    workflow = _workflow_of(slug, Verb.EXPANSION_START, principal)
    _text(reason, pointer="/break_glass/reason", needed=True)
    with transaction.atomic():
        rollout = _looked_and_locked(slug, workflow, now=now)
        lapsed_close(rollout, now=now)
        request = request_open(rollout)
        if request is None or request.requested_by_id != _person_id(principal):
            request, _ = expansion_request(
                slug=slug,
                principal=principal,
                now=now,
                expected_version=expected_version,
                for_break_glass=True,
            )
        return expansion_start(
            request_id=request.pk,
            principal=principal,
            now=now,
            break_glass=BreakGlass(reason, confirm),
        )


@transaction.atomic
def expansion_review(
    *, request_id: int, note: str, principal: Principal, now: datetime
) -> ExpansionRequest:
    """Close the review that breaking the glass left open; repeating one's own changes nothing.

    Raises:
        NotFound, NotAllowed, ApproverIsRequester, InvalidInput, NotToReview.
    """
    held = _request_of(request_id, Verb.EXPANSION_APPROVE, principal)
    if principal.person_id == held.requested_by_id:
        raise ApproverIsRequester("Whoever broke the glass cannot review it: ask a colleague.")
    note = _text(note, pointer="/note", needed=True)
    _, request = _both_locked(held)
    if request.reviewed_by_id == _person_id(principal):
        return request
    if not request.broke_glass or request.reviewed_by is not None:
        by = f": {request.reviewed_by.shown_name} did" if request.reviewed_by else ""
        raise NotToReview(f"There is no open review of this request{by}.")
    request.reviewed_by_id = _person_id(principal)
    request.reviewed_at = now
    request.review_note = note
    request.save(update_fields=["reviewed_by", "reviewed_at", "review_note"])
    expansion_record(
        "expansion.reviewed", request, principal=principal, now=now, reason={"note": note}
    )
    return request


def _decide(
    request: ExpansionRequest, decision: Word, reason: str, *, principal: Principal, now: datetime
) -> None:
    if decision == "approve":
        if request.for_break_glass:
            raise ExpansionBlocked(
                "It was asked for before its evidence was there, to be started by break-glass:"
                " nobody can approve it. Reject it, or let it be."
            )
        if request.state == RequestState.APPROVED:
            raise AlreadyDecided("It has the approvals that it needs; it waits for its start.")
    Decision.objects.create(
        request=request,
        person_id=_person_id(principal),
        requested_by=request.requested_by,
        decision=decision,
        reason=reason,
        digest=request.digest,
        decided_at=now,
    )
    approvals = request.decisions.filter(decision="approve").count()
    request.state = (
        RequestState.REJECTED
        if decision == "reject"
        else policy.state_after_approval(approvals=approvals, needed=request.approvals_needed)
    )
    request.state_at = now
    request.save(update_fields=["state", "state_at"])
    expansion_record(
        "expansion.rejected" if decision == "reject" else "expansion.approved",
        request,
        principal=principal,
        now=now,
        reason={"note": reason} if reason else None,
        data={"approvals": approvals, "needed": request.approvals_needed},
    )
    expansion_tell(
        "expansion.decided",
        request,
        now=now,
        by=principal.name,
        decision=decision,
        reason=reason,
        approvals=approvals,
    )


def _start(
    request: ExpansionRequest, rollout: Rollout, *, why: str, principal: Principal, now: datetime
) -> None:
    facts = facts_of(rollout, known_of(rollout, now=now), now=now)
    found = policy.preconditions(facts)
    # That a request waits is what brings us here.
    left = [each for each in found if each.slug != "waiting"]
    _missing_refuse(policy.missing(left, break_glass=bool(why)))
    rung = facts.rung
    assert rung is not None
    if (rung.position, exposed_words(rung.exposed)) != (request.stage, request.exposed):
        raise ExpansionBlocked("The ladder is not the one that was asked on: ask again.")
    skipped = [] if not why else [each.title for each in policy.missing(left)]
    request.exposure_version = rollout_widen(
        rollout,
        rung=rung,
        principal=principal,
        now=now,
        reason={"note": why} if why else None,
        data={"request": request.pk, "digest": request.digest, "break_glass": bool(why)},
    )
    request.state = RequestState.STARTED
    request.state_at = now
    request.started_by_id = principal.person_id
    request.break_glass_reason = why
    request.save(
        update_fields=["state", "state_at", "started_by", "exposure_version", "break_glass_reason"]
    )
    if not why:
        return
    workflow = rollout.workflow
    told = [
        *people_who_can(Verb.EXPANSION_REQUEST, workflow),
        *people_who_can(Verb.EXPANSION_APPROVE, workflow),
    ]
    expansion_record(
        "expansion.broke_glass",
        request,
        principal=principal,
        now=now,
        reason={"note": why},
        data={"skipped": skipped, "exposure_version": request.exposure_version},
    )
    expansion_tell(
        "expansion.decided",
        request,
        now=now,
        by=principal.name,
        decision="start",
        reason=why,
        skipped=skipped,
        tell=list(dict.fromkeys(person.username for person in told)),
    )


def _missing_refuse(missing: Iterable[Precondition]) -> None:
    found = list(missing)
    if found:
        words = [f"{each.title}: {each.detail}" for each in found]
        raise ExpansionBlocked(
            f"Exposure cannot widen now. Missing: {' · '.join(words)}", missing=words
        )


def _approved_check(request: ExpansionRequest) -> None:
    if request.state == RequestState.APPROVED:
        return
    have = request.decisions.filter(decision="approve").count()
    raise ExpansionNotApproved(
        f"{have} of {request.approvals_needed} people have approved it. It waits for: "
        f"{', '.join(who_can(Verb.EXPANSION_APPROVE, request.rollout.workflow)) or 'nobody yet'}."
    )


def _glass_check(
    request: ExpansionRequest, break_glass: BreakGlass, *, principal: Principal
) -> str:
    if principal.person_id != request.requested_by_id:
        raise NotAllowed(
            "Only who asked for an expansion starts it without approval: "
            f"{request.requested_by.shown_name}.",
            who_can=[request.requested_by.shown_name],
        )
    if not break_glass.confirm:
        raise InvalidInput(
            "Confirm that it starts without anybody's approval.",
            errors=[{"pointer": "/break_glass/confirm", "detail": "Send true."}],
        )
    return _text(break_glass.reason, pointer="/break_glass/reason", needed=True)


def _workflow_of(slug: str, verb: Verb, principal: Principal) -> Workflow:
    workflow = Workflow.objects.filter(rollouts__slug=slug).first()
    _permit(workflow, verb, principal, missing=f"There is no rollout “{slug}”.")
    assert workflow is not None
    return workflow


def _request_of(request_id: int, verb: Verb, principal: Principal) -> ExpansionRequest:
    request = (
        ExpansionRequest.objects.filter(pk=request_id)
        .select_related("rollout__workflow", "requested_by")
        .first()
    )
    _permit(
        None if request is None else request.rollout.workflow,
        verb,
        principal,
        missing=f"There is no expansion request {request_id}.",
    )
    assert request is not None
    return request


def _permit(workflow: Workflow | None, verb: Verb, principal: Principal, *, missing: str) -> None:
    # Who may not read it is not told that it exists.
    if workflow is None or not (
        principal.may(Verb.READ, workflow.pk) or principal.may(verb, workflow.pk)
    ):
        raise NotFound(missing)
    require(principal, verb, workflow)


def _person_id(principal: Principal) -> int:
    """Return who it is; the authority's tables let no service token get here."""
    assert principal.person_id is not None
    return principal.person_id


def _looked_and_locked(slug: str, workflow: Workflow, *, now: datetime) -> Rollout:
    """Read every guard again, hold the watch up until the transaction ends, lock the rollout.

    In this order everywhere: whoever waits for a look must not keep a rollout from containment.
    """
    guards_look(now=now, workflow_ids=[workflow.pk], reread=True, wait=True)
    return rollout_locked(slug)


def _both_locked(held: ExpansionRequest) -> tuple[Rollout, ExpansionRequest]:
    rollout = rollout_locked(held.rollout.slug)
    return rollout, locks.requests().get(pk=held.pk)


def _text(text: str, *, pointer: str, needed: bool) -> str:
    text = text.strip()
    if "\x00" in text or len(text) > TEXT_MAX:
        raise InvalidInput(
            f"A text has at most {TEXT_MAX:,} characters and no NUL.",
            errors=[{"pointer": pointer, "detail": "Shorten the text."}],
        )
    if needed and not text:
        raise InvalidInput(
            "Say why, for those who read it later.",
            errors=[{"pointer": pointer, "detail": "Write a reason."}],
        )
    return text
