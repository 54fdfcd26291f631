from typing import Final

from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from rollout_console.catalog.models import Workflow
from rollout_console.core.models import OutboxEvent

SEVERITIES: Final = ("low", "medium", "high", "critical")


class Channel(models.TextChoices):
    EMAIL = "email"
    WEBHOOK = "webhook"
    SERVICE = "service"


class Subscription(models.Model):
    """Who is told of what, and how. One that is removed stays for the deliveries that it had.

    No workflow stands for every one, no type for every type. `address` (a webhook's, or a
    service's in Apprise's form) and the signing secrets are sealed: see `sealing`. `shown` is
    what may be shown of the address. `recipients` are roles and user names, for mail.
    """

    workflow = models.ForeignKey(
        Workflow, null=True, on_delete=models.PROTECT, related_name="subscriptions"
    )
    name = models.CharField(max_length=80)
    channel = models.CharField(max_length=7, choices=Channel.choices)
    types = models.JSONField(default=list)
    # The least that alerts have to be; everything else is told whatever this says.
    severity = models.CharField(max_length=8, default="low")
    recipients = models.JSONField(default=list)
    address = models.TextField(blank=True)
    shown = models.CharField(max_length=200, blank=True)
    secret = models.TextField(blank=True)
    # Signs beside the new one until then, so that receivers can change over.
    old_secret = models.TextField(blank=True)
    old_secret_until = models.DateTimeField(null=True)
    enabled = models.BooleanField(default=True)
    # Why the console itself stopped it, "" where it did not.
    stopped_why = models.TextField(blank=True)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150)
    removed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "notification_subscription"
        constraints = [
            UniqueConstraint(
                name="subscription_name_once",
                fields=["workflow", "name"],
                condition=Q(removed_at=None),
                nulls_distinct=False,
            ),
            CheckConstraint(
                name="subscription_channel_known", condition=Q(channel__in=Channel.values)
            ),
            CheckConstraint(
                name="subscription_severity_known", condition=Q(severity__in=SEVERITIES)
            ),
        ]

    def __str__(self) -> str:
        return self.name


class DeliveryState(models.TextChoices):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    GIVEN_UP = "given_up"


class Delivery(models.Model):
    """One event on its way to one subscription, or by mail to one person.

    A person gets one mail of an event, however many subscriptions and rules name them. `failed`
    is tried again at `next_at`; `given_up` is not, unless somebody replays it.
    """

    event = models.ForeignKey(OutboxEvent, on_delete=models.PROTECT, related_name="deliveries")
    subscription = models.ForeignKey(
        Subscription, null=True, on_delete=models.PROTECT, related_name="deliveries"
    )
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="deliveries"
    )
    # The event's workflow, "" where it is about none: what a page may show goes by it.
    workflow = models.CharField(max_length=80, blank=True)
    channel = models.CharField(max_length=7, choices=Channel.choices)
    state = models.CharField(
        max_length=9, choices=DeliveryState.choices, default=DeliveryState.WAITING
    )
    created_at = models.DateTimeField()
    next_at = models.DateTimeField()
    give_up_at = models.DateTimeField()
    # Since it was created or last replayed: the pause until the next attempt grows with it.
    attempts = models.PositiveIntegerField(default=0)
    attempted_at = models.DateTimeField(null=True)
    http_status = models.PositiveSmallIntegerField(null=True)
    error = models.TextField(blank=True)
    delivered_at = models.DateTimeField(null=True)
    # Whoever holds the claim sends it; one that nobody answered for runs out.
    claim = models.UUIDField(null=True)
    claimed_until = models.DateTimeField(null=True)

    class Meta:
        db_table = "notification_delivery"
        indexes = [
            models.Index(
                name="delivery_due",
                fields=["next_at"],
                condition=Q(state__in=["waiting", "failed"]),
            ),
            models.Index(name="delivery_by_workflow", fields=["workflow", "-id"]),
            models.Index(
                name="delivery_failing",
                fields=["id"],
                condition=Q(state__in=["failed", "given_up"]),
            ),
        ]
        constraints = [
            UniqueConstraint(
                name="delivery_once_per_subscription",
                fields=["event", "subscription"],
                condition=Q(person=None),
            ),
            UniqueConstraint(
                name="delivery_once_per_person",
                fields=["event", "person"],
                condition=Q(person__isnull=False),
            ),
            CheckConstraint(
                name="delivery_mails_go_to_people",
                condition=Q(channel="email", person__isnull=False)
                | Q(channel__in=["webhook", "service"], person=None, subscription__isnull=False),
            ),
            CheckConstraint(
                name="delivery_state_known", condition=Q(state__in=DeliveryState.values)
            ),
        ]

    def __str__(self) -> str:
        return f"delivery {self.pk}"


class DeliveryAttempt(models.Model):
    """One try: when, how long it took, and what came of it; `error` is "" where it arrived."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="tries")
    at = models.DateTimeField()
    took_ms = models.PositiveIntegerField()
    http_status = models.PositiveSmallIntegerField(null=True)
    error = models.TextField(blank=True)

    class Meta:
        db_table = "notification_attempt"
        indexes = [models.Index(name="attempt_by_delivery", fields=["delivery", "-id"])]

    def __str__(self) -> str:
        return f"{self.delivery_id} {self.at}"
