"""Days of runs made ahead and dropped when their time is over: docs/storage.md."""

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import connection, transaction

from signals.buckets.models import StoredDay
from signals.buckets.retention import ROWS_AT_ONCE, day_span, days_expired
from signals.ingest.labels import WAIT

log = structlog.get_logger()

# Today and so many days more have their partition before their first run comes.
DAYS_AHEAD: Final = 2
LEFTOVER_DAYS: Final = 7


def run_days_ensure(*, now: datetime) -> int:
    """Make the partitions of the days to come; return how many were missing."""
    today = now.astimezone(UTC).date()
    days = [today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)]
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*) filter (where run_day_ensure(day)) from unnest(%s::date[]) as day",
            [days],
        )
        return int(cursor.fetchone()[0])


def run_days() -> list[date]:
    """Return the days that have a partition, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') from pg_inherits"
            " where inhparent = 'run'::regclass order by 1"
        )
        return [day for (day,) in cursor.fetchall()]


def run_day_drop(*, now: datetime) -> int:
    """Drop the oldest day of runs that is kept no longer; return how many days went, 0 or 1.

    Never holds up whoever writes for more than a fifth of a second: what cannot be had by then
    is tried again in the next round.
    """
    for day in days_expired(run_days(), kept_days=settings.RUN_DAYS_KEPT, now=now):
        if _day_drop(day, now=now):
            return 1
    return 0


@transaction.atomic
def _day_drop(day: date, *, now: datetime) -> bool:
    with connection.cursor() as cursor:
        # Counted before, since everybody waits once it is being dropped.
        cursor.execute(
            "select count(*), coalesce(array_agg(distinct workflow_id), '{}') from run"
            " where occurred_at >= %s and occurred_at < %s",
            day_span(day),
        )
        runs, workflow_ids = cursor.fetchone()
        cursor.execute("select run_day_drop(%s)", [day])
        if not cursor.fetchone()[0]:
            log.info("retention.run_day_busy", day=day.isoformat())
            return False
    if not days_expired([day], kept_days=settings.RUN_DAYS_KEPT, now=now):
        # History of it came between the count and the drop.
        transaction.set_rollback(True)
        return False
    row, _ = StoredDay.objects.get_or_create(day=day)
    row.runs_dropped_at = now
    row.runs_dropped = (row.runs_dropped or 0) + runs
    row.workflow_ids = sorted({*row.workflow_ids, *workflow_ids})
    row.save(update_fields=["runs_dropped_at", "runs_dropped", "workflow_ids"])
    log.info("retention.run_day_dropped", day=day.isoformat(), runs=runs)
    return True


def dropped_days() -> dict[date, frozenset[int]]:
    """Return the workflows whose runs went with a day, by day.

    Whether a run of theirs was counted cannot be told any more, so none is taken again.
    """
    rows = StoredDay.objects.exclude(runs_dropped_at=None).values_list("day", "workflow_ids")
    return {day: frozenset(workflow_ids) for day, workflow_ids in rows}


def leftovers_prune(*, guarded: Collection[int], now: datetime) -> int:
    """Delete some of what was kept for runs that are gone; return how many rows went.

    These are the facts counted for them, their observations, the batches that brought them and
    what is noted of their sources, and the reviews asked for on paths that no guard ever watched.
    """
    dropped = StoredDay.objects.exclude(runs_dropped_at=None).order_by("-runs_dropped_at", "day")
    given: dict[str, Any] = {
        "rows": ROWS_AT_ONCE,
        "guarded": list(guarded),
        # Labels wait for their run that long; after it none of either is left.
        "received": now - timedelta(days=settings.RUN_DAYS_KEPT) - WAIT,
        # No other day is dropped before these are done, so the newest are enough.
        "days": list(dropped.values_list("day", flat=True)[:LEFTOVER_DAYS]),
    }
    deleted = 0
    with connection.cursor() as cursor:
        for name, statement in _LEFTOVERS.items():
            cursor.execute(statement, given)
            if cursor.rowcount:
                log.info("retention.rows_pruned", table=name, rows=cursor.rowcount)
            deleted += cursor.rowcount
    return deleted


_LEFTOVERS: Final = {
    "task_fact": """
        delete from task_fact where ctid = any(array(
            select f.ctid from unnest(%(days)s::date[]) as d(day) join task_fact as f
                on f.run_occurred_at >= d.day::timestamp at time zone 'UTC'
                and f.run_occurred_at < (d.day + 1)::timestamp at time zone 'UTC'
            where not exists (
                select from run as r where r.occurred_at = f.run_occurred_at
                    and r.workflow_id = f.workflow_id and r.id_hash = f.run_hash
            )
            limit %(rows)s
        ))
    """,
    "observation": """
        delete from observation where ctid = any(array(
            select o.ctid from observation as o
            where o.received_at < %(received)s and o.state <> 0 and not exists (
                select from task_fact as f
                where f.workflow_id = o.workflow_id and f.run_hash = o.run_hash
            )
            limit %(rows)s
        ))
    """,
    "requested_review": """
        delete from requested_review where ctid = any(array(
            select q.ctid from unnest(%(days)s::date[]) as d(day)
            join catalog_workflowpath as p on p.id <> all(%(guarded)s)
            join requested_review as q on q.path_id = p.id
                and q.asked_at >= d.day::timestamp at time zone 'UTC'
                and q.asked_at < (d.day + 1)::timestamp at time zone 'UTC'
            limit %(rows)s
        ))
    """,
    "source_minute": """
        delete from source_minute where ctid = any(array(
            select ctid from source_minute where minute < %(received)s limit %(rows)s
        ))
    """,
    "source_name": """
        delete from source_name where ctid = any(array(
            select ctid from source_name where hour < %(received)s limit %(rows)s
        ))
    """,
    # History's batches stay: a label that comes late asks whether its run was history.
    "ingest_batch": """
        delete from ingest_batch where seq = any(array(
            select seq from ingest_batch
            where state = 'drained' and folded_at is not null and not backfill
                and received_at < %(received)s
            limit %(rows)s
        ))
    """,
}
