"""Pulls that nobody did in time: a step of the watch, which waits for no server."""

import threading
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import connections
from django.utils import timezone

from signals.pulls.models import PullSource
from signals.pulls.services import pulls_run

log = structlog.get_logger()

# The job comes by every few seconds; what waits longer has no worker or no broker.
OVERDUE: Final = timedelta(seconds=15)
_running: Final = threading.Lock()


def pulls_overdue(*, now: datetime) -> int:
    """Begin to pull what is overdue, beside the watch; return how many sources wait.

    A server that hangs must not keep a trigger from acting, so this returns at once.
    """
    waiting = PullSource.objects.filter(enabled=True, next_at__lte=now - OVERDUE).count()
    if waiting and _running.acquire(blocking=False):
        threading.Thread(target=_pull, name="pulls", daemon=True).start()
    return waiting


def _pull() -> None:
    try:
        pulls_run(now=timezone.now(), overdue=OVERDUE)
    except Exception:
        # The outer edge of a background thread: logged, and begun again by the next round.
        log.exception("pulls.failed")
    finally:
        connections.close_all()
        _running.release()
