from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint


class Person(AbstractUser):
    """Somebody who logs in. Roles are memberships, or follow from being named in a plan."""

    class Meta(AbstractUser.Meta):
        swappable = "AUTH_USER_MODEL"

    @property
    def shown_name(self) -> str:
        return self.get_full_name() or self.username


class Mode(models.TextChoices):
    NORMAL = "normal"
    HUMAN_REVIEW = "human_review"
    MANUAL = "manual"
    PREVIOUS_STABLE = "previous_stable"
    SIMPLER_ROUTE = "simpler_route"
    REDUCED_CONTEXT = "reduced_context"
    READ_ONLY = "read_only"


class Workflow(models.Model):
    slug = models.CharField(max_length=80, unique=True)
    name = models.CharField(max_length=200)
    owner = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="owned_workflows")
    deputy = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="deputised_workflows")
    escalation = models.JSONField(default=list)
    discovery = models.BooleanField(default=False)
    hold_s = models.PositiveIntegerField(default=600)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.slug


class Release(models.Model):
    """A version of a workflow. One first seen in a run is shown as not registered."""

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="releases")
    version = models.CharField(max_length=100)
    registered = models.BooleanField(default=True)
    source = models.JSONField(default=dict)
    content_digest = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            UniqueConstraint(name="release_once", fields=["workflow", "version"]),
        ]

    def __str__(self) -> str:
        return self.version


class Component(models.TextChoices):
    PROMPT = "prompt"
    MODEL = "model"
    RETRIEVAL = "retrieval"
    TOOLS = "tools"
    CONFIGURATION = "configuration"


class ReleaseChange(models.Model):
    """One before/after entry of a release, against the stable one."""

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="changes")
    position = models.PositiveIntegerField()
    component = models.CharField(max_length=20, choices=Component.choices)
    name = models.CharField(max_length=200)
    before = models.TextField(blank=True)
    after = models.TextField(blank=True)
    note = models.TextField(blank=True)

    class Meta:
        constraints = [
            UniqueConstraint(name="change_position_once", fields=["release", "position"]),
            CheckConstraint(
                name="change_component_known", condition=Q(component__in=Component.values)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.component} {self.name}"


class Sensitivity(models.TextChoices):
    NORMAL = "normal"
    SENSITIVE = "sensitive"


class WorkflowPath(models.Model):
    """One kind of work through a workflow; signals, limits and modes are kept per path."""

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="paths")
    slug = models.CharField(max_length=80)
    name = models.CharField(max_length=200)
    sensitivity = models.CharField(
        max_length=10, choices=Sensitivity.choices, default=Sensitivity.NORMAL
    )
    no_ai_mode = models.CharField(max_length=20, choices=Mode.choices, default=Mode.MANUAL)
    unreachable_mode = models.CharField(
        max_length=20, choices=Mode.choices, default=Mode.PREVIOUS_STABLE
    )
    limits = models.JSONField(default=dict)
    review = models.JSONField(default=dict)
    fallbacks = models.JSONField(default=dict)
    # Which release plays which role here. The candidate stays named after a roll-back, so that
    # late reports are still counted on its arm; the next rollout replaces it.
    stable = models.ForeignKey(
        Release, null=True, on_delete=models.PROTECT, related_name="stable_on"
    )
    candidate = models.ForeignKey(
        Release, null=True, on_delete=models.PROTECT, related_name="candidate_on"
    )

    class Meta:
        constraints = [
            UniqueConstraint(name="path_once", fields=["workflow", "slug"]),
            CheckConstraint(
                name="path_sensitivity_known", condition=Q(sensitivity__in=Sensitivity.values)
            ),
            CheckConstraint(name="path_no_ai_mode_known", condition=Q(no_ai_mode__in=Mode.values)),
            CheckConstraint(
                name="path_unreachable_mode_known", condition=Q(unreachable_mode__in=Mode.values)
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def flag_key(self) -> str:
        """The OpenFeature flag key; reads the workflow, so select it with the path."""
        return f"{self.workflow.slug}.{self.slug}"


class SegmentKind(models.TextChoices):
    INTERNAL_TEAM = "internal_team"
    CUSTOMER_SEGMENT = "customer_segment"
    WORKFLOW_PATH = "workflow_path"
    ACCOUNT_GROUP = "account_group"
    USER_ROLE = "user_role"
    TRAFFIC_SLICE = "traffic_slice"


class Segment(models.Model):
    """Who can be exposed: a rule (JSONLogic) over the evaluation context, and an owner."""

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="segments")
    slug = models.CharField(max_length=80)
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=20, choices=SegmentKind.choices)
    rule = models.JSONField()
    owner = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="owned_segments")
    tasks_per_day = models.PositiveIntegerField(null=True)
    people = models.PositiveIntegerField(null=True)

    class Meta:
        constraints = [
            UniqueConstraint(name="segment_once", fields=["workflow", "slug"]),
            CheckConstraint(name="segment_kind_known", condition=Q(kind__in=SegmentKind.values)),
        ]

    def __str__(self) -> str:
        return self.slug


class RouteState(models.TextChoices):
    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class ActionRoute(models.Model):
    """A registered way to act on the world, with its scope and its planned state."""

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="action_routes")
    slug = models.CharField(max_length=80)
    scope = models.JSONField(default=dict)
    effect = models.CharField(max_length=5, default="write")
    risk = models.CharField(max_length=6)
    reversibility = models.CharField(max_length=12)
    undo_s = models.PositiveIntegerField(null=True)
    role = models.CharField(max_length=20)
    default = models.CharField(max_length=5, choices=RouteState.choices)

    class Meta:
        constraints = [
            UniqueConstraint(name="action_route_once", fields=["workflow", "slug"]),
            CheckConstraint(
                name="action_route_effect_known", condition=Q(effect__in=["read", "write"])
            ),
            CheckConstraint(
                name="action_route_risk_known", condition=Q(risk__in=["low", "medium", "high"])
            ),
            CheckConstraint(
                name="action_route_reversibility_known",
                condition=Q(reversibility__in=["reversible", "irreversible"]),
            ),
            CheckConstraint(
                name="action_route_default_known", condition=Q(default__in=RouteState.values)
            ),
        ]

    def __str__(self) -> str:
        return self.slug
