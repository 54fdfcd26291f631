"""Send evaluations on as observations, each once, when the run they are about is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import connection, transaction

from rollout_console.catalog.models import Workflow
from signals.ingest.labels import WAIT
from signals.ingest.models import BatchKind
from signals.ingest.runs import OLDEST
from signals.ingest.services import BacklogFull, batch_store
from signals.otlp.kept import run_roots
from signals.otlp.models import EvaluationState, OtlpEvaluation, OtlpRun
from signals.otlp.sweep import REPORTER

GROUP: Final = 500
# A waiting one looks twice as late each time, at most this long after.
LONGEST_S: Final = 3600

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _About:
    workflow: str
    run_id: str
    occurred_at: datetime


def evaluations_send(*, now: datetime) -> int:
    """Send every evaluation whose run is known; return how many there were.

    Safe to run many at once. One that finds no run looks again later, and is given up after the
    time that observations wait for their runs.
    """
    sent = 0
    try:
        while True:
            looked, found = _some_send(now=now)
            sent += found
            if looked < GROUP:
                return sent
    except BacklogFull:
        # They stay due until what waits before them is drained.
        return sent


@transaction.atomic
def _some_send(*, now: datetime) -> tuple[int, int]:
    due = list(
        OtlpEvaluation.objects.select_for_update(skip_locked=True)
        .filter(state=EvaluationState.WAITING, look_at__lte=now)
        .order_by("look_at", "digest")[:GROUP]
    )
    about = _runs_about(due)
    items: list[dict[str, Any]] = []
    for one in due:
        run = about.get(one.pk)
        if run is None:
            _wait_on(one, now=now)
            continue
        one.state, one.run_id = EvaluationState.SENT, run.run_id
        items.append(
            {
                "id": f"otlp-{one.digest.hex}",
                "workflow": run.workflow,
                "run_id": run.run_id,
                "run_occurred_at": run.occurred_at.isoformat(),
                "occurred_at": one.occurred_at.isoformat(),
                "kind": "evaluation",
                "name": one.name,
                "score": one.score,
                "passed": one.passed,
            }
        )
    if items:
        receipt = batch_store(
            body=_encode(items),
            content_type="application/json",
            content_encoding=None,
            principal=REPORTER,
            now=now,
            kind=BatchKind.OBSERVATIONS,
            # Older runs than a report's are counted as history, and so is what is said of them.
            any_age=any(one.occurred_at < now - OLDEST for one in due),
        )
        known = [one for one in due if one.state == EvaluationState.SENT]
        for error in receipt.errors:
            refused = known[error.index]
            refused.state, refused.fault = EvaluationState.REFUSED, error.detail
    OtlpEvaluation.objects.bulk_update(due, ["state", "run_id", "fault", "look_at", "looks"])
    return len(due), len(items)


def _wait_on(one: OtlpEvaluation, *, now: datetime) -> None:
    if now - one.received_at >= WAIT:
        one.state = EvaluationState.UNKNOWN
        one.fault = "No run came that it is about."
        return
    one.looks = min(one.looks + 1, 20)
    one.look_at = now + timedelta(seconds=min(LONGEST_S, settings.OTLP_SETTLE_S * 2**one.looks))


def _runs_about(due: Sequence[OtlpEvaluation]) -> dict[Any, _About]:
    """Return the run that each is about, as far as one is known.

    The span it belongs to says so; where that is under no run, as in a judge's own trace, the
    response it names.
    """
    answering = _spans_answering([one for one in due if one.response_id is not None])
    traces = {one.trace_id for one in due} | {trace_id for trace_id, _ in answering.values()}
    runs: dict[str | None, dict[str, OtlpRun]] = {}
    for run in OtlpRun.objects.filter(trace_id__in=traces - {None}, fault=""):
        runs.setdefault(run.trace_id, {})[run.span_id] = run
    slugs = {run.workflow for of_trace in runs.values() for run in of_trace.values()}
    ids = dict(Workflow.objects.filter(slug__in=slugs).values_list("slug", "pk"))
    roots = run_roots({str(trace_id): frozenset(of_trace) for trace_id, of_trace in runs.items()})
    found: dict[Any, _About] = {}
    for one in due:
        for trace_id, span_id in ((one.trace_id, one.span_id), answering.get(one.pk, (None, None))):
            root = roots.get((trace_id or "", span_id or ""))
            of_trace = runs.get(trace_id, {})
            if root is None and span_id is None and len(of_trace) == 1:
                # It names the trace alone, and that is one run.
                (root,) = of_trace
            if root is None:
                continue
            run = of_trace[root]
            # Whoever may not report for a workflow says nothing of its runs either.
            if one.reach is None or ids.get(run.workflow) in one.reach:
                found[one.pk] = _About(run.workflow, run.run_id, run.occurred_at)
                break
    return found


def _spans_answering(
    some: Sequence[OtlpEvaluation],
) -> dict[Any, tuple[str, str | None]]:
    """Return the span whose response each names: the last that started before it was judged."""
    if not some:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            select told.digest, span.trace_id, span.span_id
            from unnest(%s::uuid[], %s::text[], %s::timestamptz[])
                as told (digest, response_id, occurred_at),
            lateral (
                select trace_id, span_id from otlp_span
                where otlp_span.response_id = told.response_id
                    and started_at <= told.occurred_at
                order by started_at desc, span_id limit 1
            ) as span
            """,
            [
                [one.digest for one in some],
                [one.response_id for one in some],
                [one.occurred_at for one in some],
            ],
        )
        return {digest: (trace_id, span_id) for digest, trace_id, span_id in cursor.fetchall()}
