"""The readiness gate over real rows: who it stops, what it reads, and that no way leads round."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from approvals.authority.matrix import Role, Scope
from approvals.authority.principals import SYSTEM, Principal
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Person, Segment, WorkflowPath
from rollout_console.containment.lifecycle import (
    plan_apply_and_publish,
    rollout_abandon,
    rollout_go_live,
)
from rollout_console.containment.plan_changes import plan_change_decide_and_publish
from rollout_console.core.errors import DomainError
from rollout_console.rollouts.errors import GateNotPassed
from rollout_console.rollouts.gate import gate_read, gates_read
from rollout_console.rollouts.models import Confirmation, ExposedSegment, PlanChange, Rollout
from rollout_console.rollouts.services import rollout_ready
from rollout_console.rollouts.states import RolloutState
from tests.factories import contain, people, person, principal, rollout_at, token
from tests.ledger import bucket
from tests.matrix import logged_in, undone, written
from tests.plans import plan_document

pytestmark = pytest.mark.django_db

SLUG = "support-reply-2026.11.2"


def apply(document: dict[str, Any], who: Principal = SYSTEM) -> None:
    plan_apply_and_publish(document=document, text="", principal=who, now=timezone.now())


def without_review(**rollout: Any) -> dict[str, Any]:
    document = plan_document(**rollout)
    del document["workflow"]["paths"][0]["review"]
    return document


def test_the_api_lists_all_that_is_missing_and_writes_nothing() -> None:
    people()
    document = without_review()
    document["workflow"]["escalation"] = []
    document["rollout"]["criteria"] = []
    apply(document)
    client = logged_in("owner")
    before = written()

    response = client.post(f"/api/v1/rollouts/{SLUG}/ready", content_type="application/json")

    assert response.status_code == 409
    told = response.json()
    assert told["type"] == "/problems/gate-not-passed"
    assert told["missing"] == [
        {
            "item": "criteria",
            "detail": "“draft” has no expansion criterion for quality.",
            "fix": "Add one to “rollout.criteria” on quality_pass_rate or quality_score.",
        },
        {
            "item": "review",
            "detail": "“draft” names nothing that a person reviews.",
            "fix": "List under “review.points” of the path what a person looks at.",
        },
        {
            "item": "owner",
            "detail": "There is no escalation ladder.",
            "fix": "List under “escalation” who is told next, and after how long.",
        },
    ]
    assert told["detail"].startswith(f"{SLUG} is not ready to be exposed: “draft” has no")
    assert told["detail"].endswith("And 2 more.")
    assert written() == before
    gate = client.get(f"/api/v1/rollouts/{SLUG}/readiness").json()
    assert (gate["plan"], gate["passed"], gate["state"]) == (1, False, "draft")
    assert [item["item"] for item in gate["items"] if not item["present"]] == [
        *("criteria", "review", "owner"),
    ]


@pytest.mark.parametrize("name", ["owner", "deputy"])
def test_a_draft_that_misses_something_stays_a_draft(name: str) -> None:
    people()
    apply(without_review())
    before = written()

    with pytest.raises(GateNotPassed) as refusal:
        rollout_ready(slug=SLUG, principal=principal(name), now=timezone.now())

    assert [each["item"] for each in refusal.value.facts["missing"]] == ["review"]
    assert written() == before
    apply(plan_document())
    rollout_ready(slug=SLUG, principal=principal(name), now=timezone.now())
    assert Rollout.objects.get().state == "ready"


@pytest.mark.parametrize("name", ["owner", "approver"])
def test_going_live_reads_the_gate_again(name: str) -> None:
    rollout = rollout_at(RolloutState.READY)
    # No plan may take away what the gate asks; people leave all the same.
    Person.objects.filter(username="deputy").update(is_active=False)
    before = written()

    with pytest.raises(GateNotPassed) as refusal:
        rollout_go_live(slug=rollout.slug, principal=principal(name), now=timezone.now())

    assert [each["item"] for each in refusal.value.facts["missing"]] == ["owner"]
    assert written() == before


def test_the_second_confirmation_reads_it_too() -> None:
    rollout = rollout_at(RolloutState.READY)
    rollout_go_live(slug=rollout.slug, principal=principal("owner"), now=timezone.now())
    Person.objects.filter(username="deputy").update(is_active=False)

    with pytest.raises(GateNotPassed):
        rollout_go_live(slug=rollout.slug, principal=principal("approver"), now=timezone.now())

    rollout.refresh_from_db()
    assert rollout.state == "ready"
    assert not ExposedSegment.objects.exists()


def test_what_the_first_stage_takes_is_measured_over_the_last_day() -> None:
    people()
    stages = [
        {
            "slug": "first",
            "segments": [{"segment": "eu-customers", "share": 0.01}],
            "bake_s": 60,
        }
    ]
    apply(plan_document(stages=stages))
    rollout = Rollout.objects.get()
    path = WorkflowPath.objects.get()
    segment = Segment.objects.get(slug="eu-customers")
    now = timezone.now()
    # 0.96 % as stated; measured it is more than the 1 % of a rollout with action routes.
    assert gate_read(rollout, now=now).passed
    old = now.replace(second=0, microsecond=0) - timedelta(days=2)
    bucket(path, old, release_id=None, passed=900)
    bucket(path, old + timedelta(days=2, minutes=-30), release_id=None, passed=10)
    bucket(
        path,
        old + timedelta(days=2, minutes=-20),
        release_id=None,
        segment_id=segment.pk,
        passed=990,
    )
    gate = gate_read(rollout, now=now)
    assert gate.items[0].evidence[-1] == (
        "0.99 % of the tasks on “draft”, measured over 1,000 tasks; at most 1 % with action routes."
    )
    stages[0]["segments"] = [{"segment": "eu-customers", "share": 0.0102}]
    apply(plan_document(stages=stages))
    rollout.refresh_from_db()

    assert [each["detail"] for each in gate_read(rollout, now=now).missing] == [
        "The first stage is too large: 1.01 % of the tasks on “draft”, measured over 1,000 tasks, "
        "and it may be at most 1 % with action routes."
    ]


def test_a_confirmation_is_void_when_its_person_loses_the_role() -> None:
    rollout = rollout_at(RolloutState.READY)
    person("someone")
    rollout_go_live(slug=rollout.slug, principal=principal("owner"), now=timezone.now())
    document = plan_document()
    document["workflow"]["owner"] = "someone"
    apply(document)
    change = PlanChange.objects.get()
    plan_change_decide_and_publish(
        change_id=change.pk,
        decision="approve",
        reason="the owner leaves",
        digest=change.digest,
        principal=principal("approver"),
        now=timezone.now(),
    )

    outcome = rollout_go_live(
        slug=rollout.slug, principal=principal("approver"), now=timezone.now()
    )

    assert (outcome.state, outcome.waiting_for) == ("ready", ["owner"])
    assert Confirmation.objects.count() == 2
    assert (
        rollout_go_live(slug=rollout.slug, principal=principal("someone"), now=timezone.now()).state
        == "live"
    )
    entry = AuditEntry.objects.get(action="rollout.went_live")
    assert entry.data["confirmed_by"] == ["approver", "someone"]


def test_gates_of_many_rollouts_take_as_many_questions_as_of_one(
    django_assert_num_queries: Any,
) -> None:
    for workflow in ("one", "two", "three"):
        rollout_at(RolloutState.DRAFT, workflow=workflow)
    rollouts = list(Rollout.objects.select_related("plan", "workflow"))
    with django_assert_num_queries(6):
        gates = gates_read(rollouts, now=timezone.now())
    assert [gates[rollout.pk].passed for rollout in rollouts] == [True, True, True]


# --- No way round ---

PEOPLE = (
    "owner",
    "deputy",
    *(role.value for role in Role if role not in (Role.OWNER, Role.DEPUTY)),
    "outsider",
)
WHO = (*PEOPLE, "robot")
# What a plan may leave out, by name.
PLANS = ("whole", "no review", "no ladder", "no quality criterion")
STEPS = st.one_of(
    st.tuples(st.just("plan"), st.sampled_from(PLANS)),
    st.just(("go_live", "approver")),
    st.tuples(st.sampled_from(["ready", "go_live", "abandon"]), st.sampled_from(WHO)),
    st.tuples(st.sampled_from(["pause", "rollback", "resume"]), st.sampled_from(WHO)),
)


def variant(name: str) -> dict[str, Any]:
    document = plan_document()
    if name == "no review":
        return without_review()
    if name == "no ladder":
        document["workflow"]["escalation"] = []
    if name == "no quality criterion":
        del document["rollout"]["criteria"][1]
    return document


def take(step: str, what: str, robot: Principal) -> None:
    now = timezone.now()
    if step == "plan":
        apply(variant(what))
        return
    who = robot if what == "robot" else principal(what)
    if step == "ready":
        rollout_ready(slug=SLUG, principal=who, now=now)
    elif step == "go_live":
        rollout_go_live(slug=SLUG, principal=who, now=now)
    elif step == "abandon":
        rollout_abandon(slug=SLUG, findings="noisy", principal=who, now=now)
    else:
        contain(Rollout.objects.get(), step, principal=who)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    start=st.sampled_from(PLANS),
    # Half of them begin on the way that leads there, so that many of them arrive.
    likely=st.booleans(),
    steps=st.lists(STEPS, max_size=14),
)
def test_no_order_of_calls_goes_live_round_the_gate(
    db: None, start: str, likely: bool, steps: list[tuple[str, str]]
) -> None:
    with undone():
        people()
        _, robot = token(*Scope)
        apply(variant(start))
        way = [("ready", "owner"), ("go_live", "owner")] if likely else []
        for step, what in [*way, *steps]:
            before = Rollout.objects.get()
            passed = gate_read(before, now=timezone.now()).passed
            try:
                with transaction.atomic():
                    take(step, what, robot)
            except DomainError:
                pass
            after = Rollout.objects.get()
            if (before.state, after.state) == ("draft", "ready"):
                assert step == "ready"
                assert passed
            if before.state in ("draft", "ready") and after.state not in (
                *("draft", "ready", "abandoned"),
            ):
                assert (before.state, after.state, step) == ("ready", "live", "go_live")
                assert passed
                confirmed = AuditEntry.objects.get(action="rollout.went_live").data["confirmed_by"]
                assert confirmed == ["approver", "owner"]
            exposed = ExposedSegment.objects.exists()
            assert exposed == (after.state in ("live", "paused"))


def test_the_likely_way_does_arrive() -> None:
    """So that the property above is not true of nothing."""
    people()
    apply(plan_document())
    for step, what in (("ready", "owner"), ("go_live", "owner"), ("go_live", "approver")):
        take(step, what, SYSTEM)
    assert Rollout.objects.get().state == "live"


def test_nobody_is_told_of_a_gate_that_is_not_theirs_to_read(client: Client) -> None:
    rollout = rollout_at(RolloutState.DRAFT)
    client.force_login(Person.objects.get(username="outsider"))

    assert client.get(f"/api/v1/rollouts/{rollout.slug}/readiness").status_code == 404
