from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import CheckConstraint, Q


class BatchState(models.TextChoices):
    PENDING = "pending"
    DRAINED = "drained"
    FAILED = "failed"


class BatchKind(models.TextChoices):
    RUNS = "runs"
    OBSERVATIONS = "observations"
    # What one round of attributing observations to runs added, or the result of an action; made
    # here, by no request.
    LABELS = "labels"


class IngestBatch(models.Model):
    """One accepted request: its good items, compressed, until they are drained."""

    # In order of acceptance, the drain's number in the ledger; `id` is what the client is told.
    seq = models.BigAutoField(primary_key=True)
    id = models.UUIDField(unique=True)
    kind = models.CharField(
        max_length=12,
        choices=BatchKind.choices,
        default=BatchKind.RUNS,
        db_default=BatchKind.RUNS.value,
    )
    received_at = models.DateTimeField()
    token_name = models.CharField(max_length=150)
    n_accepted = models.IntegerField()
    n_rejected = models.IntegerField()
    # History: it arrives when it happened, is drained after what is live, and no guard reads it.
    backfill = models.BooleanField(default=False, db_default=False)
    errors = models.JSONField(default=list)
    # One for each error: the workflow that its item names, 0 where none is the token's.
    rejected_in = ArrayField(models.IntegerField(), default=list, db_default=[])
    # A JSON array of the good items, zlib; null once drained.
    body = models.BinaryField(null=True)
    body_bytes = models.IntegerField()
    state = models.CharField(max_length=8, choices=BatchState.choices, default=BatchState.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    retry_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True, default="")
    drained_at = models.DateTimeField(null=True)
    folded_at = models.DateTimeField(null=True)
    duplicates = models.IntegerField(null=True)
    # Segment names nobody knows, with how many runs carried each.
    unknown_segments = models.JSONField(default=dict)
    # Whether what it brought is still to be looked at for the health of the signals. Rows of older
    # writers are not.
    health_due = models.BooleanField(default=False, db_default=False)
    # Whether no evidence block has taken what it brought yet: see signals.buckets.blocks.
    evidence_due = models.BooleanField(default=False, db_default=False)
    # Observations whose run never came.
    unknown_runs = models.IntegerField(default=0, db_default=0)

    class Meta:
        db_table = "ingest_batch"
        constraints = [
            CheckConstraint(name="batch_state_known", condition=Q(state__in=BatchState.values)),
            CheckConstraint(name="batch_kind_known", condition=Q(kind__in=BatchKind.values)),
        ]
        indexes = [
            models.Index(name="batch_pending", fields=["seq"], condition=Q(state="pending")),
            models.Index(
                name="batch_to_fold",
                fields=["seq"],
                condition=Q(state="drained", folded_at=None),
            ),
            models.Index(
                name="batch_health_due",
                fields=["seq"],
                condition=Q(state="drained", health_due=True),
            ),
            models.Index(
                name="batch_evidence_due",
                fields=["seq"],
                condition=Q(state="drained", evidence_due=True),
            ),
            models.Index(
                name="batch_rejected", fields=["received_at"], condition=Q(n_rejected__gt=0)
            ),
            models.Index(name="batch_failed", fields=["seq"], condition=Q(state="failed")),
            BrinIndex(name="batch_received", fields=["received_at"], autosummarize=True),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Run(models.Model):
    """One task handled by a workflow, as reported; partitioned by day of `occurred_at`.

    What identifies it is (workflow, id, occurred_at); `id_hash` is 16 bytes of BLAKE2b over the
    id, so that the day's unique index stays narrow and local in time whatever ids clients make.
    Drill runs are kept here and counted nowhere.
    """

    pk = models.CompositePrimaryKey("occurred_at", "workflow_id", "id_hash")
    occurred_at = models.DateTimeField()
    workflow_id = models.IntegerField()
    id_hash = models.UUIDField()
    drain = models.BigIntegerField()
    path_id = models.IntegerField()
    segment_id = models.IntegerField()
    release_id = models.IntegerField()
    arm = models.SmallIntegerField()
    mode = models.SmallIntegerField()
    input_condition = models.SmallIntegerField()
    risk = models.SmallIntegerField()
    outcome = models.SmallIntegerField()
    critical = models.BooleanField()
    review_requested = models.BooleanField()
    quality_passed = models.BooleanField(null=True)
    run_id = models.TextField()
    quality_score = models.FloatField(null=True)
    latency_ms = models.FloatField(null=True)
    cost_usd = models.FloatField(null=True)
    retrieval_score = models.FloatField(null=True)
    confidence = models.FloatField(null=True)
    input_tokens = models.BigIntegerField(null=True)
    output_tokens = models.BigIntegerField(null=True)
    context_tokens = models.BigIntegerField(null=True)
    retries = models.BigIntegerField(null=True)
    steps = models.BigIntegerField(null=True)
    tool_calls = models.BigIntegerField(null=True)
    retrieved = models.BigIntegerField(null=True)
    exposure_version = models.BigIntegerField(null=True)
    failure_category = models.TextField(null=True)
    route = models.TextField(null=True)
    client = models.TextField(null=True)
    subject = models.TextField(null=True)
    trace_id = models.TextField(null=True)
    drill = models.TextField(null=True)
    attributes = models.JSONField(null=True)
    measures = models.JSONField(null=True)
    # The declared attributes of its context, as text; who it was stays out.
    context = models.JSONField(null=True)

    class Meta:
        db_table = "run"

    def __str__(self) -> str:
        return self.run_id


class ObservationState(models.IntegerChoices):
    WAITING = 0
    APPLIED = 1
    UNKNOWN = 2


class Observation(models.Model):
    """Something learned about a run later; it waits for its run, and is then counted with it.

    What identifies it is (workflow, id), so a retry counts once whatever else it repeats. Labels
    are few beside runs, so one index over all of them serves where runs need one a day.
    `look_at` is when a waiting one looks for its run again; a run that comes is noted beside.
    """

    pk = models.CompositePrimaryKey("workflow_id", "id_hash")
    workflow_id = models.IntegerField()
    id_hash = models.UUIDField()
    drain = models.BigIntegerField()
    received_at = models.DateTimeField()
    occurred_at = models.DateTimeField()
    run_hash = models.UUIDField()
    run_occurred_at = models.DateTimeField(null=True)
    kind = models.SmallIntegerField()
    observation_id = models.TextField()
    run_id = models.TextField()
    name = models.TextField(null=True)
    score = models.FloatField(null=True)
    passed = models.BooleanField(null=True)
    verdict = models.SmallIntegerField(null=True)
    reviewer = models.TextField(null=True)
    duration_ms = models.FloatField(null=True)
    value = models.SmallIntegerField(null=True)
    outcome = models.SmallIntegerField(null=True)
    failure_category = models.TextField(null=True)
    critical = models.BooleanField(null=True)
    state = models.SmallIntegerField(
        choices=ObservationState.choices,
        default=ObservationState.WAITING,
        db_default=ObservationState.WAITING.value,
    )
    look_at = models.DateTimeField()
    looks = models.SmallIntegerField(default=0, db_default=0)

    class Meta:
        db_table = "observation"
        constraints = [
            CheckConstraint(
                name="observation_state_known", condition=Q(state__in=ObservationState.values)
            ),
        ]
        indexes = [
            models.Index(name="observation_to_look", fields=["look_at"], condition=Q(state=0)),
            models.Index(
                name="observation_waiting",
                fields=["workflow_id", "run_hash"],
                condition=Q(state=0),
            ),
            models.Index(name="observation_waiting_drain", fields=["drain"], condition=Q(state=0)),
            models.Index(name="observation_of_run", fields=["workflow_id", "run_hash"]),
            models.Index(
                name="observation_unknown",
                fields=["workflow_id", "received_at"],
                condition=Q(state=2),
            ),
            # For retention: small, and rows lie in about this order.
            BrinIndex(name="observation_received", fields=["received_at"], autosummarize=True),
        ]

    def __str__(self) -> str:
        return self.observation_id


class AwaitedRun(models.Model):
    """A run that came while observations waited for it; consumed when they are attributed."""

    workflow_id = models.IntegerField()
    run_hash = models.UUIDField()
    occurred_at = models.DateTimeField()

    class Meta:
        db_table = "awaited_run"

    def __str__(self) -> str:
        return str(self.run_hash)


class TaskFact(models.Model):
    """What observations have added to a task, so that nothing is counted twice for it.

    `fact` is a word of `signals.ingest.label_sql`; `observation` is the hash of the one counted.
    """

    pk = models.CompositePrimaryKey("workflow_id", "run_hash", "run_occurred_at", "fact")
    workflow_id = models.IntegerField()
    run_hash = models.UUIDField()
    run_occurred_at = models.DateTimeField()
    fact = models.TextField()
    observation = models.UUIDField()

    class Meta:
        db_table = "task_fact"
        indexes = [
            BrinIndex(name="fact_run_occurred", fields=["run_occurred_at"], autosummarize=True)
        ]

    def __str__(self) -> str:
        return self.fact


class Source(models.Model):
    """What reports to a workflow path, under one token name; `path_id` 0 where it names none."""

    pk = models.CompositePrimaryKey("workflow_id", "path_id", "token_name", "kind", "backfill")
    workflow_id = models.IntegerField()
    path_id = models.IntegerField()
    token_name = models.CharField(max_length=150)
    kind = models.CharField(max_length=12)
    backfill = models.BooleanField()
    first_received_at = models.DateTimeField()
    last_received_at = models.DateTimeField()
    # When the newest of what it reported happened.
    newest_at = models.DateTimeField()

    class Meta:
        db_table = "source"

    def __str__(self) -> str:
        return self.token_name


class SourceMinute(models.Model):
    """What a source brought in one minute of arrival; `accepted` counts duplicates too."""

    pk = models.CompositePrimaryKey(
        "minute", "workflow_id", "path_id", "token_name", "kind", "backfill"
    )
    minute = models.DateTimeField()
    workflow_id = models.IntegerField()
    path_id = models.IntegerField()
    token_name = models.CharField(max_length=150)
    kind = models.CharField(max_length=12)
    backfill = models.BooleanField()
    batches = models.IntegerField()
    accepted = models.BigIntegerField()
    fresh = models.BigIntegerField()

    class Meta:
        db_table = "source_minute"

    def __str__(self) -> str:
        return self.token_name


class SourceName(models.Model):
    """A client, or a segment that nobody knows, as runs of one hour of arrival named it."""

    pk = models.CompositePrimaryKey("hour", "workflow_id", "path_id", "sort", "name")
    hour = models.DateTimeField()
    workflow_id = models.IntegerField()
    path_id = models.IntegerField()
    sort = models.CharField(max_length=8)
    name = models.CharField(max_length=200)
    # Of an unknown segment; a client's are not counted.
    runs = models.BigIntegerField()
    last_at = models.DateTimeField()

    class Meta:
        db_table = "source_name"

    def __str__(self) -> str:
        return self.name
