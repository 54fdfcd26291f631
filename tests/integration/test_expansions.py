"""Expansion requests through their services: every refusal, and what a start really widens."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from approvals.authority.principals import NotAllowed
from approvals.expansions.errors import (
    AlreadyDecided,
    EvidenceChanged,
    ExpansionBlocked,
    ExpansionClosed,
    ExpansionNotApproved,
    NotToReview,
)
from approvals.expansions.lapses import expansions_sweep
from approvals.expansions.models import Decision, ExpansionRequest
from approvals.expansions.services import (
    BreakGlass,
    expansion_break_glass,
    expansion_request,
    expansion_review,
    expansion_start,
)
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import ActionRoute, Release, Segment, WorkflowPath
from rollout_console.containment.expand import NotWider, rollout_widen
from rollout_console.containment.services import VersionMoved
from rollout_console.containment.work import KEEPER, work_once
from rollout_console.core.canonical import digest
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.core.models import OutboxEvent
from rollout_console.exposure.models import ExposureVersion
from rollout_console.rollouts.errors import ApproverIsRequester
from rollout_console.rollouts.ladder import NextRung
from rollout_console.rollouts.models import Mark, PathMode, PlanVersion, Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.buckets.models import ArrivalLedger
from signals.guards.models import Guard, Verdict
from tests.factories import (
    contain,
    expansion_approved,
    expansion_asked,
    expansion_decided,
    person,
    principal,
    ripen,
    rollout_at,
    token,
)
from tests.ledger import arrive
from tests.matrix import written

pytestmark = pytest.mark.django_db


@pytest.fixture
def ripe(db: None) -> Rollout:
    """A live rollout on its first stage that has everything an expansion needs."""
    rollout = rollout_at(RolloutState.LIVE)
    ripen(rollout)
    return rollout


def start(request: ExpansionRequest, *, by: str = "owner", **fields: Any) -> ExpansionRequest:
    return expansion_start(
        **{
            "request_id": request.pk,
            "principal": principal(by),
            "now": timezone.now(),
            **fields,
        }
    )


def exposed(rollout: Rollout) -> dict[str, Decimal]:
    return {row.segment.slug: row.share for row in rollout.exposed.select_related("segment")}


def alert_open(rollout: Rollout) -> Alert:
    return Alert.objects.create(
        workflow=rollout.workflow,
        rollout=rollout.slug,
        guard=Guard.objects.get(rollout=rollout.slug, slug="slow"),
        owner=rollout.workflow.owner,
        sentence="Too slow.",
        opened_at=timezone.now(),
    )


def slow_down(rollout: Rollout, *, after: timedelta = timedelta()) -> None:
    """Let runs arrive on which the trigger “slow” trips."""
    arrive(
        WorkflowPath.objects.get(workflow=rollout.workflow),
        timezone.now() + after,
        release_id=rollout.candidate_id,
        segment_id=Segment.objects.get(workflow=rollout.workflow, slug="internal-ops").pk,
        passed=4000,
        latencies=[20_000.0] * 4000,
        costs=[0.03, 0.033] * 2000,
    )


# --- Asking ---


def test_asking_freezes_the_evidence_and_tells(ripe: Rollout) -> None:
    request = expansion_asked(ripe)

    assert (request.state, request.stage, request.from_version) == ("pending", 2, ripe.version)
    wider = [
        {"segment": "internal-ops", "share": "1"},
        {"segment": "eu-customers", "share": "0.05"},
    ]
    assert request.exposed == wider
    assert request.expires_at - request.at == timedelta(seconds=settings.EXPANSION_VALID_S)
    assert request.approvals_needed == 1
    request.refresh_from_db()
    assert digest(request.evidence) == request.digest
    evidence = request.evidence
    assert evidence["exposed"] == {
        "now": [{"segment": "internal-ops", "share": "0.9"}],
        "after": wider,
    }
    assert [(each["guard"], each["verdict"]) for each in evidence["criteria"]] == [
        ("cost-inside", "holding"),
        ("quality-holds", "holding"),
    ]
    assert {each["guard"] for each in evidence["triggers"]} == {"quality-low", "slow", "spend-cap"}
    assert evidence["release"]["changes"][0]["after"] == "v19"
    # 400 internal tasks at 1.0 and 8,000 others at 0.05, of 8,400 measured.
    assert evidence["reach"]["after"]["share"] == pytest.approx(800 / 8400)
    assert evidence["reach"]["after"]["basis"] == "measured"
    entry = AuditEntry.objects.get(action="expansion.requested")
    assert (entry.actor, entry.subject, entry.data["digest"]) == (
        "owner",
        ripe.slug,
        request.digest,
    )
    told = OutboxEvent.objects.get(type="expansion.requested")
    assert (told.data["request"], told.data["by"]) == (request.pk, "owner")
    ripe.refresh_from_db()
    assert exposed(ripe) == {"internal-ops": Decimal("0.9")}


def test_asking_again_returns_ones_own_request_and_nobody_elses(ripe: Rollout) -> None:
    first = expansion_asked(ripe)
    before = written()

    again, created = expansion_request(
        slug=ripe.slug, principal=principal("owner"), now=timezone.now()
    )
    assert (again.pk, created) == (first.pk, False)

    with pytest.raises(ExpansionBlocked, match=f"Request {first.pk} waits"):
        expansion_asked(ripe, by="deputy")

    assert ExpansionRequest.objects.count() == 1
    assert written() == before


@pytest.mark.parametrize("name", ["viewer", "lead", "reviewer", "approver", "administrator"])
def test_others_cannot_ask(ripe: Rollout, name: str) -> None:
    before = written()

    with pytest.raises(NotAllowed):
        expansion_asked(ripe, by=name)

    assert written() == before


def test_an_outsider_is_not_told_that_it_is_there(ripe: Rollout) -> None:
    with pytest.raises(NotFound):
        expansion_asked(ripe, by="outsider")


def _paused(rollout: Rollout) -> None:
    contain(rollout, "pause")


def _not_baked(rollout: Rollout) -> None:
    Rollout.objects.filter(pk=rollout.pk).update(bake_from=timezone.now())


def _few_runs(rollout: Rollout) -> None:
    rollout.stages.filter(position=1).update(min_runs=100_000)


def _undecided(rollout: Rollout) -> None:
    Guard.objects.filter(slug="cost-inside").update(min_n=5000)


def _failing(rollout: Rollout) -> None:
    Guard.objects.filter(slug="cost-inside").update(limit=0.01)


def _no_data(rollout: Rollout) -> None:
    ArrivalLedger.objects.all().delete()
    Verdict.objects.all().delete()
    Guard.objects.update(evidence_from=timezone.now() - timedelta(days=2))


def _tripped(rollout: Rollout) -> None:
    slow_down(rollout, after=timedelta(milliseconds=-1))


def _fallback(rollout: Rollout) -> None:
    PathMode.objects.create(
        rollout=rollout,
        path=WorkflowPath.objects.get(workflow=rollout.workflow),
        mode="human_review",
        since=timezone.now(),
    )


def _last_stage(rollout: Rollout) -> None:
    rollout.stages.filter(position=2).delete()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_paused, "The rollout is live: It is paused"),
        (_not_baked, "Baked for at least 1 min: "),
        (_few_runs, "At least 100,000 runs of the candidate: 400 of 100,000"),
        (_undecided, "Criterion cost-inside holds: Undecided: "),
        (_failing, "Criterion cost-inside holds: Failing: "),
        (_no_data, "Criterion cost-inside holds: Blind: "),
        (_tripped, "Trigger slow has not tripped: "),
        (_fallback, "No fallback is in force: In force: human review on draft"),
        (_last_stage, "There is a wider stage: "),
    ],
)
def test_asking_too_early_says_what_is_missing(ripe: Rollout, spoil: Any, words: str) -> None:
    spoil(ripe)
    before = written()

    with pytest.raises(ExpansionBlocked) as refused:
        expansion_asked(ripe)

    assert words in refused.value.detail, refused.value.detail
    assert refused.value.facts["missing"]
    assert not ExpansionRequest.objects.exists()
    assert written() == before


def test_asking_on_an_old_version_is_refused(ripe: Rollout) -> None:
    before = written()

    with pytest.raises(VersionMoved):
        expansion_asked(ripe, expected_version=ripe.version - 1)

    assert written() == before


def test_after_a_narrow_the_present_stage_is_asked_for_in_full(ripe: Rollout) -> None:
    expansion_start(
        request_id=expansion_approved(ripe).pk, principal=principal("owner"), now=timezone.now()
    )
    ripe.exposed.filter(segment__slug="eu-customers").delete()
    ripen(ripe)

    request = expansion_asked(ripe)

    assert (request.stage, request.exposed[1]) == (
        2,
        {"segment": "eu-customers", "share": "0.05"},
    )
    assert request.evidence["stage"]["again"] is True


@pytest.mark.parametrize(
    ("share", "risk", "needed"),
    [("0.05", "low", 1), ("0.5", "low", 2), ("0.05", "medium", 2), ("0.05", "high", 2)],
)
def test_a_large_or_risky_stage_takes_two(
    ripe: Rollout, share: str, risk: str, needed: int
) -> None:
    ripe.stages.get(position=2).segments.filter(segment__slug="eu-customers").update(share=share)
    ActionRoute.objects.update(risk=risk)

    request = expansion_asked(ripe)

    assert request.approvals_needed == needed
    if needed == 2:
        assert expansion_decided(request).state == "pending"
        person("approver-2", Role.APPROVER)
        request = expansion_decided(request, by="approver-2")
    else:
        request = expansion_decided(request)
    assert request.state == "approved"
    assert exposed(ripe) == {"internal-ops": Decimal("0.9")}


# --- Deciding ---


def test_the_requester_never_decides_even_as_an_approver(ripe: Rollout) -> None:
    person("owner", Role.APPROVER)
    request = expansion_asked(ripe)
    before = written()

    with pytest.raises(ApproverIsRequester, match="Ask a colleague"):
        expansion_decided(request, by="owner")

    assert written() == before
    with pytest.raises(IntegrityError), transaction.atomic():
        Decision.objects.create(
            request=request,
            person=request.requested_by,
            requested_by=request.requested_by,
            decision="approve",
            digest=request.digest,
            decided_at=timezone.now(),
        )


@pytest.mark.parametrize("name", ["owner", "deputy", "viewer", "lead", "reviewer", "administrator"])
def test_others_cannot_decide(ripe: Rollout, name: str) -> None:
    request = expansion_asked(ripe)
    before = written()

    with pytest.raises(NotAllowed):
        expansion_decided(request, by=name)

    assert written() == before


def test_no_service_token_asks_decides_starts_or_reviews(ripe: Rollout) -> None:
    _, robot = token(*Scope)
    request = expansion_approved(ripe)
    before = written()
    now = timezone.now()

    for act in (
        lambda: expansion_request(slug=ripe.slug, principal=robot, now=now),
        lambda: glass(ripe, principal=robot),
        lambda: expansion_decided(request, principal=robot),
        lambda: start(request, principal=robot),
        lambda: start(request, principal=robot, break_glass=BreakGlass("now", True)),
        lambda: expansion_review(request_id=request.pk, note="ok", principal=robot, now=now),
    ):
        with pytest.raises(NotAllowed):
            act()
    assert written() == before


def test_one_person_counts_once(ripe: Rollout) -> None:
    ActionRoute.objects.update(risk="high")
    request = expansion_asked(ripe)
    expansion_decided(request)
    before = written()

    again = expansion_decided(request)

    assert again.state == "pending"
    assert written() == before
    with pytest.raises(AlreadyDecided):
        expansion_decided(request, decision="reject")
    assert written() == before


def test_an_approval_is_of_what_was_shown(ripe: Rollout) -> None:
    request = expansion_asked(ripe)
    before = written()

    with pytest.raises(EvidenceChanged):
        expansion_decided(request, digest="0" * 64)

    assert written() == before
    ExpansionRequest.objects.update(evidence={**request.evidence, "approvers": {"why": "none"}})
    with pytest.raises(EvidenceChanged):
        expansion_decided(request)
    assert written() == before


def test_rejecting_takes_a_reason_and_ends_it(ripe: Rollout) -> None:
    request = expansion_asked(ripe)
    before = written()
    with pytest.raises(InvalidInput):
        expansion_decided(request, decision="reject", reason=" ")
    assert written() == before

    request = expansion_decided(request, decision="reject", reason="EU holiday")

    assert request.state == "rejected"
    told = OutboxEvent.objects.get(type="expansion.decided")
    assert (told.data["decision"], told.data["reason"]) == ("reject", "EU holiday")
    with pytest.raises(ExpansionClosed):
        start(request)
    assert expansion_asked(ripe).pk != request.pk


def test_rejecting_takes_back_what_is_approved_and_not_started(ripe: Rollout) -> None:
    request = expansion_approved(ripe)
    person("approver-2", Role.APPROVER)
    with pytest.raises(AlreadyDecided, match="it waits for its start"):
        expansion_decided(request, by="approver-2")

    assert expansion_decided(request, by="approver-2", decision="reject").state == "rejected"


# --- What makes a request void ---


def _plan_again(rollout: Rollout) -> None:
    plan = rollout.plan
    PlanVersion.objects.create(
        workflow=plan.workflow,
        number=plan.number + 1,
        document=plan.document,
        digest="1" * 64,
        applied_at=timezone.now(),
        applied_by="owner",
    )


def _release_again(rollout: Rollout) -> None:
    Release.objects.filter(pk=rollout.candidate_id).update(content_digest="2" * 64)


def _alert(rollout: Rollout) -> None:
    alert_open(rollout)


def _trips_again(rollout: Rollout) -> None:
    Verdict.objects.filter(guard__slug="slow").update(verdict="tripped", sentence="Too slow.")


def _fails(rollout: Rollout) -> None:
    Verdict.objects.filter(guard__slug="cost-inside").update(verdict="failing", sentence="Dear.")


SPOILERS: Any = [
    (_paused, "The rollout is paused."),
    (_plan_again, "a new plan was applied"),
    (_release_again, "the release changed"),
    (_alert, "a trigger tripped"),
    (_trips_again, "A trigger tripped: Too slow."),
    (_fails, "A criterion fails now: Dear."),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILERS)
@pytest.mark.parametrize("door", ["decide", "sweep"])
def test_a_request_is_void_once_what_it_stands_on_moved(
    ripe: Rollout, spoil: Any, words: str, door: str
) -> None:
    request = expansion_asked(ripe)
    spoil(ripe)

    if door == "decide":
        with pytest.raises(ExpansionClosed):
            expansion_decided(request)
    else:
        assert expansions_sweep(now=timezone.now()) == 1

    request.refresh_from_db()
    assert request.state == "void"
    assert words in request.void_reason
    assert not Decision.objects.exists()
    entry = AuditEntry.objects.get(action="expansion.voided")
    assert (entry.actor_kind, entry.reason["note"]) == ("system", request.void_reason)
    assert OutboxEvent.objects.get(type="expansion.decided").data["decision"] == "void"
    assert expansions_sweep(now=timezone.now()) == 0


@pytest.mark.parametrize("spoil", [_paused, _plan_again, _release_again, _alert, _tripped])
def test_an_approved_request_is_void_before_it_starts(ripe: Rollout, spoil: Any) -> None:
    request = expansion_approved(ripe)
    spoil(ripe)
    before = ExposureVersion.objects.count()

    with pytest.raises(ExpansionClosed):
        start(request)

    request.refresh_from_db()
    assert request.state == "void"
    assert exposed(ripe) == {"internal-ops": Decimal("0.9")}
    assert ExposureVersion.objects.count() == before


def test_nothing_is_approved_or_started_late(ripe: Rollout) -> None:
    request = expansion_asked(ripe, now=timezone.now() - timedelta(seconds=1))
    late = request.expires_at

    with pytest.raises(ExpansionClosed):
        expansion_decided(request, now=late)

    request.refresh_from_db()
    assert request.state == "expired"
    assert AuditEntry.objects.filter(action="expansion.expired").count() == 1


def test_the_watch_closes_what_no_longer_stands(ripe: Rollout) -> None:
    request = expansion_asked(ripe)
    contain(ripe, "pause")

    work_once(name=KEEPER, periodic=True)

    request.refresh_from_db()
    assert request.state == "void"


# --- Starting ---


def test_the_start_widens_restarts_the_bake_and_tells(ripe: Rollout) -> None:
    request = expansion_approved(ripe)
    now = timezone.now()

    request = start(request, now=now)

    ripe.refresh_from_db()
    assert (request.state, request.started_by) == ("started", ripe.workflow.owner)
    assert exposed(ripe) == {"internal-ops": Decimal(1), "eu-customers": Decimal("0.05")}
    assert (ripe.stage, ripe.stage_at, ripe.bake_from) == (2, now, now)
    assert set(
        Guard.objects.filter(rollout=ripe.slug, kind="criterion").values_list(
            "evidence_from", flat=True
        )
    ) == {now}
    assert now not in set(
        Guard.objects.filter(rollout=ripe.slug, kind="trigger").values_list(
            "evidence_from", flat=True
        )
    )
    entry = AuditEntry.objects.get(action="rollout.expanded")
    assert entry.data["exposed_before"] == {"internal-ops": "0.9"}
    assert (entry.data["request"], entry.data["break_glass"]) == (request.pk, False)
    assert entry.data["exposure_version"] == request.exposure_version
    assert request.exposure_version is not None
    document = ExposureVersion.objects.get(number=request.exposure_version).document
    assert "candidate:eu-customers" in document["flags"]["support-reply.draft"]["variants"]
    assert Mark.objects.latest("pk").text == (
        "2026.11.2 widened to stage 2: internal-ops 100.0% + eu-customers 5.0%"
    )
    assert OutboxEvent.objects.filter(type="rollout.changed").latest("pk").data["stage"] == 2


def test_starting_twice_equals_starting_once(ripe: Rollout) -> None:
    request = expansion_approved(ripe)
    start(request)
    before = written()

    again = start(request)

    assert again.state == "started"
    assert written() == before


def test_only_what_is_approved_starts(ripe: Rollout) -> None:
    ActionRoute.objects.update(risk="high")
    request = expansion_asked(ripe)
    expansion_decided(request)
    before = written()

    with pytest.raises(ExpansionNotApproved, match="1 of 2 people"):
        start(request)

    assert written() == before
    assert exposed(ripe) == {"internal-ops": Decimal("0.9")}


@pytest.mark.parametrize("name", ["deputy", "approver", "viewer", "administrator"])
def test_only_the_owner_starts(ripe: Rollout, name: str) -> None:
    request = expansion_approved(ripe)
    before = written()

    with pytest.raises(NotAllowed):
        start(request, by=name)

    assert written() == before


def test_criteria_are_read_again_at_the_start(ripe: Rollout) -> None:
    request = expansion_approved(ripe)
    _undecided(ripe)
    before = written()

    with pytest.raises(ExpansionBlocked, match="Undecided"):
        start(request)

    assert written() == before
    request.refresh_from_db()
    assert request.state == "approved"
    Guard.objects.filter(slug="cost-inside").update(min_n=20)
    assert start(request).state == "started"


@pytest.mark.parametrize(
    ("state", "wider"),
    [
        (RolloutState.LIVE, {"internal-ops": Decimal("0.8"), "eu-customers": Decimal(1)}),
        (RolloutState.LIVE, {"eu-customers": Decimal(1)}),
        (RolloutState.PAUSED, {"internal-ops": Decimal(1), "eu-customers": Decimal("0.05")}),
    ],
)
def test_widening_itself_never_drops_anybody_and_only_while_live(
    state: RolloutState, wider: dict[str, Decimal]
) -> None:
    rollout = rollout_at(state)
    before = written()

    with pytest.raises(NotWider):
        rollout_widen(
            rollout,
            rung=NextRung(2, wider, again=False),
            principal=principal("owner"),
            now=timezone.now(),
        )

    assert exposed(rollout) == {"internal-ops": Decimal("0.9")}
    assert written() == before


# --- Break-glass ---


def glass(rollout: Rollout, *, by: str = "owner", **fields: Any) -> ExpansionRequest:
    return expansion_break_glass(
        **{
            "slug": rollout.slug,
            "reason": "Stable is down for everybody.",
            "confirm": True,
            "principal": principal(by),
            "now": timezone.now(),
            **fields,
        }
    )


@pytest.mark.parametrize("spoil", [None, _not_baked, _few_runs, _undecided, _no_data])
def test_break_glass_does_not_wait(ripe: Rollout, spoil: Any) -> None:
    if spoil is not None:
        spoil(ripe)

    request = glass(ripe)

    ripe.refresh_from_db()
    assert (request.state, ripe.stage) == ("started", 2)
    assert request.broke_glass
    assert request.reviewed_at is None
    entry = AuditEntry.objects.get(action="expansion.broke_glass")
    assert entry.reason == {"note": "Stable is down for everybody."}
    assert bool(entry.data["skipped"]) == (spoil is not None)
    told = OutboxEvent.objects.get(type="expansion.decided")
    assert told.data["break_glass"] is True
    assert set(told.data["tell"]) == {"owner", "deputy", "approver"}
    assert AuditEntry.objects.get(action="rollout.expanded").data["break_glass"] is True


@pytest.mark.parametrize("spoil", [_paused, _failing, _tripped, _fallback, _last_stage])
def test_break_glass_never_goes_against_a_warning(ripe: Rollout, spoil: Any) -> None:
    spoil(ripe)
    before = written()

    with pytest.raises(ExpansionBlocked):
        glass(ripe)

    assert not ExpansionRequest.objects.exists()
    assert written() == before


@pytest.mark.parametrize("state", [RolloutState.DRAFT, RolloutState.READY])
def test_break_glass_never_goes_live(state: RolloutState) -> None:
    rollout = rollout_at(state)
    before = written()

    with pytest.raises(ExpansionBlocked, match="The rollout is live"):
        glass(rollout)

    assert written() == before
    rollout.refresh_from_db()
    assert rollout.state == state


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"confirm": False}, InvalidInput),
        ({"reason": " "}, InvalidInput),
        ({"by": "deputy"}, NotAllowed),
        ({"by": "approver"}, NotAllowed),
        ({"by": "outsider"}, NotFound),
    ],
)
def test_break_glass_takes_its_owner_a_reason_and_a_second_confirmation(
    ripe: Rollout, fields: Any, refusal: type[Exception]
) -> None:
    before = written()

    with pytest.raises(refusal):
        glass(ripe, **fields)

    assert not ExpansionRequest.objects.exists()
    assert written() == before


def test_only_the_requester_breaks_the_glass_of_a_request(ripe: Rollout) -> None:
    request = expansion_asked(ripe, by="deputy")
    before = written()

    with pytest.raises(NotAllowed, match="Only who asked"):
        start(request, break_glass=BreakGlass("now", True))
    with pytest.raises(ExpansionBlocked):
        glass(ripe)

    assert written() == before


def test_a_waiting_request_of_ones_own_can_be_started_by_break_glass(ripe: Rollout) -> None:
    request = expansion_asked(ripe)

    assert glass(ripe).pk == request.pk

    request.refresh_from_db()
    assert request.state == "started"


def test_what_was_asked_without_evidence_cannot_be_approved(ripe: Rollout) -> None:
    _undecided(ripe)
    request = expansion_asked(ripe, for_break_glass=True)
    before = written()

    with pytest.raises(ExpansionBlocked, match="nobody can approve it"):
        expansion_decided(request)

    assert written() == before
    with pytest.raises(ExpansionNotApproved):
        start(request)
    assert written() == before


def test_the_review_stays_open_until_somebody_else_did_it(ripe: Rollout) -> None:
    person("owner", Role.APPROVER)
    request = glass(ripe)
    before = written()

    def review(by: str, note: str = "It was right.") -> ExpansionRequest:
        return expansion_review(
            request_id=request.pk, note=note, principal=principal(by), now=timezone.now()
        )

    with pytest.raises(ApproverIsRequester):
        review("owner")
    with pytest.raises(NotAllowed):
        review("deputy")
    with pytest.raises(InvalidInput):
        review("approver", note="")
    assert written() == before

    done = review("approver")
    assert (done.reviewed_by, done.review_note) == (
        person("approver"),
        "It was right.",
    )
    assert AuditEntry.objects.filter(action="expansion.reviewed").count() == 1
    assert review("approver").reviewed_at == done.reviewed_at
    person("approver-2", Role.APPROVER)
    with pytest.raises(NotToReview):
        review("approver-2")
    assert AuditEntry.objects.filter(action="expansion.reviewed").count() == 1


def test_what_was_approved_has_nothing_to_review(ripe: Rollout) -> None:
    request = start(expansion_approved(ripe))

    with pytest.raises(NotToReview):
        expansion_review(
            request_id=request.pk, note="ok", principal=principal("approver"), now=timezone.now()
        )
