from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q, UniqueConstraint

from signals.buckets.keys import BUCKET_KEY


class BucketKey(models.Model):
    """What identifies a bucket; 0 for no segment, release or known arm."""

    minute = models.DateTimeField()
    workflow_id = models.IntegerField()
    path_id = models.IntegerField()
    segment_id = models.IntegerField()
    release_id = models.IntegerField()
    arm = models.SmallIntegerField()
    mode = models.SmallIntegerField()
    input_condition = models.SmallIntegerField()
    risk = models.SmallIntegerField()

    class Meta:
        abstract = True


class Measures(BucketKey):
    """What is known of the runs of one key: counts, sums, sums of squares, two histograms.

    Latency is in milliseconds, cost in US dollars. `_n` counts runs that had the value, `_zero`
    those where it was 0 (which no exponential bucket holds); `_max` is null where there is none.
    What observations add stands in the key of their run, with `n` 0.
    """

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
    # Later columns are 0 where an older writer does not name them.
    fallback_n = models.IntegerField(default=0, db_default=0)
    labelled = models.IntegerField(default=0, db_default=0)
    reviews_n = models.IntegerField(default=0, db_default=0)
    reviews_edited = models.IntegerField(default=0, db_default=0)
    reviews_rejected = models.IntegerField(default=0, db_default=0)
    feedback_positive = models.IntegerField(default=0, db_default=0)
    feedback_negative = models.IntegerField(default=0, db_default=0)
    actions_n = models.IntegerField(default=0, db_default=0)
    actions_done = models.IntegerField(default=0, db_default=0)
    actions_undone = models.IntegerField(default=0, db_default=0)
    input_tokens_sq = models.FloatField(default=0.0, db_default=0.0)
    output_tokens_sq = models.FloatField(default=0.0, db_default=0.0)
    retries_sq = models.FloatField(default=0.0, db_default=0.0)
    steps_n = models.IntegerField(default=0, db_default=0)
    steps_sum = models.FloatField(default=0.0, db_default=0.0)
    tool_calls_n = models.IntegerField(default=0, db_default=0)
    tool_calls_sum = models.FloatField(default=0.0, db_default=0.0)

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


class SideLedger(BucketKey):
    """Append-only, beside the arrival ledger: per drain and key, what one more value parts."""

    drain = models.BigIntegerField()
    arrived_at = models.DateTimeField()
    # History: charts read it, guards do not.
    backfill = models.BooleanField(default=False, db_default=False)
    n = models.IntegerField()

    class Meta:
        abstract = True


class FailureLedger(SideLedger):
    """The tasks that failed, by category.

    `subjects` are hashes of the distinct pseudonyms, at most a hundred a row.
    """

    category = models.TextField()
    subjects = ArrayField(models.BigIntegerField())

    class Meta:
        db_table = "failure_ledger"
        indexes = [
            models.Index(name="failure_path_arrival", fields=["path_id", "arrived_at"]),
            models.Index(name="failure_path_minute", fields=["path_id", "minute"]),
        ]

    def __str__(self) -> str:
        return f"{self.category} {self.n}"


class RouteLedger(SideLedger):
    """Tasks by the technical way they took, with latency and cost as in `Measures`."""

    route = models.TextField()
    n_error = models.IntegerField()
    fallback_n = models.IntegerField()
    latency_n = models.IntegerField()
    latency_sum = models.FloatField()
    latency_max = models.FloatField(null=True)
    latency_zero = models.IntegerField()
    latency_idx = ArrayField(models.IntegerField())
    latency_cnt = ArrayField(models.IntegerField())
    cost_n = models.IntegerField()
    cost_sum = models.FloatField()
    cost_sq = models.FloatField()

    class Meta:
        db_table = "route_ledger"
        indexes = [
            models.Index(name="route_path_arrival", fields=["path_id", "arrived_at"]),
            models.Index(name="route_path_minute", fields=["path_id", "minute"]),
        ]

    def __str__(self) -> str:
        return f"{self.route} {self.n}"


class MeasureLedger(SideLedger):
    """A team's own measures by name, which may be negative: moments, ends and histograms.

    The histograms are those of `signals.buckets.keys`, the negative one of the magnitudes.
    """

    name = models.TextField()
    total = models.FloatField()
    squares = models.FloatField()
    least = models.FloatField()
    largest = models.FloatField()
    zero = models.IntegerField()
    idx = ArrayField(models.IntegerField())
    cnt = ArrayField(models.IntegerField())
    negative_idx = ArrayField(models.IntegerField())
    negative_cnt = ArrayField(models.IntegerField())

    class Meta:
        db_table = "measure_ledger"
        indexes = [
            models.Index(name="measure_path_arrival", fields=["path_id", "name", "arrived_at"]),
            models.Index(name="measure_path_minute", fields=["path_id", "name", "minute"]),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.n}"


class MixLedger(SideLedger):
    """Tasks by what their context says: a declared attribute and its value."""

    attribute = models.TextField()
    value = models.TextField()

    class Meta:
        db_table = "mix_ledger"
        indexes = [
            models.Index(name="mix_path_arrival", fields=["path_id", "arrived_at"]),
            models.Index(name="mix_path_minute", fields=["path_id", "minute"]),
        ]

    def __str__(self) -> str:
        return f"{self.attribute} {self.value} {self.n}"


class RequestedReview(models.Model):
    """A review that a run asked for: open until its first review arrives.

    `opened_drain` and `closed_drain` say what a verdict could know of it. `asked_at` is when the
    run occurred, which with workflow and hash identifies it.
    """

    pk = models.CompositePrimaryKey("workflow_id", "run_hash", "asked_at")
    workflow_id = models.IntegerField()
    run_hash = models.UUIDField()
    asked_at = models.DateTimeField()
    path_id = models.IntegerField()
    segment_id = models.IntegerField()
    release_id = models.IntegerField()
    arm = models.SmallIntegerField()
    mode = models.SmallIntegerField()
    opened_drain = models.BigIntegerField()
    closed_at = models.DateTimeField(null=True)
    closed_drain = models.BigIntegerField(null=True)

    class Meta:
        db_table = "requested_review"
        indexes = [
            models.Index(name="review_path_asked", fields=["path_id", "asked_at"]),
            models.Index(
                name="review_open", fields=["path_id", "asked_at"], condition=Q(closed_at=None)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.run_hash} {'open' if self.closed_at is None else 'closed'}"
