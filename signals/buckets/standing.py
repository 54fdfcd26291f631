"""Series of what stands at the end of each step, rather than of what came in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection

from signals.buckets.beside import review_backlogs
from signals.buckets.keys import MODE_NORMAL
from signals.catalogue import Signal
from signals.health.selectors import assignment_series

_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Point:
    """One step of a chart: half-open from `t`; ends of the range are None where not bounded."""

    t: datetime
    value: float
    low: float | None
    high: float | None
    n: int


def standing_points(
    signal: Signal,
    *,
    path_id: int,
    arms: Sequence[int],
    segment_ids: Sequence[int] | None,
    release_id: int | None,
    start: datetime,
    end: datetime,
    step_s: int,
    live: bool,
) -> list[Point]:
    """Return a signal that is a state: reviews that wait, the newest task's age, an assignment.

    Reviews: `n` is how many wait. Age: `n` is how many tasks came in the step, and a step before
    the first task of all has no point; read from event minutes unless `live`, so within a minute.
    Assignment: `n` is people; a step without a split has no point.
    """
    first = int(start.timestamp()) // step_s * step_s
    steps = [
        datetime.fromtimestamp(at, tz=UTC)
        for at in range(first, math.ceil(end.timestamp()), step_s)
    ]
    moments = [min(step + timedelta(seconds=step_s), end) for step in steps]
    segments = None if segment_ids is None else list(segment_ids)
    if signal.source == "assignment":
        at = dict(zip(moments, steps, strict=True))
        return [
            Point(at[each.at], each.seen.value, each.seen.low, each.seen.high, each.seen.n)
            for each in assignment_series(path_id=path_id, segment_ids=segments, moments=moments)
        ]
    if signal.source == "age":
        arrivals = _arrivals(path_id, arms, segments, release_id, start=start, end=end, live=live)
        return _age_points(steps, moments, arrivals)
    backlogs = review_backlogs(path_id=path_id, arms=arms, segment_ids=segments, moments=moments)
    points = []
    for step, moment, waiting in zip(steps, moments, backlogs, strict=False):
        value = waiting.value(signal.source, at=moment)
        points.append(Point(step, value, value, value, waiting.n))
    return points


def _age_points(
    steps: Sequence[datetime],
    moments: Sequence[datetime],
    arrivals: Sequence[tuple[datetime, int]],
) -> list[Point]:
    points, place, newest = [], 0, None
    for step, moment in zip(steps, moments, strict=True):
        n = 0
        while place < len(arrivals) and arrivals[place][0] <= moment:
            newest = arrivals[place][0]
            n += arrivals[place][1]
            place += 1
        if newest is not None:
            age_s = (moment - newest).total_seconds()
            points.append(Point(step, age_s, age_s, age_s, n))
    return points


def _arrivals(
    path_id: int,
    arms: Sequence[int],
    segment_ids: list[int] | None,
    release_id: int | None,
    *,
    start: datetime,
    end: datetime,
    live: bool,
) -> list[tuple[datetime, int]]:
    """Return when tasks in mode normal came and how many, the last before `start` with n 0."""
    source, moment = "arrival_ledger as l", "l.arrived_at"
    where = " and not l.backfill"
    if not live:
        source, moment, where = "minute_bucket as l", "l.minute", ""
    asked: dict[str, Any] = {
        "path": path_id,
        "arms": list(arms),
        "segments": segment_ids,
        "release": release_id,
        "start": start,
        "end": end,
    }
    where = (
        f"from {source} where l.path_id = %(path)s and l.n > 0 and l.mode = {MODE_NORMAL}"
        f" and l.arm = any(%(arms)s){where}"
        " and (%(segments)s::int[] is null or l.segment_id = any(%(segments)s))"
        " and (%(release)s::int is null or l.release_id = %(release)s)"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"select {moment}, sum(l.n)::bigint {where} and {moment} >= %(start)s"
            f" and {moment} < %(end)s group by 1 union all"
            f" select max({moment}), 0 {where} and {moment} < %(start)s order by 1",
            asked,
        )
        rows = [(at, int(n)) for at, n in cursor.fetchall() if at is not None]
    # A minute's newest task is known to be no older than the minute's end.
    return rows if live else [(min(at + _MINUTE, end), n) for at, n in rows]
