"""Let go of spans, log records and what was noted of them once their time is over."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import connection

log = structlog.get_logger()

EVERY_S: Final = 60.0
ROWS_AT_ONCE: Final = 5_000

# What goes by the row, each by the column that says when it was last of use.
_ROWS: Final = {
    "otlp_run": "assembled_at",
    "otlp_evaluation": "received_at",
    "otlp_duplicate": "last_at",
    "otlp_cumulative": "seen_at",
    # Last of a trace: what is noted of its runs keeps a late span from counting again.
    "otlp_trace": "last_at",
}


class _Round:
    """When this process looks next, by time.monotonic()."""

    due_at = float("-inf")


def otlp_prune(*, now: datetime) -> int:
    """Drop days and delete rows that are kept no longer; return how many of both.

    A bounded part a round, looked for once a minute, and each round while something is left. They
    are kept as long as raw runs, and a day more, so that a run never outlives its spans.
    """
    if time.monotonic() < _Round.due_at:
        return 0
    before = now.astimezone(UTC) - timedelta(days=settings.RUN_DAYS_KEPT + 1)
    done = 0
    with connection.cursor() as cursor:
        cursor.execute("select otlp_days_drop(%s)", [before.date()])
        (dropped,) = cursor.fetchone()
        for table, column in _ROWS.items():
            # Both names are our own.
            cursor.execute(
                f"delete from {table} where ctid = any(array("  # noqa: S608
                f"select ctid from {table} where {column} < %s limit %s))",
                [before, ROWS_AT_ONCE],
            )
            done += cursor.rowcount
    if dropped or done:
        log.info("otlp.pruned", days=dropped, rows=done)
    _Round.due_at = float("-inf") if done else time.monotonic() + EVERY_S
    return int(dropped) + done
