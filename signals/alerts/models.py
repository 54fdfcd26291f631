from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from rollout_console.catalog.models import Workflow, WorkflowPath
from signals.guards.models import Guard, Severity
from signals.health.models import Problem


class AlertState(models.TextChoices):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    HELD = "held"
    RESOLVED = "resolved"


class Alert(models.Model):
    """A tripped trigger, or a problem of the signals, opened once, that names who answers for it.

    The numbers are those at the trip. `rollout` is the rollout's slug. One about a problem has no
    guard: it carries no clock and contains nothing. Guard or problem, with its path, is to be
    selected with it.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="alerts")
    rollout = models.CharField(max_length=80)
    guard = models.ForeignKey(Guard, null=True, on_delete=models.PROTECT, related_name="alerts")
    problem = models.ForeignKey(Problem, null=True, on_delete=models.PROTECT, related_name="alerts")
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
            UniqueConstraint(
                name="alert_problem_once",
                fields=["problem"],
                violation_error_message="This problem has an alert already.",
            ),
            CheckConstraint(
                name="alert_of_guard_or_problem",
                condition=Q(guard__isnull=False, problem=None)
                | Q(guard=None, problem__isnull=False, due_at=None),
            ),
            CheckConstraint(name="alert_state_known", condition=Q(state__in=AlertState.values)),
        ]

    def __str__(self) -> str:
        return f"alert {self.pk}"

    @property
    def path(self) -> WorkflowPath:
        return self.about_guard.path if self.problem is None else self.problem.path

    @property
    def name(self) -> str:
        """The guard's slug, or the problem's kind."""
        return self.about_guard.slug if self.problem is None else self.problem.kind

    @property
    def about_guard(self) -> Guard:
        """The guard of an alert that has a clock, or that containment may act on."""
        assert self.guard is not None
        return self.guard

    @property
    def severity(self) -> str:
        return self.guard.severity if self.guard is not None else Severity.MEDIUM.value

    @property
    def response(self) -> dict[str, Any]:
        """What the plan asks for; empty for a problem, about which no plan says anything."""
        return {} if self.guard is None else dict(self.guard.response or {})
