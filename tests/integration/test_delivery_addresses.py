"""Where notifications may go: nowhere on this machine, and nowhere that does not fit."""

from typing import Any

import pytest
from django.utils import timezone

from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import InvalidInput
from rollout_console.notifications.models import Subscription
from rollout_console.notifications.services import secret_make
from rollout_console.notifications.webhooks import webhook_send
from tests.deliveries import due, happened, only, send, subscribed, workflow
from tests.receivers import Receiver

pytestmark = pytest.mark.django_db

__all__ = ["workflow"]


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/x",
        "http://localhost/x",
        "http://[::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/x",
        "http://0.0.0.0/x",
        "http://2130706433/x",
        "http://127.1/x",
    ],
)
def test_nothing_goes_to_this_machine_unless_a_setting_says_so(
    workflow: Workflow, settings: Any, address: str
) -> None:
    settings.NOTIFY_LOOPBACK = False
    outcome = webhook_send(
        address=address, secrets=[secret_make()], message_id="m", body=b"{}", now=timezone.now()
    )
    assert "NOTIFY_LOOPBACK" in outcome.error or "no address of a receiver" in outcome.error
    assert outcome.http_status is None


def test_a_name_that_leads_here_is_refused_when_it_is_connected_to(
    workflow: Workflow, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver:
        address = f"http://hooks.example.com:{receiver.port}/x"

        asked: list[str] = []

        def here(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            return [(2, 1, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr("rollout_console.notifications.addresses.socket.getaddrinfo", here)
        settings.NOTIFY_LOOPBACK = False
        subscribed(workflow, address=address)
        happened(workflow)
        send()
        assert receiver.received == []
        assert only().error.startswith("hooks.example.com is this machine")
        settings.NOTIFY_LOOPBACK = True
        due()
        send()
        # Connected to the address that was checked, not to the name again; asked for by its name.
        assert asked == ["hooks.example.com", "hooks.example.com", "127.0.0.1"]
        assert receiver.received[0].headers["Host"] == f"hooks.example.com:{receiver.port}"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"address": "ftp://hooks.example/x"}, "/address"),
        ({"address": "https://user:pass@hooks.example/x"}, "/address"),
        ({"address": None}, "/address"),
        ({"address": "https://hooks.example/x", "secret": "whsec_c2hvcnQ="}, "/secret"),
        ({"address": "https://hooks.example/x", "types": ("alert.opened", "no")}, "/types/1"),
        ({"address": "https://hooks.example/x", "severity": "loud"}, "/severity"),
        ({"address": "https://hooks.example/x", "name": ""}, "/name"),
        ({"channel": "email", "recipients": ("owner", "nobody")}, "/recipients/1"),
        ({"channel": "service", "address": "json://127.0.0.1/x"}, "/address"),
        ({"channel": "service", "address": "what is this"}, "/address"),
    ],
)
def test_what_does_not_fit_is_named(
    workflow: Workflow, fields: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        subscribed(workflow, **fields)
    assert [error["pointer"] for error in refused.value.facts["errors"]] == [pointer]
    assert not Subscription.objects.exists()
