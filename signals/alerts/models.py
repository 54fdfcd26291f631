from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from rollout_console.catalog.models import Workflow
from signals.guards.models import Guard


class AlertState(models.TextChoices):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    HELD = "held"
    RESOLVED = "resolved"


class Alert(models.Model):
    """A tripped trigger, opened once, that names who answers for it.

    The numbers are those at the trip. `rollout` is the rollout's slug.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="alerts")
    rollout = models.CharField(max_length=80)
    guard = models.ForeignKey(Guard, on_delete=models.PROTECT, related_name="alerts")
    state = models.CharField(max_length=12, choices=AlertState.choices, default=AlertState.OPEN)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="alerts"
    )
    sentence = models.TextField()
    value = models.FloatField(null=True)
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    n = models.PositiveIntegerField(default=0)
    opened_at = models.DateTimeField()
    acked_at = models.DateTimeField(null=True)
    acked_by = models.CharField(max_length=150, blank=True)
    held_until = models.DateTimeField(null=True)
    held_reason = models.TextField(blank=True)
    due_at = models.DateTimeField(null=True)
    # When the deputy is told that nobody has decided yet; null once told.
    halfway_at = models.DateTimeField(null=True)
    due_action = models.JSONField(null=True)
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=150, blank=True)
    was_right = models.BooleanField(null=True)
    note = models.TextField(blank=True)

    class Meta:
        indexes = [
            models.Index(name="alert_by_rollout", fields=["rollout", "id"]),
            models.Index(name="alert_due", fields=["due_at"], condition=Q(due_at__isnull=False)),
        ]
        constraints = [
            UniqueConstraint(
                name="alert_open_once",
                fields=["guard"],
                condition=~Q(state="resolved"),
                violation_error_message="This trigger has an open alert already.",
            ),
            CheckConstraint(name="alert_state_known", condition=Q(state__in=AlertState.values)),
        ]

    def __str__(self) -> str:
        return f"alert {self.pk}"
