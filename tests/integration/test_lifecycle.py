from datetime import timedelta

import pytest
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from approvals.authority.principals import NotAllowed
from rollout_console.audit.models import AuditEntry
from rollout_console.containment.confirm import CONFIRMATION_S, SecondPersonNeeded
from rollout_console.containment.lifecycle import (
    StepOutcome,
    rollout_abandon,
    rollout_go_live,
)
from rollout_console.containment.services import MoveRefused, VersionMoved
from rollout_console.core.errors import InvalidInput
from rollout_console.rollouts.models import Confirmation, Mark, Rollout
from rollout_console.rollouts.states import RolloutState
from signals.guards.models import Guard
from tests.factories import person, principal, rollout_at, token

pytestmark = pytest.mark.django_db


def go_live(rollout: Rollout, name: str, **fields: object) -> StepOutcome:
    return rollout_go_live(
        **{
            "slug": rollout.slug,
            "principal": principal(name),
            "now": timezone.now(),
            **fields,
        }  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("first", "second", "waiting"),
    [("owner", "approver", "approver"), ("approver", "owner", "owner")],
)
def test_going_live_takes_owner_and_approver(first: str, second: str, waiting: str) -> None:
    rollout = rollout_at(RolloutState.READY)

    half = go_live(rollout, first)
    assert (half.state, half.waiting_for) == ("ready", [waiting])
    whole = go_live(rollout, second)

    assert (whole.state, whole.waiting_for) == ("live", [])
    rollout.refresh_from_db()
    assert [str(row.share.normalize()) for row in rollout.exposed.all()] == ["0.9"]
    assert set(Guard.objects.filter(rollout=rollout.slug).values_list("armed", flat=True)) == {True}
    assert Mark.objects.get(rollout=rollout, kind="release").text == (
        "2026.11.2 live: Internal operations 90.0%"
    )
    entry = AuditEntry.objects.get(action="rollout.went_live")
    assert entry.data["confirmed_by"] == ["approver", "owner"]


def test_one_person_cannot_be_both_halves() -> None:
    rollout = rollout_at(RolloutState.READY)
    person("owner", Role.APPROVER)

    go_live(rollout, "owner")
    outcome = go_live(rollout, "owner")

    assert outcome.waiting_for == ["approver"]
    assert outcome.state == "ready"


def test_two_approvers_are_not_an_owner() -> None:
    rollout = rollout_at(RolloutState.READY)
    person("approver-2", Role.APPROVER)
    go_live(rollout, "approver")

    with pytest.raises(SecondPersonNeeded):
        go_live(rollout, "approver-2")

    rollout.refresh_from_db()
    assert rollout.state == "ready"


def test_a_confirmation_expires() -> None:
    rollout = rollout_at(RolloutState.READY)
    go_live(rollout, "owner", now=timezone.now() - timedelta(seconds=CONFIRMATION_S + 1))

    assert go_live(rollout, "approver").waiting_for == ["owner"]


@pytest.mark.parametrize("name", ["deputy", "viewer", "lead", "reviewer", "administrator"])
def test_others_cannot_confirm(name: str) -> None:
    rollout = rollout_at(RolloutState.READY)

    with pytest.raises(NotAllowed):
        go_live(rollout, name)

    assert not Confirmation.objects.exists()


def test_no_service_token_goes_live() -> None:
    rollout = rollout_at(RolloutState.READY)
    _, robot = token(*Scope)

    with pytest.raises(NotAllowed):
        go_live(rollout, "owner", principal=robot)


def test_a_draft_does_not_go_live() -> None:
    rollout = rollout_at(RolloutState.DRAFT)

    with pytest.raises(MoveRefused):
        go_live(rollout, "owner")


def test_a_stale_confirmation_is_refused() -> None:
    rollout = rollout_at(RolloutState.READY)

    with pytest.raises(VersionMoved):
        go_live(rollout, "owner", expected_version=rollout.version + 7)

    assert not Confirmation.objects.exists()


def test_a_paused_rollout_does_not_come_back_by_going_live() -> None:
    rollout = rollout_at(RolloutState.PAUSED)

    with pytest.raises(MoveRefused):
        go_live(rollout, "owner")


def test_abandoning_keeps_the_findings_and_exposes_nothing() -> None:
    rollout = rollout_at(RolloutState.LIVE)

    outcome = rollout_abandon(
        slug=rollout.slug,
        findings="Retrieval needs another index.",
        principal=principal("owner"),
        now=timezone.now(),
    )

    assert outcome.state == "abandoned"
    assert not rollout.exposed.exists()
    assert AuditEntry.objects.get(action="rollout.abandoned").data["findings"] == (
        "Retrieval needs another index."
    )


def test_abandoning_asks_for_findings() -> None:
    rollout = rollout_at(RolloutState.LIVE)

    with pytest.raises(InvalidInput):
        rollout_abandon(
            slug=rollout.slug, findings=" ", principal=principal("owner"), now=timezone.now()
        )

    rollout.refresh_from_db()
    assert rollout.state == "live"
