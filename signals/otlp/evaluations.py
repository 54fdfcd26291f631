"""Evaluations of AI output, told by a log record or by a span's event. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from signals.otlp.spans import Log, Span, digest_of, moment

EVENT: Final = "gen_ai.evaluation.result"
_PASSED: Final = {
    **dict.fromkeys(("pass", "passed", "true", "yes", "correct"), True),
    **dict.fromkeys(("fail", "failed", "false", "no", "incorrect"), False),
}
NAME_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found of one answer. `fault` says why it cannot be counted, "" that it can."""

    digest: UUID
    occurred_at: datetime
    trace_id: str | None
    span_id: str | None
    response_id: str | None
    name: str | None
    score: float | None
    passed: bool | None
    fault: str


def of_logs(logs: Iterable[Log]) -> list[Evaluation]:
    return [
        _read(log.attributes, log.digest, log.at, log.trace_id, log.span_id)
        for log in logs
        if log.event == EVENT
    ]


def of_spans(spans: Iterable[Span]) -> list[Evaluation]:
    found = []
    for span in spans:
        for number, event in enumerate(span.events()):
            if event["name"] == EVENT:
                digest = digest_of(EVENT, span.trace_id, span.span_id, number)
                at = moment(event["time_ns"] or span.end_ns)
                attributes = event["attributes"]
                found.append(_read(attributes, digest, at, span.trace_id, span.span_id))
    return found


def _read(
    attributes: Mapping[str, Any],
    digest: UUID,
    at: datetime,
    trace_id: str | None,
    span_id: str | None,
) -> Evaluation:
    name = attributes.get("gen_ai.evaluation.name")
    label = attributes.get("gen_ai.evaluation.score.label")
    score = attributes.get("gen_ai.evaluation.score.value")
    response_id = attributes.get("gen_ai.response.id")
    error = attributes.get("error.type")
    passed = _PASSED.get(label.strip().lower()) if isinstance(label, str) else None
    is_share = isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1
    fault = ""
    if error is not None:
        fault = f"The evaluation itself failed: {str(error)[:100]}."
    elif passed is None and not is_share:
        fault = "It tells no score from 0 to 1 and no label that says pass or fail."
    elif trace_id is None and not isinstance(response_id, str):
        fault = "It names neither a span nor a response that it is about."
    return Evaluation(
        digest=digest,
        occurred_at=at,
        trace_id=trace_id,
        span_id=span_id,
        response_id=response_id if isinstance(response_id, str) else None,
        name=name[:NAME_MAX] if isinstance(name, str) else None,
        score=float(score) if is_share and score is not None else None,
        passed=passed,
        fault=fault,
    )
