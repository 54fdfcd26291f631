from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint

from rollout_console.catalog.models import (
    ActionRoute,
    Mode,
    Release,
    RouteState,
    Segment,
    Workflow,
    WorkflowPath,
)
from rollout_console.rollouts.states import IN_FORCE, RolloutState

STATES = [state.value for state in RolloutState]


class PlanVersion(models.Model):
    """A plan as applied: the parsed document, whole, and the text it came as."""

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="plans")
    number = models.PositiveIntegerField()
    document = models.JSONField()
    text = models.TextField(blank=True)
    digest = models.CharField(max_length=64)
    applied_at = models.DateTimeField()
    applied_by = models.CharField(max_length=150)

    class Meta:
        constraints = [
            UniqueConstraint(name="plan_number_once", fields=["workflow", "number"]),
        ]

    def __str__(self) -> str:
        return f"{self.workflow_id} plan {self.number}"


class ChangeState(models.TextChoices):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOID = "void"


class PlanChange(models.Model):
    """A plan that loosens what a rollout in force stands on, waiting for a second person.

    `digest` is of what was shown: the plan, the one before it, and the rollouts' versions.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="plan_changes")
    base = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="changes_from")
    document = models.JSONField()
    text = models.TextField(blank=True)
    digest = models.CharField(max_length=64)
    # What the plan loosens and tightens, and its whole diff, as they were proposed.
    effects = models.JSONField()
    diff = models.JSONField()
    state = models.CharField(max_length=8, choices=ChangeState.choices, default=ChangeState.PENDING)
    requested_at = models.DateTimeField()
    requested_by = models.CharField(max_length=150)
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.PROTECT,
        related_name="plan_changes_requested",
    )
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    decided_by = models.CharField(max_length=150, blank=True)
    decider = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.PROTECT,
        related_name="plan_changes_decided",
    )
    reason = models.TextField(blank=True)
    applied_as = models.OneToOneField(
        PlanVersion, null=True, on_delete=models.PROTECT, related_name="approved_change"
    )

    class Meta:
        constraints = [
            CheckConstraint(
                name="plan_change_state_known", condition=Q(state__in=ChangeState.values)
            ),
            UniqueConstraint(
                name="plan_change_one_pending",
                fields=["workflow"],
                condition=Q(state="pending"),
                violation_error_message="A change of this plan is already waiting.",
            ),
            CheckConstraint(
                name="plan_change_second_person",
                condition=~Q(state="approved") | Q(requester=None) | ~Q(decider=F("requester")),
                violation_error_message="Someone other than the requester must decide.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.workflow_id} change {self.pk} {self.state}"


class PlanDraft(models.Model):
    """A plan that a person is writing: one a workflow, and one for a workflow to come ("").

    `typed` is a file that could not be read, kept as typed beside the last that could.
    """

    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="plan_drafts"
    )
    workflow = models.CharField(max_length=80, blank=True)
    base = models.PositiveIntegerField(default=0)
    text = models.TextField()
    typed = models.TextField(blank=True)
    revision = models.PositiveIntegerField(default=1)
    # The page that saved last: its own next save is no conflict.
    saved_from = models.CharField(max_length=40, blank=True)
    saved_at = models.DateTimeField()

    class Meta:
        constraints = [
            UniqueConstraint(name="plan_draft_once", fields=["person", "workflow"]),
        ]

    def __str__(self) -> str:
        return f"{self.person_id} {self.workflow or 'new'}"


class Rollout(models.Model):
    """A candidate's way up a ladder of stages. `version` moves with its own changes only."""

    slug = models.CharField(max_length=80, unique=True)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="rollouts")
    plan = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="rollouts")
    candidate = models.ForeignKey(
        Release, on_delete=models.PROTECT, related_name="rollouts_as_candidate"
    )
    stable = models.ForeignKey(
        Release, null=True, on_delete=models.PROTECT, related_name="rollouts_as_stable"
    )
    state = models.CharField(
        max_length=12, choices=[(state, state) for state in STATES], default=RolloutState.DRAFT
    )
    version = models.PositiveBigIntegerField(default=1)
    stage = models.PositiveIntegerField(default=1)
    salt = models.CharField(max_length=32)
    created_at = models.DateTimeField()
    state_at = models.DateTimeField()
    state_by = models.CharField(max_length=150)
    stage_at = models.DateTimeField(null=True)
    # Since when evidence for the next rung counts: the stage's start, or the last containment.
    bake_from = models.DateTimeField(null=True)
    live_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    # What an abandoned rollout taught; the next rollout's plan shows it.
    findings = models.TextField(blank=True, default="")

    class Meta:
        indexes = [models.Index(name="rollout_by_state", fields=["state", "id"])]
        constraints = [
            CheckConstraint(name="rollout_state_known", condition=Q(state__in=STATES)),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def in_force(self) -> bool:
        return RolloutState(self.state) in IN_FORCE


class RolloutPath(models.Model):
    """A path that a rollout moves."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="rollout_paths")
    path = models.ForeignKey(WorkflowPath, on_delete=models.PROTECT, related_name="rollout_paths")
    # Copied from the rollout's state, so that the database can hold one rollout a path.
    in_force = models.BooleanField(default=False)

    class Meta:
        constraints = [
            UniqueConstraint(name="rollout_path_once", fields=["rollout", "path"]),
            UniqueConstraint(
                name="path_one_rollout_in_force",
                fields=["path"],
                condition=Q(in_force=True),
                violation_error_message="Another rollout is in force on this path.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rollout_id} on {self.path_id}"


class Stage(models.Model):
    """One rung: named segments with a share of each one's units. Positions count from 1."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="stages")
    position = models.PositiveIntegerField()
    slug = models.CharField(max_length=80)
    bake_s = models.PositiveIntegerField()
    min_runs = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            UniqueConstraint(name="stage_position_once", fields=["rollout", "position"]),
            UniqueConstraint(name="stage_slug_once", fields=["rollout", "slug"]),
        ]

    def __str__(self) -> str:
        return self.slug


class StageSegment(models.Model):
    """A segment on a rung, with the share (0-1) of its units that the rung exposes."""

    stage = models.ForeignKey(Stage, on_delete=models.CASCADE, related_name="segments")
    segment = models.ForeignKey(Segment, on_delete=models.PROTECT, related_name="stage_segments")
    position = models.PositiveIntegerField()
    share = models.DecimalField(max_digits=6, decimal_places=5)

    class Meta:
        constraints = [
            UniqueConstraint(name="stage_segment_once", fields=["stage", "segment"]),
            CheckConstraint(
                name="stage_share_in_range", condition=Q(share__gt=0) & Q(share__lte=1)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.segment_id} {self.share}"


class ExposedSegment(models.Model):
    """What is exposed now: a segment and the share (0-1) of its units, after containment."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="exposed")
    segment = models.ForeignKey(Segment, on_delete=models.PROTECT, related_name="exposed")
    share = models.DecimalField(max_digits=6, decimal_places=5)

    class Meta:
        constraints = [
            UniqueConstraint(name="exposed_segment_once", fields=["rollout", "segment"]),
            CheckConstraint(
                name="exposed_share_in_range", condition=Q(share__gt=0) & Q(share__lte=1)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.segment_id} {self.share}"


class PathMode(models.Model):
    """A mode that containment put a rollout's path into, for one segment or (null) for all.

    No row means `normal`; a segment's own row goes before the one for all.
    """

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="modes")
    path = models.ForeignKey(WorkflowPath, on_delete=models.PROTECT, related_name="modes")
    segment = models.ForeignKey(Segment, null=True, on_delete=models.PROTECT, related_name="modes")
    mode = models.CharField(max_length=20, choices=Mode.choices)
    since = models.DateTimeField()

    class Meta:
        constraints = [
            UniqueConstraint(
                name="path_mode_once",
                fields=["rollout", "path", "segment"],
                nulls_distinct=False,
            ),
            CheckConstraint(
                name="path_mode_known", condition=Q(mode__in=Mode.values) & ~Q(mode="normal")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.path_id} {self.mode}"


class RouteRestriction(models.Model):
    """An action route held tighter than planned on a path, for one segment or (null) for all.

    It holds for both arms and outlives the rollout that was contained: only enabling ends it.
    """

    path = models.ForeignKey(WorkflowPath, on_delete=models.CASCADE, related_name="restrictions")
    segment = models.ForeignKey(
        Segment, null=True, on_delete=models.CASCADE, related_name="restrictions"
    )
    action_route = models.ForeignKey(
        ActionRoute, on_delete=models.CASCADE, related_name="restrictions"
    )
    state = models.CharField(max_length=5, choices=RouteState.choices)
    since = models.DateTimeField()

    class Meta:
        constraints = [
            UniqueConstraint(
                name="route_restriction_once",
                fields=["path", "segment", "action_route"],
                nulls_distinct=False,
            ),
            CheckConstraint(
                name="route_restriction_tighter", condition=Q(state__in=["ask", "deny"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action_route_id} {self.state}"

    @property
    def words(self) -> str:
        """What is held where; reads route, path and segment, so select them with it."""
        held = "is disabled" if self.state == RouteState.DENY else "asks for approval"
        of = "" if self.segment is None else f" for “{self.segment.slug}”"
        return f"{self.action_route.slug} {held} on “{self.path.slug}”{of}"


class Confirmation(models.Model):
    """One person's half of a step that needs two; void when the version moves or it expires.

    `fingerprint` is of what the step does, where a verb alone does not say it: two people
    confirm the same thing or nothing.
    """

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="confirmations")
    verb = models.CharField(max_length=20)
    version = models.PositiveBigIntegerField()
    role = models.CharField(max_length=20)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="confirmations"
    )
    fingerprint = models.CharField(max_length=64, blank=True, default="")
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            UniqueConstraint(
                name="confirmation_once_per_person",
                fields=["rollout", "verb", "version", "fingerprint", "person"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.role}"


class Mark(models.Model):
    """A point in time that every chart of these paths shows: a release change or an action."""

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="marks")
    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="marks")
    kind = models.CharField(max_length=10, choices=[("release", "release"), ("action", "action")])
    text = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="mark_by_workflow", fields=["workflow", "at"])]
        constraints = [
            CheckConstraint(name="mark_kind_known", condition=Q(kind__in=["release", "action"])),
        ]

    def __str__(self) -> str:
        return self.text
