"""Subscriptions and events for tests of notifications: made, sent, and let fall due."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from rollout_console.catalog.models import Workflow
from rollout_console.core import outbox
from rollout_console.core.models import OutboxEvent
from rollout_console.notifications.deliver import deliveries_send
from rollout_console.notifications.fan_out import outbox_fan_out
from rollout_console.notifications.models import Delivery, Subscription
from rollout_console.notifications.services import Told, subscription_create
from rollout_console.rollouts.states import RolloutState
from tests.factories import principal, rollout_at


@pytest.fixture
def workflow() -> Workflow:
    found = rollout_at(RolloutState.LIVE).workflow
    # What the walk to live wrote is not what these tests are about.
    OutboxEvent.objects.update(delivered_at=timezone.now())
    return found


def subscribed(
    workflow: Workflow | None, *, channel: str = "webhook", **fields: Any
) -> tuple[Subscription, str]:
    told = {
        "name": f"{channel}-{uuid.uuid4().hex[:6]}",
        "channel": channel,
        "types": (),
        "severity": "low",
        "recipients": (),
        "address": None,
        "secret": None,
        "enabled": True,
        **fields,
    }
    return subscription_create(
        workflow=workflow,
        told=Told(**told),
        principal=principal("owner" if workflow is not None else "administrator"),
        now=timezone.now(),
    )


def happened(workflow: Workflow, type_: str = "alert.opened", **data: Any) -> OutboxEvent:
    facts = {"workflow": workflow.slug, "rollout": "r-1", "alert": 7, "sentence": "Too slow."}
    outbox.add(type_, workflow=workflow.slug, key=7, at=timezone.now(), data={**facts, **data})
    return OutboxEvent.objects.latest("pk")


def send() -> int:
    now = timezone.now()
    outbox_fan_out(now=now)
    return deliveries_send(now=now)


def due() -> None:
    """Let what failed be due now."""
    Delivery.objects.filter(state="failed").update(next_at=timezone.now() - timedelta(seconds=1))


def only() -> Delivery:
    return Delivery.objects.get(channel="webhook")
