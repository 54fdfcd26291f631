"""What the tests of the authority matrix share: something to act on, and what may not change."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from approvals.expansions.models import Decision, ExpansionRequest
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Person, Release
from rollout_console.containment.models import Command
from rollout_console.core.models import OutboxEvent
from rollout_console.exposure.models import ExposureVersion
from rollout_console.rollouts.models import (
    Confirmation,
    PlanChange,
    PlanDraft,
    PlanVersion,
    Rollout,
)
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.guards.models import Guard
from signals.otlp.models import PriceSheetVersion, SpanMappingVersion
from tests.factories import expansion_asked, ripen, rollout_at


@pytest.fixture
def live(db: None) -> Rollout:
    """A live rollout with an alert, an expansion request and a plan change that wait."""
    rollout = rollout_at(RolloutState.LIVE)
    ripen(rollout)
    Alert.objects.create(
        pk=1,
        workflow=rollout.workflow,
        rollout=rollout.slug,
        guard=Guard.objects.get(slug="slow"),
        owner=rollout.workflow.owner,
        sentence="Too slow.",
        opened_at=timezone.now(),
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
        *ExpansionRequest.objects.order_by("pk").values_list("state", "reviewed_at"),
        Decision.objects.count(),
        *PlanChange.objects.order_by("pk").values_list("state", "decided_by"),
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
