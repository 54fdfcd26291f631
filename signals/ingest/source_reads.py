"""What reports, how fresh it is, how far behind the drain is, and what was refused.

A reader is told of their workflows only. What a batch brought is noted by workflow as it is
drained; what was refused, by the workflow that the refused item named. An item that names none of
its token's workflows is told to those who read all that the token may report to.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from approvals.authority.models import ApiToken
from signals.ingest.models import (
    BatchState,
    IngestBatch,
    Source,
    SourceName,
)
from signals.ingest.sources import CLIENT, SEGMENT

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
# A source is fresh while its newest batch is at most this old, then late, then silent.
FRESH_S: Final = 300
LATE_S: Final = 3600
# Batches with refused items that one look reads, the newest; errors told of them.
REJECTING_MAX: Final = 500
REASONS_MAX: Final = 20
# Drained batches that the lag is read from.
LAG_OF: Final = 200


@dataclass(frozen=True, slots=True)
class Counts:
    """What came in a window: `accepted` holds the duplicates too."""

    batches: int = 0
    accepted: int = 0
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source. `state` is `fresh`, `late` or `silent`; `history` for backfill, never late."""

    workflow_id: int
    path_id: int
    token_name: str
    kind: str
    state: str
    first_received_at: datetime
    last_received_at: datetime
    newest_at: datetime
    hour: Counts = Counts()
    day: Counts = Counts()


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused item as it was answered, and how many of its batch were refused."""

    at: datetime
    batch_id: str
    token_name: str
    kind: str
    index: int
    pointer: str
    detail: str
    of: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Items refused in the last hour and day; `whole` is false where more was not looked at."""

    hour: int = 0
    day: int = 0
    whole: bool = True
    newest: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Queue:
    """The console's one queue of accepted batches, of every workflow.

    `lag_s` is how long the newest drained batches had waited: half of them at most that long, and
    the longest, None where none was drained lately.
    """

    pending: int
    pending_bytes: int
    history: int
    oldest_at: datetime | None
    failed: int
    drained_at: datetime | None
    lag_s: float | None
    lag_most_s: float | None
    lag_of: int


@dataclass(frozen=True, slots=True)
class WorkflowNotes:
    """What else is known of one workflow's reports. Names are of the last day."""

    clients: dict[int, list[str]]
    unknown_segments: dict[int, dict[str, int]]
    labels_waiting: int
    labels_oldest_at: datetime | None
    labels_lost: int


def source_state(*, last_received_at: datetime, backfill: bool, now: datetime) -> str:
    """Return how fresh a source is by its newest arrival."""
    if backfill:
        return "history"
    age_s = (now - last_received_at).total_seconds()
    if age_s <= FRESH_S:
        return "fresh"
    return "late" if age_s <= LATE_S else "silent"


def source_rows(*, workflow_ids: Sequence[int], now: datetime) -> list[SourceRow]:
    """Return the sources of these workflows with what came in the last hour and day."""
    counts = _counts(workflow_ids, now=now)
    found = Source.objects.filter(workflow_id__in=workflow_ids).order_by(
        "workflow_id", "path_id", "kind", "token_name", "backfill"
    )
    return [
        SourceRow(
            workflow_id=row.workflow_id,
            path_id=row.path_id,
            token_name=row.token_name,
            kind=row.kind,
            state=source_state(
                last_received_at=row.last_received_at, backfill=row.backfill, now=now
            ),
            first_received_at=row.first_received_at,
            last_received_at=row.last_received_at,
            newest_at=row.newest_at,
            **counts.get(
                (row.workflow_id, row.path_id, row.token_name, row.kind, row.backfill), {}
            ),
        )
        for row in found
    ]


def _counts(
    workflow_ids: Sequence[int], *, now: datetime
) -> dict[tuple[Any, ...], dict[str, Counts]]:
    sums = ", ".join(
        f"coalesce(sum({what}) filter (where minute >= %(hour)s), 0)::bigint,"
        f" coalesce(sum({what}), 0)::bigint"
        for what in ("batches", "accepted", "accepted - fresh")
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"select workflow_id, path_id, token_name, kind, backfill, {sums}"  # noqa: S608
            " from source_minute where minute >= %(day)s and workflow_id = any(%(workflows)s)"
            " group by 1, 2, 3, 4, 5",
            {"hour": now - HOUR, "day": now - DAY, "workflows": list(workflow_ids)},
        )
        return {
            tuple(row[:5]): {"hour": Counts(*row[5::2]), "day": Counts(*row[6::2])}
            for row in cursor.fetchall()
        }


def queue_read() -> Queue:
    """Return how far behind the drain is."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*) filter (where not backfill), coalesce(sum(body_bytes), 0),"
            " count(*) filter (where backfill), min(received_at) filter (where not backfill)"
            " from ingest_batch where state = 'pending'"
        )
        pending, size, history, oldest_at = cursor.fetchone()
        cursor.execute(
            "select max(drained_at), percentile_cont(0.5) within group (order by lag), max(lag),"
            " count(*) from (select drained_at,"
            " extract(epoch from drained_at - received_at)::float8 as lag from ingest_batch"
            " where kind <> 'labels' and n_accepted > 0 and not backfill order by seq desc"
            " limit %s) as newest where drained_at is not null",
            [LAG_OF],
        )
        drained_at, lag_s, lag_most_s, lag_of = cursor.fetchone()
    return Queue(
        pending=pending,
        pending_bytes=int(size),
        history=history,
        oldest_at=oldest_at,
        failed=IngestBatch.objects.filter(state=BatchState.FAILED).count(),
        drained_at=drained_at,
        lag_s=lag_s,
        lag_most_s=lag_most_s,
        lag_of=lag_of,
    )


def rejected_read(*, workflow_ids: Collection[int], all_of_them: bool, now: datetime) -> Rejected:
    """Return what was refused in the last day and concerns a reader of these workflows.

    Args:
        all_of_them: the reader reads every workflow, so whatever was refused concerns them.
    """
    batches = list(
        IngestBatch.objects.filter(n_rejected__gt=0, received_at__gte=now - DAY)
        .order_by("-received_at", "-seq")
        .values_list(
            *("received_at", "id", "token_name", "kind", "errors", "rejected_in"),
        )[: REJECTING_MAX + 1]
    )
    whole = len(batches) <= REJECTING_MAX
    limits = _limits({batch[2] for batch in batches})
    hour = day = 0
    newest: list[Rejection] = []
    for received_at, batch_id, token_name, kind, errors, named in batches[:REJECTING_MAX]:
        limit = limits.get(token_name, frozenset())
        own = all_of_them or (bool(limit) and limit <= set(workflow_ids))
        concerns = [
            error
            for place, error in enumerate(errors)
            if own or (place < len(named) and named[place] in workflow_ids)
        ]
        day += len(concerns)
        if received_at >= now - HOUR:
            hour += len(concerns)
        # One of each kind of a batch: a thousand alike say no more than the first.
        seen: dict[tuple[str, str], dict[str, Any]] = {}
        for error in concerns:
            seen.setdefault((error["pointer"], error["detail"]), error)
        newest += [
            Rejection(received_at, str(batch_id), token_name, kind, of=len(concerns), **error)
            for error in list(seen.values())[: REASONS_MAX - len(newest)]
        ]
    return Rejected(hour, day, whole, newest)


def _limits(token_names: Collection[str]) -> dict[str, frozenset[int]]:
    """Return the workflows that each token is limited to; none where it reaches all."""
    found: dict[str, set[int]] = {}
    for name, workflow_id in ApiToken.objects.filter(
        name__in=token_names, workflows__isnull=False
    ).values_list("name", "workflows"):
        found.setdefault(name, set()).add(workflow_id)
    return {name: frozenset(ids) for name, ids in found.items()}


def waiting_of(*, workflow_id: int) -> int:
    """Return how many accepted items wait to be drained, of tokens of this workflow alone."""
    limits = _limits(ApiToken.objects.filter(workflows=workflow_id).values_list("name", flat=True))
    own = [name for name, ids in limits.items() if ids == {workflow_id}]
    waiting = IngestBatch.objects.filter(state=BatchState.PENDING, token_name__in=own)
    return sum(waiting.values_list("n_accepted", flat=True))


def notes_read(*, workflow_ids: Sequence[int], now: datetime) -> dict[int, WorkflowNotes]:
    """Return by workflow id: clients and unknown segments of the last day, labels without a run."""
    names: dict[str, dict[int, dict[int, dict[str, int]]]] = {CLIENT: {}, SEGMENT: {}}
    hours = SourceName.objects.filter(hour__gte=now - DAY, workflow_id__in=workflow_ids).order_by(
        "name"
    )
    for workflow_id, path_id, sort, name, runs in hours.values_list(
        "workflow_id", "path_id", "sort", "name", "runs"
    ):
        here = names[sort].setdefault(workflow_id, {}).setdefault(path_id, {})
        here[name] = here.get(name, 0) + runs
    labels = _labels(workflow_ids)
    return {
        pk: WorkflowNotes(
            clients={path: list(found) for path, found in names[CLIENT].get(pk, {}).items()},
            unknown_segments=names[SEGMENT].get(pk, {}),
            **labels[pk],
        )
        for pk in workflow_ids
    }


def _labels(workflow_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select w.id, waits.n, waits.oldest, lost.n from unnest(%s::int[]) as w(id)"
            " cross join lateral (select count(*) as n, min(received_at) as oldest"
            " from observation where workflow_id = w.id and state = 0) as waits"
            " cross join lateral (select count(*) as n"
            " from observation where workflow_id = w.id and state = 2) as lost",
            [list(workflow_ids)],
        )
        return {
            pk: {"labels_waiting": waits, "labels_oldest_at": oldest, "labels_lost": lost}
            for pk, waits, oldest, lost in cursor.fetchall()
        }
