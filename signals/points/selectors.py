"""Reads of metric points: which series there are, and one of them by step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from django.db import connection

from signals.points.histograms import Explicit, Exponential, Histogram, merged
from signals.points.kinds import Kind

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PointName:
    """What is stored under one name on a path from one source, and its newest value.

    `value` is a gauge's newest measurement, a sum's newest total, a histogram's newest mean (None
    where that is not known); `n` counts measurements in the window asked for.
    """

    workflow_id: int
    path_id: int
    name: str
    kind: Kind
    unit: str
    source: str
    value: float | None
    at: datetime
    arrived_at: datetime
    n: int


@dataclass(frozen=True, slots=True)
class PointStep:
    """What was measured in one step [t, t + step): sums, extremes and the newest, none invented.

    `n` counts a gauge's measurements, a sum's points or a histogram's values. `total` is their
    sum; `squares` is a gauge's only, as `last` is. `newest_at` is when the newest was measured.
    """

    t: datetime
    kind: Kind
    n: int
    total: float | None
    squares: float | None
    low: float | None
    high: float | None
    last: float | None
    newest_at: datetime
    arrived_at: datetime
    histogram: Histogram | None = None

    @property
    def value(self) -> float | None:
        """A gauge's or histogram's mean, a sum's total: what a chart shows unless told else."""
        if self.total is None or self.kind == "sum":
            return self.total
        return self.total / self.n if self.n else None

    def quantile(self, q: float) -> float | None:
        """Return a histogram's q-quantile, q in (0, 1); None for any other or without buckets."""
        if self.histogram is None:
            return None
        return self.histogram.quantile(q, smallest=self.low, largest=self.high)


@dataclass(frozen=True, slots=True)
class PointSeriesSteps:
    """A series by step; a step without data is not there."""

    name: str
    kind: Kind
    unit: str
    sources: tuple[str, ...]
    step_s: int
    steps: list[PointStep]


def point_names(
    *, workflow_ids: Iterable[int], since: datetime, until: datetime, path_id: int | None = None
) -> list[PointName]:
    """Return what these workflows have points of, by path and name, with each one's newest value.

    `n` counts what was measured in [since, until); the newest value may be older than that.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            select distinct on (s.workflow_id, s.path_id, s.name, s.kind, s.unit, s.source)
                s.workflow_id, s.path_id, s.name, s.kind, s.unit, s.source,
                case s.kind when 'gauge' then p.last when 'sum' then p.total
                    else p.total / nullif(p.n, 0) end,
                p.at, p.arrived_at,
                (sum(c.n) over (partition by
                    s.workflow_id, s.path_id, s.name, s.kind, s.unit, s.source))::bigint
            from point_series s
            cross join lateral (
                select * from metric_point where series_id = s.id and at < %(until)s
                order by at desc, stream limit 1
            ) p
            cross join lateral (
                select coalesce(sum(n), 0) as n from metric_point
                where series_id = s.id and at >= %(since)s and at < %(until)s
            ) c
            where s.workflow_id = any(%(workflows)s)
                and (%(path)s::int is null or s.path_id = %(path)s)
            order by s.workflow_id, s.path_id, s.name, s.kind, s.unit, s.source, p.at desc
            """,
            {"workflows": list(workflow_ids), "path": path_id, "since": since, "until": until},
        )
        return [PointName(*row) for row in cursor.fetchall()]


def point_steps(
    *,
    workflow_id: int,
    path_id: int,
    name: str,
    start: datetime,
    end: datetime,
    step_s: int,
    segment_ids: Sequence[int] | None = None,
    release_id: int | None = None,
    arms: Sequence[int] | None = None,
    source: str | None = None,
    live_only: bool = False,
) -> PointSeriesSteps | None:
    """Return a name's points in [start, end) by step; None where nothing ever was stored under it.

    Steps are labelled by their start, whole multiples of `step_s` since 1970. Where one name is
    stored in several kinds or units, which do not add up, it is the one with the newest point.

    Args:
        segment_ids, release_id, arms, source: only these; None for all, those without included.
        live_only: leave recorded history out, as whoever judges what goes on now must.
    """
    known = _series_known(workflow_id, path_id, name, before=end)
    if not known:
        return None
    wanted = [
        each
        for each in known
        if (segment_ids is None or each.segment_id in segment_ids)
        and (release_id is None or each.release_id == release_id)
        and (arms is None or each.arm in arms)
        and (source is None or each.source == source)
    ]
    newest = max(wanted or known, key=lambda each: (each.newest_at or _EPOCH, each.id))
    kind, unit = newest.kind, newest.unit
    meant = [each for each in wanted if (each.kind, each.unit) == (kind, unit)]
    ids = [each.id for each in meant]
    sources = tuple(sorted({each.source for each in meant}))
    where = "series_id = any(%s) and at >= %s and at < %s"
    where += " and not backfill" if live_only else ""
    given: list[Any] = [step_s, ids, start, end]
    step = "floor(extract(epoch from at) / %s)::bigint"
    with connection.cursor() as cursor:
        cursor.execute(
            f"select {step}, sum(n), sum(total), sum(squares), min(low), max(high),"  # noqa: S608
            " (array_agg(last order by at desc, stream))[1], max(at), max(arrived_at)"
            f" from metric_point where {where} group by 1 order by 1",
            given,
        )
        rows = cursor.fetchall()
    by_step = _histograms(step, where, given) if kind == "histogram" else {}
    steps = []
    for number, n, *rest in rows:
        made = PointStep(_at(number * step_s), kind, int(n), *rest)
        steps.append(replace(made, histogram=merged(by_step.get(number, []))))
    return PointSeriesSteps(name, kind, unit, sources, step_s, steps)


class _Known(NamedTuple):
    id: int
    kind: Kind
    unit: str
    source: str
    segment_id: int
    release_id: int
    arm: int
    newest_at: datetime | None


def _series_known(workflow_id: int, path_id: int, name: str, *, before: datetime) -> list[_Known]:
    """Return every series of this name, with when its newest point before then was measured."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            select s.id, s.kind, s.unit, s.source, s.segment_id, s.release_id, s.arm, (
                select max(at) from metric_point where series_id = s.id and at < %s)
            from point_series s
            where s.workflow_id = %s and s.path_id = %s and s.name = %s
            """,
            [before, workflow_id, path_id, name],
        )
        return [_Known(*row) for row in cursor.fetchall()]


def _histograms(step: str, where: str, given: Sequence[Any]) -> dict[int, list[Histogram]]:
    """Return by step one histogram for each scale or set of bounds, added up by the database."""
    found: dict[int, list[Histogram]] = {}
    with connection.cursor() as cursor:
        parts: dict[tuple[int, int, float], list[dict[int, int]]] = {}
        for place, column in enumerate(("idx", "negative_idx")):
            counts = "cnt" if place == 0 else "negative_cnt"
            cursor.execute(
                f"select {step}, scale, zero_threshold, h.idx, sum(h.cnt)"  # noqa: S608
                f" from metric_point, unnest({column}, {counts}) as h(idx, cnt)"
                f" where {where} and scale is not null group by 1, 2, 3, 4",
                given,
            )
            for number, scale, threshold, index, count in cursor.fetchall():
                both = parts.setdefault((number, scale, threshold), [{}, {}])
                both[place][index] = int(count)
        cursor.execute(
            f"select {step}, scale, zero_threshold, sum(zero) from metric_point"  # noqa: S608
            f" where {where} and scale is not null group by 1, 2, 3",
            given,
        )
        for number, scale, threshold, zero in cursor.fetchall():
            positive, negative = parts.get((number, scale, threshold), [{}, {}])
            found.setdefault(number, []).append(
                Exponential(scale, int(zero), threshold, positive, negative)
            )
        cursor.execute(
            f"select number, bounds, array_agg(cnt order by place) from (select {step} as number,"  # noqa: S608
            " bounds, h.place, sum(h.cnt) as cnt"
            " from metric_point, unnest(cnt) with ordinality as h(cnt, place)"
            f" where {where} and bounds is not null group by 1, 2, 3) as q group by 1, 2",
            given,
        )
        for number, bounds, summed in cursor.fetchall():
            explicit = Explicit(tuple(bounds), tuple(int(count) for count in summed))
            found.setdefault(number, []).append(explicit)
    return found


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
