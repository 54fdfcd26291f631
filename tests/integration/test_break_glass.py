"""Break-glass: it skips waiting, never a warning, and somebody else has to review it."""

from typing import Any

import pytest
from django.utils import timezone

from approvals.authority.matrix import Role
from approvals.authority.principals import NotAllowed
from approvals.expansions.errors import (
    ExpansionBlocked,
    ExpansionNotApproved,
    NotToReview,
)
from approvals.expansions.models import ExpansionRequest
from approvals.expansions.services import (
    BreakGlass,
    expansion_review,
)
from rollout_console.audit.models import AuditEntry
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.core.models import OutboxEvent
from rollout_console.rollouts.errors import ApproverIsRequester
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from tests.expansions import (
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
    expansion_approved,
    expansion_asked,
    expansion_decided,
    person,
    principal,
    ripen,
    rollout_at,
)
from tests.matrix import written

pytestmark = pytest.mark.django_db


@pytest.fixture
def ripe(db: None) -> Rollout:
    """A live rollout on its first stage that has everything an expansion needs."""
    rollout = rollout_at(RolloutState.LIVE)
    ripen(rollout)
    return rollout


@pytest.mark.parametrize("spoil", [None, not_baked, few_runs, undecided, no_data])
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


@pytest.mark.parametrize("spoil", [paused, failing, tripped, fallen_back, on_last_stage])
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
    undecided(ripe)
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
