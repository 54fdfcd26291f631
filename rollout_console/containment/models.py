from django.db import models
from django.db.models import UniqueConstraint

from rollout_console.rollouts.models import Rollout


class Command(models.Model):
    """A command that came with an idempotency key: the same key gets the same outcome."""

    principal = models.CharField(max_length=170)
    key = models.CharField(max_length=200)
    rollout = models.ForeignKey(Rollout, on_delete=models.PROTECT, related_name="commands")
    fingerprint = models.CharField(max_length=64)
    outcome = models.JSONField(null=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            UniqueConstraint(name="command_once", fields=["principal", "rollout", "key"]),
        ]

    def __str__(self) -> str:
        return self.key
