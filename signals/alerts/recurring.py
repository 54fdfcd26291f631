"""Flapping and contained alerts: the same alert goes on, and pages only on what is news.

Pure: no Django.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# A trigger that was quiet for less than this and trips again is flapping: it pages nobody anew.
FLAPS_WITHIN: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Seen:
    """An alert that waits, as a look finds it. `contained_at`: a reduction covered it then."""

    quiet_since: datetime | None
    contained_at: datetime | None
    window_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """What a look makes of it. `recurred`: it trips again; `pages`: somebody has to be told."""

    quiet_since: datetime | None
    contained_at: datetime | None
    recurred: bool = False
    pages: bool = False


def contained(contained_at: datetime | None, *, window_s: float, now: datetime) -> bool:
    """Whether some of the evidence in a window that ends now is from before the reduction.

    What trips on evidence that is wholly from after it was not contained by it.
    """
    return contained_at is not None and now - timedelta(seconds=window_s) < contained_at


def recurrence(seen: Seen, *, tripped: bool, recovered: bool, now: datetime) -> Step | None:
    """Return what becomes of an unresolved alert at a look, None where nothing does.

    Args:
        tripped: its trigger says tripped.
        recovered: its trigger says quiet or watching; blind is neither.
    """
    if recovered:
        return Step(now, seen.contained_at) if seen.quiet_since is None else None
    if not tripped:
        return None
    covered = contained(seen.contained_at, window_s=seen.window_s, now=now)
    goes_on = seen.contained_at is not None and not covered
    if seen.quiet_since is None and not goes_on:
        return None
    recurred = seen.quiet_since is not None
    long_quiet = recurred and now - (seen.quiet_since or now) >= FLAPS_WITHIN
    return Step(
        quiet_since=None,
        contained_at=seen.contained_at if covered else None,
        recurred=recurred,
        pages=goes_on or (long_quiet and not covered),
    )
