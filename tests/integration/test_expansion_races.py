"""What happens at once, and what no sequence through any door may come to."""

import contextlib
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from django.db import connections, transaction
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from approvals.authority.matrix import Role, Scope
from approvals.expansions.errors import ExpansionClosed
from approvals.expansions.lapses import expansions_sweep
from approvals.expansions.models import Decision, ExpansionRequest
from approvals.expansions.services import expansion_start
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import ActionRoute, Person, Segment, WorkflowPath
from rollout_console.core.errors import DomainError
from rollout_console.rollouts.models import PlanVersion, Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.alerts.services import guards_watch
from signals.guards.models import Guard
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


def ripe_rollout() -> Rollout:
    rollout = rollout_at(RolloutState.LIVE)
    ripen(rollout)
    return rollout


def at_once(*acts: Callable[[], Any]) -> list[DomainError | None]:
    """Do everything at once, each on a connection of its own; return what was refused."""
    together = threading.Barrier(len(acts))
    refused: list[DomainError | None] = [None] * len(acts)

    def run(place: int, act: Callable[[], Any]) -> None:
        together.wait()
        try:
            act()
        except DomainError as refusal:
            refused[place] = refusal
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return refused


def start(request: ExpansionRequest) -> ExpansionRequest:
    return expansion_start(request_id=request.pk, principal=principal("owner"), now=timezone.now())


def entries(action: str) -> int:
    return AuditEntry.objects.filter(action=action).count()


@pytest.mark.django_db(transaction=True)
def test_two_approvers_at_once_are_one_approval_where_one_is_needed() -> None:
    request = expansion_asked(ripe_rollout())
    person("approver-2", Role.APPROVER)

    refused = at_once(
        lambda: expansion_decided(request),
        lambda: expansion_decided(request, by="approver-2"),
        lambda: expansion_decided(request),
    )

    request.refresh_from_db()
    assert request.state == "approved"
    assert Decision.objects.count() == 1
    assert entries("expansion.approved") == 1
    assert [each.code for each in refused if each] in (
        ["already-decided"],
        ["already-decided", "already-decided"],
    )


@pytest.mark.django_db(transaction=True)
def test_two_approvers_at_once_are_two_where_two_are_needed() -> None:
    rollout = ripe_rollout()
    ActionRoute.objects.update(risk="high")
    request = expansion_asked(rollout)
    person("approver-2", Role.APPROVER)

    refused = at_once(
        lambda: expansion_decided(request), lambda: expansion_decided(request, by="approver-2")
    )

    request.refresh_from_db()
    assert refused == [None, None]
    assert (request.state, Decision.objects.count()) == ("approved", 2)


@pytest.mark.django_db(transaction=True)
def test_two_requests_at_once_are_one() -> None:
    rollout = ripe_rollout()

    refused = at_once(
        lambda: expansion_asked(rollout), lambda: expansion_asked(rollout, by="deputy")
    )

    assert sorted(each.code for each in refused if each) == ["expansion-blocked"]
    assert ExpansionRequest.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_approval_while_a_trigger_trips_never_widens() -> None:
    rollout = ripe_rollout()
    request = expansion_asked(rollout)
    arrive(
        WorkflowPath.objects.get(workflow=rollout.workflow),
        timezone.now(),
        release_id=rollout.candidate_id,
        segment_id=Segment.objects.get(slug="internal-ops").pk,
        passed=4000,
        latencies=[20_000.0] * 4000,
        costs=[0.03, 0.033] * 2000,
    )

    # A second later, or the look would be too soon after the one that asking took.
    soon = timezone.now() + timedelta(seconds=1)

    at_once(lambda: guards_watch(now=soon), lambda: expansion_decided(request))

    assert Alert.objects.filter(guard__slug="slow").count() == 1
    with pytest.raises(ExpansionClosed):
        start(request)
    request.refresh_from_db()
    assert request.state == "void"
    rollout.refresh_from_db()
    assert (rollout.stage, rollout.exposed.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_starting_twice_at_once_widens_once() -> None:
    rollout = ripe_rollout()
    request = expansion_approved(rollout)

    assert at_once(*[lambda: start(request)] * 3) == [None, None, None]

    rollout.refresh_from_db()
    assert (rollout.stage, entries("rollout.expanded")) == (2, 1)


@pytest.mark.django_db(transaction=True)
def test_a_pause_during_an_approval_makes_it_void() -> None:
    rollout = ripe_rollout()
    request = expansion_asked(rollout)

    at_once(lambda: expansion_decided(request), lambda: contain(rollout, "pause"))

    expansions_sweep(now=timezone.now())
    request.refresh_from_db()
    assert request.state == "void"
    with pytest.raises(ExpansionClosed):
        start(request)
    assert rollout.exposed.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_roll_back_beside_a_start_leaves_nothing_exposed() -> None:
    rollout = ripe_rollout()
    request = expansion_approved(rollout)

    at_once(lambda: start(request), lambda: contain(rollout, "rollback"))

    rollout.refresh_from_db()
    assert rollout.state == "rolled_back"
    assert not rollout.exposed.exists()


# --- No sequence of presses through any door ---

APPROVERS = ("approver", "approver-2", "approver-3")
PEOPLE = ("owner", "deputy", "viewer", "outsider", *APPROVERS)


def _door_service(request: ExpansionRequest, who: str, digest: str) -> None:
    with contextlib.suppress(DomainError):
        expansion_decided(request, by=who, digest=digest)


def _door_api(request: ExpansionRequest, who: str, digest: str) -> None:
    secret, _ = token(*Scope, of=Person.objects.get(username=who))
    Client().post(
        f"/api/v1/expansion-requests/{request.pk}/decision",
        {"decision": "approve", "digest": digest},
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )


def _door_page(request: ExpansionRequest, who: str, digest: str) -> None:
    client = Client()
    client.force_login(Person.objects.get(username=who))
    client.post(
        f"/approvals/expansions/{request.pk}/decide/", {"decision": "approve", "digest": digest}
    )


DOORS = {"service": _door_service, "api": _door_api, "page": _door_page}


def _late(request: ExpansionRequest) -> None:
    ExpansionRequest.objects.filter(pk=request.pk).update(
        expires_at=timezone.now() - timedelta(seconds=1)
    )


def _altered(request: ExpansionRequest) -> None:
    ExpansionRequest.objects.filter(pk=request.pk).update(
        evidence={**request.evidence, "criteria": []}
    )


def _plan(request: ExpansionRequest) -> None:
    plan = request.rollout.plan
    PlanVersion.objects.create(
        workflow=plan.workflow,
        number=PlanVersion.objects.count() + 1,
        document=plan.document,
        digest="1" * 64,
        applied_at=timezone.now(),
        applied_by="owner",
    )


def _trip(request: ExpansionRequest) -> None:
    Alert.objects.get_or_create(
        workflow=request.rollout.workflow,
        rollout=request.rollout.slug,
        guard=Guard.objects.get(slug="slow"),
        defaults={
            "owner": request.rollout.workflow.owner,
            "sentence": "Too slow.",
            "opened_at": timezone.now(),
        },
    )


CHANGES: Final[dict[str, Callable[[ExpansionRequest], Any]]] = {
    "late": _late,
    "altered": _altered,
    "plan": _plan,
    "trip": _trip,
    "pause": lambda request: contain(request.rollout, "pause"),
}

presses = st.tuples(
    st.sampled_from(sorted(DOORS)), st.sampled_from(PEOPLE), st.sampled_from([True, True, False])
)


@pytest.fixture
def asked(db: None) -> ExpansionRequest:
    """A request that takes two; its requester is an approver too, everybody has a door."""
    rollout = ripe_rollout()
    ActionRoute.objects.update(risk="high")
    for name in APPROVERS:
        person(name, Role.APPROVER)
    person("owner", Role.APPROVER)
    return expansion_asked(rollout)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(presses | st.sampled_from(sorted(CHANGES)), min_size=2, max_size=7))
@example(steps=[("api", "owner", True), ("page", "owner", True), ("service", "owner", True)])
@example(steps=[("page", "approver", True), ("api", "approver", True), ("api", "approver-2", True)])
@example(steps=[("api", "approver", True), "pause", ("page", "approver-2", True)])
def test_nothing_is_approvable_twice_late_on_changed_evidence_or_by_its_requester(
    asked: ExpansionRequest, steps: list[Any]
) -> None:
    mark = transaction.savepoint()
    try:
        spoilt = False
        counted: set[str] = set()
        for step in steps:
            if isinstance(step, str):
                CHANGES[step](asked)
                spoilt = True
                continue
            door, who, as_shown = step
            DOORS[door](asked, who, asked.digest if as_shown else "0" * 64)
            counts = as_shown and not spoilt and len(counted) < 2 and who in APPROVERS
            if counts:
                counted.add(who)
            decided = set(Decision.objects.values_list("person__username", flat=True))
            assert decided == counted, step
            assert Decision.objects.count() == len(counted)
        state = ExpansionRequest.objects.get(pk=asked.pk).state
        assert (state == "approved") <= (len(counted) == 2)
        if spoilt:
            with pytest.raises(DomainError):
                start(asked)
        assert not AuditEntry.objects.filter(action="rollout.expanded").exists()
    finally:
        transaction.savepoint_rollback(mark)
