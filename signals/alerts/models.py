from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from rollout_console.catalog.models import Segment, Workflow, WorkflowPath
from signals.guards.models import Guard, Severity
from signals.health.models import Problem


class AlertState(models.TextChoices):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    HELD = "held"
    RESOLVED = "resolved"


class IncidentState(models.TextChoices):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Incident(models.Model):
    """The alerts of one rollout that belong together, and how far its ladder was climbed.

    `pages_from` is since when an alert of it waits for somebody, null while none does; `rung` is
    how many rungs of the ladder were told since then, and `page_at` when the next one is, null
    where none is left.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="incidents")
    rollout = models.CharField(max_length=80)
    state = models.CharField(
        max_length=12, choices=IncidentState.choices, default=IncidentState.OPEN
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="incidents"
    )
    opened_at = models.DateTimeField()
    acked_at = models.DateTimeField(null=True)
    acked_by = models.CharField(max_length=150, blank=True)
    resolved_at = models.DateTimeField(null=True)
    reopened_at = models.DateTimeField(null=True)
    reopened = models.PositiveIntegerField(default=0)
    rung = models.PositiveSmallIntegerField(default=0)
    pages_from = models.DateTimeField(null=True)
    page_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(name="incident_by_rollout", fields=["rollout", "id"]),
            models.Index(
                name="incident_pages", fields=["page_at"], condition=Q(page_at__isnull=False)
            ),
        ]
        constraints = [
            UniqueConstraint(
                name="incident_open_once",
                fields=["rollout"],
                condition=~Q(state="resolved"),
                violation_error_message="This rollout has an open incident already.",
            ),
            CheckConstraint(
                name="incident_state_known", condition=Q(state__in=IncidentState.values)
            ),
        ]

    def __str__(self) -> str:
        return f"incident {self.pk}"


class Reduction(models.Model):
    """What a containment action took away, for as long as nothing was given back.

    `path` and `segment` are null for all of them.
    """

    rollout = models.CharField(max_length=80)
    path = models.ForeignKey(
        WorkflowPath, null=True, on_delete=models.CASCADE, related_name="reductions"
    )
    segment = models.ForeignKey(
        Segment, null=True, on_delete=models.CASCADE, related_name="reductions"
    )
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="reduction_by_rollout", fields=["rollout", "at"])]

    def __str__(self) -> str:
        return f"{self.rollout} {self.path_id} {self.segment_id}"


class Alert(models.Model):
    """A tripped trigger, or a problem of the signals, opened once, that names who answers for it.

    The numbers are those at the trip. `rollout` is the rollout's slug. One about a problem has no
    guard: it carries no clock and contains nothing. Guard or problem, with its path, is to be
    selected with it.

    `quiet_since` is since when its trigger trips no more while it waits for an answer;
    `recurrences` counts how often it tripped again. `contained_at` is when a reduction covered
    what it is about; a `quiet` alert pages nobody. `onset_at` is when the damage began, as the
    owner says; `damage_at` when the first damaging run in its evidence happened.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="alerts")
    rollout = models.CharField(max_length=80)
    incident = models.ForeignKey(
        Incident, null=True, on_delete=models.PROTECT, related_name="alerts"
    )
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
    quiet_since = models.DateTimeField(null=True)
    recurrences = models.PositiveIntegerField(default=0, db_default=0)
    recurred_at = models.DateTimeField(null=True)
    contained_at = models.DateTimeField(null=True)
    quiet = models.BooleanField(default=False, db_default=False)
    onset_at = models.DateTimeField(null=True)
    damage_at = models.DateTimeField(null=True)
    damage_sought = models.BooleanField(default=False, db_default=False)

    class Meta:
        indexes = [
            models.Index(name="alert_by_rollout", fields=["rollout", "id"]),
            models.Index(name="alert_due", fields=["due_at"], condition=Q(due_at__isnull=False)),
            models.Index(
                name="alert_untraced", fields=["opened_at"], condition=Q(damage_sought=False)
            ),
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
    def path(self) -> WorkflowPath | None:
        """Where it is; None for a problem of the whole rollout."""
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
