"""The outbox reaches real receivers: signed, tried again, given up, replayed, and never lost."""

import json
import threading
import time
import uuid
from datetime import UTC, timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Person, Workflow
from rollout_console.core.models import OutboxEvent
from rollout_console.notifications.deliver import deliveries_send
from rollout_console.notifications.fan_out import outbox_fan_out
from rollout_console.notifications.models import Delivery, DeliveryAttempt, Subscription
from rollout_console.notifications.payload import event_id
from rollout_console.notifications.retention import _Round, deliveries_prune
from rollout_console.notifications.selectors import deliveries_failing
from rollout_console.notifications.services import (
    NobodyToMail,
    delivery_replay,
    subscription_remove,
    subscription_secret_renew,
    subscription_test,
)
from rollout_console.notifications.watch import deliveries_overdue
from rollout_console.rollouts.states import RolloutState
from tests.deliveries import due, happened, only, send, subscribed, workflow
from tests.factories import contain, principal, rollout_at
from tests.mail_server import MailServer
from tests.receivers import Receiver
from tests.stack import wait_until

pytestmark = pytest.mark.django_db


__all__ = ["workflow"]


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


def test_it_is_given_up_after_a_day_and_a_replay_starts_anew_under_the_same_id(
    workflow: Workflow,
) -> None:
    with Receiver(lambda: 500) as receiver:
        subscribed(workflow, address=receiver.url)
        happened(workflow)
        send()
        Delivery.objects.update(
            attempts=12, give_up_at=timezone.now() + timedelta(minutes=20), next_at=timezone.now()
        )
        send()
        assert (only().state, only().attempts) == ("given_up", 13)
        assert send() == 0

        receiver.answer = lambda: 200
        replayed = replay(only())
        assert (replayed.state, replayed.attempts) == ("waiting", 0)
        # Pressed twice, it is sent once.
        assert replay(only()).next_at == replayed.next_at
        assert (send(), send()) == (1, 0)
        assert only().state == "delivered"
        assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
        # What has arrived may be sent again too.
        replay(only())
        assert send() == 1
    assert AuditEntry.objects.filter(action="delivery.replayed").count() == 2


def replay(delivery: Delivery) -> Delivery:
    return delivery_replay(
        delivery_id=delivery.pk, principal=principal("owner"), now=timezone.now()
    )


def test_a_receiver_that_is_gone_stops_its_subscription(workflow: Workflow) -> None:
    with Receiver(lambda: 410) as receiver:
        subscription, _ = subscribed(workflow, address=receiver.url)
        happened(workflow)
        happened(workflow)
        send()
        send()
        assert len(receiver.received) == 1
    subscription.refresh_from_db()
    assert not subscription.enabled
    assert subscription.stopped_why == "The receiver answers 410: it wants no more of these."
    assert {each.state for each in Delivery.objects.all()} == {"given_up"}
    assert AuditEntry.objects.get(action="subscription.stopped").actor_kind == "system"


def test_retry_after_is_believed(workflow: Workflow) -> None:
    with Receiver(lambda: (429, {"Retry-After": "600"})) as receiver:
        subscribed(workflow, address=receiver.url)
        happened(workflow)
        send()
    assert 590 < (only().next_at - timezone.now()).total_seconds() <= 600


def test_a_renewed_secret_signs_beside_the_old_one_for_a_day(workflow: Workflow) -> None:
    with Receiver() as receiver:
        subscription, old = subscribed(workflow, address=receiver.url)
        _, new = subscription_secret_renew(
            subscription_id=subscription.pk, principal=principal("owner"), now=timezone.now()
        )
        happened(workflow)
        send()
        Subscription.objects.update(old_secret_until=timezone.now())
        happened(workflow)
        send()
        both, after = receiver.received
    for secret in (old, new):
        Webhook(secret).verify(both.body, both.headers)
    Webhook(new).verify(after.body, after.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(after.body, after.headers)


def test_address_and_secret_lie_sealed_and_are_forgotten_with_the_subscription(
    workflow: Workflow,
) -> None:
    with Receiver() as receiver:
        subscription, secret = subscribed(workflow, address=receiver.url)
        kept = json.dumps(Subscription.objects.values().get(), default=str)
        audited = json.dumps(list(AuditEntry.objects.values_list("data", flat=True)))
        for text in (secret, "hooks/console", "key=k1"):
            assert text not in kept
            assert text not in audited
        assert subscription.shown == f"http://127.0.0.1:{receiver.port}/…"

        happened(workflow)
        outbox_fan_out(now=timezone.now())
        subscription_remove(
            subscription_id=subscription.pk, principal=principal("owner"), now=timezone.now()
        )
        deliveries_send(now=timezone.now())
        assert receiver.received == []
    assert Subscription.objects.values_list("address", "secret").get() == ("", "")
    assert only().state == "given_up"


def test_another_secret_key_is_said_and_never_guessed(workflow: Workflow, settings: Any) -> None:
    with Receiver() as receiver:
        subscribed(workflow, address=receiver.url)
        happened(workflow)
        key, settings.SECRET_KEY = settings.SECRET_KEY, "another-one"
        send()
        assert "cannot be read with this SECRET_KEY" in only().error
        settings.SECRET_KEY_FALLBACKS = [key]
        due()
        send()
        assert (only().state, len(receiver.received)) == ("delivered", 1)


def test_only_what_is_asked_for_is_sent(workflow: Workflow) -> None:
    other = rollout_at(RolloutState.LIVE, workflow="claims-intake").workflow
    OutboxEvent.objects.update(delivered_at=timezone.now())
    happened(workflow, "plan_change.changed")
    with Receiver() as receiver:
        subscribed(workflow, address=receiver.url, types=("alert.opened",), severity="high")
        subscribed(None, address=receiver.url + "&all=1")
        for event in (
            happened(workflow, severity="medium"),
            happened(workflow, severity="critical"),
            happened(workflow, "alert.resolved", severity="critical"),
            happened(other, severity="critical"),
            happened(other, "something.later"),
        ):
            assert event.delivered_at is None
        send()
        send()
    told = [(got.path.partition("&")[2], json.loads(got.body)) for got in receiver.received]
    one = [body["data"]["severity"] for which, body in told if not which]
    everything = [(body["type"], body["data"]["workflow"]) for which, body in told if which]
    assert one == ["critical"]
    # Not what happened before it was asked for, and in the order in which it happened.
    assert everything == [
        ("alert.opened", "support-reply"),
        ("alert.opened", "support-reply"),
        ("alert.resolved", "support-reply"),
        ("alert.opened", "claims-intake"),
        ("something.later", "claims-intake"),
    ]


def test_those_whom_an_event_concerns_are_mailed_once(workflow: Workflow, settings: Any) -> None:
    settings.CONSOLE_URL = "https://console.example"
    for name in ("owner", "deputy", "lead", "approver"):
        Person.objects.filter(username=name).update(email=f"{name}@example.com")
    subscribed(workflow, channel="email", recipients=("owner", "deputy", "viewer"))
    due_at = timezone.now() + timedelta(minutes=5)
    happened(
        workflow,
        owner="owner",
        due_at=due_at.isoformat(),
        due_action={"action": "narrow"},
        notify=["approver", "nobody-here"],
    )
    send()
    # One mail each, though the owner is named twice; whoever has no address gets none.
    assert sorted(each.to[0] for each in mail.outbox) == [
        f"{name}@example.com" for name in ("approver", "deputy", "owner")
    ]
    (to_owner,) = [each for each in mail.outbox if each.to == ["owner@example.com"]]
    assert to_owner.subject == "An alert opened: Support reply"
    assert to_owner.body.splitlines() == [
        "Too slow.",
        "Workflow: Support reply, rollout r-1",
        "Who answers: owner, else deputy",
        f"The clock runs: the console narrows exposure at {due_at.astimezone(UTC):%H:%M:%S} UTC"
        " unless somebody decides otherwise.",
        "Open it: https://console.example/alerts/7/",
    ]
    assert "Message-ID" in to_owner.extra_headers


def test_a_containment_tells_owner_and_leads(workflow: Workflow) -> None:
    for name in ("owner", "lead"):
        Person.objects.filter(username=name).update(email=f"{name}@example.com")
    rollout = workflow.rollouts.get()
    contain(rollout, "pause")
    send()
    assert sorted(each.to[0] for each in mail.outbox) == ["lead@example.com", "owner@example.com"]
    assert f"The rollout {rollout.slug} was paused. It is paused." in str(mail.outbox[0].body)


def test_without_a_mail_server_nobody_is_mailed_and_webhooks_go_on(
    workflow: Workflow, settings: Any
) -> None:
    settings.EMAIL_ON = False
    Person.objects.filter(username="owner").update(email="owner@example.com")
    with Receiver() as receiver:
        subscribed(workflow, address=receiver.url)
        happened(workflow)
        send()
    assert (len(receiver.received), mail.outbox) == (1, [])


def test_a_service_that_teams_use_is_told_by_apprise(workflow: Workflow) -> None:
    with Receiver(lambda: 200) as receiver:
        address = f"mmost://127.0.0.1:{receiver.port}/3ccdd113474722377935511fc85d3dd4"
        subscription, secret = subscribed(workflow, channel="service", address=address)
        assert (subscription.shown, secret) == ("Mattermost at 127.0.0.1", "")
        happened(workflow)
        send()
        (got,) = receiver.received
        assert "Too slow." in json.loads(got.body)["text"]
        receiver.answer = lambda: 500
        happened(workflow)
        send()
    failed = Delivery.objects.get(state="failed")
    assert failed.error.startswith("The service did not take it: Failed to send Mattermost")
    assert "3ccdd113474722377935511fc85d3dd4" not in failed.error


@pytest.mark.django_db(transaction=True)
def test_two_at_once_send_each_delivery_once() -> None:
    workflow = rollout_at(RolloutState.LIVE).workflow
    OutboxEvent.objects.update(delivered_at=timezone.now())
    with Receiver() as receiver:
        for _ in range(6):
            subscribed(workflow, address=receiver.url)
        happened(workflow)
        start = threading.Barrier(3)

        def work() -> None:
            start.wait()
            try:
                send()
            finally:
                connection.close()

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        send()
        assert len(receiver.received) == 6
    assert Delivery.objects.filter(state="delivered").count() == 6


@pytest.mark.django_db(transaction=True)
def test_a_slow_receiver_delays_nobody_else_and_not_the_watch() -> None:
    workflow = rollout_at(RolloutState.LIVE).workflow
    OutboxEvent.objects.update(delivered_at=timezone.now())
    release = threading.Event()

    def hang() -> int:
        release.wait(30)
        return 204

    with Receiver(hang) as slow, Receiver() as quick:
        subscribed(workflow, address=slow.url)
        subscribed(workflow, address=quick.url)
        for _ in range(3):
            happened(workflow)
        OutboxEvent.objects.filter(delivered_at=None).update(
            created_at=timezone.now() - timedelta(minutes=1)
        )
        Subscription.objects.update(created_at=timezone.now() - timedelta(hours=1))
        began_s = time.monotonic()
        assert deliveries_overdue(now=timezone.now()) == 3
        # The watch goes on at once; the sending runs beside it.
        assert time.monotonic() - began_s < 1
        wait_until(lambda: len(quick.received) == 3, within_s=20, what="the quick receiver")
        assert len(slow.received) == 1
        release.set()
        wait_until(
            lambda: not Delivery.objects.exclude(state="delivered").exists(),
            within_s=20,
            what="the slow receiver",
        )


def test_a_killed_worker_loses_nothing(workflow: Workflow) -> None:
    with Receiver() as receiver:
        subscribed(workflow, address=receiver.url)
        happened(workflow)
        outbox_fan_out(now=timezone.now())
        # Claimed by one that died before, or after, it was sent.
        Delivery.objects.update(
            claim=uuid.uuid4(), claimed_until=timezone.now() + timedelta(seconds=60)
        )
        assert deliveries_send(now=timezone.now()) == 0
        Delivery.objects.update(claimed_until=timezone.now())
        assert deliveries_send(now=timezone.now()) == 1
        assert len(receiver.received) == 1
    assert only().state == "delivered"


def test_what_fails_is_told_by_workflow_and_channel(workflow: Workflow) -> None:
    now = timezone.now()
    assert deliveries_failing(now) == []
    with Receiver(lambda: 500) as receiver:
        subscribed(workflow, address=receiver.url)
        event = happened(workflow)
        send()
        happened(workflow)
        send()
        (failing,) = deliveries_failing(timezone.now())
        assert (failing.workflow, failing.channel) == ("support-reply", "webhook")
        assert (failing.failed, failing.given_up) == (2, 0)
        assert failing.error == "The receiver answers 500."
        Delivery.objects.filter(event=event).update(state="given_up")
        (failing,) = deliveries_failing(timezone.now())
        assert (failing.failed, failing.given_up) == (1, 1)
        # What was given up long ago is no news.
        (failing,) = deliveries_failing(timezone.now() + timedelta(days=2))
        assert (failing.failed, failing.given_up) == (1, 0)


def test_a_test_goes_the_way_everything_else_goes(workflow: Workflow) -> None:
    with Receiver() as receiver:
        subscription, secret = subscribed(workflow, address=receiver.url, types=("alert.opened",))
        subscribed(workflow, address=receiver.url)
        subscription_test(
            subscription_id=subscription.pk, principal=principal("owner"), now=timezone.now()
        )
        assert send() == 1
        (got,) = receiver.received
        assert Webhook(secret).verify(got.body, got.headers)["type"] == "notification.test"
    people, _ = subscribed(workflow, channel="email", recipients=("viewer",))
    with pytest.raises(NobodyToMail):
        subscription_test(
            subscription_id=people.pk, principal=principal("owner"), now=timezone.now()
        )


def test_what_is_a_day_old_is_told_to_nobody(workflow: Workflow) -> None:
    Person.objects.filter(username="owner").update(email="owner@example.com")
    with Receiver() as receiver:
        subscribed(workflow, address=receiver.url)
        Subscription.objects.update(created_at=timezone.now() - timedelta(days=9))
        happened(workflow, owner="owner")
        OutboxEvent.objects.filter(delivered_at=None).update(
            created_at=timezone.now() - timedelta(days=1)
        )
        assert send() == 0
        assert (receiver.received, mail.outbox) == ([], [])
    assert not OutboxEvent.objects.filter(delivered_at=None).exists()


def test_what_is_over_goes_in_its_time_and_what_is_to_be_sent_stays(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    OutboxEvent.objects.all().delete()
    with Receiver(lambda: 500) as receiver:
        subscribed(workflow, address=receiver.url)
        happened(workflow)
        send()
        receiver.answer = lambda: 200
        happened(workflow)
        send()
    monkeypatch.setattr(_Round, "due_at", float("-inf"))
    assert deliveries_prune(now=timezone.now() + timedelta(days=89)) == 0
    monkeypatch.setattr(_Round, "due_at", float("-inf"))
    assert deliveries_prune(now=timezone.now() + timedelta(days=91)) == 2
    assert only().state == "failed"
    assert OutboxEvent.objects.count() == 1


def test_mail_goes_by_smtp_and_says_why_it_does_not(workflow: Workflow, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    Person.objects.filter(username="owner").update(email="owner@example.com")
    with MailServer(refuse=True) as server:
        settings.EMAIL_PORT = server.port
        happened(workflow, owner="owner")
        send()
        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.error) == (
            "failed",
            "The mail server refuses this recipient.",
        )
        server.refuse = False
        due()
        send()
        (mailed,) = server.mails
    assert (mailed["To"], mailed["Subject"]) == (
        "owner@example.com",
        "An alert opened: Support reply",
    )
    # The same for every attempt, so that a mailbox shows it once.
    assert (
        mailed["Message-ID"] == f"<{event_id(delivery.event)}.{delivery.person_id}@rollout-console>"
    )
    happened(workflow, owner="owner")
    send()
    assert Delivery.objects.latest("pk").error.startswith("The mail server cannot be used:")
