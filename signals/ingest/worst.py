"""Which of two runs is worse, by signal: SQL over `run r` beside its labels `l`. Pure.

Each expression is a number that grows with how bad the run is by that signal, null where the run
says nothing of it; such runs come last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from signals.buckets.keys import MODE_NORMAL
from signals.ingest.observations import KINDS, NEGATIVE, VALUES, VERDICTS
from signals.ingest.rows import OUTCOMES

# What came later about a run, one row of it; `state` 1 is counted with it.
LABELS: Final = f"""
left join lateral (
    select bool_or(o.passed is false) as failed, bool_or(o.passed) as passed, min(o.score) as score,
        bool_or(o.critical) as critical, max(o.failure_category) as failure_category,
        bool_or(o.verdict = {VERDICTS["rejected"]}) as rejected,
        bool_or(o.value in ({", ".join(str(VALUES[name]) for name in sorted(NEGATIVE))})) as negative,
        bool_or(o.kind in ({KINDS["evaluation"]}, {KINDS["review"]})) as labelled
    from observation o
    where o.workflow_id = r.workflow_id and o.run_hash = r.id_hash and o.state = 1
        and (o.run_occurred_at is null or o.run_occurred_at = r.occurred_at)
) as l on true"""  # noqa: E501, S608  # of our own constants


@dataclass(frozen=True, slots=True)
class Worst:
    """How bad a run is by a signal. `words` name the order: "slowest first"."""

    sql: str
    words: str
    labels: bool = False


_SLOWEST: Final = Worst("r.latency_ms", "slowest")
_DEAREST: Final = Worst("r.cost_usd", "dearest")
_ASKED: Final = Worst("r.review_requested::int", "asked for review")
_CRITICAL: Final = "(r.critical or coalesce(l.critical, false))"
_RANK: Final = {"error": 5, "blocked": 4, "abandoned": 3, "escalated": 2, "fallback": 1, "ok": 0}


def _is(outcome: str) -> str:
    return f"(r.outcome = {OUTCOMES[outcome]})::int"


# Without a signal: what failed critically, then by outcome.
BY_OUTCOME: Final = Worst(
    f"{_CRITICAL}::int * 10 + case r.outcome "
    + " ".join(f"when {OUTCOMES[name]} then {rank}" for name, rank in _RANK.items())
    + " end",
    "critical and failed",
    labels=True,
)

WORST: Final[Mapping[str, Worst]] = {
    "quality_pass_rate": Worst(
        "case when l.failed or (r.quality_passed is false and l.failed is null) then 1"
        " when coalesce(l.passed, r.quality_passed) then 0 end",
        "failed quality",
        labels=True,
    ),
    "quality_score": Worst("-coalesce(l.score, r.quality_score)", "lowest score", labels=True),
    "critical_failures": Worst(f"{_CRITICAL}::int", "critical", labels=True),
    "retrieval_empty_rate": Worst("-r.retrieved", "fewest documents"),
    "retrieval_score": Worst("-r.retrieval_score", "worst retrieval"),
    "latency_p50_ms": _SLOWEST,
    "latency_p95_ms": _SLOWEST,
    "latency_p99_ms": _SLOWEST,
    "slow_path_rate": _SLOWEST,
    "cost_per_task_usd": _DEAREST,
    "spend_usd_per_hour": _DEAREST,
    "fallback_cost_per_task_usd": _DEAREST,
    "input_tokens_per_task": Worst("r.input_tokens", "most input tokens"),
    "output_tokens_per_task": Worst("r.output_tokens", "most output tokens"),
    "retry_rate": Worst("r.retries", "most retries"),
    "error_rate": Worst(_is("error"), "failed"),
    "fallback_rate": Worst(
        f"(r.mode <> {MODE_NORMAL} or r.outcome = {OUTCOMES['fallback']})::int", "in a fallback"
    ),
    "escalation_rate": Worst(_is("escalated"), "escalated"),
    "review_arrivals_per_hour": _ASKED,
    "review_backlog": _ASKED,
    "review_age_s": _ASKED,
    "review_reject_rate": Worst(
        "coalesce(l.rejected, false)::int", "rejected by a reviewer", labels=True
    ),
    "trust_negative_rate": Worst(
        "coalesce(l.negative, false)::int", "negative feedback", labels=True
    ),
    "repeated_failures": Worst(
        "(coalesce(r.failure_category, l.failure_category) is not null)::int",
        "with a failure category",
        labels=True,
    ),
    "confidence_mean": Worst("-r.confidence", "least confident"),
    "label_missing_rate": Worst(
        "(r.quality_passed is null and r.quality_score is null"
        " and not coalesce(l.labelled, false))::int",
        "without a label",
        labels=True,
    ),
}
