"""How many runs came of whom: counts that no signal is made of."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from signals.buckets.keys import ARM_CANDIDATE, MODE_NORMAL
from signals.buckets.scopes import LIVE_MINUTES, live_minutes

# Longer spans read the minute folds: the ledger has a row for every drained batch and key.
LEDGER_SPAN: Final = timedelta(minutes=30)


def candidate_runs(
    *, path_ids: Iterable[int], release_id: int, since: datetime, until: datetime
) -> int:
    """Return how many runs of a candidate came in (since, until], those in a fallback left out.

    Only what was reported live: history is evidence of nothing that goes on now. Over more than
    half an hour it counts whole event minutes, so never a run too many.
    """
    if until - since <= LEDGER_SPAN:
        source = (
            "arrival_ledger as l where l.path_id = any(%(paths)s) and not l.backfill"
            " and l.arrived_at > %(since)s and l.arrived_at <= %(until)s"
        )
    else:
        source = f"{LIVE_MINUTES} where true"
    with connection.cursor() as cursor:
        cursor.execute(
            f"select coalesce(sum(l.n), 0)::bigint from {source} and l.release_id = %(release)s"  # noqa: S608  # of our own words
            f" and l.arm = {ARM_CANDIDATE} and l.mode = {MODE_NORMAL}",
            {**live_minutes(path_ids, since=since, until=until), "release": release_id},
        )
        return int(cursor.fetchone()[0])


def tasks_by_segment(
    *, path_ids: Iterable[int], since: datetime, until: datetime
) -> dict[int, dict[int, int]]:
    """Return by path id and segment id (0 for none) how many tasks arrived in (since, until]."""
    found: dict[int, dict[int, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "select path_id, segment_id, sum(n)::bigint from arrival_ledger"
            " where path_id = any(%s) and not backfill and arrived_at > %s and arrived_at <= %s"
            " group by 1, 2",
            [list(path_ids), since, until],
        )
        for path_id, segment_id, n in cursor.fetchall():
            found.setdefault(path_id, {})[segment_id] = int(n)
    return found
