"""Deliveries that nobody sent in time: a step of the watch, which waits for no receiver."""

import threading
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import connections
from django.utils import timezone

from rollout_console.core.models import OutboxEvent
from rollout_console.notifications.deliver import OPEN, deliveries_send
from rollout_console.notifications.fan_out import outbox_fan_out
from rollout_console.notifications.models import Delivery

log = structlog.get_logger()

# The job comes by each second; what waits longer has no worker or no broker.
OVERDUE: Final = timedelta(seconds=5)
_running: Final = threading.Lock()


def deliveries_overdue(*, now: datetime) -> int:
    """Begin to send what is overdue, beside the watch; return how many rows wait.

    A receiver that hangs must not keep a trigger from acting, so this returns at once.
    """
    late = now - OVERDUE
    waiting = OutboxEvent.objects.filter(delivered_at=None, created_at__lte=late).count()
    waiting += (
        Delivery.objects.filter(state__in=OPEN, next_at__lte=late)
        .exclude(claimed_until__gt=now)
        .count()
    )
    if waiting and _running.acquire(blocking=False):
        threading.Thread(target=_send, name="deliveries", daemon=True).start()
    return waiting


def _send() -> None:
    try:
        outbox_fan_out(now=timezone.now())
        deliveries_send(now=timezone.now())
    except Exception:
        # The outer edge of a background thread: logged, and begun again by the next round.
        log.exception("deliveries.failed")
    finally:
        connections.close_all()
        _running.release()
