from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from approvals.actions.moves import Result
from rollout_console.catalog.models import Workflow, WorkflowPath

RESULTS = [result.value for result in Result]


class Decision(models.TextChoices):
    ALLOW = "allow"
    DENY = "deny"
    PENDING = "pending"


class ActionRequest(models.Model):
    """One asked-for use of an action route, with what was decided on it and how it ended.

    `request_id` is the workflow's own name for it and `digest` is of all that it asked. What it
    was decided on is kept as the ledger's key: `segment_id`, `release_id` (0 for none), `arm` and
    `mode` of what the context was exposed to then.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="action_requests")
    path = models.ForeignKey(WorkflowPath, on_delete=models.PROTECT, related_name="action_requests")
    request_id = models.CharField(max_length=200)
    digest = models.CharField(max_length=64)
    action = models.CharField(max_length=80)
    run_id = models.CharField(max_length=200, blank=True)
    target = models.CharField(max_length=500)
    summary = models.TextField()
    parameters = models.JSONField(default=dict)
    context = models.JSONField(default=dict)
    requested_at = models.DateTimeField()
    requested_by = models.CharField(max_length=150)
    exposure_version = models.PositiveBigIntegerField()
    segment_id = models.IntegerField()
    release_id = models.IntegerField()
    arm = models.SmallIntegerField()
    mode = models.SmallIntegerField()
    decision = models.CharField(max_length=7, choices=Decision.choices)
    reason = models.TextField()
    # When a pending one counts as denied; null for what is decided.
    expires_at = models.DateTimeField(null=True)
    result = models.CharField(
        max_length=6, null=True, choices=[(result, result) for result in RESULTS]
    )
    result_at = models.DateTimeField(null=True)
    reference = models.CharField(max_length=200, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        constraints = [
            UniqueConstraint(
                name="action_request_once",
                fields=["workflow", "request_id"],
                violation_error_message="This id stands for another action request.",
            ),
            CheckConstraint(
                name="action_decision_known", condition=Q(decision__in=Decision.values)
            ),
            CheckConstraint(
                name="action_result_known", condition=Q(result=None) | Q(result__in=RESULTS)
            ),
            CheckConstraint(
                name="action_result_of_allowed",
                condition=Q(result=None) | Q(decision="allow"),
                violation_error_message="Only what was allowed has a result.",
            ),
            CheckConstraint(
                name="action_pending_expires",
                condition=~Q(decision="pending") | Q(expires_at__isnull=False),
            ),
        ]
        indexes = [models.Index(name="action_by_request_id", fields=["request_id"])]

    def __str__(self) -> str:
        return f"{self.action} {self.request_id}"
