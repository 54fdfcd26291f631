"""Subscriptions and deliveries as rows for pages and the API: never with an address or secret."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import Count, Max, Min, Q, QuerySet

from rollout_console.catalog.models import Person, Workflow
from rollout_console.notifications.models import (
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    Subscription,
)
from rollout_console.notifications.payload import event_id

DAY: Final = timedelta(days=1)
FAILING: Final = (DeliveryState.FAILED, DeliveryState.GIVEN_UP)


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """A subscription and how it goes; `failing` counts what has not arrived in the last day."""

    id: int
    workflow: str | None
    name: str
    channel: str
    types: list[str]
    severity: str
    recipients: list[str]
    address: str
    enabled: bool
    stopped_why: str
    old_secret_until: datetime | None
    created_at: datetime
    created_by: str
    waiting: int
    failing: int
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    at: datetime
    took_ms: int
    http_status: int | None
    error: str


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One event on its way; `to` is the subscription's name, or the person who is mailed."""

    id: int
    event: str
    type: str
    workflow: str
    rollout: str | None
    subscription: int | None
    to: str
    channel: str
    state: str
    created_at: datetime
    attempts: int
    attempted_at: datetime | None
    http_status: int | None
    error: str
    next_at: datetime | None
    delivered_at: datetime | None
    tries: list[AttemptRow]


@dataclass(frozen=True, slots=True)
class FailingDeliveries:
    """What is not arriving, of one workflow by one channel. `workflow` is "" for none."""

    workflow: str
    channel: str
    failed: int
    given_up: int
    since: datetime
    error: str


def deliveries_failing(now: datetime) -> list[FailingDeliveries]:
    """Return what has failed and not arrived since, by workflow and channel.

    `failed` will be tried again, `given_up` will not. What was given up counts for a day after
    its last attempt, so that a receiver long gone is not failing for ever.
    """
    day_ago = now - DAY
    failing = Delivery.objects.filter(
        Q(state=DeliveryState.FAILED) | Q(state=DeliveryState.GIVEN_UP, attempted_at__gt=day_ago)
    ).exclude(subscription__removed_at__isnull=False)
    groups = (
        failing.values("workflow", "channel")
        .annotate(
            failed=Count("pk", filter=Q(state=DeliveryState.FAILED)),
            given_up=Count("pk", filter=Q(state=DeliveryState.GIVEN_UP)),
            since=Min("created_at"),
            newest=Max("pk"),
        )
        .order_by("workflow", "channel")
    )
    rows = list(groups)
    errors = dict(
        Delivery.objects.filter(pk__in=[row["newest"] for row in rows]).values_list("pk", "error")
    )
    return [
        FailingDeliveries(
            workflow=row["workflow"],
            channel=row["channel"],
            failed=row["failed"],
            given_up=row["given_up"],
            since=row["since"],
            error=errors.get(row["newest"], ""),
        )
        for row in rows
    ]


def subscription_rows(
    *, workflow_ids: Collection[int], now: datetime, subscription_id: int | None = None
) -> list[SubscriptionRow]:
    """Return the subscriptions of these workflows and those of every one, by name."""
    found = Subscription.objects.filter(removed_at=None).filter(
        Q(workflow__in=workflow_ids) | Q(workflow=None)
    )
    if subscription_id is not None:
        found = found.filter(pk=subscription_id)
    recent = Q(deliveries__state=DeliveryState.FAILED) | Q(
        deliveries__state=DeliveryState.GIVEN_UP, deliveries__attempted_at__gt=now - DAY
    )
    found = found.annotate(
        waiting_n=Count("deliveries", filter=Q(deliveries__state=DeliveryState.WAITING)),
        failing_n=Count("deliveries", filter=recent),
        newest_at=Max("deliveries__delivered_at"),
    )
    return [
        SubscriptionRow(
            id=row.pk,
            workflow=None if row.workflow is None else row.workflow.slug,
            name=row.name,
            channel=row.channel,
            types=list(row.types),
            severity=row.severity,
            recipients=list(row.recipients),
            address=row.shown,
            enabled=row.enabled,
            stopped_why=row.stopped_why,
            old_secret_until=row.old_secret_until,
            created_at=row.created_at,
            created_by=row.created_by,
            waiting=row.waiting_n,
            failing=row.failing_n,
            delivered_at=row.newest_at,
        )
        for row in found.select_related("workflow").order_by("workflow__slug", "name", "pk")
    ]


def delivery_rows(
    *,
    workflow_slugs: Collection[str],
    failing: bool = False,
    subscription_id: int | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[DeliveryRow]:
    """Return the newest deliveries of these workflows, and of none in particular.

    `failing`: only what failed or was given up. `before`: only those with a smaller id.
    """
    found = Delivery.objects.filter(workflow__in=[*workflow_slugs, ""])
    if failing:
        found = found.filter(state__in=FAILING)
    if subscription_id is not None:
        found = found.filter(subscription=subscription_id)
    if before is not None:
        found = found.filter(pk__lt=before)
    return _rows(found.order_by("-pk")[:limit])


def delivery_row(*, delivery_id: int, workflow_slugs: Collection[str]) -> DeliveryRow | None:
    """Return one delivery, None where there is none or it is not the reader's to see."""
    found = Delivery.objects.filter(pk=delivery_id, workflow__in=[*workflow_slugs, ""])
    return next(iter(_rows(found)), None)


def _rows(found: QuerySet[Delivery]) -> list[DeliveryRow]:
    deliveries = list(found.select_related("event", "subscription", "person"))
    tries: dict[int, list[AttemptRow]] = {}
    attempts = DeliveryAttempt.objects.filter(delivery__in=[each.pk for each in deliveries])
    for each in attempts.order_by("-pk"):
        tries.setdefault(each.delivery_id, []).append(
            AttemptRow(each.at, each.took_ms, each.http_status, each.error)
        )
    return [_row(each, tries.get(each.pk, [])) for each in deliveries]


def _row(delivery: Delivery, tries: list[AttemptRow]) -> DeliveryRow:
    is_open = delivery.state in (DeliveryState.WAITING, DeliveryState.FAILED)
    rollout: Any = delivery.event.data.get("rollout")
    if delivery.person is not None:
        to = delivery.person.shown_name
    else:
        to = delivery.subscription.name if delivery.subscription is not None else ""
    return DeliveryRow(
        id=delivery.pk,
        event=event_id(delivery.event),
        type=delivery.event.type,
        workflow=delivery.workflow,
        rollout=rollout if isinstance(rollout, str) else None,
        subscription=delivery.subscription_id,
        to=to,
        channel=delivery.channel,
        state=delivery.state,
        created_at=delivery.created_at,
        attempts=delivery.attempts,
        attempted_at=delivery.attempted_at,
        http_status=delivery.http_status,
        error=delivery.error,
        next_at=delivery.next_at if is_open else None,
        delivered_at=delivery.delivered_at,
        tries=tries,
    )


def without_address(*, workflow_ids: Collection[int]) -> list[str]:
    """Return the owners and deputies of these workflows who cannot be mailed; none if mail is off.

    Where mail is off, nobody can: the page says that instead.
    """
    if not settings.EMAIL_ON:
        return []
    workflows = Workflow.objects.filter(pk__in=workflow_ids)
    people = Person.objects.filter(
        Q(owned_workflows__in=workflows) | Q(deputised_workflows__in=workflows), email=""
    )
    return [person.shown_name for person in people.distinct().order_by("username")]
