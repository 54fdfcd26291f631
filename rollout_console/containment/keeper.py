"""The keeper: the watch goes on without broker and workers, on Postgres alone."""

import threading
from typing import Final

import structlog
from django.db import InterfaceError, OperationalError, connection, connections
from django.utils import timezone

from rollout_console.containment.work import work_once
from rollout_console.core.heartbeats import KEEPER, WORKER, heartbeat_age_s, heartbeat_record
from signals.ingest.selectors import queue_state

log = structlog.get_logger()

# One keeper at a time holds this session lock; others stand by.
LOCK_KEY: Final = 0x6B656570
LOOK_EVERY_S: Final = 0.5
OVERDUE_S: Final = 2.0


def overdue(*, worker_age_s: float | None, oldest_batch_age_s: float | None) -> bool:
    """Return whether the workers are late: no round, or a batch waiting, for over two seconds."""
    if worker_age_s is None or worker_age_s > OVERDUE_S:
        return True
    return oldest_batch_age_s is not None and oldest_batch_age_s > OVERDUE_S


def keeper_run(stop: threading.Event) -> None:
    """Look twice a second until `stop` is set; do what is overdue while elected."""
    elected = False
    while not stop.is_set():
        try:
            if not elected and (elected := _elect()):
                log.info("keeper.elected")
            if elected:
                keeper_look()
        except (OperationalError, InterfaceError) as error:
            # Postgres went away, and our session lock with it: stand for election again.
            log.warning("keeper.database_away", error=str(error))
            elected = False
            connections.close_all()
        stop.wait(LOOK_EVERY_S)
    connections.close_all()


def keeper_look() -> bool:
    """Do one round if it is overdue; return whether it was."""
    now = timezone.now()
    late = overdue(
        worker_age_s=heartbeat_age_s(name=WORKER, now=now),
        oldest_batch_age_s=queue_state(now=now).oldest_age_s,
    )
    if late:
        work_once(name=KEEPER, periodic=True)
    else:
        heartbeat_record(name=KEEPER, now=now)
    return late


def _elect() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", [LOCK_KEY])
        (elected,) = cursor.fetchone()
    return bool(elected)
