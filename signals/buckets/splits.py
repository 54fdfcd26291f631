"""A path's measures by one thing more: segment, release, mode, kind of case, or route."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection

from signals.buckets.event_time import event_rows
from signals.buckets.fed import step_parts
from signals.buckets.folds import ARRIVALS, ROUTES
from signals.buckets.measures import Histogram, Measures
from signals.buckets.scopes import MODES_OF_REACH
from signals.buckets.selectors import histograms_read, sums_read
from signals.catalogue import STATES, Signal
from signals.stats.estimate import reported

_MINUTE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Split:
    """What a signal can be parted by; `column` is its code in a bucket, None for the route."""

    slug: str
    name: str
    column: str | None


SPLITS: Final = {
    split.slug: split
    for split in (
        Split("segment", "Segment", "segment_id"),
        Split("release", "Release", "release_id"),
        Split("arm", "Arm", "arm"),
        Split("mode", "Mode", "mode"),
        Split("input_condition", "Input condition", "input_condition"),
        Split("risk", "Risk", "risk"),
        Split("route", "Route", None),
    )
}

# What is kept by route, of all that measures hold.
_ROUTE_COUNTS: Final = ("n", "n_error", "fallback_n", "latency_n", "cost_n")
_ROUTE_SUMS: Final = ("latency_sum", "cost_sum", "cost_sq")
ROUTE_FIELDS: Final = frozenset({*_ROUTE_COUNTS, *_ROUTE_SUMS})


def splits_of(signal: Signal) -> list[Split]:
    """Return what a signal can be parted by: none where it is no sum over tasks."""
    if not signal.collected or signal.source in {*STATES, "age", "repeats"}:
        return []
    by_route = signal.feed is None and signal.fields <= ROUTE_FIELDS
    return [split for split in SPLITS.values() if split.column is not None or by_route]


def split_measures(
    split: Split,
    *,
    signal: Signal,
    path_id: int,
    start: datetime,
    end: datetime,
    step_s: int,
) -> dict[int | str, list[tuple[datetime, Measures]]]:
    """Return measures of `signal` by value of `split` and step in [start, end), by event time.

    History included, either arm; steps without a task are left out, and so is what no run said
    of its route. A step is whole minutes long and starts at a multiple of its length.

    Args:
        step_s: seconds, a multiple of 60.
    """
    if split.column is None:
        return _by_route(signal, path_id=path_id, start=start, end=end, step_s=step_s)
    source, found_by = event_rows(ARRIVALS, path_ids=[path_id], start=start, end=end, step_s=step_s)
    # By mode, each is shown; else a signal leaves out what it never counts.
    where = "true" + ("" if split.slug == "mode" else MODES_OF_REACH.get(signal.reach, ""))
    key = f"floor(extract(epoch from l.minute))::bigint / %s, l.{split.column}"
    arguments: list[Any] = [step_s, *found_by]
    drawn = histograms_read(source, where, key, arguments) if signal.reads_histogram else {}
    found = {
        (_at(step, step_s), value): measures
        for (step, value), measures in sums_read(
            source, where, key, arguments, drawn, fields=signal.fields
        ).items()
    }
    if signal.feed is not None:
        parts = step_parts(
            signal,
            path_id=path_id,
            start=start,
            end=end,
            step_s=step_s,
            live=False,
            wanted={},
            reach="arm" if split.slug == "mode" else signal.reach,
            by=split.column,
        )
        for (at, value), told in parts.items():
            found[at, value] = replace(found.get((at, value), Measures()), parts=told)
    result: dict[int | str, list[tuple[datetime, Measures]]] = {}
    for (at, value), measures in sorted(found.items(), key=lambda item: item[0]):
        if reported(signal, measures) or (signal.total_of and _total(signal, measures)):
            result.setdefault(value, []).append((at, measures))
    return result


def _by_route(
    signal: Signal, *, path_id: int, start: datetime, end: datetime, step_s: int
) -> dict[int | str, list[tuple[datetime, Measures]]]:
    place = "floor(extract(epoch from l.minute))::bigint / %s, l.route"
    source, found_by = event_rows(ROUTES, path_ids=[path_id], start=start, end=end, step_s=step_s)
    where = f"true{MODES_OF_REACH.get(signal.reach, '')}"
    arguments: list[Any] = [step_s, *found_by]
    sums = ", ".join(
        [
            *(f"sum(l.{name})::bigint" for name in _ROUTE_COUNTS),
            *(f"sum(l.{name})::float8" for name in _ROUTE_SUMS),
        ]
    )
    counts: dict[tuple[int, str], dict[int, int]] = {}
    with connection.cursor() as cursor:
        if signal.reads_histogram:
            cursor.execute(
                f"select {place}, h.idx, sum(h.cnt)::bigint from {source}"  # noqa: S608
                " cross join lateral unnest(l.latency_idx, l.latency_cnt) as h(idx, cnt)"
                f" where {where} group by 1, 2, 3",
                arguments,
            )
            for step, route, index, count in cursor.fetchall():
                counts.setdefault((step, route), {})[index] = count
        cursor.execute(
            f"select {place}, {sums}, coalesce(max(l.latency_max), 0),"  # noqa: S608
            f" sum(l.latency_zero)::bigint from {source} where {where} group by 1, 2",
            arguments,
        )
        rows = cursor.fetchall()
    names = (*_ROUTE_COUNTS, *_ROUTE_SUMS)
    result: dict[int | str, list[tuple[datetime, Measures]]] = {}
    for step, route, *values, largest, zero in sorted(rows, key=lambda row: (row[0], row[1])):
        measures = Measures(
            **dict(zip(names, values, strict=True)),
            latency_max=largest,
            latency=Histogram(zero, largest, counts.get((step, route), {})),
        )
        if getattr(measures, signal.n_of):
            result.setdefault(route, []).append((_at(step, step_s), measures))
    return result


def _at(step: int, step_s: int) -> datetime:
    return datetime.fromtimestamp(step * step_s, tz=UTC)


def _total(signal: Signal, measures: Measures) -> float:
    return float(getattr(measures, signal.total_of))


@dataclass(frozen=True, slots=True)
class FailureTotal:
    """The tasks of a path that failed in one category.

    `by_release` counts those in the span by release id; `subjects` is how many distinct
    pseudonyms they had, at least (`subjects_cut`: no more than a hundred a minute and key are
    kept). `first_at` and `first_release_id` say where it was ever seen first.
    """

    category: str
    n: int
    by_release: dict[int, int]
    subjects: int
    subjects_cut: bool
    newest_at: datetime
    first_at: datetime
    first_release_id: int


def failure_totals(
    *, path_ids: Sequence[int], since: datetime, until: datetime, subjects_max: int
) -> dict[int, list[FailureTotal]]:
    """Return by path id what failed in event minutes of [since, until), commonest first.

    Args:
        subjects_max: how many subjects a bucket keeps, so as to say when some were cut.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            with told as (
                select path_id, category, release_id, minute, n, subjects from failure_minute
                where path_id = any(%(paths)s) and minute >= %(since)s and minute < %(until)s
            ), counted as (
                select path_id, category, sum(n)::bigint as n, max(minute) as newest_at,
                    bool_or(cardinality(subjects) >= %(most)s) as cut
                from told group by 1, 2
            ), people as (
                select path_id, category, count(distinct s) as subjects
                from told cross join lateral unnest(subjects) as s group by 1, 2
            ), first as (
                select distinct on (f.path_id, f.category) f.path_id, f.category,
                    f.minute as first_at, f.release_id as first_release_id
                from (
                    select path_id, category, minute, release_id from failure_minute
                    union all
                    select path_id, category, minute, release_id from failure_hour
                    where (minute at time zone 'UTC')::date in (
                        select day from stored_day where minutes_pruned_at is not null
                    )
                ) as f join counted as c using (path_id, category)
                order by f.path_id, f.category, f.minute, f.release_id
            )
            select c.path_id, c.category, c.n, coalesce(p.subjects, 0), c.cut, c.newest_at,
                f.first_at, f.first_release_id
            from counted as c join first as f using (path_id, category)
            left join people as p using (path_id, category)
            order by c.n desc, c.category
            """,
            {
                "paths": list(path_ids),
                "since": since,
                "until": until,
                "most": subjects_max,
            },
        )
        totals = cursor.fetchall()
        cursor.execute(
            "select path_id, category, release_id, sum(n)::bigint from failure_minute"
            " where path_id = any(%s) and minute >= %s and minute < %s group by 1, 2, 3",
            [list(path_ids), since, until],
        )
        by_release: dict[tuple[int, str], dict[int, int]] = {}
        for path_id, category, release_id, n in cursor.fetchall():
            by_release.setdefault((path_id, category), {})[release_id] = n
    found: dict[int, list[FailureTotal]] = {}
    for path_id, category, n, subjects, cut, newest_at, first_at, first_release_id in totals:
        found.setdefault(path_id, []).append(
            FailureTotal(
                category=category,
                n=n,
                by_release=by_release[path_id, category],
                subjects=subjects,
                subjects_cut=cut,
                newest_at=newest_at,
                first_at=first_at,
                first_release_id=first_release_id,
            )
        )
    return found
