"""What happened on paths, parted by segment, arm and mode, and by the route that tasks took."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db import connection

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
    """Tasks that took one route; `last_at` is the minute of the newest."""

    n: int = 0
    n_error: int = 0
    fallback_n: int = 0
    cost_n: int = 0
    cost_sum: float = 0.0
    cost_sq: float = 0.0
    latency: Histogram = field(default_factory=Histogram)
    last_at: datetime | None = None


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
    found = Found({}, {}, {})
    names = [name for name in SUMMED if name in fields]
    with connection.cursor() as cursor:
        cursor.execute(
            "select path_id, segment_id, arm, mode, min(minute) filter (where n > 0),"  # noqa: S608  # of our own constants
            f" max(minute) filter (where n > 0), {_sums(names)} from minute_bucket"
            " where path_id = any(%s) and minute >= %s and minute < %s group by 1, 2, 3, 4",
            [list(path_ids), since, until],
        )
        for path_id, segment_id, arm, mode, first_at, last_at, *values in cursor.fetchall():
            measures = Measures(**dict(zip(names, values, strict=True)))
            found.by_place[Place(path_id, segment_id, arm, mode)] = measures
            if first_at is not None:
                found.first_at[path_id] = min(first_at, found.first_at.get(path_id, first_at))
                found.last_at[path_id] = max(last_at, found.last_at.get(path_id, last_at))
    return found


def reported_before(*, path_ids: Sequence[int], before: datetime) -> set[int]:
    """Return the paths on which something happened earlier: silence since is silence."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select p.id from unnest(%s::int[]) as p(id) where exists (select 1 from minute_bucket"
            " as b where b.path_id = p.id and b.minute < %s)",
            [list(path_ids), before],
        )
        return {row[0] for row in cursor.fetchall()}


def route_totals(
    *, path_ids: Sequence[int], since: datetime, until: datetime
) -> dict[tuple[int, str], RouteTotal]:
    """Return by path id and route what happened in the minutes that begin in [since, until)."""
    where = "where path_id = any(%s) and minute >= %s and minute < %s"
    asked: list[Any] = [list(path_ids), since, until]
    counts: dict[tuple[int, str], dict[int, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "select l.path_id, l.route, h.idx, sum(h.cnt)::bigint from route_ledger as l"  # noqa: S608  # likewise
            " cross join lateral unnest(l.latency_idx, l.latency_cnt) as h(idx, cnt)"
            f" {where} group by 1, 2, 3",
            asked,
        )
        for path_id, route, index, count in cursor.fetchall():
            counts.setdefault((path_id, route), {})[index] = count
        cursor.execute(
            f"select path_id, route, {_sums(_ROUTE_SUMS)}, sum(latency_zero)::bigint,"  # noqa: S608  # likewise
            f" coalesce(max(latency_max), 0), max(minute) from route_ledger {where} group by 1, 2",
            asked,
        )
        rows = cursor.fetchall()
    return {
        (path_id, route): RouteTotal(
            **dict(zip(_ROUTE_SUMS, sums, strict=True)),
            latency=Histogram(zero, largest, counts.get((path_id, route), {})),
            last_at=last_at,
        )
        for path_id, route, *sums, zero, largest, last_at in rows
    }


def _sums(names: Sequence[str]) -> str:
    return ", ".join(f"sum({name})::{'bigint' if name in COUNTED else 'float8'}" for name in names)
