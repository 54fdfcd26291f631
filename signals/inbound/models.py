from django.db import models

from rollout_console.catalog.models import Workflow


class InboundMappingVersion(models.Model):
    """A workflow's rules for alerts from outside, as put at a time; the newest is in force."""

    workflow = models.ForeignKey(
        Workflow, on_delete=models.PROTECT, related_name="inbound_mapping_versions"
    )
    document = models.JSONField()
    digest = models.CharField(max_length=64)
    put_at = models.DateTimeField()
    put_by = models.CharField(max_length=150)

    class Meta:
        db_table = "inbound_mapping"
        indexes = [models.Index(name="inbound_mapping_newest", fields=["workflow", "-id"])]

    def __str__(self) -> str:
        return f"inbound mapping {self.pk} of {self.workflow_id}"
