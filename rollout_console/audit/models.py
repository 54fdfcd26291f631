from django.db import models


class AuditEntry(models.Model):
    """One thing that one actor did. Append-only: the application's role cannot change it."""

    at = models.DateTimeField()
    action = models.CharField(max_length=60)
    actor = models.CharField(max_length=150)
    actor_kind = models.CharField(max_length=10)
    workflow = models.CharField(max_length=80)
    subject_type = models.CharField(max_length=40)
    subject = models.CharField(max_length=120)
    reason = models.JSONField(default=dict)
    data = models.JSONField(default=dict)
    entry_hash = models.CharField(max_length=64)

    class Meta:
        db_table = "audit_entry"
        indexes = [
            models.Index(name="audit_by_subject", fields=["subject_type", "subject", "id"]),
            models.Index(name="audit_by_workflow", fields=["workflow", "id"]),
        ]
        constraints = [
            models.CheckConstraint(
                name="audit_actor_kind_known",
                condition=models.Q(actor_kind__in=["person", "token", "system"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action} {self.subject}"
