"""From Alertmanager's body to a signed webhook, over a whole stack: by job, keeper, and a killed
worker."""

import threading
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.receivers import Received, Receiver
from tests.stack import Stack, wait_until
from tests.story import prepare

# Nothing listens here, so neither worker nor beat can do anything.
NO_BROKER = "redis://127.0.0.1:1/0"
CONTAIN = {"kind": "contain", "action": "rollback"}


def subscribe(stack: Stack, receiver: Receiver, *, token: str) -> str:
    status, made = stack.call(
        "POST",
        "/api/v1/notifications/subscriptions",
        token=token,
        body={
            "workflow": "support-reply",
            "name": "pager",
            "channel": "webhook",
            "address": receiver.url,
            "types": ["alert.opened", "rollout.changed"],
        },
    )
    assert status == 201, made
    return str(made["secret"])


def fire(stack: Stack, *, token: str) -> None:
    labels = {"alertname": "Down", "rollout_workflow": "support-reply", "rollout_trigger": "slow"}
    status, told = stack.call(
        "POST",
        "/api/v1/inbound/alertmanager",
        token=token,
        body={
            "version": "4",
            "status": "firing",
            "alerts": [
                {
                    "status": "firing",
                    "labels": labels,
                    "annotations": {"summary": "No reply at all"},
                    "startsAt": "2026-11-24T12:00:00.5Z",
                    "endsAt": "0001-01-01T00:00:00Z",
                    "fingerprint": "1a30ba71cca2921f",
                }
            ],
        },
    )
    assert (status, told["began"]) == (200, 1), told


def events(received: list[Received], secret: str) -> list[tuple[str, str]]:
    found = []
    for got in received:
        told: dict[str, Any] = Webhook(secret).verify(got.body, got.headers)
        found.append((told["type"], str(told["data"].get("action") or told["data"]["sentence"])))
    return found


def over_the_api(stack: Stack, receiver: Receiver) -> None:
    prepared = prepare(stack, overrides={"rollout": {"triggers": [{"response": CONTAIN}] * 4}})
    secret = subscribe(stack, receiver, token=prepared.owner)
    fire(stack, token=prepared.ingest)
    wait_until(lambda: len(receiver.received) >= 2, within_s=60, what="two webhooks")
    opened, contained = sorted(events(receiver.received, secret))
    assert opened[0] == "alert.opened"
    assert opened[1].startswith("Alertmanager says that Down fires since 2026-11-24 12:00:00 UTC")
    assert contained == ("rollout.changed", "rolled_back")


@pytest.mark.parametrize("broker", [None, NO_BROKER], ids=["job", "keeper"])
def test_an_alert_from_outside_contains_and_is_told(broker: str | None) -> None:
    loopback = "true"
    stack = Stack(NOTIFY_LOOPBACK=loopback)
    if broker is not None:
        stack = Stack(NOTIFY_LOOPBACK=loopback, REDIS_URL=broker)
    with Receiver() as receiver, stack:
        over_the_api(stack, receiver)


def test_a_worker_that_is_killed_while_it_sends_loses_nothing() -> None:
    release = threading.Event()

    def hang_once() -> int:
        release.wait(30)
        return 204

    with Receiver(hang_once) as receiver, Stack(NOTIFY_LOOPBACK="true") as stack:
        prepared = prepare(stack)
        secret = subscribe(stack, receiver, token=prepared.owner)
        path = "/api/v1/notifications/subscriptions"
        _, listed = stack.call("GET", path, token=prepared.owner)
        (found,) = listed["results"]
        status, _ = stack.call("POST", f"{path}/{found['id']}/test", token=prepared.owner, body={})
        assert status == 202
        wait_until(lambda: len(receiver.received) == 1, within_s=30, what="the first attempt")
        stack.kill("worker")
        release.set()
        with stack.connect() as connection:
            # A minute is not waited for: the claim of the one that died runs out.
            connection.execute("update notification_delivery set claimed_until = now()")
        wait_until(lambda: len(receiver.received) == 2, within_s=60, what="the second attempt")
        ids = {got.headers["webhook-id"] for got in receiver.received}
        assert len(ids) == 1
        for got in receiver.received:
            assert Webhook(secret).verify(got.body, got.headers)["type"] == "notification.test"
