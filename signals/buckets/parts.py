"""Reads of what feeds teams' own signals: measures, evaluations, feedback, failure categories."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection

from signals.buckets.keys import BLOCK_S, MODE_NORMAL
from signals.buckets.measures import Histogram, Part
from signals.buckets.scopes import ARRIVED_IN, SCOPE, Scope, Span, arrived_in
from signals.catalogue import Reach, Signal
from signals.feeds import Feed
from signals.ingest.rows import OUTCOMES

# By key of a feed.
Parts = Mapping[str, Part]
_MODES: Final = {
    "normal": f" and l.mode = {MODE_NORMAL}",
    "fallback": f" and l.mode <> {MODE_NORMAL}",
}
_SIDES: Final = " cross join lateral (select 1 as side, * from unnest(l.idx, l.cnt) union all" \
    " select -1, * from unnest(l.negative_idx, l.negative_cnt)) as h(side, idx, cnt)"


@dataclass(frozen=True, slots=True)
class _Source:
    """Where rows come from: `rows` names `{ledger} l`, `key` the columns that part them."""

    rows: str
    arguments: list[Any]
    where: str
    key: tuple[str, ...]


def span_parts(
    signals: Collection[Signal],
    spans: Sequence[Span],
    *,
    normal_only: bool,
    arms: Collection[int] | None = None,
) -> dict[Span, dict[Scope, dict[str, Part]]]:
    """Return what arrived live in each span for the feeds of `signals`, by scope and feed."""
    wanted = list(dict.fromkeys(spans))
    where = _MODES["normal"] if normal_only else ""
    arguments: list[Any] = arrived_in(wanted, wanted)
    if arms is not None:
        where += " and l.arm = any(%s)"
        arguments.append(list(arms))
    source = _Source(ARRIVED_IN, arguments, where, ("w.k", *SCOPE.split(", ")))
    found: dict[Span, dict[Scope, dict[str, Part]]] = {span: {} for span in wanted}
    if not wanted:
        return found
    for (place, *scope), key, part in _read(signals, source):
        found[wanted[place]].setdefault(Scope(*scope), {})[key] = part
    return found


def step_parts(
    signal: Signal,
    *,
    path_id: int,
    arms: Sequence[int],
    segment_ids: Sequence[int] | None,
    start: datetime,
    end: datetime,
    step_s: int,
    live: bool,
    reach: Reach = "normal",
    release_id: int | None = None,
) -> dict[datetime, dict[str, Part]]:
    """Return a feed's parts by step, of arrivals if `live`, else of event minutes."""
    column, block_s = ("l.arrived_at", BLOCK_S) if live else ("l.minute", 60)
    step = f"floor(extract(epoch from {column}) / {block_s})::bigint * {block_s} / {int(step_s)}"
    source = _Source(
        f"{{ledger}} l where l.path_id = %s and {column} >= %s and {column} < %s"
        " and l.arm = any(%s)",
        [path_id, start, end, list(arms)],
        _MODES.get(reach, ""),
        (step,),
    )
    for name, value in (("segment_id", segment_ids), ("release_id", release_id)):
        if value is not None:
            source = replace(
                source,
                where=f"{source.where} and l.{name} = any(%s)",
                arguments=[
                    *source.arguments,
                    [value] if isinstance(value, int) else list(value),
                ],
            )
    found: dict[datetime, dict[str, Part]] = {}
    for (at,), key, part in _read([signal], source):
        found.setdefault(datetime.fromtimestamp(at * step_s, tz=UTC), {})[key] = part
    return found


def newest_parts(
    feeds: Collection[Feed], paths: Sequence[tuple[int, datetime]], *, arms: Collection[int]
) -> dict[tuple[int, Scope], dict[str, datetime]]:
    """Return by path, scope and feed when the newest report of it arrived after a time."""
    found: dict[tuple[int, Scope], dict[str, datetime]] = {}
    for feed in feeds:
        ledger, of, arguments = _ledger(feed)
        with connection.cursor() as cursor:
            cursor.execute(
                f"select l.path_id, {SCOPE}, max(l.arrived_at)"  # noqa: S608  # of our own words
                " from unnest(%s::int[], %s::timestamptz[]) as w(path_id, since)"
                f" join {ledger} l on l.path_id = w.path_id and not l.backfill"
                f" and l.arrived_at > w.since where l.arm = any(%s){of} group by 1, 2, 3, 4, 5",
                [
                    [path_id for path_id, _ in paths],
                    [since for _, since in paths],
                    list(arms),
                    *arguments,
                ],
            )
            rows = cursor.fetchall()
        for path_id, *scope, at in rows:
            found.setdefault((path_id, Scope(*scope)), {})[feed.key] = at
    return found


def _read(
    signals: Collection[Signal], source: _Source
) -> Iterator[tuple[tuple[Any, ...], str, Part]]:
    """Yield key, feed and part; only values are parameters."""
    drawn: dict[Feed, bool] = {}
    for signal in signals:
        if signal.feed is not None:
            drawn[signal.feed] = drawn.get(signal.feed, False) or signal.draws_feed
    for feed, draws in drawn.items():
        parts = {key: make(*values) for key, make, values in _sums(feed, source)}
        if draws:
            for key, positive, negative in _histograms(feed, source, parts):
                parts[key] = replace(parts[key], positive=positive, negative=negative)
        for key, part in parts.items():
            yield key, feed.key, part


def _sums(
    feed: Feed, source: _Source
) -> Iterator[tuple[tuple[Any, ...], Callable[..., Part], Sequence[Any]]]:
    summed = {
        "measure": "sum(l.n)::bigint, sum(l.total)::float8, sum(l.squares)::float8,"
        " min(l.least), max(l.largest), sum(l.zero)::bigint",
        "evaluation": "sum(l.score_n)::bigint, sum(l.score_sum)::float8, sum(l.score_sq)::float8"
        if feed.score
        else "sum(l.passed_n)::bigint, sum(l.passed)::float8",
    }.get(feed.kind, "sum(l.n)::bigint, sum(l.n)::float8")
    for row in _rows(feed, source, summed):
        width = len(source.key)
        yield row[:width], _measured if feed.kind == "measure" else Part, row[width:]


def _measured(
    n: int, total: float, squares: float, least: float, largest: float, zero: int
) -> Part:
    return Part(n, total, squares, least, largest, Histogram(zero))


def _histograms(
    feed: Feed, source: _Source, parts: Mapping[tuple[Any, ...], Part]
) -> Iterator[tuple[tuple[Any, ...], Histogram, Histogram]]:
    counts: dict[tuple[Any, ...], tuple[dict[int, int], dict[int, int]]] = {}
    width = len(source.key)
    for row in _rows(feed, source, "h.side, h.idx, sum(h.cnt)::bigint", joined=_SIDES, more=2):
        side, index, n = row[width:]
        counts.setdefault(row[:width], ({}, {}))[0 if side > 0 else 1][index] = n
    for key, (positive, negative) in counts.items():
        part = parts[key]
        yield (
            key,
            Histogram(part.positive.zero, part.largest, positive),
            Histogram(0, max(0.0, -part.least), negative),
        )


def _rows(
    feed: Feed, source: _Source, wanted: str, *, joined: str = "", more: int = 0
) -> list[tuple[Any, ...]]:
    ledger, of, arguments = _ledger(feed)
    rows = source.rows.format(ledger=ledger)
    source_rows, has_where, conditions = rows.partition(" where ")
    where = f"{conditions if has_where else 'true'}{source.where}{of}"
    key = ", ".join(source.key)
    by = ", ".join(str(place + 1) for place in range(len(source.key) + more))
    with connection.cursor() as cursor:
        cursor.execute(
            f"select {key}, {wanted} from {source_rows}{joined}"  # noqa: S608  # of our own words
            f" where {where} group by {by}",
            [*source.arguments, *arguments],
        )
        return list(cursor.fetchall())


def _ledger(feed: Feed) -> tuple[str, str, list[Any]]:
    """Return the feed's table, which of its rows count, and the values in that.

    Of a task that was told several of the words, the row with the first of them counts.
    """
    match feed.kind:
        case "measure":
            return "measure_ledger", " and l.name = %s", [feed.name]
        case "evaluation":
            return "evaluation_ledger", " and l.name = %s", [feed.name]
        case "feedback":
            words = list(feed.words)
            return (
                "feedback_ledger",
                " and l.value = any(%s) and not l.before && %s::text[]",
                [words, words],
            )
        case _:
            # A task whose outcome counts already does not count again for its category.
            categories = list(feed.categories)
            return (
                "failure_ledger",
                " and l.category = any(%s) and not l.before && %s::text[]"
                " and (l.outcome is null or not l.outcome = any(%s))",
                [categories, categories, [OUTCOMES[word] for word in feed.words]],
            )
