"""Fold the ledgers into buckets: each drained batch exactly once, longer buckets of minutes."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction

from signals.buckets import fold_sql
from signals.buckets.folds import COARSE_S, FOLDS, HOUR_S, MINUTE_S
from signals.buckets.models import StoredDay

# One folder at a time: it reads a bucket, adds, and writes it back.
LOCK_KEY: Final = 0x666F6C64
BATCHES_AT_ONCE: Final = 100
# A path's longer buckets made anew in one transaction, and how long one round goes on with them.
STALE_AT_ONCE: Final = 50
STALE_FOR_S: Final = 0.5
# What still comes for a bucket that is over is waited for, a fifth of its length.
_SETTLE: Final = {length_s: timedelta(seconds=length_s / 5) for length_s in COARSE_S}


def buckets_fold(*, now: datetime) -> int:
    """Add every drained batch not yet folded to the minute buckets; return how many there were.

    Returns at once where another process is folding.
    """
    folded = 0
    while batches := _some_fold(now=now):
        folded += batches
    return folded


@transaction.atomic
def _some_fold(*, now: datetime) -> int:
    if not folds_lock(wait=False):
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "select seq from ingest_batch where state = 'drained' and folded_at is null"
            " order by seq limit %s",
            [BATCHES_AT_ONCE],
        )
        drains = [seq for (seq,) in cursor.fetchall()]
        if drains:
            batches_add(drains, now=now)
            # Beside the sums, in one transaction: that is what makes it once.
            cursor.execute(
                "update ingest_batch set folded_at = %s where seq = any(%s)", [now, drains]
            )
        return len(drains)


def batches_add(drains: Sequence[int], *, now: datetime) -> None:
    """Add drains to the buckets of their minutes, and mark the longer ones they change.

    What falls on a day of which only hours are kept is added to the hour itself. Runs in the
    caller's transaction, which holds the lock.
    """
    pruned = pruned_days()
    given: dict[str, Any] = {
        "drains": list(drains),
        "pruned": pruned,
        "lengths": list(COARSE_S),
        "now": now,
    }
    with connection.cursor() as cursor:
        for fold in FOLDS:
            cursor.execute(fold_sql.added(fold, MINUTE_S), given)
            if cursor.rowcount:
                cursor.execute(fold_sql.touched(fold), given)
            if pruned:
                cursor.execute(fold_sql.added(fold, HOUR_S, pruned=True), given)


def stale_fold(*, now: datetime) -> int:
    """Make anew the longer buckets that are over and whose minutes changed; return how many.

    A few at a time and for half a second at most: until its turn a bucket's minutes are read in
    its place, so that no answer waits for this.
    """
    until = time.monotonic() + STALE_FOR_S
    made = 0
    for length_s in COARSE_S:
        while some := _some_refold(length_s, now=now):
            made += some
            if time.monotonic() >= until:
                return made
    return made


@transaction.atomic
def _some_refold(length_s: int, *, now: datetime) -> int:
    if not folds_lock(wait=False):
        return 0
    settled_at = now - _SETTLE[length_s]
    with connection.cursor() as cursor:
        cursor.execute(
            "select path_id, minute from stale_bucket where length_s = %s and since <= %s"
            " and minute <= %s order by since, path_id, minute limit %s",
            [length_s, settled_at, settled_at - timedelta(seconds=length_s), STALE_AT_ONCE],
        )
        places = cursor.fetchall()
    if places:
        buckets_refold(length_s, places)
    return len(places)


def buckets_refold(length_s: int, places: Sequence[tuple[int, datetime]]) -> None:
    """Make the buckets of paths that begin at these times anew, of their minutes.

    Runs in the caller's transaction, which holds the lock.
    """
    given: dict[str, Any] = {
        "paths": [path_id for path_id, _ in places],
        "starts": [at for _, at in places],
        "length": length_s,
    }
    with connection.cursor() as cursor:
        for fold in FOLDS:
            if length_s in fold.tables:
                cursor.execute(fold_sql.emptied(fold.tables[length_s]), given)
                cursor.execute(fold_sql.refolded(fold, length_s), given)
        cursor.execute(
            "delete from stale_bucket using unnest(%(paths)s::int[], %(starts)s::timestamptz[])"
            " as s(path_id, at) where length_s = %(length)s and stale_bucket.path_id = s.path_id"
            " and minute = s.at",
            given,
        )


def folds_lock(*, wait: bool) -> bool:
    """Take the folders' lock until the transaction ends; say whether it was free to take."""
    with connection.cursor() as cursor:
        if wait:
            cursor.execute("select pg_advisory_xact_lock(%s)", [LOCK_KEY])
            return True
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [LOCK_KEY])
        return bool(cursor.fetchone()[0])


def pruned_days() -> list[Any]:
    """Return the days of which only hours are kept."""
    kept = StoredDay.objects.exclude(minutes_pruned_at=None)
    return list(kept.order_by("day").values_list("day", flat=True))
