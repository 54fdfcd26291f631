"""Signs of life of the background processes, kept in Postgres because nothing else must run."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from rollout_console.core.models import Heartbeat

# The two that watch: what either does is done.
WORKER: Final = "worker"
KEEPER: Final = "keeper"


def heartbeat_record(*, name: str, now: datetime) -> None:
    """Record that `name` finished a round at `now`."""
    Heartbeat.objects.bulk_create(
        [Heartbeat(name=name, at=now)],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["at"],
    )


def heartbeat_age_s(*, name: str, now: datetime) -> float | None:
    """Return seconds since the last round of `name`, None if it never finished one."""
    at = Heartbeat.objects.filter(name=name).values_list("at", flat=True).first()
    return None if at is None else max(0.0, (now - at).total_seconds())


def heartbeat_last(names: Collection[str]) -> datetime | None:
    """Return when the last round of any of `names` ended, None if none ever did."""
    found = Heartbeat.objects.filter(name__in=names).order_by("-at")
    return found.values_list("at", flat=True).first()
