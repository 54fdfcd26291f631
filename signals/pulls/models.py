from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from rollout_console.catalog.models import Workflow, WorkflowPath

BETTER = ("lower", "higher", "neither")


class PullSource(models.Model):
    """What is asked of a Prometheus-compatible server, and how far that has come.

    `name` is the metric's name here. `credential` names one that the settings hold: no secret is
    ever in this table. `pulled_to` is the newest step that was asked for and answered.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="pulls")
    path = models.ForeignKey(WorkflowPath, on_delete=models.PROTECT, related_name="pulls")
    name = models.CharField(max_length=80)
    base_url = models.CharField(max_length=500)
    query = models.TextField()
    step_s = models.PositiveIntegerField()
    unit = models.CharField(max_length=63, blank=True)
    better = models.CharField(max_length=7, default="neither", db_default="neither")
    # Our dimension → the label that says it: {"segment": "tenant", "release": "version"}.
    labels = models.JSONField(default=dict)
    credential = models.CharField(max_length=80, blank=True)
    enabled = models.BooleanField(default=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="owned_pulls"
    )
    created_at = models.DateTimeField()

    pulled_to = models.DateTimeField()
    next_at = models.DateTimeField()
    claim = models.UUIDField(null=True)
    claimed_until = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    # In a row; 0 once one succeeds.
    failures = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)

    class Meta:
        db_table = "pull_source"
        constraints = [
            UniqueConstraint(name="pull_once", fields=["workflow", "name"]),
            CheckConstraint(name="pull_better_known", condition=Q(better__in=BETTER)),
            CheckConstraint(name="pull_step_positive", condition=Q(step_s__gte=1)),
        ]
        indexes = [
            models.Index(name="pull_due", fields=["next_at"], condition=Q(enabled=True)),
        ]

    def __str__(self) -> str:
        return self.name
