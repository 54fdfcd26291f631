"""A plan under a rollout in force: tightening applies, loosening waits for a second person."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connections, transaction
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from approvals.authority.principals import NotAllowed, token_principal
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import ActionRoute, Person, Segment, Workflow, WorkflowPath
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.containment.plan_changes import plan_change_decide_and_publish
from rollout_console.core.errors import DomainError, InvalidInput, NotFound
from rollout_console.core.models import OutboxEvent
from rollout_console.exposure.models import ExposureVersion
from rollout_console.rollouts.errors import (
    ApproverIsRequester,
    PlanChangeClosed,
    PlanChangeMoved,
    PlanChangeWaits,
    PlanConflict,
    PlanInForce,
)
from rollout_console.rollouts.models import PlanChange, PlanVersion, Rollout, RouteRestriction
from rollout_console.rollouts.services import PlanResult
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.guards.models import Guard
from tests.factories import contain, person, principal, rollout_at, token
from tests.matrix import logged_in
from tests.plans import plan_document

pytestmark = pytest.mark.django_db

Edit = Callable[[dict[str, Any]], None]
FORCE = [RolloutState.READY, RolloutState.LIVE, RolloutState.PAUSED]


def route_allowed(document: dict[str, Any]) -> None:
    document["workflow"]["action_routes"][0]["default"] = "allow"


def owner_other(document: dict[str, Any]) -> None:
    person("someone")
    document["workflow"]["owner"] = "someone"


def trigger_gone(document: dict[str, Any]) -> None:
    del document["rollout"]["triggers"][2]


def share_larger(document: dict[str, Any]) -> None:
    document["rollout"]["stages"][1]["segments"][1]["share"] = 0.5


def limit_raised_in_next(document: dict[str, Any]) -> None:
    document["workflow"]["paths"][0]["limits"]["latency_p95_ms"] = 9000
    document["rollout"]["slug"] = "the-next-one"


def apply(change: Edit, *, by: str = "owner", **fields: Any) -> PlanResult:
    document = plan_document()
    change(document)
    return plan_apply_and_publish(
        **{
            "document": document,
            "text": "",
            "principal": principal(by),
            "now": timezone.now(),
            **fields,
        }
    )


def decide(
    change: PlanChange, by: str = "approver", now: datetime | None = None, **fields: Any
) -> PlanChange:
    return plan_change_decide_and_publish(
        **{
            "change_id": change.pk,
            "decision": "approve",
            "reason": "the queue is short at night",
            "digest": change.digest,
            "principal": principal(by),
            "now": now or timezone.now(),
            **fields,
        }
    )


def stored() -> tuple[Any, ...]:
    """Return what a plan decides on; nothing of it moves while a change waits."""
    return (
        PlanVersion.objects.count(),
        ExposureVersion.objects.count(),
        ActionRoute.objects.get().default,
        WorkflowPath.objects.get().limits["latency_p95_ms"],
        *Rollout.objects.order_by("pk").values_list("slug", "version", "plan_id"),
        *Guard.objects.order_by("pk").values_list("slug", "version", "retired_at"),
    )


def audited(action: str) -> int:
    return AuditEntry.objects.filter(action=action).count()


@pytest.mark.parametrize(
    "edit", [route_allowed, owner_other, trigger_gone, share_larger, limit_raised_in_next]
)
@pytest.mark.parametrize("state", FORCE)
def test_what_loosens_waits_and_moves_nothing(edit: Edit, state: RolloutState) -> None:
    rollout_at(state)
    before = stored()

    result = apply(edit)

    assert stored() == before
    change = PlanChange.objects.get()
    assert (result.created, result.number, result.change) == (False, 1, change.pk)
    assert len(result.loosens) == 1
    assert (change.state, change.requested_by, change.base.number) == ("pending", "owner", 1)
    assert [each["direction"] for each in change.effects] == ["looser"]
    assert change.expires_at - change.requested_at == timedelta(hours=24)
    assert audited("plan_change.proposed") == 1
    assert OutboxEvent.objects.get(type="plan_change.changed").data["state"] == "pending"


def test_an_approved_change_is_applied_and_served() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    apply(route_allowed)
    change = PlanChange.objects.get()
    exposures = ExposureVersion.objects.count()

    decided = decide(change)

    assert (decided.state, decided.decided_by) == ("approved", "approver")
    plan = PlanVersion.objects.get(number=2)
    assert (plan.applied_by, decided.applied_as) == ("owner", plan)
    assert ActionRoute.objects.get().default == "allow"
    assert ExposureVersion.objects.count() == exposures + 1
    version = rollout.version
    rollout.refresh_from_db()
    assert (rollout.version, rollout.plan) == (version + 1, plan)
    entry = AuditEntry.objects.get(action="plan_change.approved")
    assert (entry.actor, entry.reason) == ("approver", {"note": "the queue is short at night"})
    applied = AuditEntry.objects.filter(action="plan.applied").latest("pk")
    assert (applied.actor, applied.data["proposed_by"]) == ("approver", "owner")

    again = decide(change)
    assert (again.pk, audited("plan_change.approved")) == (change.pk, 1)


def test_an_approved_ladder_replaces_the_stages_not_reached() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    first = rollout.stages.get(position=1).pk
    apply(share_larger)

    decide(PlanChange.objects.get())

    assert rollout.stages.get(position=1).pk == first
    shares = rollout.stages.get(position=2).segments.order_by("position")
    assert [float(row.share) for row in shares] == [1.0, 0.5]
    assert [float(row.share) for row in rollout.exposed.all()] == [0.9]


def test_a_rejected_change_moves_nothing_and_is_over() -> None:
    rollout_at(RolloutState.LIVE)
    apply(route_allowed)
    change = PlanChange.objects.get()
    before = stored()

    decide(change, decision="reject", reason="not this week")

    assert stored() == before
    change.refresh_from_db()
    assert (change.state, change.reason) == ("rejected", "not this week")
    with pytest.raises(PlanChangeClosed, match="rejected already: not this week"):
        decide(change)
    assert stored() == before


def test_what_tightens_applies_at_once_and_guards_go_on_watching() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    kept = Guard.objects.get(slug="quality-low")
    now = timezone.now()

    def tighten(document: dict[str, Any]) -> None:
        document["rollout"]["triggers"][1]["limit"] = 5000
        document["rollout"]["triggers"].append(
            {
                "slug": "errors",
                "path": "draft",
                "signal": "error_rate",
                "compare": "limit",
                "limit": 0.1,
            }
        )
        document["rollout"]["stages"][0]["bake_s"] = 90
        document["rollout"]["stages"][1]["segments"][1]["share"] = 0.02

    result = apply(tighten, now=now)

    assert (result.created, result.number, result.change, result.loosens) == (True, 2, None, [])
    assert not PlanChange.objects.exists()
    slow = Guard.objects.get(slug="slow", retired_at=None)
    assert (slow.limit, slow.version, slow.armed, slow.evidence_from) == (5000, 2, True, now)
    assert not Guard.objects.get(slug="slow", version=1).armed
    errors = Guard.objects.get(slug="errors")
    assert (errors.armed, errors.evidence_from) == (True, now)
    same = Guard.objects.get(slug="quality-low")
    assert (same.pk, same.armed, same.evidence_from) == (kept.pk, True, kept.evidence_from)
    version = rollout.version
    rollout.refresh_from_db()
    assert (rollout.state, rollout.version, rollout.plan.number) == ("live", version + 1, 2)
    assert rollout.stages.get(position=1).bake_s == 90


def test_a_ready_rollouts_added_guard_waits_for_going_live() -> None:
    rollout_at(RolloutState.READY)

    def tighten(document: dict[str, Any]) -> None:
        document["rollout"]["triggers"][1]["limit"] = 5000

    apply(tighten)

    assert not Guard.objects.filter(armed=True).exists()


@pytest.mark.parametrize("state", FORCE)
def test_a_path_that_becomes_sensitive_caps_every_rollout_on_it(state: RolloutState) -> None:
    """The plan's own section is the next rollout's already."""
    rollout = rollout_at(state)
    guards = set(Guard.objects.values_list("pk", flat=True))

    def next_one(document: dict[str, Any]) -> None:
        document["rollout"] |= {"slug": "the-next-one", "candidate": "2026.12.1"}

    def sensitive(document: dict[str, Any]) -> None:
        next_one(document)
        document["workflow"]["paths"][0]["sensitivity"] = "sensitive"
        document["workflow"]["paths"][0]["fallbacks"]["manual"] = {}

    apply(next_one)
    plan, version = rollout.plan_id, rollout.version
    assert apply(sensitive).created

    cap = Guard.objects.get(rollout=rollout.slug, signal="critical_failures")
    assert (cap.slug, cap.compare, cap.limit) == ("critical-draft", "hard_cap", 0)
    assert cap.armed is (state is not RolloutState.READY)
    # What watched before goes on.
    assert not Guard.objects.filter(pk__in=guards).exclude(retired_at=None).exists()
    rollout.refresh_from_db()
    assert (rollout.version, rollout.plan_id) == (version + 1, plan)


def test_a_restricted_segments_rule_waits_though_no_stage_names_it() -> None:
    document = plan_document()
    document["workflow"]["segments"].append(
        {**document["workflow"]["segments"][1], "slug": "us-customers", "name": "US customers"}
    )
    rollout = rollout_at(RolloutState.LIVE, document=document)
    RouteRestriction.objects.create(
        path=WorkflowPath.objects.get(),
        segment=Segment.objects.get(slug="us-customers"),
        action_route=ActionRoute.objects.get(),
        state="ask",
        since=timezone.now(),
    )

    def edit(plan: dict[str, Any]) -> None:
        segment = {**document["workflow"]["segments"][2], "rule": True}
        plan["workflow"]["segments"].append(segment)

    result = apply(edit)

    assert result.loosens == [
        "The rule of segment “us-customers” changes, and with it who is in it; "
        "send_message asks for approval on “draft” for “us-customers”."
    ]
    assert rollout.in_force
    assert Segment.objects.get(slug="us-customers").rule is not True


def test_a_trigger_with_a_waiting_alert_keeps_its_definition() -> None:
    """A retired guard says nothing any more, so tightening one would stop its clock."""
    rollout = rollout_at(RolloutState.LIVE)
    Alert.objects.create(
        workflow=rollout.workflow,
        rollout=rollout.slug,
        guard=Guard.objects.get(slug="slow"),
        owner=rollout.workflow.owner,
        sentence="Too slow.",
        opened_at=timezone.now(),
    )
    before = stored()

    def tighten(document: dict[str, Any]) -> None:
        document["rollout"]["triggers"][1]["limit"] = 5000

    with pytest.raises(PlanInForce, match="An alert of slow waits"):
        apply(tighten)

    assert stored() == before


def test_who_proposed_it_cannot_approve_it() -> None:
    rollout_at(RolloutState.LIVE)
    person("owner", Role.APPROVER)
    apply(route_allowed)
    change = PlanChange.objects.get()
    secret, _ = token(Scope.CONTROL, of=Person.objects.get(username="owner"))
    mine = token_principal(secret, now=timezone.now())
    before = stored()

    for who in (principal("owner"), mine):
        with pytest.raises(ApproverIsRequester, match="a colleague"):
            decide(change, principal=who)

    change.refresh_from_db()
    assert (change.state, stored()) == ("pending", before)
    with pytest.raises(IntegrityError, match="plan_change_second_person"), transaction.atomic():
        PlanChange.objects.filter(pk=change.pk).update(state="approved", decider=change.requester)
    decide(change, by="owner", decision="reject")
    change.refresh_from_db()
    assert change.state == "rejected"


@pytest.mark.parametrize("name", ["viewer", "lead", "reviewer", "deputy", "administrator"])
def test_only_an_approver_decides(name: str) -> None:
    rollout_at(RolloutState.LIVE)
    apply(route_allowed)
    change = PlanChange.objects.get()
    before = stored()

    with pytest.raises(NotAllowed, match="is for: approver"):
        decide(change, by=name)
    with pytest.raises(NotFound):
        decide(change, by="outsider")

    change.refresh_from_db()
    assert (change.state, stored()) == ("pending", before)


def test_a_service_token_proposes_and_never_approves() -> None:
    rollout_at(RolloutState.LIVE)
    _, pipeline = token(*Scope)

    result = apply(route_allowed, principal=pipeline)

    change = PlanChange.objects.get()
    assert result.change == change.pk
    assert (change.requested_by, change.requester) == (pipeline.name, None)
    with pytest.raises(NotAllowed):
        decide(change, principal=pipeline)
    decide(change)
    assert PlanVersion.objects.get(number=2).applied_by == pipeline.name


def test_a_decision_stands_on_what_was_shown() -> None:
    rollout_at(RolloutState.LIVE)
    apply(route_allowed)
    change = PlanChange.objects.get()
    before = stored()

    with pytest.raises(PlanChangeMoved):
        decide(change, digest="0" * 64)
    odds: list[dict[str, Any]] = [
        {"reason": " "},
        {"reason": "x" * 2001},
        {"decision": "maybe"},
    ]
    for odd in odds:
        with pytest.raises(InvalidInput):
            decide(change, **odd)

    change.refresh_from_db()
    assert (change.state, stored()) == ("pending", before)


def test_a_change_is_void_when_its_rollout_moves() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    apply(route_allowed)
    change = PlanChange.objects.get()
    contain(rollout, "pause")
    before = stored()

    with pytest.raises(PlanChangeClosed, match="void already: the plan or a rollout moved"):
        decide(change)

    change.refresh_from_db()
    assert (change.state, stored()) == ("void", before)
    assert audited("plan_change.voided") == 1


def test_a_change_is_void_when_the_plan_moves() -> None:
    rollout_at(RolloutState.LIVE)
    apply(route_allowed)
    change = PlanChange.objects.get()

    apply(lambda document: document["workflow"].update(hold_s=30))

    change.refresh_from_db()
    assert (change.state, change.reason) == ("void", "plan 2 was applied meanwhile")
    with pytest.raises(PlanChangeClosed):
        decide(change)
    assert ActionRoute.objects.get().default == "ask"


def test_a_change_expires_after_a_day() -> None:
    rollout_at(RolloutState.LIVE)
    apply(route_allowed)
    change = PlanChange.objects.get()
    before = stored()
    later = change.expires_at

    with pytest.raises(PlanChangeClosed, match="expired already"):
        decide(change, now=later)

    change.refresh_from_db()
    assert (change.state, stored()) == ("expired", before)
    assert apply(route_allowed, now=later).change != change.pk


def test_one_change_waits_at_a_time() -> None:
    rollout_at(RolloutState.LIVE)
    first = apply(route_allowed).change
    assert apply(route_allowed).change == first
    assert apply(route_allowed, by="deputy").change == first

    with pytest.raises(PlanChangeWaits, match="owner proposed"):
        apply(trigger_gone, by="deputy")
    second = apply(trigger_gone).change

    states = dict(PlanChange.objects.values_list("pk", "state"))
    assert states == {first: "void", second: "pending"}


def test_nobody_is_asked_to_approve_what_cannot_be_applied() -> None:
    rollout_at(RolloutState.LIVE)

    def broken(document: dict[str, Any]) -> None:
        route_allowed(document)
        document["releases"][0]["changes"][0]["after"] = "v20"

    with pytest.raises(PlanConflict, match="registered with other content"):
        apply(broken)

    assert not PlanChange.objects.exists()


def test_a_dry_run_proposes_nothing() -> None:
    rollout_at(RolloutState.LIVE)

    result = apply(route_allowed, dry_run=True)

    assert result.loosens == [
        "The default of action route “send_message” changes from ask to allow."
    ]
    assert not PlanChange.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_approvals_at_once_apply_it_once() -> None:
    rollout_at(RolloutState.LIVE)
    person("second", Role.APPROVER)
    apply(route_allowed)
    change = PlanChange.objects.get()
    start = threading.Barrier(2)
    outcomes: list[str] = []

    def press(name: str) -> None:
        start.wait()
        try:
            outcomes.append(decide(change, by=name).state)
        except DomainError as refusal:
            outcomes.append(refusal.code)
        connections.close_all()

    threads = [threading.Thread(target=press, args=[name]) for name in ("approver", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(outcomes) == ["approved", "plan-change-closed"]
    assert PlanVersion.objects.count() == 2
    assert audited("plan_change.approved") == 1


def put(client: Client, document: Any, query: str = "") -> Any:
    return client.put(
        f"/api/v1/plans/support-reply{query}", document, content_type="application/json"
    )


def test_the_api_proposes_shows_and_decides() -> None:
    rollout_at(RolloutState.LIVE)
    document = plan_document()
    route_allowed(document)

    tried = put(logged_in("owner"), document, "?dry_run=1")
    assert (tried.status_code, tried.json()["change"]) == (200, None)
    assert len(tried.json()["loosens"]) == 1
    answer = put(logged_in("owner"), document)
    assert (answer.status_code, answer.json()["created"]) == (202, False)
    number = answer.json()["change"]

    approver = logged_in("approver")
    listed = approver.get("/api/v1/plan-changes?workflow=support-reply").json()["results"]
    shown = approver.get(f"/api/v1/plan-changes/{number}").json()
    assert listed == [shown]
    assert (shown["state"], shown["base"], shown["applied_as"]) == ("pending", 1, None)
    assert shown["diff"] == ["changed workflow.action_routes[send_message].default: ask → allow"]
    assert shown["effects"][0]["where"] == "workflow.action_routes[send_message].default"
    body = {"decision": "approve", "reason": "fine", "digest": shown["digest"]}
    url = f"/api/v1/plan-changes/{number}/decision"
    refused = logged_in("owner").post(url, body, content_type="application/json")
    assert refused.status_code == 403
    decided = approver.post(url, body, content_type="application/json")
    assert (decided.status_code, decided.json()["applied_as"]) == (200, 2)
    assert logged_in("outsider").get(f"/api/v1/plan-changes/{number}").status_code == 404
    assert logged_in("outsider").get("/api/v1/plan-changes").json()["results"] == []

    versions = approver.get("/api/v1/plans/support-reply/versions").json()["results"]
    assert [(row["number"], row["by"], row["approved_by"]) for row in versions] == [
        (2, "owner", "approver"),
        (1, "console", None),
    ]
    assert versions[0]["diff"] == shown["diff"]
    assert Workflow.objects.count() == 1
