from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from rollout_console.catalog.models import Workflow


class OtlpSource(models.Model):
    """A resource and an instrumentation scope, once however many spans name them."""

    id = models.UUIDField(primary_key=True)
    resource = models.JSONField()
    scope = models.JSONField()
    first_seen_at = models.DateTimeField()

    class Meta:
        db_table = "otlp_source"

    def __str__(self) -> str:
        return str(self.scope.get("name", ""))


class OtlpSpan(models.Model):
    """A span with all that it told, for drill-down; partitioned by day of its start.

    A span sent again is the same row. `reach` are the workflows that the token may report for,
    null all; `detail` holds attributes, events, links and what else was told.
    """

    pk = models.CompositePrimaryKey("trace_id", "span_id", "started_at")
    started_at = models.DateTimeField()
    received_at = models.DateTimeField()
    start_ns = models.BigIntegerField()
    end_ns = models.BigIntegerField()
    source_id = models.UUIDField()
    kind = models.SmallIntegerField()
    status = models.SmallIntegerField()
    trace_id = models.TextField()
    span_id = models.TextField()
    parent_id = models.TextField(null=True)
    name = models.TextField()
    response_id = models.TextField(null=True)
    reach = models.JSONField(null=True)
    detail = models.JSONField()

    class Meta:
        db_table = "otlp_span"

    def __str__(self) -> str:
        return self.name


class OtlpLog(models.Model):
    """A log record with all that it told; partitioned by day. A repeated one is the same row.

    `tool_requests` are the tools that a model's answer asked for, counted when it came.
    """

    pk = models.CompositePrimaryKey("digest", "at")
    at = models.DateTimeField()
    received_at = models.DateTimeField()
    digest = models.UUIDField()
    source_id = models.UUIDField()
    severity = models.SmallIntegerField()
    tool_requests = models.IntegerField()
    event = models.TextField()
    trace_id = models.TextField(null=True)
    span_id = models.TextField(null=True)
    detail = models.JSONField()

    class Meta:
        db_table = "otlp_log"

    def __str__(self) -> str:
        return self.event


class OtlpTrace(models.Model):
    """A trace that came; `due_at` is when it is looked at next, null when nothing is new."""

    trace_id = models.TextField(primary_key=True)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    attempts = models.SmallIntegerField(default=0, db_default=0)
    error = models.TextField(default="", db_default="")

    class Meta:
        db_table = "otlp_trace"
        indexes = [
            models.Index(name="otlp_trace_due", fields=["due_at"], condition=~Q(due_at=None)),
            models.Index(name="otlp_trace_last", fields=["last_at"]),
        ]

    def __str__(self) -> str:
        return self.trace_id


class OtlpRun(models.Model):
    """A root span that was looked at once and for all: counted as a run, or refused.

    `late_spans` came under it afterwards; they are kept, and change no count.
    """

    pk = models.CompositePrimaryKey("trace_id", "span_id")
    trace_id = models.TextField()
    span_id = models.TextField()
    run_id = models.TextField()
    workflow = models.TextField()
    occurred_at = models.DateTimeField()
    assembled_at = models.DateTimeField()
    spans = models.IntegerField()
    late_spans = models.IntegerField(default=0, db_default=0)
    # Why it is no run; empty where it is.
    fault = models.TextField(default="", db_default="")

    class Meta:
        db_table = "otlp_run"
        indexes = [
            models.Index(
                name="otlp_run_shown",
                fields=["workflow", "-assembled_at"],
                condition=~Q(fault="") | Q(late_spans__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return self.run_id


class OtlpDuplicate(models.Model):
    """Calls of a day that two instrumentations reported, by the scope that was counted."""

    workflow = models.TextField()
    counted_scope = models.TextField()
    other_scope = models.TextField()
    day = models.DateField()
    calls = models.BigIntegerField()
    trace_id = models.TextField()
    last_at = models.DateTimeField()

    class Meta:
        db_table = "otlp_duplicate"
        constraints = [
            UniqueConstraint(
                name="otlp_duplicate_once",
                fields=["workflow", "counted_scope", "other_scope", "day"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.counted_scope} and {self.other_scope}"


class EvaluationState(models.TextChoices):
    WAITING = "waiting"
    SENT = "sent"
    UNKNOWN = "unknown"
    REFUSED = "refused"


class OtlpEvaluation(models.Model):
    """An evaluation told by a log record or a span's event, until its run is found.

    `look_at` is when a waiting one is looked for again; what came in vain is kept with a reason.
    """

    digest = models.UUIDField(primary_key=True)
    received_at = models.DateTimeField()
    occurred_at = models.DateTimeField()
    trace_id = models.TextField(null=True)
    span_id = models.TextField(null=True)
    response_id = models.TextField(null=True)
    reach = models.JSONField(null=True)
    name = models.TextField(null=True)
    score = models.FloatField(null=True)
    passed = models.BooleanField(null=True)
    state = models.CharField(
        max_length=8, choices=EvaluationState.choices, default=EvaluationState.WAITING
    )
    look_at = models.DateTimeField()
    looks = models.SmallIntegerField(default=0, db_default=0)
    run_id = models.TextField(default="", db_default="")
    fault = models.TextField(default="", db_default="")

    class Meta:
        db_table = "otlp_evaluation"
        constraints = [
            CheckConstraint(
                name="otlp_evaluation_state_known", condition=Q(state__in=EvaluationState.values)
            ),
        ]
        indexes = [
            models.Index(
                name="otlp_evaluation_to_look", fields=["look_at"], condition=Q(state="waiting")
            ),
            models.Index(
                name="otlp_evaluation_of_trace", fields=["trace_id"], condition=Q(state="waiting")
            ),
            models.Index(
                name="otlp_evaluation_of_response",
                fields=["response_id"],
                condition=Q(state="waiting"),
            ),
        ]

    def __str__(self) -> str:
        return self.name or str(self.digest)


class OtlpCumulative(models.Model):
    """The last point of a cumulative stream, to know what the next one adds; a time of 0: none."""

    stream = models.UUIDField(primary_key=True)
    start_ns = models.BigIntegerField()
    time_ns = models.BigIntegerField()
    value = models.JSONField()
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "otlp_cumulative"

    def __str__(self) -> str:
        return str(self.stream)


class PriceSheetVersion(models.Model):
    """What tokens cost, as put at a time; the newest is in force for what is counted from then."""

    document = models.JSONField()
    digest = models.CharField(max_length=64)
    put_at = models.DateTimeField()
    put_by = models.CharField(max_length=150)

    class Meta:
        db_table = "otlp_price_sheet"

    def __str__(self) -> str:
        return f"price sheet {self.pk}"


class SpanMappingVersion(models.Model):
    """A workflow's rules for spans, as put at a time; the newest is in force."""

    workflow = models.ForeignKey(
        Workflow, on_delete=models.PROTECT, related_name="span_mapping_versions"
    )
    document = models.JSONField()
    digest = models.CharField(max_length=64)
    put_at = models.DateTimeField()
    put_by = models.CharField(max_length=150)

    class Meta:
        db_table = "otlp_mapping"
        indexes = [models.Index(name="otlp_mapping_newest", fields=["workflow", "-id"])]

    def __str__(self) -> str:
        return f"mapping {self.pk} of {self.workflow_id}"
