"""The outbox reaches real receivers: signed, tried again, given up, replayed, and never lost."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from rollout_console.catalog.models import Workflow
from rollout_console.core import outbox
from rollout_console.core.models import OutboxEvent
from rollout_console.notifications.deliver import deliveries_send
from rollout_console.notifications.fan_out import outbox_fan_out
from rollout_console.notifications.models import Delivery, DeliveryAttempt, Subscription
from rollout_console.notifications.services import (
    Told,
    subscription_create,
)
from rollout_console.rollouts.states import RolloutState
from tests.factories import principal, rollout_at
from tests.receivers import Receiver

pytestmark = pytest.mark.django_db


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


def test_an_event_arrives_signed_once_and_says_what_happened(
    workflow: Workflow, settings: Any
) -> None:
    settings.CONSOLE_URL = "https://console.example"
    with Receiver() as receiver:
        _, secret = subscribed(workflow, address=receiver.url)
        event = happened(workflow, severity="high")
        assert send() == 1
        assert send() == 0

        (got,) = receiver.received
        told = Webhook(secret).verify(got.body, got.headers)
    assert told == {
        "type": "alert.opened",
        "timestamp": event.created_at.isoformat(),
        "data": {
            "workflow": "support-reply",
            "rollout": "r-1",
            "alert": 7,
            "sentence": "Too slow.",
            "severity": "high",
            "url": "https://console.example/alerts/7/",
        },
    }
    assert got.path == "/hooks/console?key=k1"
    assert got.headers["Host"] == f"127.0.0.1:{receiver.port}"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(got.body.replace(b"slow", b"fast"), got.headers)
    delivery = only()
    assert (delivery.state, delivery.http_status, delivery.error) == ("delivered", 204, "")
    event.refresh_from_db()
    assert event.delivered_at is not None


def test_a_failed_delivery_is_tried_again_under_the_same_id_with_a_new_signature(
    workflow: Workflow,
) -> None:
    answers = iter([503, 302, 204])
    with Receiver(lambda: next(answers)) as receiver:
        _, secret = subscribed(workflow, address=receiver.url)
        happened(workflow)
        send()
        first = only()
        assert (first.state, first.http_status) == ("failed", 503)
        assert first.error == "The receiver answers 503."
        pause = (first.next_at - timezone.now()).total_seconds()
        # Five seconds, of which luck keeps between a half and the whole.
        assert 1.5 < pause <= 5
        # It is not due yet.
        assert send() == 0
        due()
        send()
        assert only().error == "The receiver answers 302: redirects are not followed."
        due()
        send()

        assert only().state == "delivered"
        ids = {got.headers["webhook-id"] for got in receiver.received}
        assert len(receiver.received) == 3
        assert len(ids) == 1
        for got in receiver.received:
            Webhook(secret).verify(got.body, got.headers)
    tries = list(DeliveryAttempt.objects.order_by("pk").values_list("http_status", "error"))
    assert [status for status, _ in tries] == [503, 302, 204]
    assert tries[2] == (204, "")
