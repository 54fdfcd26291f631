"""The small codes that ledger and bucket keys are made of. Pure; never renumber."""

from typing import Final

ARMS: Final = {"stable": 1, "candidate": 2}
ARM_UNKNOWN: Final = 0
ARM_STABLE: Final = 1
ARM_CANDIDATE: Final = 2

# In the order of catalog.Mode.
MODES: Final = {
    "normal": 0,
    "human_review": 1,
    "manual": 2,
    "previous_stable": 3,
    "simpler_route": 4,
    "reduced_context": 5,
    "read_only": 6,
}
MODE_NORMAL: Final = 0

# 0 where a run did not say.
INPUT_CONDITIONS: Final = {"clean": 1, "messy": 2, "ambiguous": 3}
RISKS: Final = {"low": 1, "high": 2}
# What a mix calls them, beside the attributes of contexts.
CONDITION: Final = "input_condition"
RISK: Final = "risk"

# An arrival block is the evidence's unit of time: block = floor(epoch(arrived_at) / BLOCK_S).
BLOCK_S: Final = 5

# The histogram's scale: value v > 0 is in bucket ceil(log2(v) * 32) - 1, which spans
# (2^(i/32), 2^((i+1)/32)]. OpenTelemetry's base-2 exponential histogram, scale 5.
HISTOGRAM_PER_DOUBLING: Final = 32

# Distinct subjects kept of one key and failure category.
SUBJECTS_MAX: Final = 100

# What identifies a minute bucket; the ledger adds drain, block and arrived_at.
BUCKET_KEY: Final = (
    "minute",
    "workflow_id",
    "path_id",
    "segment_id",
    "release_id",
    "arm",
    "mode",
    "input_condition",
    "risk",
)

# Measures that add up: whole counts, and sums (double precision, so that no client can make one
# overflow); `_max` and the histograms come beside.
COUNTS: Final = (
    "n",
    "n_ok",
    "n_error",
    "n_fallback",
    "n_escalated",
    "n_abandoned",
    "n_blocked",
    "n_critical",
    "review_requested",
    "quality_n",
    "quality_passed",
    "score_n",
    "latency_n",
    "latency_zero",
    "cost_n",
    "cost_zero",
    "input_tokens_n",
    "output_tokens_n",
    "context_tokens_n",
    "retries_n",
    "steps_n",
    "tool_calls_n",
    "retrieved_n",
    "retrieved_empty",
    "retrieval_score_n",
    "confidence_n",
    "fallback_n",
    "labelled",
    "reviews_n",
    "reviews_edited",
    "reviews_rejected",
    "feedback_positive",
    "feedback_negative",
    "actions_n",
    "actions_done",
    "actions_undone",
)
SUMS: Final = (
    "score_sum",
    "score_sq",
    "latency_sum",
    "latency_sq",
    "cost_sum",
    "cost_sq",
    "input_tokens_sum",
    "input_tokens_sq",
    "output_tokens_sum",
    "output_tokens_sq",
    "context_tokens_sum",
    "retries_sum",
    "retries_sq",
    "steps_sum",
    "tool_calls_sum",
    "retrieval_score_sum",
    "retrieval_score_sq",
    "confidence_sum",
    "confidence_sq",
)
MAXIMA: Final = ("latency_max", "cost_max")
HISTOGRAMS: Final = ("latency", "cost")
