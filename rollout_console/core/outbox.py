"""The hand-off: a row beside the change, swept later; nothing is sent inside a transaction."""

from datetime import datetime
from typing import Any

from rollout_console.core.models import OutboxEvent


def add(type_: str, *, workflow: str, key: object, at: datetime, data: dict[str, Any]) -> None:
    """Record that `type_` happened to `key`; types are those of `api.md`'s outbound webhooks."""
    OutboxEvent.objects.create(
        type=type_, workflow=workflow, key=str(key), data=data, created_at=at
    )
