"""What happened on paths, parted by segment, arm and mode, and by the route that tasks took."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from django.db import connection

from signals.buckets.event_time import event_rows, floor
from signals.buckets.folds import ARRIVALS, HOUR_S, ROUTES
from signals.buckets.measures import COUNTED, SUMMED, Histogram, Measures

# What money, tokens, reviews and fallbacks are told by; histograms are read by route only.
FIELDS: Final = (
    *("n", "n_fallback", "n_escalated", "fallback_n", "review_requested"),
    *("reviews_n", "reviews_rejected", "cost_n", "cost_sum", "cost_sq"),
    *("input_tokens_n", "input_tokens_sum", "input_tokens_sq"),
    *("output_tokens_n", "output_tokens_sum", "output_tokens_sq"),
)


_ROUTE_SUMS: Final = ("n", "n_error", "fallback_n", "cost_n", "cost_sum", "cost_sq")


class Place(NamedTuple):
    """Whose tasks and how they were served: 0 for no segment; codes of `signals.buckets.keys`."""

    path_id: int
    segment_id: int
    arm: int
    mode: int


class Found(NamedTuple):
    """What was counted, with the minute of the first of it by path, and of the newest."""

    by_place: dict[Place, Measures]
    first_at: dict[int, datetime]
    last_at: dict[int, datetime]


@dataclass(frozen=True, slots=True)
class RouteTotal:
    """Tasks that took one route."""

    n: int = 0
    n_error: int = 0
    fallback_n: int = 0
    cost_n: int = 0
    cost_sum: float = 0.0
    cost_sq: float = 0.0
    latency: Histogram = field(default_factory=Histogram)


def place_measures(
    *,
    path_ids: Sequence[int],
    since: datetime,
    until: datetime,
    fields: Sequence[str] = FIELDS,
) -> Found:
    """Return what happened in the minutes that begin in [since, until), history included.

    Args:
        fields: summed fields of `Measures` to read; the others stay 0.
    """
    names = [name for name in SUMMED if name in fields]
    source, asked = event_rows(ARRIVALS, path_ids=path_ids, start=since, end=until, step_s=HOUR_S)
    with connection.cursor() as cursor:
        cursor.execute(
            f"select l.path_id, l.segment_id, l.arm, l.mode, {_sums(names)} from {source}"  # noqa: S608  # of our own constants
            " group by 1, 2, 3, 4",
            asked,
        )
        by_place = {
            Place(*key): Measures(**dict(zip(names, values, strict=True)))
            for *key, values in ((*row[:4], row[4:]) for row in cursor.fetchall())
        }
        ends = (
            "select m.minute from minute_bucket as m where m.path_id = p.id and m.n > 0"
            " and m.minute >= %s and m.minute < %s order by m.minute"
        )
        cursor.execute(
            f"select p.id, ({ends} limit 1), ({ends} desc limit 1) from unnest(%s::int[]) as p(id)",  # noqa: S608  # likewise
            [since, until, since, until, list(path_ids)],
        )
        rows = cursor.fetchall()
    return Found(
        by_place,
        {path_id: first for path_id, first, _ in rows if first is not None},
        {path_id: last for path_id, _, last in rows if last is not None},
    )


def reported_before(*, path_ids: Sequence[int], before: datetime) -> set[int]:
    """Return the paths on which something happened earlier: silence since is silence."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select p.id from unnest(%s::int[]) as p(id) where exists (select 1 from minute_bucket"
            " as b where b.path_id = p.id and b.minute < %s) or exists (select 1 from hour_bucket"
            " as b where b.path_id = p.id and b.minute < %s)",
            [list(path_ids), before, floor(before, HOUR_S)],
        )
        return {row[0] for row in cursor.fetchall()}


def route_totals(
    *, path_ids: Sequence[int], since: datetime, until: datetime
) -> dict[tuple[int, str], RouteTotal]:
    """Return by path id and route what happened in the minutes that begin in [since, until)."""
    source, asked = event_rows(ROUTES, path_ids=path_ids, start=since, end=until, step_s=HOUR_S)
    counts: dict[tuple[int, str], dict[int, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"select l.path_id, l.route, h.idx, sum(h.cnt)::bigint from {source}"  # noqa: S608  # likewise
            " cross join lateral unnest(l.latency_idx, l.latency_cnt) as h(idx, cnt)"
            " group by 1, 2, 3",
            asked,
        )
        for path_id, route, index, count in cursor.fetchall():
            counts.setdefault((path_id, route), {})[index] = count
        cursor.execute(
            f"select l.path_id, l.route, {_sums(_ROUTE_SUMS)}, sum(l.latency_zero)::bigint,"  # noqa: S608  # likewise
            f" coalesce(max(l.latency_max), 0) from {source} group by 1, 2",
            asked,
        )
        rows = cursor.fetchall()
    return {
        (path_id, route): RouteTotal(
            **dict(zip(_ROUTE_SUMS, sums, strict=True)),
            latency=Histogram(zero, largest, counts.get((path_id, route), {})),
        )
        for path_id, route, *sums, zero, largest in rows
    }


def _sums(names: Sequence[str]) -> str:
    return ", ".join(
        f"sum(l.{name})::{'bigint' if name in COUNTED else 'float8'}" for name in names
    )
