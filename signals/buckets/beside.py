"""Reads of what stands beside the ledger: failures by category, and reviews that wait."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection

from signals.buckets.event_time import event_rows
from signals.buckets.folds import FAILURES, MINUTE_S
from signals.buckets.keys import BLOCK_S
from signals.buckets.scopes import ARRIVED_IN, SCOPE, Scope, Span, arrived_in

_IN_FAILURES: Final = ARRIVED_IN.format(ledger="failure_ledger")


@dataclass(frozen=True, slots=True)
class Backlog:
    """Reviews that wait, and since when the oldest does; None where there is none."""

    n: int = 0
    oldest_at: datetime | None = None

    def __add__(self, other: "Backlog") -> "Backlog":
        known = [at for at in (self.oldest_at, other.oldest_at) if at is not None]
        return Backlog(self.n + other.n, min(known, default=None))

    def value(self, source: str | None, *, at: datetime) -> float:
        """Return how many wait, or for source `waiting` for how many seconds the oldest has."""
        if source != "waiting":
            return float(self.n)
        return max(0.0, (at - self.oldest_at).total_seconds()) if self.oldest_at else 0.0


def span_failures(
    spans: Iterable[Span], *, arms: Collection[int]
) -> dict[Span, dict[Scope, Counter[str]]]:
    """Return how many tasks failed in each category, of what arrived in each span."""
    wanted = list(dict.fromkeys(spans))
    result: dict[Span, dict[Scope, Counter[str]]] = {span: {} for span in wanted}
    if not wanted:
        return result
    with connection.cursor() as cursor:
        cursor.execute(
            f"select w.k, l.category, sum(l.n)::bigint, {SCOPE} from {_IN_FAILURES}"  # noqa: S608
            " where l.arm = any(%s) group by 1, 2, 4, 5, 6, 7",
            [*arrived_in(wanted, wanted), list(arms)],
        )
        rows = cursor.fetchall()
    for place, category, n, *scope in rows:
        result[wanted[place]].setdefault(Scope(*scope), Counter())[category] += n
    return result


def step_failures(
    *,
    path_id: int,
    arms: Sequence[int],
    segment_ids: Sequence[int] | None,
    start: datetime,
    end: datetime,
    step_s: int,
    live: bool,
    release_id: int | None = None,
) -> dict[datetime, Counter[str]]:
    """Return tasks failed by category and step, of arrivals if `live`, else of event minutes.

    Args:
        release_id: only this release's tasks, None for any.
    """
    segments = None if segment_ids is None else list(segment_ids)
    if live:
        source, moment, block_s = "failure_ledger l", "l.arrived_at", BLOCK_S
        where = "l.path_id = %s and l.arrived_at >= %s and l.arrived_at < %s"
        found_by: list[Any] = [path_id, start, end]
    else:
        source, found_by = event_rows(
            FAILURES, path_ids=[path_id], start=start, end=end, step_s=step_s
        )
        moment, block_s, where = "l.minute", MINUTE_S, "true"
    with connection.cursor() as cursor:
        cursor.execute(
            f"select floor(extract(epoch from {moment}) / {block_s})::bigint * {block_s} / %s,"  # noqa: S608
            f" l.category, sum(l.n)::bigint from {source} where {where} and l.arm = any(%s)"
            " and (%s::int[] is null or l.segment_id = any(%s))"
            " and (%s::int is null or l.release_id = %s) group by 1, 2",
            [step_s, *found_by, list(arms), segments, segments, release_id, release_id],
        )
        rows = cursor.fetchall()
    found: dict[datetime, Counter[str]] = {}
    for step, category, n in rows:
        at = datetime.fromtimestamp(step * step_s, tz=UTC)
        found.setdefault(at, Counter())[category] += n
    return found


def open_reviews(
    asked: Iterable[tuple[int, datetime | None]],
) -> dict[tuple[int, datetime | None], dict[Scope, Backlog]]:
    """Return the reviews that wait now by scope, for each path and the time after which to look.

    Args:
        asked: path ids with that time; only reviews asked for later count, None counts all.
    """
    wanted = list(dict.fromkeys(asked))
    found: dict[tuple[int, datetime | None], dict[Scope, Backlog]] = {key: {} for key in wanted}
    if not wanted:
        return found
    with connection.cursor() as cursor:
        cursor.execute(
            f"select w.k, count(*), min(l.asked_at), {SCOPE}"  # noqa: S608
            " from unnest(%s::int[], %s::int[], %s::timestamptz[]) as w(k, path_id, since)"
            " join requested_review l on l.path_id = w.path_id and l.closed_at is null"
            " and (w.since is null or l.asked_at > w.since) group by 1, 4, 5, 6, 7",
            [
                list(range(len(wanted))),
                [path_id for path_id, _ in wanted],
                [since for _, since in wanted],
            ],
        )
        rows = cursor.fetchall()
    for place, n, at, *scope in rows:
        found[wanted[place]][Scope(*scope)] = Backlog(n, at)
    return found


def review_backlogs(
    *,
    path_id: int,
    arms: Sequence[int],
    segment_ids: Sequence[int] | None,
    moments: Sequence[datetime],
) -> list[Backlog]:
    """Return what waited at each moment, in ascending order; empty where no review ever did."""
    asked: dict[str, Any] = {
        "path": path_id,
        "arms": list(arms),
        "segments": None if segment_ids is None else list(segment_ids),
        "start": moments[0],
        "end": moments[-1],
    }
    with connection.cursor() as cursor:
        cursor.execute(
            "select asked_at, closed_at from requested_review where path_id = %(path)s"
            " and arm = any(%(arms)s)"
            " and (%(segments)s::int[] is null or segment_id = any(%(segments)s))"
            " and asked_at <= %(end)s and (closed_at is null or closed_at > %(start)s)"
            " order by asked_at",
            asked,
        )
        rows = cursor.fetchall()
    return backlogs_at(rows, moments) if rows else []


def backlogs_at(
    reviews: Sequence[tuple[datetime, datetime | None]], moments: Sequence[datetime]
) -> list[Backlog]:
    """Return what waited at each moment. Pure.

    Args:
        reviews: when each was asked for and closed (None: it waits), by the former.
        moments: in ascending order; a review waits from `asked` on and until before `closed`.
    """
    closed = sorted(at for _, at in reviews if at is not None)
    opened = front = 0
    found = []
    for moment in moments:
        while opened < len(reviews) and reviews[opened][0] <= moment:
            opened += 1
        # What is closed at a moment stays so: the front never goes back.
        while front < opened and _is_closed(reviews[front][1], moment):
            front += 1
        n = opened - bisect_right(closed, moment)
        found.append(Backlog(n, reviews[front][0] if n else None))
    return found


def _is_closed(closed_at: datetime | None, moment: datetime) -> bool:
    return closed_at is not None and closed_at <= moment
