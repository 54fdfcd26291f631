"""Reads of the arrival ledger and the minute buckets, as measures."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from django.db import connection

from signals.buckets.beside import step_failures
from signals.buckets.event_time import event_rows, floor, least_step
from signals.buckets.fed import newest_parts, span_parts, step_parts
from signals.buckets.folds import ARRIVALS, HOUR_S
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE, BLOCK_S, MODE_NORMAL
from signals.buckets.measures import COUNTED, SUMMED, Histogram, Measures, total
from signals.buckets.scopes import (
    ARRIVED_IN,
    LIVE_MINUTES,
    MODES_OF_REACH,
    SCOPE,
    Kind,
    Scope,
    Span,
    arrived_in,
    live_minutes,
)
from signals.buckets.standing import Point as Point
from signals.buckets.standing import standing_points
from signals.catalogue import STATES, Reach, Signal, signal_of
from signals.stats.estimate import estimate, repeats

TRAFFIC_WINDOW_S: Final = 300
EVERY_KIND: Final = Kind()
# Short charts read arrivals in 5-second blocks, longer ones the folds by event minute.
LIVE_SPAN_S: Final = 1800
_TICK: Final = timedelta(microseconds=1)
# A rate over less than this would be made of one batch.
_LEAST_SPAN_S: Final = 5.0

_IN_LEDGER: Final = ARRIVED_IN.format(ledger="arrival_ledger")
_MAXIMA: Final = (
    "coalesce(max(l.latency_max), 0), coalesce(max(l.cost_max), 0), sum(l.latency_zero)::bigint"
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """A path's tasks a minute over the last five minutes, or since its first if that is later.

    `exposed_share` is the candidate's measured part (0-1), None without a task.
    """

    tasks_per_min: float
    candidate_per_min: float
    exposed_share: float | None
    last_arrival_at: datetime | None


def window_measures(
    *,
    path_ids: Iterable[int],
    since: datetime,
    until: datetime,
    normal_only: bool = True,
) -> dict[tuple[int, int], Measures]:
    """Return measures by (path id, arm) of what arrived in (since, until]."""
    spans = [Span(path_id, since, until) for path_id in path_ids]
    parts: dict[tuple[int, int], list[Measures]] = {}
    for span, scopes in span_measures(spans, normal_only=normal_only).items():
        for scope, measures in scopes.items():
            parts.setdefault((span.path_id, scope.arm), []).append(measures)
    return {key: total(found) for key, found in parts.items()}


def span_measures(
    spans: Sequence[Span],
    *,
    normal_only: bool = True,
    histograms_of: Collection[Span] | None = None,
    fields: Collection[str] | None = None,
    arms: Collection[int] | None = None,
    own: Collection[Signal] = (),
) -> dict[Span, dict[Scope, Measures]]:
    """Return what arrived in each span by release, arm and segment, in two queries for them all.

    Only what arrived live: backfilled history is evidence of nothing that goes on now.
    Reading less is what makes a look each second cheap: a histogram costs more than all sums.

    Args:
        spans: the windows to read; the same path may stand in several.
        normal_only: leave out runs in a fallback mode.
        histograms_of: read latencies' histograms for these spans only; None for all.
        fields: sum only these fields of `Measures`, the others stay 0; None for all.
        arms: read these arms only, None for all.
        own: read what feeds these signals too, in a query or two for each feed.
    """
    wanted = list(dict.fromkeys(spans))
    result: dict[Span, dict[Scope, Measures]] = {span: {} for span in wanted}
    if not wanted:
        return result
    where = f"l.mode = {MODE_NORMAL}" if normal_only else "true"
    if arms is not None:
        where += f" and l.arm in ({', '.join(str(int(arm)) for arm in arms)})"
    key = f"w.k, {SCOPE}"
    drawn = [span for span in wanted if histograms_of is None or span in histograms_of]
    arguments = arrived_in(wanted, wanted)
    counts = histograms_read(_IN_LEDGER, where, key, arrived_in(drawn, wanted)) if drawn else {}
    found = sums_read(_IN_LEDGER, where, key, arguments, counts, fields=fields)
    for (place, *scope), measures in found.items():
        release_id, arm, segment_id, moved = scope
        result[wanted[place]][Scope(release_id, arm, segment_id, bool(moved))] = measures
    if any(signal.feed is not None for signal in own):
        parts = span_parts(own, wanted, normal_only=normal_only, arms=arms)
        for span, scopes in parts.items():
            for where_of, told in scopes.items():
                held = result[span].get(where_of, Measures())
                result[span][where_of] = replace(held, parts=told)
    return result


class NewestArrival(NamedTuple):
    """When the newest run of a scope arrived, the newest report of each measure, and of any."""

    run_at: datetime | None
    any_at: datetime
    by_field: dict[str, datetime | None]


def newest_arrivals(
    paths: Sequence[tuple[int, datetime]],
    *,
    fields: Sequence[str],
    own: Collection[Signal] = (),
    arms: Collection[int] = (ARM_CANDIDATE,),
) -> dict[tuple[int, Scope], NewestArrival]:
    """Return the newest live arrivals after a time on some arms, by path and scope.

    Args:
        paths: path ids with the time after which to look.
        fields: counting fields of `Measures`; each one's newest non-zero arrival is answered.
        own: signals whose feeds' newest reports are answered too, by the feed's key.
        arms: the candidate's unless said.
    """
    if not paths:
        return {}
    known = [field for field in dict.fromkeys(fields) if field in COUNTED]
    newest = "".join(f", max(l.arrived_at) filter (where l.{field} > 0)" for field in known)
    # Column names come from the dataclass, values go as parameters.
    query = (
        f"select l.path_id, {SCOPE}, max(l.arrived_at) filter (where l.n > 0),"  # noqa: S608
        f" max(l.arrived_at)"
        f"{newest} from unnest(%s::int[], %s::timestamptz[]) as w(path_id, since)"
        " join arrival_ledger l on l.path_id = w.path_id and not l.backfill"
        " and l.arrived_at > w.since"
        " where l.arm = any(%s) group by 1, 2, 3, 4, 5"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            query, [[path for path, _ in paths], [since for _, since in paths], list(arms)]
        )
        rows = cursor.fetchall()
    found = {
        (row[0], Scope(*row[1:5])): NewestArrival(
            row[5], row[6], dict(zip(known, row[7:], strict=True))
        )
        for row in rows
    }
    feeds = {signal.feed for signal in own if signal.feed is not None}
    for key, told in newest_parts(feeds, paths, arms=arms).items():
        newest_at = max(told.values())
        held = found.get(key, NewestArrival(None, newest_at, {}))
        found[key] = NewestArrival(
            held.run_at, max(held.any_at, newest_at), {**held.by_field, **told}
        )
    return found


def last_drain() -> int:
    """Return the number of the last drain in the ledger, 0 for an empty one."""
    with connection.cursor() as cursor:
        cursor.execute("select coalesce(max(drain), 0) from arrival_ledger")
        return int(cursor.fetchone()[0])


def series_measures(
    *,
    workflow_id: int,
    path_id: int,
    arms: Sequence[int],
    segment_ids: Sequence[int] | None,
    start: datetime,
    end: datetime,
    step_s: int,
    release_id: int | None = None,
    reach: Reach = "normal",
    by_event: bool = False,
    histograms: bool = True,
    fields: Collection[str] | None = None,
    kind: Kind = EVERY_KIND,
    own: Signal | None = None,
) -> list[tuple[datetime, Measures]]:
    """Return measures by step in [start, end), steps without a run left out.

    Spans up to 30 minutes read arrivals in blocks of 5 s, so `step_s` is at least that; longer
    ones read minute buckets by event time, so it is at least a minute there. Steps start at
    multiples of their length since the epoch.

    Args:
        arms: arm codes to add up.
        segment_ids: segments to add up, None for all and for runs without one.
        release_id: only this release's runs, None for any.
        reach: `normal` leaves out runs in a fallback mode, `fallback` all others.
        by_event: read minute buckets however short the span is.
        kind: only these cases.
        own: a team's own signal, to read what feeds it too.
    """
    step_s = rounded_step(start=start, end=end, step_s=step_s, by_event=by_event)
    if is_live(start, end, by_event=by_event):
        source = "arrival_ledger l"
        place = f"(l.block * {BLOCK_S}) / %s"
        # Kinds are named, so that the index, which tells history apart, is searched by time.
        where = (
            "l.path_id = %s and l.arrived_at >= %s and l.arrived_at < %s"
            " and l.backfill in (false, true) and l.workflow_id = %s and l.arm = any(%s)"
        )
        found_by: list[Any] = [path_id, start, end]
    else:
        source, found_by = event_rows(
            ARRIVALS, path_ids=[path_id], start=start, end=end, step_s=step_s
        )
        place = "floor(extract(epoch from l.minute))::bigint / %s"
        where = "l.workflow_id = %s and l.arm = any(%s)"
    arguments: list[Any] = [step_s, *found_by, workflow_id, list(arms)]
    if segment_ids is not None:
        where += " and l.segment_id = any(%s)"
        arguments.append(list(segment_ids))
    if release_id is not None:
        where += " and l.release_id = %s"
        arguments.append(release_id)
    # A mode that is asked for is shown, whatever the signal leaves out elsewhere.
    where += MODES_OF_REACH.get(reach, "") if kind.mode is None else ""
    for column, code in kind.told().items():
        where += f" and l.{column} = %s"
        arguments.append(code)
    counts = histograms_read(source, where, place, arguments) if histograms else {}
    found = {
        datetime.fromtimestamp(step * step_s, tz=UTC): measures
        for (step,), measures in sums_read(
            source, where, place, arguments, counts, fields=fields
        ).items()
    }
    if own is not None and own.feed is not None:
        parts = step_parts(
            own,
            path_id=path_id,
            start=start,
            end=end,
            step_s=step_s,
            live=is_live(start, end, by_event=by_event),
            wanted={
                "arm": list(arms),
                "segment_id": segment_ids,
                "release_id": None if release_id is None else [release_id],
                **{column: [code] for column, code in kind.told().items()},
            },
            reach=reach if kind.mode is None else "arm",
        )
        for (at,), told in parts.items():
            found[at] = replace(found.get(at, Measures()), parts=told)
    return sorted(found.items(), key=lambda item: item[0])


def served_from(served_until: datetime, step_s: int) -> datetime:
    """Return from which step on a line shows what was served after a rollout ended.

    Cut between steps, so that none mixes what was served before and after; the step in which the
    rollout ended is still the candidate's.
    """
    return floor(served_until, step_s) + timedelta(seconds=step_s)


class Served(NamedTuple):
    """Whose tasks a line shows, of which reach, in steps that begin in [since, until)."""

    arms: Sequence[int]
    reach: Reach
    since: datetime | None = None
    until: datetime | None = None


def served_around(served_until: datetime, *, reach: Reach, step_s: int) -> list[Served]:
    """Return what a line shows before and after its rollout ended."""
    cut = served_from(served_until, step_s)
    return [
        Served([ARM_CANDIDATE], reach, until=cut),
        Served([ARM_STABLE], "arm", since=cut),
    ]


def reads_arrivals(*, signal: Signal, start: datetime, end: datetime) -> bool:
    """Whether a chart of this span counts tasks when they arrived, not when they happened."""
    return is_live(start, end, by_event=signal.by_event)


def rounded_step(*, start: datetime, end: datetime, step_s: int, by_event: bool = False) -> int:
    """Return the step that a series over this span really has, in seconds."""
    live = is_live(start, end, by_event=by_event)
    unit = BLOCK_S if live else least_step(start, end)
    return max(unit, -(-step_s // unit) * unit)


def is_live(start: datetime, end: datetime, *, by_event: bool) -> bool:
    """Return whether a span is short enough to be read by arrival."""
    return not by_event and (end - start).total_seconds() <= LIVE_SPAN_S


def signal_series(
    *,
    signal: str | Signal,
    workflow_id: int,
    path_id: int,
    arms: Sequence[int],
    segment_ids: Sequence[int] | None,
    start: datetime,
    end: datetime,
    step_s: int,
    release_id: int | None = None,
    served_until: datetime | None = None,
    slow_ms: float | None = None,
    kind: Kind = EVERY_KIND,
) -> list[Point]:
    """Return a signal's value and 95 % range by step; a step without data has no point.

    With `served_until`, the time at which a rollout ended, the points say what the exposed
    people got: the candidate before it, and from its step on whatever the same segments are
    served now.

    Args:
        signal: a team's own, or a catalogue slug; one that is not collected gives no points.
        slow_ms: the path's slow limit, for the rate of slow tasks.
        Others as `series_measures`.
    """
    known = signal if isinstance(signal, Signal) else signal_of(signal)
    if not known.collected:
        return []
    step_s = rounded_step(start=start, end=end, step_s=step_s, by_event=known.by_event)
    if known.source in STATES | {"age", "assignment"}:
        return standing_points(
            known,
            path_id=path_id,
            arms=arms,
            segment_ids=segment_ids,
            release_id=release_id,
            start=start,
            end=end,
            step_s=step_s,
            live=is_live(start, end, by_event=known.by_event),
        )
    reading: dict[str, Any] = {
        "path_id": path_id,
        "segment_ids": segment_ids,
        "release_id": release_id,
        "start": start,
        "end": end,
        "step_s": step_s,
    }
    served = [Served(arms, known.reach)]
    if served_until is not None and served_until < end:
        served = served_around(served_until, reach=known.reach, step_s=step_s)
    points = []
    for served_arms, reach, since, until in served:
        steps = series_measures(
            workflow_id=workflow_id,
            arms=served_arms,
            reach=reach,
            by_event=known.by_event,
            histograms=known.reads_histogram,
            fields=known.fields,
            kind=kind,
            own=known,
            **reading,
        )
        failures: dict[datetime, Counter[str]] = {}
        if known.source == "repeats":
            live = is_live(start, end, by_event=known.by_event)
            failures = step_failures(arms=served_arms, live=live, **reading)
        for moment, measures in between(steps, start=since, end=until):
            found = estimate(known, measures, span_s=step_s, slow_ms=slow_ms, always=True)
            if known.source == "repeats":
                found = repeats(failures.get(moment, Counter()), n=measures.n)
            if found is not None:
                points.append(Point(moment, found.value, found.low, found.high, found.n))
    return points


class ReleaseTotal(NamedTuple):
    """What is counted of a release on a path, and when its first and newest minute began."""

    measures: Measures
    first_at: datetime
    last_at: datetime


def release_totals(
    *, path_ids: Sequence[int], since: datetime, until: datetime
) -> dict[tuple[int, int], ReleaseTotal]:
    """Return by path id and release id (0: none) what happened in [since, until).

    By event minutes, history included; either arm, any mode.
    """
    paths = list(path_ids)
    source, arguments = event_rows(ARRIVALS, path_ids=paths, start=since, end=until, step_s=HOUR_S)
    key = "l.path_id, l.release_id"
    counts = histograms_read(source, "true", key, arguments)
    found = sums_read(source, "true", key, arguments, counts)
    ends = _release_ends(source, arguments, since=since, until=until)
    return {
        (place[0], place[1]): ReleaseTotal(measures, *ends[place[0], place[1]])
        for place, measures in found.items()
        if (place[0], place[1]) in ends
    }


def release_ends(
    *, path_ids: Sequence[int], since: datetime, until: datetime
) -> dict[tuple[int, int], tuple[datetime, datetime]]:
    """Return by path id and release id the first and newest minute in [since, until)."""
    paths = list(path_ids)
    source, arguments = event_rows(ARRIVALS, path_ids=paths, start=since, end=until, step_s=HOUR_S)
    return _release_ends(source, arguments, since=since, until=until)


def _release_ends(
    source: str, arguments: Sequence[Any], *, since: datetime, until: datetime
) -> dict[tuple[int, int], tuple[datetime, datetime]]:
    """Return each release's first and newest minute, looked for in its first and newest bucket.

    Where minutes are not kept any more, what the bucket begins with.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            select b.path_id, b.release_id,
                coalesce(min(m.minute) filter (where m.minute < b.first_at + interval '1 hour'),
                    b.first_at),
                coalesce(max(m.minute) filter (where m.minute >= b.last_at), b.last_at)
            from (
                select l.path_id, l.release_id, min(l.minute) as first_at, max(l.minute) as last_at
                from {source} group by 1, 2
            ) as b left join minute_bucket as m
                on m.path_id = b.path_id and m.release_id = b.release_id
                and m.minute >= %s and m.minute < %s
                and (m.minute >= b.first_at and m.minute < b.first_at + interval '1 hour'
                    or m.minute >= b.last_at and m.minute < b.last_at + interval '1 hour')
            group by b.path_id, b.release_id, b.first_at, b.last_at
            """,  # noqa: S608  # of our own words
            [*arguments, since, until],
        )
        return {(row[0], row[1]): (row[2], row[3]) for row in cursor.fetchall()}


def traffic(*, workflow_ids: Iterable[int], now: datetime) -> dict[int, Traffic]:
    """Return each path's live traffic by path id; a path without any has zeros."""
    since = now - timedelta(seconds=TRAFFIC_WINDOW_S)
    with connection.cursor() as cursor:
        cursor.execute(
            "select p.id, coalesce(sum(l.n), 0)::bigint,"
            " coalesce(sum(l.n) filter (where l.arm = %s), 0)::bigint,"
            " min(l.arrived_at), max(l.arrived_at),"
            " exists (select 1 from arrival_ledger e"
            " where e.path_id = p.id and not e.backfill and e.arrived_at < %s)"
            " from catalog_workflowpath as p left join arrival_ledger l"
            " on l.path_id = p.id and not l.backfill"
            " and l.arrived_at >= %s and l.arrived_at <= %s"
            " where p.workflow_id = any(%s) group by p.id",
            [ARM_CANDIDATE, since, since, now, list(workflow_ids)],
        )
        rows = cursor.fetchall()
    found = {}
    for path_id, n, n_candidate, first_at, last_at, older in rows:
        span_s = float(TRAFFIC_WINDOW_S)
        if first_at is not None and not older:
            span_s = max(_LEAST_SPAN_S, (now - first_at).total_seconds())
        found[path_id] = Traffic(
            tasks_per_min=n * 60 / span_s,
            candidate_per_min=n_candidate * 60 / span_s,
            exposed_share=n_candidate / n if n else None,
            last_arrival_at=last_at,
        )
    return found


class SegmentTasks(NamedTuple):
    """A path's tasks by segment id (0: none), and the minute of the first of them."""

    by_segment: dict[int, int]
    first_at: datetime


def segment_tasks(
    *, path_ids: Iterable[int], since: datetime, until: datetime
) -> dict[int, SegmentTasks]:
    """Return by path id what happened live in [since, until), either arm and any mode.

    By whole event minutes, which hold history too; the ledger says how much of them it is.
    """
    found: dict[int, SegmentTasks] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "select path_id, segment_id, sum(n)::bigint, min(minute) from (select path_id,"  # noqa: S608
            f" segment_id, minute, sum(n) as n from {LIVE_MINUTES} group by 1, 2, 3) as m"
            " where n > 0 group by 1, 2",
            live_minutes(path_ids, since=since, until=until - _TICK),
        )
        for path_id, segment_id, n, first_at in cursor.fetchall():
            known = found.setdefault(path_id, SegmentTasks({}, first_at))
            known.by_segment[segment_id] = n
            found[path_id] = known._replace(first_at=min(known.first_at, first_at))
    return found


def between(
    steps: list[tuple[datetime, Measures]],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[tuple[datetime, Measures]]:
    return [
        (moment, measures)
        for moment, measures in steps
        if (start is None or moment >= start) and (end is None or moment < end)
    ]


def histograms_read(
    source: str, where: str, key: str, arguments: Sequence[Any]
) -> dict[tuple[int, ...], dict[int, int]]:
    """Return latencies' counts by bucket for each value of `key`; only values are parameters."""
    width = _width(key)
    by = ", ".join(str(place + 1) for place in range(width + 1))
    with connection.cursor() as cursor:
        cursor.execute(
            f"select {key}, h.idx, sum(h.cnt)::bigint from {source}"  # noqa: S608
            " cross join lateral unnest(l.latency_idx, l.latency_cnt) as h(idx, cnt)"
            f" where {where} group by {by}",
            arguments,
        )
        rows = cursor.fetchall()
    counts: dict[tuple[int, ...], dict[int, int]] = {}
    for row in rows:
        counts.setdefault(tuple(row[:width]), {})[row[width]] = row[width + 1]
    return counts


def sums_read(
    source: str,
    where: str,
    key: str,
    arguments: Sequence[Any],
    counts: Mapping[tuple[int, ...], Mapping[int, int]],
    *,
    fields: Collection[str] | None = None,
) -> dict[tuple[int, ...], Measures]:
    """Return measures for each value of `key`, with their histograms from `counts`."""
    width = _width(key)
    by = ", ".join(str(place + 1) for place in range(width))
    names = [name for name in SUMMED if fields is None or name in fields]
    sums = "".join(
        f"sum(l.{name})::{'bigint' if name in COUNTED else 'float8'}, " for name in names
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"select {key}, {sums}{_MAXIMA} from {source} where {where} group by {by}",  # noqa: S608
            arguments,
        )
        rows = cursor.fetchall()
    found = {}
    for row in rows:
        place, values = tuple(row[:width]), row[width:-3]
        latency_max, cost_max, zero = row[-3:]
        histogram = Histogram()
        if place in counts or zero:
            histogram = Histogram(zero, latency_max, counts.get(place, {}))
        found[place] = Measures(
            **dict(zip(names, values, strict=True)),
            latency_max=latency_max,
            cost_max=cost_max,
            latency=histogram,
        )
    return found


def _width(key: str) -> int:
    # The keys of this module hold no comma inside parentheses.
    return key.count(",") + 1
