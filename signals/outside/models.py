from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from rollout_console.catalog.models import Workflow, WorkflowPath


class Source(models.TextChoices):
    ALERTMANAGER = "alertmanager"
    GRAFANA = "grafana"


class OutsideAlert(models.Model):
    """An alert of another system, counted once, that marks a path while it fires.

    With `trigger` it trips the workflow's trigger of that slug too. `fingerprint` and
    `started_at` are the other system's: together they are one alert, however often it is sent.
    `silent_at` is when that system said that it has no data of it any more, which ends nothing.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="outside_alerts")
    path = models.ForeignKey(WorkflowPath, on_delete=models.PROTECT, related_name="outside_alerts")
    trigger = models.CharField(max_length=80, blank=True)
    source = models.CharField(max_length=12, choices=Source.choices)
    fingerprint = models.CharField(max_length=100)
    name = models.CharField(max_length=200)
    summary = models.TextField(blank=True)
    labels = models.JSONField(default=dict)
    link = models.TextField(blank=True)
    started_at = models.DateTimeField()
    received_at = models.DateTimeField()
    received_by = models.CharField(max_length=150)
    seen_at = models.DateTimeField()
    # How often it was sent while it fired.
    times = models.PositiveIntegerField(default=1)
    silent_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=150, blank=True)
    end_reason = models.TextField(blank=True)
    # When it last began, fell silent or ended here: guards of the path are then read again.
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "outside_alert"
        constraints = [
            UniqueConstraint(
                name="outside_alert_once",
                fields=["workflow", "source", "fingerprint", "started_at"],
            ),
            CheckConstraint(
                name="outside_alert_source_known", condition=Q(source__in=Source.values)
            ),
        ]
        indexes = [
            models.Index(name="outside_alert_ended", fields=["ended_at"]),
            models.Index(name="outside_alert_firing", fields=["path"], condition=Q(ended_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.name}"
