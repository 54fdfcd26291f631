"""Look at traces that are quiet: make runs of them, once each, and send what evaluations say."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import inf
from typing import Any, Final

import msgspec
import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from approvals.authority.principals import Principal
from signals.ingest.framing import MAX_ITEMS, MAX_UNPACKED
from signals.ingest.runs import OLDEST
from signals.ingest.services import BacklogFull, batch_store
from signals.otlp.assemble import Assembled, trace_assemble
from signals.otlp.catalogue import prices_in_force, workflows_known
from signals.otlp.kept import SPANS_MAX, spans_of, tool_requests_of
from signals.otlp.models import OtlpRun, OtlpTrace

log = structlog.get_logger()

# Traces looked at in one transaction.
GROUP: Final = 200
ATTEMPTS: Final = 5
REPORTER: Final = Principal(kind="system", name="otlp", id=0)

_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Look:
    """What one group of traces came to."""

    counted: list[Assembled] = field(default_factory=list)
    refused: list[Assembled] = field(default_factory=list)
    # Traces whose root's parent may still come.
    waiting: list[str] = field(default_factory=list)
    late: dict[tuple[str, str], int] = field(default_factory=dict)


def traces_assemble(*, now: datetime, for_s: float | None = None) -> int:
    """Make runs of traces that are due; return how many traces were looked at.

    Safe to run many at once: each claims traces with a row lock, and a run is noted in the
    transaction that hands it on. A trace that fails is tried again later, and set aside with its
    error after some attempts.

    Args:
        for_s: begin with no further group after so many seconds; None goes on until none is due.
    """
    until = inf if for_s is None else time.monotonic() + for_s
    looked = 0
    limit = GROUP
    while looked == 0 or time.monotonic() < until:
        claimed: list[str] = []
        try:
            with transaction.atomic():
                claimed = _claim(limit, now=now)
                if not claimed:
                    return looked
                _group_look(claimed, now=now)
        except (OperationalError, InterfaceError):
            # Postgres, not the trace: whoever called tries again.
            raise
        except BacklogFull:
            # The traces stay due until what waits before them is drained.
            return looked
        except Exception as error:  # logged where it is set aside
            # The outer edge of a trace's work: whatever is in it must not stop the others.
            if len(claimed) > 1:
                limit = 1
                continue
            if not claimed:
                raise
            _set_aside(claimed[0], error=error, now=now)
        looked += len(claimed)
    return looked


def _claim(limit: int, *, now: datetime) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select trace_id from otlp_trace where due_at <= %s order by due_at limit %s"
            " for update skip locked",
            [now, limit],
        )
        return [trace_id for (trace_id,) in cursor.fetchall()]


def _group_look(trace_ids: Sequence[str], *, now: datetime) -> None:
    look = _look(trace_ids, now=now)
    for backfill in (False, True):
        some = [one for one in look.counted if (one.root.started_at < now - OLDEST) == backfill]
        for refused, fault in _runs_send(some, backfill=backfill, now=now):
            look.counted.remove(refused)
            look.refused.append(replace(refused, item=None, fault=fault))
    _runs_note(look, now=now)
    _duplicates_note(look.counted, now=now)
    OtlpTrace.objects.filter(trace_id__in=set(trace_ids) - set(look.waiting)).update(
        due_at=None, attempts=0, error=""
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "update otlp_trace set due_at = last_at + make_interval(secs => %s), attempts = 0"
            " where trace_id = any(%s)",
            [settings.OTLP_ORPHAN_S, look.waiting],
        )
        # An evaluation that waited for one of these runs looks again at once.
        cursor.execute(
            "update otlp_evaluation set look_at = %s where state = 'waiting'"
            " and (trace_id = any(%s) or response_id = any(%s))",
            [
                now,
                [one.root.trace_id for one in look.counted],
                sorted({name for one in look.counted for name in one.response_ids}),
            ],
        )


def _look(trace_ids: Sequence[str], *, now: datetime) -> _Look:
    workflows, prices = workflows_known(), prices_in_force()
    spans = spans_of(trace_ids)
    requests = tool_requests_of(trace_ids)
    last_at = dict(
        OtlpTrace.objects.filter(trace_id__in=trace_ids).values_list("trace_id", "last_at")
    )
    before: dict[str, dict[str, int]] = {}
    for trace_id, span_id, counted in OtlpRun.objects.filter(trace_id__in=trace_ids).values_list(
        "trace_id", "span_id", "spans"
    ):
        before.setdefault(trace_id, {})[span_id] = counted
    look = _Look()
    orphaned = timedelta(seconds=settings.OTLP_ORPHAN_S)
    for trace_id in trace_ids:
        counted_before = before.get(trace_id, {})
        of_trace = spans.get(trace_id, [])
        if len(of_trace) > SPANS_MAX:
            raise ValueError(f"The trace has more than {SPANS_MAX:,} spans.")
        found = trace_assemble(
            of_trace,
            workflows=workflows,
            prices=prices,
            tool_requests=requests.get(trace_id),
            counted=frozenset(counted_before),
            final=now >= last_at[trace_id] + orphaned,
        )
        if found.waiting:
            look.waiting.append(trace_id)
        for one in found.found:
            (look.counted if one.item is not None else look.refused).append(one)
        for span_id, spans_now in found.counted_spans.items():
            look.late[trace_id, span_id] = spans_now - counted_before[span_id]
    return look


def _runs_send(
    some: Sequence[Assembled], *, backfill: bool, now: datetime
) -> list[tuple[Assembled, str]]:
    """Hand the runs on as batches; return those that do not fit, with what is wrong."""
    refused: list[tuple[Assembled, str]] = []
    for part, body in _parts(some):
        receipt = batch_store(
            body=body,
            content_type="application/json",
            content_encoding=None,
            principal=REPORTER,
            now=now,
            any_age=backfill,
            backfill=backfill,
        )
        refused += [(part[error.index], error.detail) for error in receipt.errors]
    return refused


def _parts(some: Sequence[Assembled]) -> Iterator[tuple[list[Assembled], bytes]]:
    """Yield the runs in requests of the size that is taken."""
    part: list[Assembled] = []
    items: list[bytes] = []
    room = MAX_UNPACKED - 2
    for one in some:
        item = _encode(one.item)
        if part and (len(item) > room or len(part) == MAX_ITEMS):
            yield part, b"[" + b",".join(items) + b"]"
            part, items, room = [], [], MAX_UNPACKED - 2
        part.append(one)
        items.append(item)
        room -= len(item) + 1
    if part:
        yield part, b"[" + b",".join(items) + b"]"


def _runs_note(look: _Look, *, now: datetime) -> None:
    OtlpRun.objects.bulk_create(
        OtlpRun(
            trace_id=one.root.trace_id,
            span_id=one.root.span_id,
            run_id=one.run_id,
            workflow=one.workflow,
            occurred_at=one.root.started_at,
            assembled_at=now,
            spans=len(one.span_ids),
            fault=one.fault,
        )
        for one in (*look.counted, *look.refused)
    )
    for (trace_id, span_id), late in look.late.items():
        OtlpRun.objects.filter(trace_id=trace_id, span_id=span_id).exclude(late_spans=late).update(
            late_spans=late
        )


def _duplicates_note(counted: Sequence[Assembled], *, now: datetime) -> None:
    calls: Counter[tuple[str, str, str, Any]] = Counter()
    traces: dict[tuple[str, str, str, Any], str] = {}
    for one in counted:
        for twin in one.duplicates:
            key = (
                one.workflow,
                twin.counted_scope,
                twin.other_scope,
                one.root.started_at.date(),
            )
            calls[key] += 1
            traces[key] = one.root.trace_id
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into otlp_duplicate (
                workflow, counted_scope, other_scope, day, calls, trace_id, last_at
            ) values (%s, %s, %s, %s, %s, %s, %s)
            on conflict (workflow, counted_scope, other_scope, day) do update set
                calls = otlp_duplicate.calls + excluded.calls,
                trace_id = excluded.trace_id,
                last_at = excluded.last_at
            """,
            [(*key, calls[key], traces[key], now) for key in sorted(calls)],
        )


def _set_aside(trace_id: str, *, error: Exception, now: datetime) -> None:
    """Note a failed attempt: look again later, or give up and keep the trace with its error."""
    trace = OtlpTrace.objects.get(trace_id=trace_id)
    attempts = trace.attempts + 1
    OtlpTrace.objects.filter(trace_id=trace_id).update(
        attempts=attempts,
        error=f"{type(error).__name__}: {error}".replace("\0", "")[:2000],
        due_at=None if attempts >= ATTEMPTS else now + timedelta(seconds=2**attempts),
    )
    log.error("otlp.trace_failed", trace_id=trace_id, attempts=attempts, exc_info=error)
