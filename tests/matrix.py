"""What the tests of the authority matrix share: something to act on, and what may not change."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from approvals.actions.models import ActionRequest
from approvals.expansions.models import Decision, ExpansionRequest
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Person, Release
from rollout_console.containment.models import Command
from rollout_console.core.models import OutboxEvent
from rollout_console.exposure.models import ExposureVersion
from rollout_console.notifications.models import Delivery, Subscription
from rollout_console.notifications.sealing import seal
from rollout_console.notifications.services import secret_make
from rollout_console.rollouts.models import (
    Confirmation,
    PlanChange,
    PlanDraft,
    PlanVersion,
    Rollout,
)
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert, Incident
from signals.buckets.models import ArrivalLedger
from signals.guards.models import Guard
from signals.inbound.models import InboundMappingVersion
from signals.otlp.models import PriceSheetVersion, SpanMappingVersion
from signals.outside.models import OutsideAlert
from tests.factories import expansion_asked, ripen, rollout_at


@pytest.fixture
def live(db: None) -> Rollout:
    """A live rollout with an alert, an expansion request and a plan change that wait."""
    rollout = rollout_at(RolloutState.LIVE)
    ripen(rollout)
    # The second is of the rollout before, and resolved.
    for pk, slug, guard, state in (
        (1, rollout.slug, "slow", "open"),
        (2, "support-reply-2026.11.1", "quality-low", "resolved"),
    ):
        common: dict[str, Any] = {
            "pk": pk,
            "workflow": rollout.workflow,
            "rollout": slug,
            "owner": rollout.workflow.owner,
            "opened_at": timezone.now(),
            "resolved_at": timezone.now() if state == "resolved" else None,
            "state": state,
        }
        Alert.objects.create(
            incident=Incident.objects.create(**common),
            guard=Guard.objects.get(slug=guard),
            sentence="Too slow.",
            **common,
        )
    asked = expansion_asked(rollout)
    ExpansionRequest.objects.filter(pk=asked.pk).update(id=1)
    PlanChange.objects.create(
        pk=1,
        workflow=rollout.workflow,
        base=rollout.plan,
        document=rollout.plan.document,
        digest="0" * 64,
        effects=[],
        diff=[],
        requested_at=timezone.now(),
        requested_by="owner",
        requester=rollout.workflow.owner,
        expires_at=timezone.now() + timedelta(days=1),
    )
    ActionRequest.objects.create(
        workflow=rollout.workflow,
        path=rollout.workflow.paths.get(),
        request_id="a-1",
        digest="0" * 64,
        action="send_message",
        target="case 6",
        summary="answer the customer",
        requested_at=timezone.now(),
        requested_by="agent",
        exposure_version=1,
        segment_id=0,
        release_id=0,
        arm=0,
        mode=0,
        decision="allow",
        reason="allowed",
    )
    subscription = Subscription.objects.create(
        workflow=rollout.workflow,
        name="first",
        channel="webhook",
        address=seal("http://127.0.0.1:9/hook"),
        secret=seal(secret_make()),
        created_at=timezone.now(),
        created_by="owner",
    )
    Subscription.objects.filter(pk=subscription.pk).update(id=1)
    subscription.pk = 1
    made = Delivery.objects.create(
        event=OutboxEvent.objects.latest("pk"),
        subscription=subscription,
        workflow=rollout.workflow.slug,
        channel="webhook",
        state="given_up",
        created_at=timezone.now(),
        next_at=timezone.now(),
        give_up_at=timezone.now(),
    )
    Delivery.objects.filter(pk=made.pk).update(id=1)
    now = timezone.now()
    outside = OutsideAlert.objects.create(
        workflow=rollout.workflow,
        path=rollout.workflow.paths.get(),
        source="grafana",
        fingerprint="0",
        name="Disk",
        started_at=now,
        received_at=now,
        received_by="grafana",
        seen_at=now,
        changed_at=now,
    )
    OutsideAlert.objects.filter(pk=outside.pk).update(id=1)
    return rollout


def written() -> tuple[Any, ...]:
    counted = (
        *(AuditEntry, OutboxEvent, ExposureVersion, Command, PlanVersion, Release),
        *(PriceSheetVersion, SpanMappingVersion),
    )
    return (
        *(model.objects.count() for model in counted),
        Confirmation.objects.count(),
        *Rollout.objects.order_by("pk").values_list("state", "version"),
        *Alert.objects.order_by("pk").values_list("state", "acked_at", "held_until"),
        *Incident.objects.order_by("pk").values_list("state", "acked_at", "reopened"),
        *ExpansionRequest.objects.order_by("pk").values_list("state", "reviewed_at"),
        Decision.objects.count(),
        *PlanChange.objects.order_by("pk").values_list("state", "decided_by"),
        *ActionRequest.objects.order_by("pk").values_list("request_id", "result"),
        ArrivalLedger.objects.count(),
        *Subscription.objects.order_by("pk").values_list("name", "secret", "removed_at"),
        *Delivery.objects.order_by("pk").values_list("state", "next_at"),
        *OutsideAlert.objects.order_by("pk").values_list("name", "ended_at"),
        InboundMappingVersion.objects.count(),
        *PlanDraft.objects.order_by("pk").values_list("workflow", "revision"),
    )


@contextmanager
def undone() -> Iterator[None]:
    """Undo what happens inside."""
    mark = transaction.savepoint()
    try:
        yield
    finally:
        transaction.savepoint_rollback(mark)


def logged_in(name: str, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(Person.objects.get(username=name))
    return client
