"""Reads of what feeds teams' own signals: measures, evaluations, feedback, failure categories."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection

from signals.buckets.event_time import event_rows
from signals.buckets.folds import EVALUATIONS, HOUR_S, MINUTE_S, OWN_MEASURES, WORDS, Fold
from signals.buckets.keys import BLOCK_S
from signals.buckets.measures import Histogram, Part
from signals.buckets.scopes import (
    ARRIVED_IN,
    MODES_OF_REACH,
    SCOPE,
    Scope,
    Span,
    arrived_in,
)
from signals.catalogue import Reach, Signal
from signals.feeds import Feed
from signals.ingest.rows import OUTCOMES

# By key of a feed.
Parts = Mapping[str, Part]
_SIDES: Final = (
    " cross join lateral (select 1 as side, * from unnest(l.idx, l.cnt) union all"
    " select -1, * from unnest(l.negative_idx, l.negative_cnt)) as h(side, idx, cnt)"
)


# What a source reads of a ledger: SQL after `from`, and its parameters.
_Rows = Callable[[Fold], tuple[str, list[Any]]]


@dataclass(frozen=True, slots=True)
class _Source:
    """Rows `l` of any ledger, which of them count, and the columns that part them."""

    rows: _Rows
    where: str
    arguments: list[Any]
    key: tuple[str, ...]
    first: list[Any]


def span_parts(
    signals: Collection[Signal],
    spans: Sequence[Span],
    *,
    normal_only: bool,
    arms: Collection[int] | None = None,
) -> dict[Span, dict[Scope, dict[str, Part]]]:
    """Return what arrived live in each span for the feeds of `signals`, by scope and feed."""
    wanted = list(dict.fromkeys(spans))
    found: dict[Span, dict[Scope, dict[str, Part]]] = {span: {} for span in wanted}
    if not wanted:
        return found
    where, arguments = MODES_OF_REACH["normal"] if normal_only else "", []
    if arms is not None:
        where += " and l.arm = any(%s)"
        arguments = [list(arms)]

    def rows(fold: Fold) -> tuple[str, list[Any]]:
        return ARRIVED_IN.format(ledger=fold.ledger), arrived_in(wanted, wanted)

    source = _Source(rows, where, arguments, ("w.k", *SCOPE.split(", ")), [])
    for (place, *scope), key, part in _read(signals, source):
        found[wanted[place]].setdefault(Scope(*scope), {})[key] = part
    return found


def block_parts(
    signals: Collection[Signal], *, rows: str, key: str, given: Sequence[Any]
) -> dict[tuple[Any, ...], dict[str, Part]]:
    """Return what evidence blocks brought for the feeds of `signals`, by key and feed.

    Args:
        rows: SQL of a ledger's rows `l` with their blocks, with a place for the ledger's name.
        key: the columns that part them.
        given: the parameters of `rows`.
    """

    def source(fold: Fold) -> tuple[str, list[Any]]:
        return rows.format(ledger=fold.ledger), list(given)

    found: dict[tuple[Any, ...], dict[str, Part]] = {}
    for place, name, part in _read(signals, _Source(source, "", [], tuple(key.split(", ")), [])):
        found.setdefault(tuple(place), {})[name] = part
    return found


def step_parts(
    signal: Signal,
    *,
    path_id: int,
    start: datetime,
    end: datetime,
    step_s: int,
    live: bool,
    wanted: Mapping[str, Sequence[int] | None],
    reach: Reach = "normal",
    by: str | None = None,
) -> dict[tuple[Any, ...], dict[str, Part]]:
    """Return a feed's parts by step, of arrivals if `live`, else of event minutes.

    Args:
        wanted: by column of the key its codes, None for all.
        by: a column of the key that parts the steps further; its code follows the step's time.
    """
    column, block_s = ("l.arrived_at", BLOCK_S) if live else ("l.minute", MINUTE_S)

    def rows(fold: Fold) -> tuple[str, list[Any]]:
        if not live:
            return event_rows(fold, path_ids=[path_id], start=start, end=end, step_s=step_s)
        arrived = (
            f"(select * from {fold.ledger} as a where a.path_id = %s"  # noqa: S608  # our own words
            " and a.arrived_at >= %s and a.arrived_at < %s) as l"
        )
        return arrived, [path_id, start, end]

    told = {name: list(codes) for name, codes in wanted.items() if codes is not None}
    source = _Source(
        rows,
        MODES_OF_REACH.get(reach, "") + "".join(f" and l.{name} = any(%s)" for name in told),
        list(told.values()),
        (
            f"floor(extract(epoch from {column}) / {block_s})::bigint * {block_s} / %s",
            *([f"l.{by}"] if by else []),
        ),
        [step_s],
    )
    found: dict[tuple[Any, ...], dict[str, Part]] = {}
    for (step, *rest), key, part in _read([signal], source):
        at = datetime.fromtimestamp(step * step_s, tz=UTC)
        found.setdefault((at, *rest), {})[key] = part
    return found


def told_by_segment(
    signal: Signal, *, path_id: int, start: datetime, end: datetime
) -> dict[int, int]:
    """Return by segment id (0 for none) how many tasks told a feed in the minutes of a span."""
    counts: dict[int, int] = {}
    found = step_parts(
        signal,
        path_id=path_id,
        start=start,
        end=end,
        step_s=HOUR_S,
        live=False,
        wanted={},
        reach=signal.reach,
        by="segment_id",
    )
    for (_, segment), parts in found.items():
        counts[segment] = counts.get(segment, 0) + sum(part.n for part in parts.values())
    return counts


def newest_parts(
    feeds: Collection[Feed], paths: Sequence[tuple[int, datetime]], *, arms: Collection[int]
) -> dict[tuple[int, Scope], dict[str, datetime]]:
    """Return by path, scope and feed when the newest report of it arrived after a time."""
    found: dict[tuple[int, Scope], dict[str, datetime]] = {}
    for feed in feeds:
        fold, of, arguments = _ledger(feed)
        with connection.cursor() as cursor:
            cursor.execute(
                f"select l.path_id, {SCOPE}, max(l.arrived_at)"  # noqa: S608  # of our own words
                " from unnest(%s::int[], %s::timestamptz[]) as w(path_id, since)"
                f" join {fold.ledger} l on l.path_id = w.path_id and not l.backfill"
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
    fold, of, arguments = _ledger(feed)
    rows, found_by = source.rows(fold)
    key = ", ".join(source.key)
    by = ", ".join(str(place + 1) for place in range(len(source.key) + more))
    with connection.cursor() as cursor:
        cursor.execute(
            f"select {key}, {wanted} from {rows}{joined}"  # noqa: S608  # of our own words
            f" where true{source.where}{of} group by {by}",
            [*source.first, *found_by, *source.arguments, *arguments],
        )
        return list(cursor.fetchall())


def _ledger(feed: Feed) -> tuple[Fold, str, list[Any]]:
    """Return the feed's ledger, which of its rows count, and the values in that.

    Of a task that was told several of the words, the row with the first of them counts.
    """
    match feed.kind:
        case "measure":
            return OWN_MEASURES, " and l.name = %s", [feed.name]
        case "evaluation":
            return EVALUATIONS, " and l.name = %s", [feed.name]
        case "feedback":
            kind, words, outcomes = "feedback", list(feed.words), []
        case _:
            # A task whose outcome counts already does not count again for its category.
            kind, words = "failure", list(feed.categories)
            outcomes = [OUTCOMES[word] for word in feed.words]
    counted = (
        " and l.kind = %s and l.word = any(%s::text[]) and not l.before && %s::text[]"
        " and not l.outcome = any(%s::int[])"
    )
    return WORDS, counted, [kind, words, words, outcomes]
