"""Notifications over the API and in pages: who may, what is shown, and what never is."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import DjangoAssertNumQueries

from approvals.authority.matrix import Role, Scope
from rollout_console.catalog.models import Person, Workflow
from rollout_console.core import outbox
from rollout_console.notifications.deliver import deliveries_send
from rollout_console.notifications.fan_out import outbox_fan_out
from rollout_console.notifications.models import Delivery, Subscription
from rollout_console.rollouts.states import RolloutState
from tests.factories import person, rollout_at, token
from tests.matrix import logged_in
from tests.receivers import Receiver

pytestmark = pytest.mark.django_db

SUBSCRIPTIONS = "/api/v1/notifications/subscriptions"
DELIVERIES = "/api/v1/notifications/deliveries"


@pytest.fixture
def workflow() -> Workflow:
    return rollout_at(RolloutState.DRAFT).workflow


def asked(client: Client, method: str, address: str, body: Any = None) -> Any:
    return getattr(client, method)(
        address, None if body is None else json.dumps(body), content_type="application/json"
    )


def webhook(address: str, **fields: Any) -> dict[str, Any]:
    return {
        "workflow": "support-reply",
        "name": "pager",
        "channel": "webhook",
        "address": address,
        **fields,
    }


def failed(workflow: Workflow, *, times: int = 1) -> None:
    for _ in range(times):
        outbox.add(
            "alert.opened",
            workflow=workflow.slug,
            key=1,
            at=timezone.now(),
            data={"workflow": workflow.slug, "rollout": "r-1", "sentence": "Slow."},
        )
        outbox_fan_out(now=timezone.now())
        deliveries_send(now=timezone.now())


def test_the_secret_is_answered_once_and_the_address_never(workflow: Workflow) -> None:
    owner = logged_in("owner")
    with Receiver(lambda: 500) as receiver:
        made = asked(owner, "post", SUBSCRIPTIONS, webhook(receiver.url))
        assert made.status_code == 201, made.content
        secret = made.json()["secret"]
        assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
        pk = made.json()["id"]
        failed(workflow)
        for address in (SUBSCRIPTIONS, f"{SUBSCRIPTIONS}/{pk}", DELIVERIES):
            told = owner.get(address).content.decode()
            for hidden in (secret, "hooks/console", "key=k1"):
                assert hidden not in told, address
        pages = ("/notifications/", f"/notifications/{pk}/", "/audit/")
        for address in pages:
            told = owner.get(address).content.decode()
            for hidden in (secret, "hooks/console", "key=k1"):
                assert hidden not in told, address
    row = owner.get(f"{SUBSCRIPTIONS}/{pk}").json()
    assert (row["failing"], row["waiting"], row["delivered_at"]) == (1, 0, None)


def test_every_workflow_is_for_an_administrator_or_an_owner_of_all(workflow: Workflow) -> None:
    body = webhook("https://hooks.example.com/x", workflow=None)
    person("everywhere", Role.OWNER)
    for name, status in (("owner", 403), ("viewer", 403), ("administrator", 201)):
        assert asked(logged_in(name), "post", SUBSCRIPTIONS, body).status_code == status, name
    taken = asked(logged_in("everywhere"), "post", SUBSCRIPTIONS, body)
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/name-taken")
    secret, _ = token(Scope.CONTROL, Scope.RELEASE)
    service = Client(headers={"Authorization": f"Bearer {secret}"})
    # Who is told is a person's to say.
    assert asked(service, "post", SUBSCRIPTIONS, body).status_code == 403


def test_it_is_changed_and_removed_and_what_stays_is_refused(workflow: Workflow) -> None:
    owner = logged_in("owner")
    made = asked(owner, "post", SUBSCRIPTIONS, webhook("https://hooks.example.com/x")).json()
    address = f"{SUBSCRIPTIONS}/{made['id']}"
    kept = Subscription.objects.values_list("address", "secret").get()
    body = {"name": "pager", "channel": "webhook", "types": ["alert.opened"], "severity": "high"}
    changed = asked(owner, "put", address, body)
    assert (changed.status_code, changed.json()["types"]) == (200, ["alert.opened"])
    # Left out, address and secret stay.
    assert Subscription.objects.values_list("address", "secret").get() == kept
    for wrong, pointer in (
        ({"channel": "service"}, "/channel"),
        ({"workflow": "claims"}, "/workflow"),
        ({"secret": made["secret"]}, "/secret"),
        ({"types": ["nothing"]}, "/types/0"),
        ({"colour": "red"}, "/colour"),
    ):
        refused = asked(owner, "put", address, {**body, **wrong})
        assert refused.status_code == 400, wrong
        assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert asked(owner, "delete", address).status_code == 204
    assert asked(owner, "delete", address).status_code == 404
    # The name is free again.
    assert asked(
        owner, "post", SUBSCRIPTIONS, webhook("https://hooks.example.com/x")
    ).status_code == (201)


def test_deliveries_are_read_by_whose_they_are_and_paged(workflow: Workflow) -> None:
    other = rollout_at(RolloutState.DRAFT, workflow="claims-intake").workflow
    person("theirs", Role.VIEWER, other)
    with Receiver(lambda: 500) as receiver:
        asked(logged_in("owner"), "post", SUBSCRIPTIONS, webhook(receiver.url))
        failed(workflow, times=3)
    owner = logged_in("owner")
    first = owner.get(f"{DELIVERIES}?limit=2&state=failing").json()
    last = owner.get(f"{DELIVERIES}?limit=2&state=failing&cursor={first['next']}").json()
    assert (len(first["results"]), len(last["results"]), last["next"]) == (2, 1, None)
    row = first["results"][0]
    assert (row["type"], row["state"], row["to"], row["rollout"]) == (
        "alert.opened",
        "failed",
        "pager",
        "r-1",
    )
    assert [each["error"] for each in row["tries"]] == ["The receiver answers 500."]
    theirs = logged_in("theirs")
    assert theirs.get(DELIVERIES).json()["results"] == []
    assert asked(theirs, "post", f"{DELIVERIES}/{row['id']}/replay").status_code == 404
    assert "An alert opened" not in theirs.get("/notifications/").content.decode()
    assert asked(logged_in("viewer"), "post", f"{DELIVERIES}/{row['id']}/replay").status_code == 403
    replayed = asked(owner, "post", f"{DELIVERIES}/{row['id']}/replay")
    assert (replayed.status_code, replayed.json()["state"]) == (202, "waiting")


def test_the_form_keeps_what_was_typed_and_says_what_does_not_fit(workflow: Workflow) -> None:
    owner = logged_in("owner")
    form = {"name": "Team", "workflow": "support-reply", "which": "some", "enabled": "on"}
    answer = owner.post("/notifications/new/email/", {**form, "recipients": "owner, nobody"})
    told = answer.content.decode()
    assert answer.status_code == 422
    assert "Choose at least one, or everything." in told
    answer = owner.post(
        "/notifications/new/email/",
        {**form, "types": ["alert.opened"], "recipients": "owner, nobody"},
    )
    told = answer.content.decode()
    assert "“nobody” is neither a role nor somebody&#x27;s user name." in told
    assert 'value="owner, nobody"' in told
    assert not Subscription.objects.exists()
    done = owner.post(
        "/notifications/new/email/",
        {**form, "types": ["alert.opened"], "recipients": "owner, lead"},
    )
    found = Subscription.objects.get()
    assert (done.status_code, done["Location"]) == (302, f"/notifications/{found.pk}/")
    assert (found.types, found.recipients) == (["alert.opened"], ["owner", "lead"])
    # Nobody of them can be mailed, and that is said.
    assert "No mail address is known of" in owner.get("/notifications/").content.decode()
    told = owner.post(f"/notifications/{found.pk}/test/", follow=True).content.decode()
    assert "None of the recipients is an active person with a mail address" in told
    Person.objects.filter(username="owner").update(email="owner@example.com")
    owner.post(f"/notifications/{found.pk}/test/")
    assert Delivery.objects.get().person == Person.objects.get(username="owner")


def test_without_a_mail_server_the_page_says_so_and_mail_is_refused(
    workflow: Workflow, settings: Any
) -> None:
    settings.EMAIL_ON = False
    owner = logged_in("owner")
    assert "Nobody gets mail from this console." in owner.get("/notifications/").content.decode()
    body = {"workflow": "support-reply", "name": "x", "channel": "email", "recipients": ["owner"]}
    refused = asked(owner, "post", SUBSCRIPTIONS, body)
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/mail-off")


def test_the_page_asks_the_same_however_much_there_is(
    workflow: Workflow, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    owner = logged_in("owner")
    with Receiver(lambda: 500) as receiver:
        for name in ("a", "b", "c"):
            asked(owner, "post", SUBSCRIPTIONS, webhook(receiver.url, name=name))
        failed(workflow, times=4)
    Delivery.objects.update(created_at=timezone.now() - timedelta(minutes=1))
    with django_assert_num_queries(10):
        assert owner.get("/notifications/").status_code == 200
