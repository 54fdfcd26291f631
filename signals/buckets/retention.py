"""What is kept of buckets and ledgers, and for how long: docs/storage.md."""

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import connection, transaction

from signals.buckets.folds import FIVE_MINUTES_S, FOLDS, HOUR_S, MINUTE_S
from signals.buckets.models import StaleBucket, StoredDay
from signals.buckets.services import folds_lock

log = structlog.get_logger()

ROWS_AT_ONCE: Final = 20_000


def day_span(day: date) -> tuple[datetime, datetime]:
    """Return the half-open span of a UTC day."""
    start = datetime.combine(day, time(), UTC)
    return start, start + timedelta(days=1)


def days_expired(days: Collection[date], *, kept_days: int, now: datetime) -> list[date]:
    """Return which days are kept no longer, oldest first.

    A day's time counts from its end, or from when history last filled it.
    """
    oldest = now - timedelta(days=kept_days)
    past = [day for day in days if day_span(day)[1] <= oldest]
    filled = StoredDay.objects.filter(day__in=past, filled_at__gt=oldest)
    return sorted(set(past) - set(filled.values_list("day", flat=True)))


def days_fill(days: Collection[date], *, now: datetime) -> None:
    """Note that history of these days came; sorted, like everything two drains may both write."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into stored_day (day, filled_at, workflow_ids, ledger_path_ids)"
            " select day, %s, '{}', '{}' from unnest(%s::date[]) as day order by day"
            " on conflict (day) do update set filled_at = excluded.filled_at",
            [now, list(days)],
        )


def minutes_prune(*, now: datetime) -> int:
    """Delete the minutes of the oldest day that is kept by the hour only; return their number.

    Not before its hours hold them all. One day at a time, so that the fold never waits long.
    """
    oldest = now - timedelta(days=settings.MINUTE_DAYS_KEPT)
    for day in days_expired(
        _days_before(oldest, table="minute_bucket"), kept_days=settings.MINUTE_DAYS_KEPT, now=now
    ):
        if (pruned := _day_prune(day, now=now)) is not None:
            return pruned
    return 0


@transaction.atomic
def _day_prune(day: date, *, now: datetime) -> int | None:
    """Delete a day's minutes; None where that has to wait for a fold."""
    start, end = day_span(day)
    if not folds_lock(wait=False):
        return None
    if StaleBucket.objects.filter(length_s=HOUR_S, minute__gte=start, minute__lt=end).exists():
        return None
    StoredDay.objects.update_or_create(day=day, defaults={"minutes_pruned_at": now})
    deleted = 0
    with connection.cursor() as cursor:
        for fold in FOLDS:
            for length_s in (MINUTE_S, FIVE_MINUTES_S):
                if length_s in fold.tables:
                    table = fold.tables[length_s]
                    cursor.execute(
                        f"delete from {table} where minute >= %s and minute < %s",  # noqa: S608
                        [start, end],
                    )
                    deleted += cursor.rowcount
        cursor.execute("delete from stale_bucket where minute >= %s and minute < %s", [start, end])
    log.info("retention.minutes_pruned", day=day.isoformat(), rows=deleted)
    return deleted


def ledger_prune(*, guarded: Collection[int], now: datetime) -> int:
    """Delete some of the oldest ledger rows of paths that no guard ever watched.

    Args:
        guarded: the paths whose ledger is evidence; it lives as long as the audit.

    Returns:
        How many rows went; 0 when nothing is left to do.
    """
    oldest = now - timedelta(days=settings.LEDGER_DAYS_KEPT)
    days = days_expired(
        _days_before(oldest, table="hour_bucket"), kept_days=settings.LEDGER_DAYS_KEPT, now=now
    )
    done = {
        day
        for day, pruned_at, filled_at in StoredDay.objects.filter(day__in=days).values_list(
            "day", "ledger_pruned_at", "filled_at"
        )
        if pruned_at is not None and (filled_at is None or pruned_at > filled_at)
    }
    for day in days:
        if day in done:
            continue
        deleted = _ledger_day_prune(day, guarded=guarded)
        if deleted < ROWS_AT_ONCE:
            StoredDay.objects.filter(day=day).update(ledger_pruned_at=now)
            log.info("retention.ledger_pruned", day=day.isoformat())
        if deleted:
            return deleted
    return 0


@transaction.atomic
def _ledger_day_prune(day: date, *, guarded: Collection[int]) -> int:
    given: dict[str, Any] = {"guarded": list(guarded), "rows": ROWS_AT_ONCE}
    given["since"], given["until"] = day_span(day)
    where = "minute >= %(since)s and minute < %(until)s and path_id <> all(%(guarded)s)"
    deleted = 0
    with connection.cursor() as cursor:
        # Noted before and with the rows: from here on nothing is counted again of these paths.
        cursor.execute(
            f"select coalesce(array_agg(distinct path_id), '{{}}') from hour_bucket where {where}",  # noqa: S608
            given,
        )
        (path_ids,) = cursor.fetchone()
        row, _ = StoredDay.objects.get_or_create(day=day)
        row.ledger_path_ids = sorted({*row.ledger_path_ids, *path_ids})
        row.save(update_fields=["ledger_path_ids"])
        for fold in FOLDS:
            cursor.execute(
                f"delete from {fold.ledger} where id in"  # noqa: S608  # of our own constants
                f" (select id from {fold.ledger} where {where} limit %(rows)s)",
                given,
            )
            deleted = max(deleted, cursor.rowcount)
    return deleted


def _days_before(oldest: datetime, *, table: str) -> list[date]:
    """Return the days of a table's buckets before a time, by one look into its index a day."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            with recursive d as (
                (select min(minute) as at from {table} where minute < %(oldest)s)
                union all
                select (
                    select min(minute) from {table} where minute < %(oldest)s and minute
                        >= date_bin('1 day', d.at, 'epoch'::timestamptz) + interval '1 day'
                ) from d where d.at is not null
            )
            select (at at time zone 'UTC')::date from d where at is not null
            """,  # noqa: S608  # of our own words
            {"oldest": oldest},
        )
        return [day for (day,) in cursor.fetchall()]
