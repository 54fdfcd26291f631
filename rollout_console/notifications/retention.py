"""Let go of deliveries, and of outbox rows that were handed on, once their time is over."""

import time
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings

from rollout_console.core.models import OutboxEvent
from rollout_console.notifications.models import Delivery, DeliveryState

EVERY_S: Final = 60.0
ROWS_AT_ONCE: Final = 2_000


class _Round:
    """When this process looks next, by time.monotonic()."""

    due_at = float("-inf")


def deliveries_prune(*, now: datetime) -> int:
    """Delete what is over and older than DELIVERY_DAYS_KEPT; return how many rows.

    A bounded part a round, looked for once a minute, and each round while something is left. What
    is still to be sent stays.
    """
    if time.monotonic() < _Round.due_at:
        return 0
    before = now - timedelta(days=settings.DELIVERY_DAYS_KEPT)
    over = Delivery.objects.filter(
        state__in=[DeliveryState.DELIVERED, DeliveryState.GIVEN_UP],
        created_at__lt=before,
        next_at__lt=before,
    )
    ids = list(over.order_by("pk").values_list("pk", flat=True)[:ROWS_AT_ONCE])
    Delivery.objects.filter(pk__in=ids).delete()
    handed_on = OutboxEvent.objects.filter(
        delivered_at__isnull=False, created_at__lt=before, deliveries=None
    )
    events = list(handed_on.order_by("pk").values_list("pk", flat=True)[:ROWS_AT_ONCE])
    OutboxEvent.objects.filter(pk__in=events).delete()
    done = len(ids) + len(events)
    _Round.due_at = float("-inf") if done else time.monotonic() + EVERY_S
    return done
