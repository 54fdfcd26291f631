"""The console's alert on deliveries that do not arrive: a step of the watch."""

import time
from datetime import datetime, timedelta
from typing import Final

from rollout_console.notifications.selectors import deliveries_failing
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import EXPOSING
from signals.health.rules import delivery_finding
from signals.health.services import problem_open

# One that fails once is tried again within seconds; what fails for so long, somebody must know.
FAILING_AFTER: Final = timedelta(minutes=5)
LOOK_EVERY_S: Final = 5.0


class _Round:
    """When this process looks next, by time.monotonic()."""

    due_at = float("-inf")


def failing_watch(*, now: datetime) -> int:
    """Look for deliveries that fail, unless this process did so within five seconds."""
    if time.monotonic() < _Round.due_at:
        return 0
    _Round.due_at = time.monotonic() + LOOK_EVERY_S
    return failing_check(now=now)


def failing_check(*, now: datetime) -> int:
    """Open or renew a problem of each exposed rollout whose owner may not be reached; how many.

    It is over when nothing has failed for a while. What concerns no workflow concerns them all.
    """
    failing = [each for each in deliveries_failing(now) if each.since <= now - FAILING_AFTER]
    if not failing:
        return 0
    exposing = Rollout.objects.filter(state__in=EXPOSING).order_by("pk")
    rollouts = list(exposing.values_list("slug", "workflow_id", "workflow__slug"))
    told = 0
    for each in failing:
        for slug, workflow_id, workflow in rollouts:
            if each.workflow not in ("", workflow):
                continue
            finding = delivery_finding(
                rollout=slug,
                channel=each.channel,
                count=each.failed + each.given_up,
                since=each.since,
                error=each.error,
            )
            problem_open(finding, workflow_id=workflow_id, now=now)
            told += 1
    return told
