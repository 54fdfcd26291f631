"""One round of retention: what may go depends on which paths a guard ever watched."""

import time
from datetime import datetime
from typing import Final

from signals.buckets.retention import ledger_prune, minutes_prune
from signals.guards.models import Guard
from signals.ingest.retention import leftovers_prune, run_day_drop, run_days_ensure
from signals.points.services import points_prune

EVERY_S: Final = 60.0


class _Round:
    """When this process looks next, by time.monotonic()."""

    due_at = float("-inf")


def storage_keep(*, now: datetime) -> int:
    """Make the days to come and let go of what is kept no longer; return how much was done.

    A bounded part a round, looked for once a minute, and each round while something is left.
    """
    if time.monotonic() < _Round.due_at:
        return 0
    guarded = list(Guard.objects.order_by("path_id").values_list("path_id", flat=True).distinct())
    done = run_days_ensure(now=now) + minutes_prune(now=now) + points_prune(now=now)
    done += ledger_prune(guarded=guarded, now=now)
    # What was about a day's runs goes before the next day does.
    done += leftovers_prune(guarded=guarded, now=now) or run_day_drop(now=now)
    _Round.due_at = float("-inf") if done else time.monotonic() + EVERY_S
    return done
