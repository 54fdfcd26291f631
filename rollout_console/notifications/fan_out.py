"""The outbox becomes deliveries: one for each subscription that wants an event, one a person."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from approvals.authority.matrix import Role
from approvals.authority.principals import persons_told
from rollout_console.catalog.models import Person, Workflow
from rollout_console.core.models import OutboxEvent
from rollout_console.notifications.models import Channel, Delivery, Subscription
from rollout_console.notifications.rules import GIVE_UP_S, Concerned, Wants, concerned, is_wanted

BATCH: Final = 200


def outbox_fan_out(*, now: datetime) -> int:
    """Make deliveries of the events that wait in the outbox; return how many events it took.

    Two at once take different events. An event and its deliveries commit together, so none is
    lost and none is made twice.
    """
    taken = 0
    while (some := _some(now)) > 0:
        taken += some
        if some < BATCH:
            break
    return taken


@transaction.atomic
def _some(now: datetime) -> int:
    waiting = OutboxEvent.objects.filter(delivered_at=None).order_by("pk")
    events = list(waiting.select_for_update(skip_locked=True)[:BATCH])
    if not events:
        return 0
    subscriptions = list(
        Subscription.objects.filter(enabled=True, removed_at=None)
        .select_related("workflow")
        .order_by("pk")
    )
    slugs = {event.workflow for event in events}
    workflows = {
        row.slug: row
        for row in Workflow.objects.filter(slug__in=slugs).select_related("owner", "deputy")
    }
    made: list[Delivery] = []
    for event in events:
        if event.created_at <= now - timedelta(seconds=GIVE_UP_S):
            # No news any more, as when the console was down or had nobody to tell till now.
            continue
        wanted = [
            each
            for each in subscriptions
            # Nobody is told of what happened before they asked to be.
            if each.created_at <= event.created_at and _is_wanted(each, event)
        ]
        made += deliveries_of(
            event,
            subscriptions=wanted,
            workflow=workflows.get(event.workflow),
            told=concerned(event.type, event.data),
            now=now,
        )
    Delivery.objects.bulk_create(made, ignore_conflicts=True)
    OutboxEvent.objects.filter(pk__in=[event.pk for event in events]).update(delivered_at=now)
    return len(events)


def deliveries_of(
    event: OutboxEvent,
    *,
    subscriptions: Iterable[Subscription],
    workflow: Workflow | None,
    told: Concerned,
    now: datetime,
) -> list[Delivery]:
    """Return an event's deliveries, unsaved: to these subscriptions, and by mail to `told`.

    Without a mail server, or without an address of theirs, nobody is mailed: the notifications
    page says both.
    """
    made = []
    mailed: dict[int, Subscription | None] = {}
    named = list(Person.objects.filter(username__in=told.people))
    for person in [*_reached(named), *recipients(told.roles, workflow)]:
        mailed.setdefault(person.pk, None)
    for subscription in subscriptions:
        if subscription.channel != Channel.EMAIL:
            made.append(_delivery(event, subscription.channel, now, subscription=subscription))
            continue
        for person in recipients(subscription.recipients, workflow):
            mailed.setdefault(person.pk, subscription)
    if settings.EMAIL_ON:
        made += [
            _delivery(event, Channel.EMAIL, now, subscription=subscription, person_id=person_id)
            for person_id, subscription in mailed.items()
        ]
    return made


def recipients(names: Iterable[str], workflow: Workflow | None) -> list[Person]:
    """Return the active people with a mail address whom roles and user names stand for."""
    found: dict[int, Person] = {}
    for name in names:
        # Where all of a role are out, whoever stands in for them is told.
        people = persons_told(name, workflow) if workflow is not None else _anywhere(name)
        for person in _reached(people):
            found.setdefault(person.pk, person)
    return list(found.values())


def _reached(people: Iterable[Person]) -> list[Person]:
    return [person for person in people if person.is_active and person.email]


def _anywhere(name: str) -> list[Person]:
    """Return who has a role in any workflow, or this user name: for what is about none."""
    named = Q(username=name) | Q(memberships__role=name)
    if name == Role.OWNER:
        named |= Q(owned_workflows__isnull=False)
    elif name == Role.DEPUTY:
        named |= Q(deputised_workflows__isnull=False)
    return list(Person.objects.filter(named).distinct().order_by("username"))


def _is_wanted(subscription: Subscription, event: OutboxEvent) -> bool:
    wants = Wants(
        workflow=None if subscription.workflow is None else subscription.workflow.slug,
        types=subscription.types,
        severity=subscription.severity,
    )
    return is_wanted(wants, type_=event.type, workflow=event.workflow, data=event.data)


def _delivery(
    event: OutboxEvent,
    channel: str,
    now: datetime,
    *,
    subscription: Subscription | None,
    person_id: int | None = None,
) -> Delivery:
    return Delivery(
        event=event,
        subscription=subscription,
        person_id=person_id,
        workflow=event.workflow,
        channel=channel,
        created_at=now,
        next_at=now,
        give_up_at=now + timedelta(seconds=GIVE_UP_S),
    )
