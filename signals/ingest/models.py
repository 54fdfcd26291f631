from django.db import models
from django.db.models import CheckConstraint, Q


class BatchState(models.TextChoices):
    PENDING = "pending"
    DRAINED = "drained"
    FAILED = "failed"


class IngestBatch(models.Model):
    """One accepted request: its good items, compressed, until they are drained into runs."""

    # In order of acceptance, the drain's number in the ledger; `id` is what the client is told.
    seq = models.BigAutoField(primary_key=True)
    id = models.UUIDField(unique=True)
    received_at = models.DateTimeField()
    token_name = models.CharField(max_length=150)
    n_accepted = models.IntegerField()
    n_rejected = models.IntegerField()
    # History: it arrives when it happened, is drained after what is live, and no guard reads it.
    backfill = models.BooleanField(default=False, db_default=False)
    errors = models.JSONField(default=list)
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

    class Meta:
        db_table = "ingest_batch"
        constraints = [
            CheckConstraint(name="batch_state_known", condition=Q(state__in=BatchState.values)),
        ]
        indexes = [
            models.Index(name="batch_pending", fields=["seq"], condition=Q(state="pending")),
            models.Index(
                name="batch_to_fold",
                fields=["seq"],
                condition=Q(state="drained", folded_at=None),
            ),
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

    class Meta:
        db_table = "run"

    def __str__(self) -> str:
        return self.run_id
