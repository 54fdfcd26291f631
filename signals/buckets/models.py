from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
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


class Arrived(models.Model):
    """Which drain brought a row of a ledger, and when that arrived."""

    # The batch's seq.
    drain = models.BigIntegerField()
    arrived_at = models.DateTimeField()
    # Recorded history, whose arrival is its event; charts read it, guards and traffic do not.
    backfill = models.BooleanField(default=False, db_default=False)

    class Meta:
        abstract = True


class ArrivalLedger(Measures, Arrived):
    """Append-only evidence: per drained batch and key, what its new runs add."""

    # The 5-second block in which it arrived.
    block = models.BigIntegerField()

    class Meta:
        db_table = "arrival_ledger"
        indexes = [
            models.Index(
                name="ledger_path_kind_arrival", fields=["path_id", "backfill", "arrived_at"]
            ),
            models.Index(name="ledger_drain", fields=["drain"]),
            # Small, and enough to find an hour's rows, which were appended together.
            BrinIndex(name="ledger_minute", fields=["minute"], autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"drain {self.drain} path {self.path_id} n {self.n}"


class EvidenceBlock(models.Model):
    """Which drains the statistical guards took in together, in what order: see `blocks`.

    `number` is that of the 5-second arrival block, later for what was drained after its own had
    been taken. A drain is in one of them; `firsts` and `lasts` are the ends of runs of drains.
    `repaired` says that the ledger was counted again, so that evidence is to be made anew.
    """

    number = models.BigIntegerField(primary_key=True)
    firsts = ArrayField(models.BigIntegerField())
    lasts = ArrayField(models.BigIntegerField())
    closed_at = models.DateTimeField()
    repaired = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "evidence_block"

    def __str__(self) -> str:
        return f"{self.number}"


class MinuteBucket(Measures):
    """A fold of the ledger by event minute, for pages."""

    class Meta:
        db_table = "minute_bucket"
        constraints = [UniqueConstraint(name="bucket_once", fields=list(BUCKET_KEY))]
        indexes = [models.Index(name="bucket_path_minute", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class FiveMinuteBucket(Measures):
    """A fold of five minute buckets, labelled by the first."""

    class Meta:
        db_table = "five_minute_bucket"
        constraints = [UniqueConstraint(name="five_minutes_once", fields=list(BUCKET_KEY))]
        indexes = [models.Index(name="five_minutes_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class HourBucket(Measures):
    """A fold of an hour's minute buckets, labelled by the first."""

    class Meta:
        db_table = "hour_bucket"
        constraints = [UniqueConstraint(name="hour_once", fields=list(BUCKET_KEY))]
        indexes = [models.Index(name="hour_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class SideMeasures(BucketKey):
    """What stands beside the arrival ledger: its key parted by one value more."""

    n = models.IntegerField()

    class Meta:
        abstract = True


class Failures(SideMeasures):
    """The tasks that failed, by category.

    `subjects` are hashes of the distinct pseudonyms, at most a hundred a row.
    """

    category = models.TextField()
    subjects = ArrayField(models.BigIntegerField())

    class Meta:
        abstract = True


class FailureLedger(Failures, Arrived):
    class Meta:
        db_table = "failure_ledger"
        indexes = [
            models.Index(name="failure_path_arrival", fields=["path_id", "arrived_at"]),
            models.Index(name="failure_path_minute", fields=["path_id", "minute"]),
            models.Index(name="failure_drain", fields=["drain"]),
        ]

    def __str__(self) -> str:
        return f"{self.category} {self.n}"


class Routes(SideMeasures):
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
        abstract = True


class RouteLedger(Routes, Arrived):
    class Meta:
        db_table = "route_ledger"
        indexes = [
            models.Index(name="route_path_arrival", fields=["path_id", "arrived_at"]),
            models.Index(name="route_path_minute", fields=["path_id", "minute"]),
            models.Index(name="route_drain", fields=["drain"]),
        ]

    def __str__(self) -> str:
        return f"{self.route} {self.n}"


class OwnMeasures(SideMeasures):
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
        abstract = True


class MeasureLedger(OwnMeasures, Arrived):
    class Meta:
        db_table = "measure_ledger"
        indexes = [
            models.Index(name="measure_path_arrival", fields=["path_id", "name", "arrived_at"]),
            models.Index(name="measure_path_minute", fields=["path_id", "name", "minute"]),
            models.Index(name="measure_drain", fields=["drain"]),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.n}"


class Mix(SideMeasures):
    """Tasks by what their context says: a declared attribute and its value."""

    attribute = models.TextField()
    value = models.TextField()

    class Meta:
        abstract = True


class MixLedger(Mix, Arrived):
    class Meta:
        db_table = "mix_ledger"
        indexes = [
            models.Index(name="mix_path_arrival", fields=["path_id", "arrived_at"]),
            models.Index(name="mix_path_minute", fields=["path_id", "minute"]),
            models.Index(name="mix_drain", fields=["drain"]),
        ]

    def __str__(self) -> str:
        return f"{self.attribute} {self.value} {self.n}"


class FailureMinute(Failures):
    class Meta:
        db_table = "failure_minute"
        constraints = [
            UniqueConstraint(name="failure_minute_once", fields=[*BUCKET_KEY, "category"])
        ]
        indexes = [models.Index(name="failure_minute_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class FailureHour(Failures):
    class Meta:
        db_table = "failure_hour"
        constraints = [UniqueConstraint(name="failure_hour_once", fields=[*BUCKET_KEY, "category"])]
        indexes = [models.Index(name="failure_hour_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class RouteMinute(Routes):
    class Meta:
        db_table = "route_minute"
        constraints = [UniqueConstraint(name="route_minute_once", fields=[*BUCKET_KEY, "route"])]
        indexes = [models.Index(name="route_minute_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class RouteHour(Routes):
    class Meta:
        db_table = "route_hour"
        constraints = [UniqueConstraint(name="route_hour_once", fields=[*BUCKET_KEY, "route"])]
        indexes = [models.Index(name="route_hour_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class MeasureMinute(OwnMeasures):
    class Meta:
        db_table = "measure_minute"
        constraints = [UniqueConstraint(name="measure_minute_once", fields=[*BUCKET_KEY, "name"])]
        indexes = [models.Index(name="measure_minute_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class MeasureHour(OwnMeasures):
    class Meta:
        db_table = "measure_hour"
        constraints = [UniqueConstraint(name="measure_hour_once", fields=[*BUCKET_KEY, "name"])]
        indexes = [models.Index(name="measure_hour_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class MixMinute(Mix):
    class Meta:
        db_table = "mix_minute"
        constraints = [
            UniqueConstraint(name="mix_minute_once", fields=[*BUCKET_KEY, "attribute", "value"])
        ]
        indexes = [models.Index(name="mix_minute_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class MixHour(Mix):
    class Meta:
        db_table = "mix_hour"
        constraints = [
            UniqueConstraint(name="mix_hour_once", fields=[*BUCKET_KEY, "attribute", "value"])
        ]
        indexes = [models.Index(name="mix_hour_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class Evaluations(SideMeasures):
    """What evaluations said of tasks, by the evaluation's name; each task's first one counts.

    `n` counts the observations that told a score or a pass for the first time.
    """

    name = models.TextField()
    score_n = models.IntegerField()
    score_sum = models.FloatField()
    score_sq = models.FloatField()
    passed_n = models.IntegerField()
    passed = models.IntegerField()

    class Meta:
        abstract = True


class EvaluationLedger(Evaluations, Arrived):
    class Meta:
        db_table = "evaluation_ledger"
        indexes = [
            models.Index(name="evaluation_path_arrival", fields=["path_id", "name", "arrived_at"]),
            models.Index(name="evaluation_path_minute", fields=["path_id", "name", "minute"]),
            models.Index(name="evaluation_drain", fields=["drain"]),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.n}"


class Words(SideMeasures):
    """Tasks by a word that was said of them: a failure category, or a value of feedback.

    Each word counts once for a task. `before` are those of its kind that the task was counted
    under already, in alphabetical order, and `outcome` is the task's: so that it can be counted
    once in any set of words and outcomes.
    """

    kind = models.TextField()
    word = models.TextField()
    outcome = models.SmallIntegerField()
    before = ArrayField(models.TextField())

    class Meta:
        abstract = True


class WordLedger(Words, Arrived):
    class Meta:
        db_table = "word_ledger"
        indexes = [
            models.Index(name="word_path_arrival", fields=["path_id", "kind", "arrived_at"]),
            models.Index(name="word_path_minute", fields=["path_id", "kind", "minute"]),
            models.Index(name="word_drain", fields=["drain"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.word} {self.n}"


class EvaluationMinute(Evaluations):
    class Meta:
        db_table = "evaluation_minute"
        constraints = [
            UniqueConstraint(name="evaluation_minute_once", fields=[*BUCKET_KEY, "name"])
        ]
        indexes = [models.Index(name="evaluation_minute_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class EvaluationHour(Evaluations):
    class Meta:
        db_table = "evaluation_hour"
        constraints = [UniqueConstraint(name="evaluation_hour_once", fields=[*BUCKET_KEY, "name"])]
        indexes = [models.Index(name="evaluation_hour_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class WordMinute(Words):
    class Meta:
        db_table = "word_minute"
        constraints = [
            UniqueConstraint(
                name="word_minute_once", fields=[*BUCKET_KEY, "kind", "word", "outcome", "before"]
            )
        ]
        indexes = [models.Index(name="word_minute_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class WordHour(Words):
    class Meta:
        db_table = "word_hour"
        constraints = [
            UniqueConstraint(
                name="word_hour_once", fields=[*BUCKET_KEY, "kind", "word", "outcome", "before"]
            )
        ]
        indexes = [models.Index(name="word_hour_path", fields=["path_id", "minute"])]

    def __str__(self) -> str:
        return f"{self.minute} path {self.path_id} n {self.n}"


class StaleBucket(models.Model):
    """A path's longer bucket whose minutes changed since it was folded; readers take the minutes.

    `since` is when the first of those changes came, so that one refold serves several.
    """

    pk = models.CompositePrimaryKey("length_s", "path_id", "minute")
    length_s = models.IntegerField()
    path_id = models.IntegerField()
    minute = models.DateTimeField()
    since = models.DateTimeField()

    class Meta:
        db_table = "stale_bucket"

    def __str__(self) -> str:
        return f"{self.minute} + {self.length_s} s path {self.path_id}"


class StoredDay(models.Model):
    """What retention did to a day, and what it must know of it.

    Attributes:
        filled_at: when history of the day last came; what is kept is counted from then.
        runs_dropped_at: when its runs went, with how many and whose they were.
        minutes_pruned_at: from when on only its hours are kept.
        ledger_pruned_at: when ledger rows went last, with the paths whose went: no guard ever
            watched them. What is folded of those cannot be counted again.
    """

    day = models.DateField(primary_key=True)
    filled_at = models.DateTimeField(null=True)
    runs_dropped_at = models.DateTimeField(null=True)
    runs_dropped = models.BigIntegerField(null=True)
    workflow_ids = ArrayField(models.IntegerField(), default=list)
    minutes_pruned_at = models.DateTimeField(null=True)
    ledger_pruned_at = models.DateTimeField(null=True)
    ledger_path_ids = ArrayField(models.IntegerField(), default=list)

    class Meta:
        db_table = "stored_day"

    def __str__(self) -> str:
        return f"{self.day}"


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
