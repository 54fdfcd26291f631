"""Set up who is told of what, try it, and send again what was given up."""

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction

from approvals.authority.matrix import Role, Verb
from approvals.authority.principals import NotAllowed, Principal, require
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Person, Workflow
from rollout_console.core.errors import DomainError, InvalidInput, NotFound
from rollout_console.core.models import OutboxEvent
from rollout_console.core.nudge import task_send_on_commit
from rollout_console.notifications.addresses import address_fault
from rollout_console.notifications.fan_out import deliveries_of
from rollout_console.notifications.models import (
    SEVERITIES,
    Channel,
    Delivery,
    DeliveryState,
    Subscription,
)
from rollout_console.notifications.rules import EVENT_TYPES, GIVE_UP_S, TEST, Concerned
from rollout_console.notifications.sealing import Unreadable, seal, unseal
from rollout_console.notifications.teams import service_fault, service_shown

TASK: Final = "deliveries.send"
SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # how to spot one, not one
SECRET_BYTES: Final = 32
# As Standard Webhooks have it.
SECRET_BYTES_LEAST, SECRET_BYTES_MOST = 24, 64
NAME_MAX: Final = 80
ADDRESS_MAX: Final = 2000
RECIPIENTS_MAX: Final = 50
# Both secrets sign for so long, so that the receiver can change over.
OVERLAP: Final = timedelta(days=1)


class SubscriptionNameTaken(DomainError):
    code = "name-taken"
    title = "This name is taken"


class MailOff(DomainError):
    code = "mail-off"
    title = "Mail is not set up"


class NobodyToMail(DomainError):
    code = "nobody-to-mail"
    title = "Nobody of these has a mail address"


class SubscriptionOff(DomainError):
    code = "subscription-off"
    title = "This subscription is switched off"


@dataclass(frozen=True, slots=True)
class Told:
    """A subscription as somebody wants it. `address` and `secret` None leave what is there."""

    name: str
    channel: str
    types: tuple[str, ...]
    severity: str
    recipients: tuple[str, ...]
    address: str | None
    secret: str | None
    enabled: bool


@transaction.atomic
def subscription_create(
    *, workflow: Workflow | None, told: Told, principal: Principal, now: datetime
) -> tuple[Subscription, str]:
    """Set up a subscription; return it with its signing secret, which is never shown again.

    The secret is "" for what is no webhook.

    Raises:
        NotAllowed, InvalidInput, SubscriptionNameTaken, MailOff.
    """
    manage_require(principal, workflow)
    _check(told, is_new=True)
    secret = ""
    if told.channel == Channel.WEBHOOK:
        secret = told.secret or secret_make()
    subscription = Subscription(
        workflow=workflow,
        name=told.name,
        channel=told.channel,
        types=list(told.types),
        severity=told.severity,
        recipients=list(told.recipients),
        enabled=told.enabled,
        created_at=now,
        created_by=principal.name,
        secret=seal(secret) if secret else "",
    )
    _address_put(subscription, told)
    _save(subscription)
    _record("subscription.created", subscription, principal, now, _facts(subscription))
    return subscription, secret


@transaction.atomic
def subscription_change(
    *, subscription_id: int, told: Told, principal: Principal, now: datetime
) -> Subscription:
    """Change a subscription; the same again changes nothing. Its channel stays.

    Raises:
        NotFound, NotAllowed, InvalidInput, SubscriptionNameTaken, MailOff.
    """
    subscription = _locked(subscription_id, principal)
    if told.channel != subscription.channel:
        raise _fault("/channel", "The channel stays: remove this one and set up another.")
    if told.secret:
        raise _fault("/secret", "A secret is renewed, not put: the old one signs for a day then.")
    _check(told, is_new=False)
    before = _facts(subscription)
    old_address = unseal_or_none(subscription.address)
    subscription.name, subscription.types = told.name, list(told.types)
    subscription.severity, subscription.recipients = told.severity, list(told.recipients)
    moved = told.address is not None and told.address != old_address
    if moved:
        _address_put(subscription, told)
    if told.enabled and not subscription.enabled:
        subscription.stopped_why = ""
    subscription.enabled = told.enabled
    after = _facts(subscription)
    changed = sorted(key for key, value in after.items() if before[key] != value)
    if moved and "address" not in changed:
        changed.append("address")
    if not changed:
        return subscription
    _save(subscription)
    _record("subscription.changed", subscription, principal, now, {**after, "changed": changed})
    return subscription


@transaction.atomic
def subscription_secret_renew(
    *, subscription_id: int, principal: Principal, now: datetime
) -> tuple[Subscription, str]:
    """Give a webhook a new signing secret; the old one signs beside it for a day.

    Raises:
        NotFound, NotAllowed, InvalidInput: it is no webhook.
    """
    subscription = _locked(subscription_id, principal)
    if subscription.channel != Channel.WEBHOOK:
        raise InvalidInput("Only webhooks are signed.")
    secret = secret_make()
    subscription.old_secret = subscription.secret
    subscription.old_secret_until = now + OVERLAP
    subscription.secret = seal(secret)
    subscription.save(update_fields=["secret", "old_secret", "old_secret_until"])
    _record("subscription.secret_renewed", subscription, principal, now, {})
    return subscription, secret


@transaction.atomic
def subscription_remove(*, subscription_id: int, principal: Principal, now: datetime) -> None:
    """End a subscription; what it was sent stays on record, its address and secrets do not.

    Raises:
        NotFound, NotAllowed.
    """
    subscription = _locked(subscription_id, principal)
    subscription.removed_at, subscription.enabled = now, False
    subscription.address = subscription.secret = subscription.old_secret = ""
    subscription.save(update_fields=["removed_at", "enabled", "address", "secret", "old_secret"])
    _record("subscription.removed", subscription, principal, now, {})


@transaction.atomic
def subscription_test(
    *, subscription_id: int, principal: Principal, now: datetime
) -> list[Delivery]:
    """Send a message that says it is a test, the way everything else goes; return its deliveries.

    Raises:
        NotFound, NotAllowed, SubscriptionOff, MailOff, NobodyToMail.
    """
    subscription = _locked(subscription_id, principal)
    if not subscription.enabled:
        raise SubscriptionOff("Switch it on first; a test goes the way that everything else goes.")
    _mail_check(subscription.channel)
    workflow = subscription.workflow
    slug = "" if workflow is None else workflow.slug
    event = OutboxEvent.objects.create(
        type=TEST,
        workflow=slug,
        key=str(subscription.pk),
        data={"workflow": slug, "rollout": None, "by": principal.name},
        created_at=now,
        # Handed on here, to this subscription alone.
        delivered_at=now,
    )
    made = deliveries_of(
        event, subscriptions=[subscription], workflow=workflow, told=Concerned(), now=now
    )
    if not made:
        raise NobodyToMail(
            "None of the recipients is an active person with a mail address: name people, or give"
            " them addresses."
        )
    Delivery.objects.bulk_create(made)
    _record("subscription.tested", subscription, principal, now, {"deliveries": len(made)})
    task_send_on_commit(TASK)
    return made


@transaction.atomic
def delivery_replay(*, delivery_id: int, principal: Principal, now: datetime) -> Delivery:
    """Send a delivery again, under the same id, with a day of attempts before it.

    One that waits for its first attempt stays as it is, so pressing twice sends once.

    Raises:
        NotFound, NotAllowed, SubscriptionOff.
    """
    delivery = (
        Delivery.objects.select_for_update(of=("self",))
        .select_related("event", "subscription__workflow", "person")
        .filter(pk=delivery_id)
        .first()
    )
    workflow = None
    if delivery is not None and delivery.workflow:
        workflow = Workflow.objects.filter(slug=delivery.workflow).first()
    workflow_id = None if workflow is None else workflow.pk
    if delivery is None or not (
        principal.may(Verb.READ, workflow_id)
        or principal.may(Verb.NOTIFICATIONS_MANAGE, workflow_id)
    ):
        raise NotFound(f"There is no delivery {delivery_id}.")
    manage_require(principal, workflow)
    if delivery.state == DeliveryState.WAITING:
        return delivery
    subscription = delivery.subscription
    if subscription is not None and (subscription.removed_at or not subscription.enabled):
        raise SubscriptionOff("Its subscription is removed or switched off: nothing goes there.")
    delivery.state = DeliveryState.WAITING
    delivery.attempts = 0
    delivery.next_at, delivery.give_up_at = now, now + timedelta(seconds=GIVE_UP_S)
    delivery.save(update_fields=["state", "attempts", "next_at", "give_up_at"])
    audit.append(
        "delivery.replayed",
        actor=principal,
        at=now,
        workflow=delivery.workflow,
        subject_type="delivery",
        subject=delivery.pk,
        data={"type": delivery.event.type, "channel": delivery.channel},
    )
    task_send_on_commit(TASK)
    return delivery


def manage_require(principal: Principal, workflow: Workflow | None) -> None:
    """Raise NotAllowed unless `principal` may say who is told, in a workflow or in all of them."""
    if workflow is not None:
        require(principal, Verb.NOTIFICATIONS_MANAGE, workflow)
    elif not principal.may(Verb.NOTIFICATIONS_MANAGE, None):
        raise NotAllowed(
            "Notifications of every workflow are for an owner of all, or an administrator."
        )


def secret_make() -> str:
    """Return a new signing secret in the form of Standard Webhooks."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def unseal_or_none(sealed: str) -> str | None:
    """Return what was sealed, None where it cannot be read with this key any more."""
    try:
        return unseal(sealed)
    except Unreadable:
        return None


def subscription_permit(*, subscription_id: int, principal: Principal) -> Subscription:
    """Return a subscription that `principal` may change.

    Raises:
        NotFound, NotAllowed.
    """
    found = (
        Subscription.objects.select_related("workflow__owner", "workflow__deputy")
        .filter(pk=subscription_id, removed_at=None)
        .first()
    )
    # Who may not read it is not told that it exists.
    if found is None or not (
        found.workflow_id is None
        or principal.may(Verb.READ, found.workflow_id)
        or principal.may(Verb.NOTIFICATIONS_MANAGE, found.workflow_id)
    ):
        raise NotFound(f"There is no subscription {subscription_id}.")
    manage_require(principal, found.workflow)
    return found


def _locked(subscription_id: int, principal: Principal) -> Subscription:
    list(Subscription.objects.select_for_update().filter(pk=subscription_id))
    return subscription_permit(subscription_id=subscription_id, principal=principal)


def _save(subscription: Subscription) -> None:
    try:
        with transaction.atomic():
            subscription.save()
    except IntegrityError as error:
        raise SubscriptionNameTaken(
            f"There is a subscription “{subscription.name}” here already; choose another name."
        ) from error


def _address_put(subscription: Subscription, told: Told) -> None:
    address = told.address or ""
    subscription.address = seal(address) if address else ""
    if subscription.channel == Channel.SERVICE:
        subscription.shown = service_shown(address)
    elif subscription.channel == Channel.WEBHOOK:
        # What follows the host may be a secret, as in a service's own webhooks.
        parts = urlsplit(address)
        subscription.shown = f"{parts.scheme}://{parts.netloc}/…"[:200]


def _check(told: Told, *, is_new: bool) -> None:
    """Raise InvalidInput with every fault, or MailOff."""
    errors = []

    def fault(pointer: str, detail: str) -> None:
        errors.append({"pointer": pointer, "detail": detail})

    if not told.name or len(told.name) > NAME_MAX or "\x00" in told.name:
        fault("/name", f"A name has 1 to {NAME_MAX} characters.")
    if told.channel not in Channel.values:
        fault("/channel", f"One of: {', '.join(Channel.values)}.")
    if told.severity not in SEVERITIES:
        fault("/severity", f"One of: {', '.join(SEVERITIES)}.")
    for number, type_ in enumerate(told.types):
        if type_ not in EVENT_TYPES:
            fault(f"/types/{number}", f"One of: {', '.join(EVENT_TYPES)}; none stands for all.")
    if told.channel == Channel.EMAIL:
        for pointer, detail in _recipient_faults(told.recipients):
            fault(pointer, detail)
    elif told.recipients:
        fault("/recipients", "Only mail has recipients.")
    if told.channel in (Channel.WEBHOOK, Channel.SERVICE) and (is_new or told.address is not None):
        address = told.address or ""
        check = address_fault if told.channel == Channel.WEBHOOK else service_fault
        if len(address) > ADDRESS_MAX or "\x00" in address:
            fault("/address", f"An address has at most {ADDRESS_MAX:,} characters and no NUL.")
        elif why := check(address):
            fault("/address", why)
    elif told.address:
        fault("/address", "Mail goes to recipients, not to an address.")
    if told.secret and told.channel != Channel.WEBHOOK:
        fault("/secret", "Only webhooks are signed.")
    elif told.secret and (why := secret_fault(told.secret)):
        fault("/secret", why)
    if errors:
        raise InvalidInput(f"The subscription does not fit: {errors[0]['detail']}", errors=errors)
    _mail_check(told.channel)


def secret_fault(secret: str) -> str | None:
    """Return why a text is no signing secret; None where it is one."""
    try:
        raw = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        raw = b""
    if secret.startswith(SECRET_PREFIX) and SECRET_BYTES_LEAST <= len(raw) <= SECRET_BYTES_MOST:
        return None
    return (
        f"A signing secret is {SECRET_PREFIX} and {SECRET_BYTES_LEAST} to {SECRET_BYTES_MOST}"
        " random bytes in base64. Leave it out, and one is made."
    )


def _recipient_faults(names: tuple[str, ...]) -> list[tuple[str, str]]:
    if not names or len(names) > RECIPIENTS_MAX:
        return [("/recipients", f"Name 1 to {RECIPIENTS_MAX} roles or people.")]
    roles = {role.value for role in Role}
    people = set(
        Person.objects.filter(username__in=names, is_active=True).values_list("username", flat=True)
    )
    return [
        (f"/recipients/{number}", f"“{name}” is neither a role nor somebody's user name.")
        for number, name in enumerate(names)
        if name not in roles and name not in people
    ]


def _mail_check(channel: str) -> None:
    if channel == Channel.EMAIL and not settings.EMAIL_ON:
        raise MailOff("This console has no mail server: give it one in the setting EMAIL_URL.")


def _fault(pointer: str, detail: str) -> InvalidInput:
    return InvalidInput(detail, errors=[{"pointer": pointer, "detail": detail}])


def _facts(subscription: Subscription) -> dict[str, Any]:
    """Return what the audit keeps of a subscription: never its address or secret."""
    return {
        "name": subscription.name,
        "channel": str(subscription.channel),
        "types": list(subscription.types),
        "severity": subscription.severity,
        "recipients": list(subscription.recipients),
        "address": subscription.shown,
        "enabled": subscription.enabled,
    }


def _record(
    action: str,
    subscription: Subscription,
    principal: Principal,
    now: datetime,
    data: dict[str, Any],
) -> None:
    workflow = subscription.workflow
    audit.append(
        action,
        actor=principal,
        at=now,
        workflow="" if workflow is None else workflow.slug,
        subject_type="subscription",
        subject=subscription.pk,
        data={"name": subscription.name, **data},
    )
