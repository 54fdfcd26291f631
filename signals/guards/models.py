from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from rollout_console.catalog.models import Release, Segment, Workflow, WorkflowPath
from signals.own.models import OwnSignal


class GuardKind(models.TextChoices):
    CRITERION = "criterion"
    TRIGGER = "trigger"


class Compare(models.TextChoices):
    LIMIT = "limit"
    STABLE = "stable"
    HISTORY = "history"
    HARD_CAP = "hard_cap"


class Severity(models.TextChoices):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class VerdictWord(models.TextChoices):
    HOLDING = "holding"
    FAILING = "failing"
    UNDECIDED = "undecided"
    QUIET = "quiet"
    WATCHING = "watching"
    TRIPPED = "tripped"
    BLIND = "blind"


class Guard(models.Model):
    """A signal with a scope, a comparison, a severity and a response.

    A definition never changes in place: a new version is a new row and the old one retires.
    `rollout` is the rollout's slug; guards know nothing else of rollouts. `evidence_from` is
    when the evidence starts (the stage's start): earlier arrivals do not count. `definition` is
    that of a signal which the team defined itself, null for one of the catalogue.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="guards")
    rollout = models.CharField(max_length=80)
    slug = models.CharField(max_length=80)
    version = models.PositiveIntegerField(default=1)
    kind = models.CharField(max_length=10, choices=GuardKind.choices)
    path = models.ForeignKey(WorkflowPath, on_delete=models.PROTECT, related_name="guards")
    segment = models.ForeignKey(Segment, null=True, on_delete=models.PROTECT, related_name="guards")
    candidate = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="guards")
    signal = models.CharField(max_length=80)
    definition = models.ForeignKey(
        OwnSignal, null=True, on_delete=models.PROTECT, related_name="guards"
    )
    compare = models.CharField(max_length=10, choices=Compare.choices)
    limit = models.FloatField(null=True)
    margin = models.FloatField(null=True)
    window_s = models.PositiveIntegerField()
    min_n = models.PositiveIntegerField(default=1)
    severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.HIGH)
    response = models.JSONField(default=dict)
    armed = models.BooleanField(default=False)
    retired_at = models.DateTimeField(null=True)
    evidence_from = models.DateTimeField(null=True)
    # What the path did before, read once when evidence of it began: `signals.guards.reference`.
    reference = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            UniqueConstraint(name="guard_version_once", fields=["rollout", "slug", "version"]),
            UniqueConstraint(
                name="guard_current_once", fields=["rollout", "slug"], condition=Q(retired_at=None)
            ),
            CheckConstraint(name="guard_kind_known", condition=Q(kind__in=GuardKind.values)),
            CheckConstraint(name="guard_compare_known", condition=Q(compare__in=Compare.values)),
            CheckConstraint(name="guard_severity_known", condition=Q(severity__in=Severity.values)),
        ]

    def __str__(self) -> str:
        return f"{self.rollout} {self.slug}"


class Verdict(models.Model):
    """What a guard says now; one row a guard, replaced at every look."""

    guard = models.OneToOneField(Guard, on_delete=models.CASCADE, related_name="verdict")
    verdict = models.CharField(max_length=10, choices=VerdictWord.choices)
    value = models.FloatField(null=True)
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    n = models.PositiveIntegerField(default=0)
    data_at = models.DateTimeField(null=True)
    sentence = models.TextField()
    ledger_block = models.BigIntegerField(default=0)
    # What the word stands on: `signals.guards.proof.Proof.document`, {} for facts and caps.
    evidence = models.JSONField(default=dict, db_default={})
    evaluated_at = models.DateTimeField()
    since = models.DateTimeField()

    class Meta:
        constraints = [
            CheckConstraint(name="verdict_word_known", condition=Q(verdict__in=VerdictWord.values)),
        ]

    def __str__(self) -> str:
        return f"{self.guard_id} {self.verdict}"


class GuardState(models.Model):
    """What a guard's evidence came to after a block: a cache, equal to what the ledger gives.

    Made anew where `engine` (the version of the method), `evidence_from` or `method` differ.
    `log_worse` and `log_fine` are log e-values: against "not worse", and, for criteria, against
    "worse by the margin, or beyond the limit".
    """

    guard = models.OneToOneField(
        Guard, primary_key=True, on_delete=models.CASCADE, related_name="state"
    )
    engine = models.IntegerField()
    method = models.CharField(max_length=12)
    evidence_from = models.DateTimeField()
    # The last evidence block that it took in; and the first and the last with something of it.
    block = models.BigIntegerField()
    first_block = models.BigIntegerField(default=0)
    told_block = models.BigIntegerField(default=0)
    log_worse = models.FloatField()
    log_fine = models.FloatField(null=True)
    # What of it verdicts say: tasks, bad ones and sums by arm.
    told = models.JSONField(default=dict)
    body = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.guard_id} {self.method}"


class VerdictChange(models.Model):
    """A guard changed its word: the evidence it stood on, kept."""

    guard = models.ForeignKey(Guard, on_delete=models.CASCADE, related_name="changes")
    verdict = models.CharField(max_length=10, choices=VerdictWord.choices)
    value = models.FloatField(null=True)
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    n = models.PositiveIntegerField(default=0)
    sentence = models.TextField()
    ledger_block = models.BigIntegerField(default=0)
    evidence = models.JSONField(default=dict, db_default={})
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="verdict_change_by_guard", fields=["guard", "id"])]
        constraints = [
            CheckConstraint(
                name="verdict_change_word_known", condition=Q(verdict__in=VerdictWord.values)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.guard_id} {self.verdict}"
