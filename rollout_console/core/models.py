from django.db import models


class OutboxEvent(models.Model):
    """Something others must hear of, written in the transaction that made it true."""

    type = models.CharField(max_length=40)
    workflow = models.CharField(max_length=80)
    key = models.CharField(max_length=120)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(
                name="outbox_waiting", fields=["id"], condition=models.Q(delivered_at=None)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.key}"


class Heartbeat(models.Model):
    """When a background process last finished its round; what is overdue is read off it."""

    name = models.CharField(max_length=20, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} {self.at}"
