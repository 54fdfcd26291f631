from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import UniqueConstraint

from signals.buckets.keys import BUCKET_KEY


class Measures(models.Model):
    """What is known of the runs of one key: counts, sums, sums of squares, two histograms.

    Latency is in milliseconds, cost in US dollars. `_n` counts runs that had the value, `_zero`
    those where it was 0 (which no exponential bucket holds); `_max` is null where there is none.
    """

    minute = models.DateTimeField()
    workflow_id = models.IntegerField()
    path_id = models.IntegerField()
    segment_id = models.IntegerField()
    release_id = models.IntegerField()
    arm = models.SmallIntegerField()
    mode = models.SmallIntegerField()
    input_condition = models.SmallIntegerField()
    risk = models.SmallIntegerField()

    n = models.IntegerField()
    n_ok = models.IntegerField()
    n_error = models.IntegerField()
    n_fallback = models.IntegerField()
    n_escalated = models.IntegerField()
    n_abandoned = models.IntegerField()
    n_blocked = models.IntegerField()
    n_critical = models.IntegerField()
    review_requested = models.IntegerField()
    quality_n = models.IntegerField()
    quality_passed = models.IntegerField()
    score_n = models.IntegerField()
    score_sum = models.FloatField()
    score_sq = models.FloatField()
    latency_n = models.IntegerField()
    latency_sum = models.FloatField()
    latency_sq = models.FloatField()
    latency_max = models.FloatField(null=True)
    latency_zero = models.IntegerField()
    latency_idx = ArrayField(models.IntegerField())
    latency_cnt = ArrayField(models.IntegerField())
    cost_n = models.IntegerField()
    cost_sum = models.FloatField()
    cost_sq = models.FloatField()
    cost_max = models.FloatField(null=True)
    cost_zero = models.IntegerField()
    cost_idx = ArrayField(models.IntegerField())
    cost_cnt = ArrayField(models.IntegerField())
    input_tokens_n = models.IntegerField()
    input_tokens_sum = models.FloatField()
    output_tokens_n = models.IntegerField()
    output_tokens_sum = models.FloatField()
    context_tokens_n = models.IntegerField()
    context_tokens_sum = models.FloatField()
    retries_n = models.IntegerField()
    retries_sum = models.FloatField()
    retrieved_n = models.IntegerField()
    retrieved_empty = models.IntegerField()
    retrieval_score_n = models.IntegerField()
    retrieval_score_sum = models.FloatField()
    retrieval_score_sq = models.FloatField()
    confidence_n = models.IntegerField()
    confidence_sum = models.FloatField()
    confidence_sq = models.FloatField()

    class Meta:
        abstract = True


class ArrivalLedger(Measures):
    """Append-only evidence: per drained batch and key, what its new runs add."""

    # The batch's seq, and the 5-second block in which the batch was received.
    drain = models.BigIntegerField()
    block = models.BigIntegerField()
    arrived_at = models.DateTimeField()
    # Recorded history, whose arrival is its event; charts read it, guards and traffic do not.
    backfill = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "arrival_ledger"
        indexes = [
            models.Index(
                name="ledger_path_kind_arrival", fields=["path_id", "backfill", "arrived_at"]
            ),
            models.Index(name="ledger_drain", fields=["drain"]),
        ]

    def __str__(self) -> str:
        return f"drain {self.drain} path {self.path_id} n {self.n}"


class MinuteBucket(Measures):
    """A fold of the ledger by event minute, for pages."""

    class Meta:
        db_table = "minute_bucket"
        constraints = [UniqueConstraint(name="bucket_once", fields=list(BUCKET_KEY))]
        indexes = [models.Index(name="bucket_path_minute", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"
