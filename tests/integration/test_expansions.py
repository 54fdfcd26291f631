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
)
from approvals.expansions.lapses import expansions_sweep
from approvals.expansions.models import Decision, ExpansionRequest
from approvals.expansions.services import (
    BreakGlass,
    expansion_request,
    expansion_review,
    expansion_start,
)
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import ActionRoute, Release
from rollout_console.containment.expand import NotWider, rollout_widen
from rollout_console.containment.services import VersionMoved
from rollout_console.containment.work import work_once
from rollout_console.core.canonical import digest
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.core.heartbeats import KEEPER
from rollout_console.core.models import OutboxEvent
from rollout_console.exposure.models import ExposureVersion
from rollout_console.rollouts.errors import ApproverIsRequester
from rollout_console.rollouts.ladder import NextRung
from rollout_console.rollouts.models import Mark, PlanVersion, Rollout
from rollout_console.rollouts.states import RolloutState
from signals.guards.models import Guard, Verdict
from tests.expansions import (
    alert_open,
    exposed,
    failing,
    fallen_back,
    few_runs,
    glass,
    no_data,
    not_baked,
    on_last_stage,
    paused,
    start,
    tripped,
    undecided,
)
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
from tests.matrix import written

pytestmark = pytest.mark.django_db


@pytest.fixture
def ripe(db: None) -> Rollout:
    """A live rollout on its first stage that has everything an expansion needs."""
    rollout = rollout_at(RolloutState.LIVE)
    ripen(rollout)
    return rollout


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


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (paused, "The rollout is live: It is paused"),
        (not_baked, "Baked for at least 1 min: "),
        (few_runs, "At least 100,000 runs of the candidate: 400 of 100,000"),
        (undecided, "Criterion cost-inside holds: Undecided: "),
        (failing, "Criterion cost-inside holds: Failing: "),
        (no_data, "Criterion cost-inside holds: Blind: "),
        (tripped, "Trigger slow has not tripped: "),
        (fallen_back, "No fallback is in force: In force: human review on draft"),
        (on_last_stage, "There is a wider stage: "),
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
    (paused, "The rollout is paused."),
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


@pytest.mark.parametrize("spoil", [paused, _plan_again, _release_again, _alert, tripped])
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
    undecided(ripe)
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
