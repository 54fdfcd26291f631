"""Reads by event time from the longest buckets that fit, which changes no answer.

A longer bucket is read where it is whole within the span and nothing has changed since it was
folded; everywhere else its minutes are.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from signals.buckets.folds import HOUR_S, MINUTE_S, Fold
from signals.buckets.models import StoredDay

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def event_rows(
    fold: Fold, *, path_ids: Sequence[int], start: datetime, end: datetime, step_s: int
) -> tuple[str, list[Any]]:
    """Return SQL of a fold's buckets `l` that begin in [start, end), and its parameters.

    Args:
        step_s: a multiple of a minute; buckets are added up by steps of it since the epoch.
    """
    length_s = fold.coarsest(step_s)
    paths = list(path_ids)
    minutes, longer = fold.tables[MINUTE_S], fold.tables[length_s]
    first, last = ceiling(start, length_s), floor(end, length_s)
    if length_s == MINUTE_S or last <= first:
        return _within(minutes), [paths, start, end]
    columns = ", ".join(fold.columns)
    kept = ", ".join(f"m.{name}" for name in fold.columns)
    source = f"""(
    select {columns} from {longer} as c
    where c.path_id = any(%s) and c.minute >= %s and c.minute < %s and not exists (
        select from stale_bucket as s
        where s.length_s = {length_s} and s.path_id = c.path_id and s.minute = c.minute
    )
    union all
    select {kept} from (
        select p.path_id, e.since, e.until from unnest(%s::int[]) as p(path_id)
        cross join unnest(%s::timestamptz[], %s::timestamptz[]) as e(since, until)
        union all
        select s.path_id, s.minute, s.minute + interval '{length_s} seconds'
        from stale_bucket as s where s.length_s = {length_s} and s.path_id = any(%s)
            and s.minute >= %s and s.minute < %s
    ) as r join {minutes} as m
        on m.path_id = r.path_id and m.minute >= r.since and m.minute < r.until
) as l"""  # noqa: S608  # of our own constants
    ends = [edge for edge in ((start, first), (last, end)) if edge[0] < edge[1]]
    edges = [[since for since, _ in ends], [until for _, until in ends]]
    return source, [paths, first, last, paths, *edges, paths, first, last]


def _within(table: str) -> str:
    return f"""(
    select * from {table} as m where m.path_id = any(%s) and m.minute >= %s and m.minute < %s
) as l"""  # noqa: S608  # of our own constants


def least_step(start: datetime, end: datetime) -> int:
    """Return the shortest step, in seconds, that what is kept of a span can be read by."""
    # Nothing younger is ever pruned, so that hardly any reader has to ask.
    if timezone.now() - start < timedelta(days=settings.MINUTE_DAYS_KEPT):
        return MINUTE_S
    pruned = StoredDay.objects.exclude(minutes_pruned_at=None).filter(
        day__gte=start.astimezone(UTC).date(), day__lte=end.astimezone(UTC).date()
    )
    return HOUR_S if pruned.exists() else MINUTE_S


def floor(moment: datetime, step_s: int) -> datetime:
    """Return the start of the step, counted from the epoch, that a moment lies in."""
    return moment - (moment - _EPOCH) % timedelta(seconds=step_s)


def ceiling(moment: datetime, step_s: int) -> datetime:
    """Return the first start of a step at or after a moment."""
    return moment + (_EPOCH - moment) % timedelta(seconds=step_s)
