"""Make waiting work start sooner. A nudge may fail; the keeper and beat find the row anyway."""

import threading
import time
from typing import Final

from celery import current_app
from django.db import connection, transaction

# After a failed publish the broker is left alone this long, so that its absence costs nothing.
RETRY_AFTER_S: Final = 5.0

_lock = threading.Lock()
_broker_away_until = 0.0


def task_send(name: str) -> bool:
    """Publish a Celery task by name; return whether the broker took it. Never raises."""
    global _broker_away_until
    if time.monotonic() < _broker_away_until:
        return False
    try:
        current_app.send_task(name, ignore_result=True, retry=False)
    except Exception:  # noqa: BLE001  # see below
        # The broker is a convenience here: whatever it raises, the row is already safe.
        with _lock:
            _broker_away_until = time.monotonic() + RETRY_AFTER_S
        return False
    return True


def task_send_on_commit(name: str) -> None:
    """Publish `name` once the running transaction has committed."""
    transaction.on_commit(lambda: task_send(name), robust=True)


def channel_notify(channel: str, payload: str = "") -> None:
    """NOTIFY a Postgres channel; delivered when, and only if, the transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_notify(%s, %s)", [channel, payload])
