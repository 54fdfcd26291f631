from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from rollout_console.catalog.models import Segment, Workflow, WorkflowPath


class ProblemKind(models.TextChoices):
    PATH_SILENT = "path_silent"
    SOURCE_SILENT = "source_silent"
    LABELS_MISSING = "labels_missing"
    IDS_REUSED = "ids_reused"
    CLOCK_SKEW = "clock_skew"
    ASSIGNMENT_MISMATCH = "assignment_mismatch"
    GUARD_BLIND = "guard_blind"
    QUEUE_BEHIND = "queue_behind"
    WATCH_PAUSED = "watch_paused"
    DELIVERY_FAILING = "delivery_failing"


class Problem(models.Model):
    """Something that makes the signals of a path, or of a segment on it, not to be trusted, or
    that keeps the console from watching a rollout (then `path` may be null: all of its paths).

    It is open until `ended_at`. `set_aside_at` is when the owner said that it is none: it stays
    on record while it lasts, and makes no guard blind. `source` is the name of the token that
    reports so, "" for all of them.
    """

    kind = models.CharField(max_length=20, choices=ProblemKind.choices)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="problems")
    rollout = models.CharField(max_length=80)
    path = models.ForeignKey(
        WorkflowPath, null=True, on_delete=models.PROTECT, related_name="problems"
    )
    segment = models.ForeignKey(
        Segment, null=True, on_delete=models.PROTECT, related_name="problems"
    )
    source = models.CharField(max_length=150, blank=True)
    sentence = models.TextField()
    example = models.TextField(blank=True)
    count = models.PositiveBigIntegerField(default=0)
    since = models.DateTimeField()
    seen_at = models.DateTimeField()
    set_aside_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            UniqueConstraint(
                name="problem_open_once_each",
                fields=["kind", "rollout", "path", "segment", "source"],
                condition=Q(ended_at=None),
                nulls_distinct=False,
            ),
            CheckConstraint(name="problem_kind_known", condition=Q(kind__in=ProblemKind.values)),
        ]
        indexes = [
            models.Index(name="problem_by_workflow", fields=["workflow", "id"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.path_id}"


class Feed(models.Model):
    """What comes in on a path, from one source or ("") from all: how fresh, how late.

    A look takes what was drained since the one before. `gap_s` is the usual time between the
    newest reports of two looks that brought some, smoothed; `lag_…` say how long after it
    happened a task was received, over the last look that brought some; negative is ahead of us.
    """

    path = models.ForeignKey(WorkflowPath, on_delete=models.CASCADE, related_name="feeds")
    source = models.CharField(max_length=150, blank=True)
    first_at = models.DateTimeField()
    newest_at = models.DateTimeField()
    n = models.PositiveBigIntegerField(default=0)
    gap_s = models.FloatField(null=True)
    label_at = models.DateTimeField(null=True)
    label_gap_s = models.FloatField(null=True)
    # Tasks that came after the newest label.
    n_unlabelled = models.PositiveBigIntegerField(default=0)
    lag_n = models.PositiveIntegerField(default=0)
    lag_low_s = models.FloatField(default=0)
    lag_p50_s = models.FloatField(default=0)
    lag_p95_s = models.FloatField(default=0)
    ahead_n = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [UniqueConstraint(name="feed_once", fields=["path", "source"])]

    def __str__(self) -> str:
        return f"{self.source or 'all'} on {self.path_id}"


class AssignmentEpoch(models.Model):
    """A time in which a segment on a path had one planned share of one rollout's candidate.

    People are counted once, on the arm on which they were first seen. `n_without_subject` are
    tasks that named nobody and so could not be counted; `n_crossed` those of people seen on the
    other arm before; `n_wrong` those whose release is not the one their arm and mode stand for.
    `peak_log_e` is the greatest e-value at any look: what was once an alarm stays one.
    """

    rollout = models.CharField(max_length=80)
    path = models.ForeignKey(WorkflowPath, on_delete=models.CASCADE, related_name="epochs")
    segment = models.ForeignKey(Segment, on_delete=models.CASCADE, related_name="epochs")
    candidate_id = models.IntegerField()
    stable_id = models.IntegerField()
    share = models.DecimalField(max_digits=6, decimal_places=5)
    exposure_version = models.PositiveBigIntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    n_candidate = models.PositiveBigIntegerField(default=0)
    n_stable = models.PositiveBigIntegerField(default=0)
    n_tasks = models.PositiveBigIntegerField(default=0)
    n_without_subject = models.PositiveBigIntegerField(default=0)
    n_crossed = models.PositiveBigIntegerField(default=0)
    n_wrong = models.PositiveBigIntegerField(default=0)
    peak_log_e = models.FloatField(default=0)

    class Meta:
        db_table = "assignment_epoch"
        constraints = [
            UniqueConstraint(
                name="epoch_open_once",
                fields=["path", "segment"],
                condition=Q(ended_at=None),
            ),
            CheckConstraint(name="epoch_share_inside", condition=Q(share__gt=0) & Q(share__lt=1)),
        ]
        indexes = [models.Index(name="epoch_by_path", fields=["path", "started_at"])]

    def __str__(self) -> str:
        return f"{self.path_id} {self.segment_id} {self.share}"


class AssignmentSubject(models.Model):
    """A person seen in an epoch, by a 64-bit hash of the pseudonym, with the arm first seen on."""

    pk = models.CompositePrimaryKey("epoch_id", "subject")
    epoch = models.ForeignKey(
        AssignmentEpoch, on_delete=models.CASCADE, related_name="subjects", db_index=False
    )
    subject = models.BigIntegerField()
    arm = models.SmallIntegerField()
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "assignment_subject"

    def __str__(self) -> str:
        return f"{self.epoch_id} {self.arm}"
