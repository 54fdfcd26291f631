"""What feeds each signal and how it reads with too little data, in words. Pure: no Django."""

from typing import Final

from signals.catalogue import RARE, STATES, Signal
from signals.definition import Definition

_FED: Final[dict[str, str]] = {
    "quality_pass_rate": "“quality.passed” of runs, evaluations and reviews of them",
    "quality_score": "“quality.score” of runs, and evaluations with a score",
    "critical_failures": "“critical” of runs, and observations of kind outcome",
    "retrieval_empty_rate": "“retrieved” of runs: 0 is empty",
    "retrieval_score": "“retrieval_score” of runs",
    "latency_p50_ms": "“latency_ms” of runs",
    "latency_p95_ms": "“latency_ms” of runs",
    "latency_p99_ms": "“latency_ms” of runs",
    "slow_path_rate": "“latency_ms” of runs, over the path's “slow_path_ms”",
    "cost_per_task_usd": "“cost_usd” of runs; 0 counts with “cost_known” only",
    "spend_usd_per_hour": "“cost_usd” of runs, by the hour",
    "input_tokens_per_task": "“input_tokens” of runs",
    "output_tokens_per_task": "“output_tokens” of runs",
    "retry_rate": "“retries” of runs",
    "error_rate": "“outcome” of runs: error",
    "fallback_rate": "runs in a fallback mode, or with “outcome” fallback",
    "fallback_cost_per_task_usd": "“cost_usd” of runs in a fallback mode",
    "escalation_rate": "“outcome” of runs: escalated",
    "review_arrivals_per_hour": "“review_requested” of runs, by the hour",
    "review_backlog": "“review_requested” of runs that no review has closed",
    "review_age_s": "the oldest run with “review_requested” that no review has closed",
    "review_reject_rate": "observations of kind review",
    "trust_negative_rate": "observations of kind feedback: down, complaint, abandon, undo",
    "repeated_failures": "“failure_category” of runs and of observations of kind outcome",
    "confidence_mean": "“confidence” of runs",
    "action_undo_rate": "results of action requests",
    "action_failure_rate": "results of action requests",
    "data_age_s": "the arrival of runs",
    "label_missing_rate": "runs that neither “quality”, an evaluation nor a review labels",
    "assignment_mismatch": "the release of runs against what exposure answered",
}


def fed_by(signal: Signal, definition: Definition | None = None) -> str:
    """Return what a signal is made of; a team's own is told by its definition."""
    if definition is None:
        return _FED.get(signal.slug, "what reports of this path say")
    feed = definition.feed
    words = ", ".join(feed.words)
    match feed.kind:
        case "measure":
            over = ", over all tasks" if definition.per_task else ""
            how = {
                "mean": f"mean{over}",
                "quantile": f"{definition.q or 0:.4g}-quantile",
                "rate": f"tasks above {definition.above or 0:.10g}",
            }[definition.kind]
            return f"“measures.{feed.name}” of runs: {how}"
        case "evaluation":
            how = "score" if feed.score else "passed"
            return f"“{how}” of evaluations named {feed.name}; each task's first counts"
        case "feedback":
            return f"observations of kind feedback: {words}; a task counts once"
        case "review":
            return f"observations of kind review: {words}"
        case _:
            parts = [f"“outcome” of runs: {words}"] if words else []
            if feed.categories:
                parts.append(f"“failure_category”: {', '.join(feed.categories)}")
            return "; or ".join(parts)


def too_little(signal: Signal) -> str:
    """Return how a signal reads before there is enough to say something."""
    if not signal.collected:
        return "Not collected yet: a guard on it stays open and says so."
    if signal.source == "age":
        return "Without any task it counts from when the guard began to watch."
    if signal.source in STATES:
        return "None waiting reads 0; a criterion holds once it saw its least number of tasks."
    if signal.source in RARE:
        return "Counted, not estimated: above its limit is a fact; to hold, it needs 300 tasks."
    ending = "Under its least number of tasks it reads too few; silence reads blind, never 0."
    if signal.kind == "quantile":
        return f"Few tasks leave the range open at an end. {ending}"
    if signal.kind == "rate":
        return f"Few tasks make the range wide. {ending}"
    return f"A single task has no range. {ending}"
