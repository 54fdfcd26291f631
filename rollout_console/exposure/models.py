from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models


class ExposureHead(models.Model):
    """The one row that publishing locks, so that versions are numbered in commit order."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    version = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(name="exposure_head_is_one", condition=models.Q(id=1)),
        ]

    def __str__(self) -> str:
        return f"exposure {self.version}"


class ExposureVersion(models.Model):
    """A whole exposure document in flagd's format, numbered."""

    number = models.PositiveBigIntegerField(primary_key=True)
    document = models.JSONField()
    digest = models.CharField(max_length=64)
    cause = models.CharField(max_length=200)
    actor = models.CharField(max_length=150)
    at = models.DateTimeField()
    # Whose cause it is, "" for the console's own; and every workflow that is served otherwise
    # since, the cause's too: a containment counts as one where it changed nothing.
    workflow = models.CharField(max_length=80, blank=True, default="")
    workflows = ArrayField(models.CharField(max_length=80), default=list)

    class Meta:
        indexes = [
            GinIndex(name="exposure_by_workflow", fields=["workflows"]),
            models.Index(name="exposure_by_time", fields=["at", "number"]),
        ]

    def __str__(self) -> str:
        return f"exposure version {self.number}"
