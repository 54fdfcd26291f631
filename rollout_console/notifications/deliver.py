"""Sending what waits: claimed first, sent outside any transaction, recorded after.

Whoever dies between sending and recording leaves a claim that runs out: the delivery is sent
again under the same id. So everything arrives at least once, and receivers can drop doubles.
"""

import random
import time
import uuid
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from approvals.authority.principals import SYSTEM
from rollout_console.audit import services as audit
from rollout_console.notifications.mails import mail_send
from rollout_console.notifications.models import (
    Channel,
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    Subscription,
)
from rollout_console.notifications.outcome import Outcome
from rollout_console.notifications.payload import event_body, event_id, event_message
from rollout_console.notifications.rules import wait_s
from rollout_console.notifications.sealing import Unreadable, unseal
from rollout_console.notifications.teams import service_send
from rollout_console.notifications.webhooks import webhook_send

log = structlog.get_logger()

# Longer than any attempt takes.
CLAIM: Final = timedelta(seconds=60)
# So many receivers are spoken to at once; each of them with one delivery at a time.
LANES: Final = 8
# One run gives way to the next after so long, however much there is to send.
RUN_S: Final = 20.0
OPEN: Final = (DeliveryState.WAITING, DeliveryState.FAILED)
_LOOK_S: Final = 0.2

Send = Callable[[], Outcome]


@dataclass(frozen=True, slots=True)
class _Sent:
    outcome: Outcome
    at: datetime
    took_ms: int


def deliveries_send(*, now: datetime, for_s: float = RUN_S) -> int:
    """Send what is due; return how many deliveries were tried.

    Receivers are served side by side, so that a slow one delays nobody else, and one that failed
    is left alone for the rest of the run.
    """
    until_s = time.monotonic() + for_s
    under_way: dict[Future[_Sent], Delivery] = {}
    resting: set[tuple[str, int]] = set()
    tried = 0
    with ThreadPoolExecutor(LANES, thread_name_prefix="deliveries") as pool:
        while True:
            while len(under_way) < LANES and time.monotonic() < until_s:
                busy = {_receiver(each) for each in under_way.values()}
                delivery = _claim(now=max(now, timezone.now()), without=busy | resting)
                if delivery is None:
                    break
                under_way[pool.submit(_timed, _sender(delivery))] = delivery
            if not under_way:
                return tried
            done, _ = wait(under_way, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            for future in done:
                delivery, sent = under_way.pop(future), future.result()
                _record(delivery, sent)
                tried += 1
                if sent.outcome.error:
                    resting.add(_receiver(delivery))


def _receiver(delivery: Delivery) -> tuple[str, int]:
    """Return what a delivery shares with others to the same place; all mail has one server."""
    if delivery.channel == Channel.EMAIL:
        return (Channel.EMAIL, 0)
    return (delivery.channel, delivery.subscription_id or 0)


def _claim(*, now: datetime, without: set[tuple[str, int]]) -> Delivery | None:
    """Take the delivery that is due longest, of none of these receivers."""
    free = Q(claimed_until=None) | Q(claimed_until__lte=now)
    due = Delivery.objects.filter(free, state__in=OPEN, next_at__lte=now)
    mail = (Channel.EMAIL, 0) in without
    others = [number for channel, number in without if channel != Channel.EMAIL]
    found = due.exclude(channel__in=[Channel.EMAIL] if mail else [])
    found = found.exclude(~Q(channel=Channel.EMAIL), subscription_id__in=others)
    with transaction.atomic():
        delivery = (
            found.select_for_update(of=("self",), skip_locked=True)
            .select_related("event", "subscription", "person")
            .order_by("next_at", "pk")
            .first()
        )
        if delivery is None:
            return None
        delivery.claim, delivery.claimed_until = uuid.uuid4(), now + CLAIM
        delivery.save(update_fields=["claim", "claimed_until"])
    return delivery


def _sender(delivery: Delivery) -> Send:
    """Return the attempt, with all that it needs read already: it runs without a database."""
    event, subscription = delivery.event, delivery.subscription
    now = timezone.now()
    if subscription is not None and (subscription.removed_at or not subscription.enabled):
        return lambda: Outcome("The subscription was removed or switched off.", gone=True)
    if delivery.channel == Channel.EMAIL:
        to = "" if delivery.person is None else delivery.person.email
        if not to:
            return lambda: Outcome("This person has no mail address any more.", gone=True)
        message = event_message(event, now=now)
        mail_id = f"{event_id(event)}.{delivery.person_id}"
        return lambda: mail_send(to=to, message=message, message_id=mail_id)
    assert subscription is not None
    try:
        address, secrets = unseal(subscription.address), _secrets(subscription, now)
    except Unreadable as unreadable:
        why = str(unreadable)
        return lambda: Outcome(why)
    if delivery.channel == Channel.SERVICE:
        message = event_message(event, now=now)
        return lambda: service_send(address=address, message=message)
    body, message_id = event_body(event), event_id(event)
    return lambda: webhook_send(
        address=address, secrets=secrets, message_id=message_id, body=body, now=now
    )


def _secrets(subscription: Subscription, now: datetime) -> list[str]:
    secrets = [unseal(subscription.secret)]
    until = subscription.old_secret_until
    if subscription.old_secret and until is not None and until > now:
        secrets.append(unseal(subscription.old_secret))
    return [secret for secret in secrets if secret]


def _timed(send: Send) -> _Sent:
    at, began_s = timezone.now(), time.monotonic()
    try:
        outcome = send()
    except Exception as error:
        # The outer edge of a thread: a bug in a sender is that delivery's failure alone.
        log.exception("delivery.broke")
        outcome = Outcome(f"The console failed to send it: {type(error).__name__}.")
    return _Sent(outcome, at, int((time.monotonic() - began_s) * 1000))


@transaction.atomic
def _record(delivery: Delivery, sent: _Sent) -> None:
    outcome, now = sent.outcome, timezone.now()
    DeliveryAttempt.objects.create(
        delivery=delivery,
        at=sent.at,
        took_ms=sent.took_ms,
        http_status=outcome.http_status,
        error=outcome.error,
    )
    # Where the claim ran out and somebody else holds it, theirs is the word.
    mine = Delivery.objects.filter(pk=delivery.pk, claim=delivery.claim)
    told = {
        "claim": None,
        "claimed_until": None,
        "attempts": F("attempts") + 1,
        "attempted_at": sent.at,
        "http_status": outcome.http_status,
        "error": outcome.error,
    }
    if not outcome.error:
        mine.update(**told, state=DeliveryState.DELIVERED, delivered_at=now)
        return
    attempts = delivery.attempts + 1
    pause = wait_s(
        attempts=attempts,
        luck=random.random(),  # noqa: S311  # spreads retries, keeps no secret
        retry_after_s=outcome.retry_after_s,
    )
    next_at = now + timedelta(seconds=pause)
    over = outcome.gone or next_at > delivery.give_up_at
    mine.update(
        **told, state=DeliveryState.GIVEN_UP if over else DeliveryState.FAILED, next_at=next_at
    )
    log.warning("delivery.failed", delivery=delivery.pk, error=outcome.error, given_up=over)
    if outcome.gone and outcome.http_status is not None and delivery.subscription is not None:
        _stop(delivery.subscription, why=outcome.error, now=now)


def _stop(subscription: Subscription, *, why: str, now: datetime) -> None:
    """Stop a subscription whose receiver wants no more, as Standard Webhooks ask for."""
    changed = Subscription.objects.filter(pk=subscription.pk, enabled=True).update(
        enabled=False, stopped_why=why
    )
    if changed:
        workflow = subscription.workflow
        audit.append(
            "subscription.stopped",
            actor=SYSTEM,
            at=now,
            workflow="" if workflow is None else workflow.slug,
            subject_type="subscription",
            subject=subscription.pk,
            data={"name": subscription.name, "why": why},
        )
