"""Raw runs as they were reported, with what was learned about them later: bounded reads.

A read takes one workflow's runs of a bounded span along the index of a day, newest first, and
stops after `READ_MAX` of them and after `TIMEOUT_S`, so that no question of one reader costs the
console more than that.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import OperationalError, connection, transaction
from psycopg.errors import QueryCanceled

from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import DomainError, NotFound
from signals.buckets.keys import ARM_UNKNOWN, ARMS, INPUT_CONDITIONS, MODE_NORMAL, MODES, RISKS
from signals.ingest.drill import ANY_FALLBACK, After, RunQuery, cursor_of
from signals.ingest.observations import KINDS, VALUES, VERDICTS
from signals.ingest.retention import run_days
from signals.ingest.rows import OUTCOMES, id_hash
from signals.ingest.worst import BY_OUTCOME, LABELS, WORST, Worst

# Runs that one answer looks through; fewer where each is looked up among the labels too.
READ_MAX: Final = 100_000
READ_MAX_LABELS: Final = 20_000
TIMEOUT_S: Final = 4
# A batch brings runs of the last minutes, seldom older ones; arrivals look this far back.
LATE: Final = timedelta(hours=1)
AHEAD: Final = timedelta(minutes=6)

_COLUMNS: Final = (
    *("occurred_at", "id_hash", "run_id", "path_id", "segment_id", "release_id", "arm", "mode"),
    *("input_condition", "risk", "outcome", "critical", "review_requested", "quality_passed"),
    *("quality_score", "latency_ms", "cost_usd", "retrieval_score", "confidence"),
    *("input_tokens", "output_tokens", "context_tokens", "retries", "steps", "tool_calls"),
    *("retrieved", "exposure_version", "failure_category", "route", "client", "subject"),
    *("trace_id", "drill"),
)
_JSON: Final = ("attributes", "measures")
_SELECT: Final = ", ".join(
    [*(f"r.{name}" for name in _COLUMNS), *(f"r.{name}::text" for name in _JSON)]
)


class SpanTooBusy(DomainError):
    """Reading took longer than one question may."""

    code = "span-too-busy"
    title = "Too many runs to look through"
    status = 422


def _words(codes: dict[str, int]) -> dict[int, str]:
    return {code: word for word, code in codes.items()}


_ARMS: Final = {**_words(ARMS), ARM_UNKNOWN: ""}
_MODES: Final = _words(MODES)
_CONDITIONS: Final = {**_words(INPUT_CONDITIONS), 0: ""}
_RISKS: Final = {**_words(RISKS), 0: ""}
_OUTCOMES: Final = _words(OUTCOMES)
_KINDS: Final = _words(KINDS)
_VERDICTS: Final = _words(VERDICTS)
_VALUES: Final = _words(VALUES)


@dataclass(frozen=True, slots=True)
class Label:
    """Something learned about a run later, as an observation said it."""

    id: str
    kind: str
    occurred_at: datetime
    received_at: datetime
    name: str | None
    score: float | None
    passed: bool | None
    verdict: str | None
    reviewer: str | None
    duration_ms: float | None
    value: str | None
    outcome: str | None
    failure_category: str | None
    critical: bool | None


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as reported; "" where it named none, None where it gave no number.

    `badness` is how bad it is by the signal asked for, None where it says nothing of it.
    """

    id: str
    id_hash: UUID
    workflow: str
    occurred_at: datetime
    path: str
    segment: str
    release: str
    arm: str
    mode: str
    outcome: str
    input_condition: str
    risk: str
    critical: bool
    review_requested: bool
    quality_passed: bool | None
    quality_score: float | None
    latency_ms: float | None
    cost_usd: float | None
    retrieval_score: float | None
    confidence: float | None
    input_tokens: int | None
    output_tokens: int | None
    context_tokens: int | None
    retries: int | None
    steps: int | None
    tool_calls: int | None
    retrieved: int | None
    exposure_version: int | None
    failure_category: str | None
    route: str | None
    client: str | None
    subject: str | None
    trace_id: str | None
    drill: str | None
    attributes: dict[str, str]
    measures: dict[str, float]
    badness: float | None = None
    labels: list[Label] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunPage:
    """A page of runs. `next` is the cursor of the one after, None at the end.

    `read_back_to` is set where the span held more runs than one answer looks through: older ones
    than that were not looked at. `kept_from` is the first day whose raw runs are kept, None where
    none are.
    """

    rows: list[RunRow]
    next: str | None
    read_back_to: datetime | None
    kept_from: date | None


def runs_page(query: RunQuery) -> RunPage:
    """Return a page of the runs asked for; drill runs are counted nowhere and not among them.

    Raises:
        SpanTooBusy: looking through the span took longer than `TIMEOUT_S`.
    """
    with _bounded() as cursor:
        kept_from = min(run_days(), default=None)
        worst = _worst_of(query) if query.order == "worst" else None
        most = READ_MAX_LABELS if worst is not None and worst.labels else READ_MAX
        rows = _read(cursor, query, worst, most)
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        edge = None
        if worst is not None or (not more and _has_filters(query)):
            edge = _edge(cursor, query, most, worst)
        labels = _labels(cursor, query.workflow, rows)
    names = _Names(query.workflow)
    following = None
    if more:
        following = cursor_of(query, _after(rows[-1], worst))
    elif edge is not None and worst is None:
        # Nothing more among those looked through; the next page looks further back.
        following = cursor_of(query, After(*edge))
    return RunPage(
        rows=[names.row(row, labels.get((row["id_hash"], row["occurred_at"]), [])) for row in rows],
        next=following,
        read_back_to=None if edge is None else edge[0],
        kept_from=kept_from,
    )


def run_get(*, workflow: Workflow, run_id: str, at: datetime) -> RunRow:
    """Return one run with everything kept of it, a drill run too.

    Args:
        at: its `occurred_at`.

    Raises:
        NotFound: it was never reported, or is not kept any more.
    """
    with _bounded() as cursor:
        cursor.execute(
            f"select {_SELECT} from run r"  # noqa: S608  # names of our own
            " where r.occurred_at = %s and r.workflow_id = %s and r.id_hash = %s",
            [at, workflow.pk, UUID(hex=id_hash(run_id))],
        )
        rows = [_row(values) for values in cursor.fetchall()]
        if not rows:
            kept_from = min(run_days(), default=None)
            since = f" Raw runs are kept from {kept_from}." if kept_from else ""
            raise NotFound(f"No run “{run_id[:100]}” occurred at {at.isoformat()}.{since}")
        labels = _labels(cursor, workflow, rows)
    return _Names(workflow).row(rows[0], next(iter(labels.values()), []))


@contextmanager
def _bounded() -> Iterator[Any]:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("select set_config('statement_timeout', %s, true)", [f"{TIMEOUT_S}s"])
            yield cursor
            cursor.execute("select set_config('statement_timeout', '0', true)")
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise SpanTooBusy(
                f"Looking through this span takes longer than {TIMEOUT_S} s. Choose a shorter one."
            ) from error
        raise


def _worst_of(query: RunQuery) -> Worst:
    return WORST[query.signal] if query.signal else BY_OUTCOME


def _has_filters(query: RunQuery) -> bool:
    return query.by_arrival or _filters(query)[0] != []


def _looked_through(query: RunQuery, *, after: After | None) -> tuple[str, list[Any]]:
    """SQL of the runs that an answer looks through, newest first, and its arguments."""
    start, end = query.start, query.end
    if query.by_arrival:
        start, end = start - LATE, end + AHEAD
    sql = (
        "select r.* from run r where r.workflow_id = %s and r.occurred_at >= %s"
        " and r.occurred_at < %s"
    )
    arguments: list[Any] = [query.workflow.pk, start, end]
    if after is not None:
        # The index knows the time; the pair then parts what shares it.
        sql += " and r.occurred_at <= %s and (r.occurred_at, r.id_hash) < (%s, %s)"
        arguments += [after.occurred_at, after.occurred_at, after.id_hash]
    return f"{sql} order by r.occurred_at desc, r.id_hash desc", arguments


def _filters(query: RunQuery) -> tuple[list[str], list[Any]]:
    found: list[tuple[str, Any]] = []
    if query.path_id is not None:
        found.append(("r.path_id = %s", query.path_id))
    if query.release_id is not None:
        found.append(("r.release_id = %s", query.release_id))
    if query.segment_ids is not None:
        found.append(("r.segment_id = any(%s)", list(query.segment_ids)))
    if query.mode == ANY_FALLBACK:
        found.append(("r.mode <> %s", MODE_NORMAL))
    elif query.mode:
        found.append(("r.mode = %s", MODES[query.mode]))
    # Columns are keys of our own; only values come from outside.
    found += [(f"r.{column} = %s", code) for column, code in query.codes.items()]
    found += [(f"r.{column} = %s", text) for column, text in query.texts.items()]
    return [sql for sql, _ in found], [value for _, value in found]


def _read(cursor: Any, query: RunQuery, worst: Worst | None, most: int) -> list[dict[str, Any]]:
    source, arguments = _looked_through(query, after=query.after if worst is None else None)
    where, values = _filters(query)
    where = ["r.drill is null", *where]
    join, badness, order = "", "null::float8", "r.occurred_at desc, r.id_hash desc"
    if query.by_arrival:
        join += " join ingest_batch b on b.seq = r.drain"
        # What is live arrived with its batch, history when it happened.
        where.append("case when b.backfill then r.occurred_at else b.received_at end >= %s")
        where.append("case when b.backfill then r.occurred_at else b.received_at end < %s")
        values += [query.start, query.end]
    if worst is not None:
        join += LABELS if worst.labels else ""
        badness = f"coalesce(({worst.sql})::float8, '-infinity')"
        order = f"{badness} desc, {order}"
        if query.after is not None:
            where.append(f"({badness}, r.occurred_at, r.id_hash) < (%s, %s, %s)")
            values += [query.after.badness, query.after.occurred_at, query.after.id_hash]
    cursor.execute(
        f"select {_SELECT}, {badness} from ({source} limit %s) r{join}"  # noqa: S608
        f" where {' and '.join(where)} order by {order} limit %s",
        [*arguments, most, *values, query.limit + 1],
    )
    return [_row(found) for found in cursor.fetchall()]


def _edge(
    cursor: Any, query: RunQuery, most: int, worst: Worst | None
) -> tuple[datetime, UUID] | None:
    """Return the last run looked through where there are more behind it."""
    source, arguments = _looked_through(query, after=query.after if worst is None else None)
    cursor.execute(
        f"select r.occurred_at, r.id_hash from ({source} offset %s limit 2) r",  # noqa: S608
        [*arguments, most - 1],
    )
    rows = cursor.fetchall()
    return (rows[0][0], rows[0][1]) if len(rows) == 2 else None


def _row(values: Sequence[Any]) -> dict[str, Any]:
    row = dict(zip((*_COLUMNS, *_JSON), values, strict=False))
    row["badness"] = values[len(row)] if len(values) > len(row) else None
    for name in _JSON:
        row[name] = json.loads(row[name]) if row[name] else {}
    return row


def _after(row: dict[str, Any], worst: Worst | None) -> After:
    return After(row["occurred_at"], row["id_hash"], row["badness"] if worst else None)


def _labels(
    cursor: Any, workflow: Workflow, rows: Sequence[dict[str, Any]]
) -> dict[tuple[UUID, datetime], list[Label]]:
    """Return what observations said of the runs, oldest first, by hash and time of the run."""
    if not rows:
        return {}
    cursor.execute(
        "select w.id_hash, w.at, o.observation_id, o.kind, o.occurred_at, o.received_at, o.name,"
        " o.score, o.passed, o.verdict, o.reviewer, o.duration_ms, o.value, o.outcome,"
        " o.failure_category, o.critical"
        " from unnest(%s::uuid[], %s::timestamptz[]) as w(id_hash, at)"
        " join observation o on o.workflow_id = %s and o.run_hash = w.id_hash"
        " and (o.run_occurred_at is null or o.run_occurred_at = w.at)"
        " order by o.occurred_at, o.id_hash",
        [[row["id_hash"] for row in rows], [row["occurred_at"] for row in rows], workflow.pk],
    )
    found: dict[tuple[UUID, datetime], list[Label]] = {}
    for run, at, *said in cursor.fetchall():
        said[1] = _KINDS[said[1]]
        for place, words in ((7, _VERDICTS), (10, _VALUES), (11, _OUTCOMES)):
            said[place] = None if said[place] is None else words[said[place]]
        found.setdefault((run, at), []).append(Label(*said))
    return found


class _Names:
    """What one workflow's ids are called."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow.slug
        self.paths = dict(workflow.paths.values_list("pk", "slug"))
        self.releases = dict(workflow.releases.values_list("pk", "version"))
        self.segments = dict(workflow.segments.values_list("pk", "slug"))

    def row(self, row: dict[str, Any], labels: list[Label]) -> RunRow:
        held = dict(row)
        badness = held.pop("badness")
        return RunRow(
            id=held.pop("run_id"),
            workflow=self.workflow,
            path=self.paths.get(held.pop("path_id"), ""),
            segment=self.segments.get(held.pop("segment_id"), ""),
            release=self.releases.get(held.pop("release_id"), ""),
            arm=_ARMS[held.pop("arm")],
            mode=_MODES[held.pop("mode")],
            outcome=_OUTCOMES[held.pop("outcome")],
            input_condition=_CONDITIONS[held.pop("input_condition")],
            risk=_RISKS[held.pop("risk")],
            badness=None if badness is None or badness == float("-inf") else badness,
            labels=labels,
            **held,
        )
