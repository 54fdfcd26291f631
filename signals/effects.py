"""Which signals a change of each component may move, as data. Pure: no Django.

What such a change touches directly: it is where to look first, not a proof, and a signal that is
not named may have moved all the same.
"""

from typing import Final

EFFECTS: Final[dict[str, tuple[str, ...]]] = {
    "prompt": (
        "quality_pass_rate",
        "quality_score",
        "output_tokens_per_task",
        "input_tokens_per_task",
        "trust_negative_rate",
        "repeated_failures",
        "confidence_mean",
    ),
    "model": (
        "cost_per_task_usd",
        "latency_p95_ms",
        "quality_pass_rate",
        "quality_score",
        "output_tokens_per_task",
        "error_rate",
        "confidence_mean",
    ),
    "retrieval": (
        "retrieval_empty_rate",
        "retrieval_score",
        "input_tokens_per_task",
        "quality_pass_rate",
        "latency_p95_ms",
    ),
    "tools": (
        "retry_rate",
        "steps_per_task",
        "tool_calls_per_task",
        "action_failure_rate",
        "action_undo_rate",
        "error_rate",
        "latency_p95_ms",
    ),
    "configuration": ("latency_p95_ms", "cost_per_task_usd", "retry_rate", "error_rate"),
}
