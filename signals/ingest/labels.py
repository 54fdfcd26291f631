"""Keep what observations say, and count it with the runs it is about: see ADR 8."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from django.db import connection, transaction

from rollout_console.catalog.models import Workflow
from signals.ingest import label_sql
from signals.ingest.ids import uuid7
from signals.ingest.models import BatchKind, BatchState, IngestBatch
from signals.ingest.observations import Observation, observation_line
from signals.ingest.runs import FARTHEST_AHEAD
from signals.ingest.sources import Brought

# How long an observation waits for its run.
WAIT: Final = timedelta(days=8)
AT_ONCE: Final = 10_000
# One at a time: what was counted for a task is read and added to.
LOCK_KEY: Final = 0x6C61626C


def observations_keep(batches: Sequence[tuple[int, Sequence[Observation]]]) -> list[Brought]:
    """Store what batches (by seq) hold and is not there yet; return what each brought.

    They wait, for a moment at least, for `observations_attribute`. Runs in the caller's
    transaction.
    """
    slugs = {seen.workflow for _, batch in batches for seen in batch}
    ids = dict(Workflow.objects.filter(slug__in=slugs).values_list("slug", "pk"))
    lines = [
        observation_line(seen, workflow_id=ids[seen.workflow], drain=seq)
        for seq, batch in batches
        for seen in batch
    ]
    with connection.cursor() as cursor:
        cursor.execute(label_sql.STAGING)
        with cursor.copy(label_sql.COPY) as copy:
            copy.write("\n".join([*lines, ""]))
        cursor.execute(label_sql.KEEP)
        fresh = {(drain, workflow_id): n for drain, workflow_id, n in cursor.fetchall()}
    came: dict[tuple[int, int], list[datetime]] = {}
    for seq, batch in batches:
        for seen in batch:
            came.setdefault((seq, ids[seen.workflow]), []).append(seen.occurred_at)
    return [
        Brought(*key, path_id=0, accepted=len(times), fresh=fresh.get(key, 0), newest_at=max(times))
        for key, times in came.items()
    ]


def observations_attribute(*, now: datetime) -> int:
    """Count waiting observations with their runs, each once; return how many found theirs.

    Looks for new ones, for those whose run has come since, and for those whose next look is due.
    Returns at once where another process does so.
    """
    attributed = 0
    while True:
        looked, found = _some_attribute(now=now)
        attributed += found
        if looked < AT_ONCE:
            return attributed


@transaction.atomic
def _some_attribute(*, now: datetime) -> tuple[int, int]:
    """Return how many due observations were looked for, and how many of all were counted."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [LOCK_KEY])
        if not cursor.fetchone()[0]:
            return 0, 0
        cursor.execute(label_sql.MATCHING)
        cursor.execute(label_sql.TAKE_AWAITED)
        awaited = cursor.rowcount
        cursor.execute(label_sql.TAKE_DUE, [now, AT_ONCE])
        looked = cursor.rowcount
        if awaited + looked == 0:
            return 0, 0
        cursor.execute(label_sql.MATCH_TOLD)
        _days_search(cursor)
        cursor.execute("analyze matching")
        cursor.execute(label_sql.ATTRIBUTED)
        cursor.execute(label_sql.ATTRIBUTE)
        found: int = cursor.rowcount
        if found:
            drain = _drain_number(found, now=now)
            cursor.execute(label_sql.COUNT, {"drain": drain})
            cursor.execute(label_sql.CLOSE_REVIEWS, {"drain": drain})
            cursor.execute(label_sql.SETTLE)
        times: dict[str, Any] = {"now": now, "wait": WAIT}
        cursor.execute(label_sql.WAIT_ON, times)
    return looked, found


def _days_search(cursor: Any) -> None:
    """Look day by day, newest first, for the runs whose time nobody told."""
    cursor.execute(label_sql.UNTOLD)
    missing, first, last = cursor.fetchone()
    if not missing:
        return
    day = (last + FARTHEST_AHEAD).astimezone(UTC).date()
    oldest = (first - WAIT).astimezone(UTC).date()
    while missing > 0 and day >= oldest:
        start = datetime.combine(day, time(), UTC)
        cursor.execute(label_sql.MATCH_DAY, [start, start + timedelta(days=1)])
        missing -= cursor.rowcount
        day -= timedelta(days=1)


def _drain_number(found: int, *, now: datetime) -> int:
    """Return a drain of its own for what is counted now, which the fold then takes like any."""
    return IngestBatch.objects.create(
        id=uuid7(),
        kind=BatchKind.LABELS,
        received_at=now,
        token_name="",
        n_accepted=found,
        n_rejected=0,
        body_bytes=0,
        state=BatchState.DRAINED,
        drained_at=now,
        duplicates=0,
    ).seq
