"""Completing: from the last stage, in full, for everybody, by two people."""

from typing import Any

import pytest
from django.utils import timezone

from approvals.authority.principals import NotAllowed
from approvals.expansions.services import expansion_start
from rollout_console.containment.lifecycle import (
    NotComplete,
    StepOutcome,
    plan_apply_and_publish,
    rollout_complete,
)
from rollout_console.containment.plan_changes import plan_change_decide_and_publish
from rollout_console.containment.services import VersionMoved
from rollout_console.containment.targets import Press
from rollout_console.core.errors import InvalidInput
from rollout_console.exposure.selectors import snapshot_current
from rollout_console.rollouts.models import PlanChange, Rollout
from rollout_console.rollouts.states import RolloutState
from signals.guards.models import Guard
from tests.factories import (
    completable,
    contain,
    expansion_approved,
    principal,
    ripen,
    rollout_at,
)
from tests.plans import plan_document

pytestmark = pytest.mark.django_db


@pytest.fixture
def ripe() -> Rollout:
    """A live rollout on its only stage, which is everybody, whose criteria hold."""
    return completable()


def complete(rollout: Rollout, who: str, **said: Any) -> StepOutcome:
    fields = {"expected_version": rollout.version, **said}
    return rollout_complete(
        slug=rollout.slug, principal=principal(who), now=timezone.now(), **fields
    )


def test_the_candidate_becomes_stable_for_everybody(ripe: Rollout) -> None:
    assert complete(ripe, "owner").waiting_for == ["approver"]
    assert complete(ripe, "approver").state == "completed"
    assert complete(ripe, "approver").state == "completed"
    path = ripe.rollout_paths.get().path
    assert path.stable is not None
    assert (path.stable.version, path.candidate) == ("2026.11.2", None)
    snapshot = snapshot_current()
    assert snapshot is not None
    document = snapshot.document_bytes(None)
    assert b'"release":"2026.11.2"' in document
    assert b"candidate" not in document
    assert not Guard.objects.filter(rollout=ripe.slug, armed=True).exists()


def test_the_next_rollout_starts_from_it(ripe: Rollout) -> None:
    complete(ripe, "owner")
    complete(ripe, "approver")
    document = plan_document(
        slug="support-reply-2026.12.1", candidate="2026.12.1", stable="2026.11.2"
    )
    following = rollout_at(RolloutState.READY, document=document)
    assert following.stable is not None
    assert following.stable.version == "2026.11.2"


def test_what_is_missing_is_said(ripe: Rollout) -> None:
    # What held once says nothing of now: the evidence is read again.
    Guard.objects.filter(slug="cost-inside").update(evidence_from=timezone.now())
    with pytest.raises(NotComplete) as refusal:
        complete(ripe, "owner")
    (missing,) = refusal.value.facts["missing"]
    assert missing.startswith("cost-inside is undecided: ")
    assert not ripe.confirmations.filter(verb="complete").exists()


def test_a_stage_that_is_not_everybody_is_not_the_last_word() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    with pytest.raises(NotComplete) as refusal:
        complete(rollout, "owner")
    missing = refusal.value.facts["missing"]
    assert missing[0] == "it is on stage 1 of 2"
    assert any("not everybody" in each for each in missing)


def test_from_such_a_stage_the_rest_is_approved_as_an_expansion() -> None:
    document = plan_document()
    (first, _) = document["rollout"]["stages"]
    document["rollout"]["stages"] = [first]
    rollout = rollout_at(RolloutState.LIVE, document=document)
    document["workflow"]["segments"].append(
        {"slug": "everybody", "name": "Everybody", "kind": "customer_segment", "rule": True}
        | {"owner": "owner", "tasks_per_day": 10_000}
    )
    document["rollout"]["stages"].append(
        {
            **first,
            "slug": "all",
            "segments": [*first["segments"], {"segment": "everybody", "share": 1}],
        }
    )
    plan_apply_and_publish(
        document=document, text="", principal=principal("owner"), now=timezone.now()
    )
    change = PlanChange.objects.get()
    plan_change_decide_and_publish(
        change_id=change.pk,
        decision="approve",
        reason="it held for all of internal operations",
        digest=change.digest,
        principal=principal("approver"),
        now=timezone.now(),
    )
    ripen(rollout)
    request = expansion_approved(rollout)
    assert request.approvals_needed == 2
    expansion_start(request_id=request.pk, principal=principal("owner"), now=timezone.now())
    rollout.refresh_from_db()
    ripen(rollout)

    complete(rollout, "owner")

    assert complete(rollout, "approver").state == "completed"


def test_it_takes_the_exact_version(ripe: Rollout) -> None:
    with pytest.raises(InvalidInput):
        complete(ripe, "owner", expected_version=None)
    contain(ripe, "fallback", press=Press(mode="human_review"))
    with pytest.raises(VersionMoved):
        complete(Rollout.objects.get(pk=ripe.pk), "owner", expected_version=ripe.version)


@pytest.mark.parametrize("who", ["deputy", "viewer", "reviewer", "lead", "administrator"])
def test_who_may_not_is_refused(ripe: Rollout, who: str) -> None:
    with pytest.raises(NotAllowed):
        complete(ripe, who)
    ripe.refresh_from_db()
    assert ripe.state == "live"
