from datetime import UTC, datetime
from typing import Any, Protocol

from rollout_console.audit.actions import ACTIONS
from rollout_console.audit.models import AuditEntry
from rollout_console.core.canonical import digest


class Actor(Protocol):
    """Whoever acts: a person, a token, or the console itself."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...


def append(
    action: str,
    *,
    actor: Actor,
    at: datetime,
    workflow: str,
    subject_type: str,
    subject: object,
    reason: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> AuditEntry:
    """Write one entry in the caller's transaction; its hash covers all of its own fields.

    Raises:
        ValueError: `action` is not a registered name.
    """
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is not a registered audit action")
    fields: dict[str, Any] = {
        "action": action,
        "actor": actor.name,
        "actor_kind": actor.kind,
        "workflow": workflow,
        "subject_type": subject_type,
        "subject": str(subject),
        "reason": reason or {},
        "data": data or {},
    }
    entry_hash = digest({**fields, "at": at.astimezone(UTC).isoformat(timespec="microseconds")})
    return AuditEntry.objects.create(at=at, entry_hash=entry_hash, **fields)
