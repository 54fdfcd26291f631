"""Bodies in and out, as `api.md` has them. They shape and parse; services decide."""

from typing import Any, Final

from rest_framework import serializers

from rollout_console.api.fields import Body, Choice, Flag, JsonMap, Moment, Number, Text, Whole
from rollout_console.containment.policy import REASONS
from rollout_console.rollouts.readiness import ITEMS
from rollout_console.rollouts.recommendation import Advice

CONTAINMENT_ACTIONS: Final = (
    "pause",
    "resume",
    "narrow",
    "fallback",
    "clear_fallback",
    "rollback",
    "disable_action",
    "require_approval",
    "enable_action",
    "escalate",
)
FALLBACK_MODES: Final = (
    "human_review",
    "manual",
    "previous_stable",
    "simpler_route",
    "reduced_context",
    "read_only",
)
VERSION_MAX: Final = 2**53 - 1


# --- In ---


class ReasonIn(Body):
    code = Choice(choices=list(REASONS))
    note = Text(required=False, allow_blank=True, max_length=2000, default="")


class ContainmentIn(Body):
    action = Choice(choices=CONTAINMENT_ACTIONS)
    reason = ReasonIn()
    expected_version = Whole(min_value=1, max_value=VERSION_MAX, required=False)
    segments = serializers.ListField(child=Text(max_length=80), required=False)
    share = Number(min_value=0, max_value=1, required=False)
    paths = serializers.ListField(child=Text(max_length=80), required=False)
    mode = Choice(choices=FALLBACK_MODES, required=False)
    action_route = Text(max_length=80, required=False)


class StepIn(Body):
    expected_version = Whole(min_value=1, max_value=VERSION_MAX, required=False)


class EmptyIn(Body):
    """A body with nothing in it."""


class AbandonIn(Body):
    findings = Text(allow_blank=True, max_length=10_000)


class ExpansionIn(Body):
    expected_version = Whole(min_value=1, max_value=VERSION_MAX, required=False)
    break_glass = Flag(required=False, default=False)


class DecisionIn(Body):
    decision = Choice(choices=["approve", "reject"])
    reason = Text(required=False, allow_blank=True, max_length=2000, default="")
    digest = Text(max_length=64)


class BreakGlassIn(Body):
    reason = Text(max_length=2000)
    confirm = Flag()


class StartIn(Body):
    break_glass = BreakGlassIn(required=False)


class ReviewIn(Body):
    note = Text(max_length=2000)


class PlanDecisionIn(Body):
    decision = Choice(choices=["approve", "reject"])
    reason = Text(max_length=2000)
    digest = Text(max_length=64)


class SegmentMatchIn(Body):
    context = serializers.DictField()  # type: ignore[assignment]  # a declared field, not the base's
    segment = Text(required=False, max_length=80)
    rule = serializers.JSONField(required=False)


class ChangeIn(Body):
    component = Choice(choices=["prompt", "model", "retrieval", "tools", "configuration"])
    name = Text(max_length=200)
    before = Text(required=False, allow_blank=True, trim_whitespace=False, max_length=100_000)
    after = Text(required=False, allow_blank=True, trim_whitespace=False, max_length=100_000)
    note = Text(required=False, allow_blank=True, trim_whitespace=False, max_length=5_000)


class SourceIn(Body):
    repository = Text(required=False, allow_blank=True, max_length=1000)
    commit = Text(required=False, allow_blank=True, max_length=1000)
    url = Text(required=False, allow_blank=True, max_length=1000)


class EvaluateIn(Body):
    at = Moment()
    workflow = Text(max_length=80)
    path = Text(max_length=80)
    context = JsonMap(required=False)  # type: ignore[assignment]  # a declared field, not the base's


class ReleaseIn(Body):
    changes = ChangeIn(many=True, required=False)
    source = SourceIn(required=False)  # type: ignore[assignment]  # a declared field, not the base's


# --- Out ---


class Out(serializers.Serializer[Any]):
    """An answer; only the OpenAPI document reads these."""


class ErrorOut(Out):
    pointer = serializers.CharField()
    detail = serializers.CharField()
    line = serializers.IntegerField(required=False)


class ProblemOut(Out):
    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField(required=False)
    errors = ErrorOut(many=True, required=False)  # type: ignore[assignment]  # a declared field, not the base's


class PathOut(Out):
    slug = serializers.CharField()
    name = serializers.CharField()
    sensitivity = serializers.ChoiceField(["normal", "sensitive"])


class WorkflowOut(Out):
    slug = serializers.CharField()
    name = serializers.CharField()
    owner = serializers.CharField()
    deputy = serializers.CharField()
    paths = PathOut(many=True)


class ExposedOut(Out):
    segment = serializers.CharField()
    share = serializers.FloatField()
    exposed_share = serializers.FloatField(allow_null=True)


class ChangeOut(Out):
    component = serializers.CharField()
    name = serializers.CharField()
    before = serializers.CharField(allow_blank=True)
    after = serializers.CharField(allow_blank=True)
    note = serializers.CharField(allow_blank=True)


class RolloutOut(Out):
    slug = serializers.CharField()
    workflow = serializers.CharField()
    candidate = serializers.CharField()
    stable = serializers.CharField(allow_null=True)
    state = serializers.CharField()
    version = serializers.IntegerField()
    stage = serializers.IntegerField()
    stages = serializers.IntegerField()
    exposed = ExposedOut(many=True)
    modes = serializers.DictField(child=serializers.CharField())
    actions = serializers.DictField(child=serializers.CharField())
    changes = ChangeOut(many=True)
    owner = serializers.CharField()
    deputy = serializers.CharField()
    since = serializers.DateTimeField()
    by = serializers.CharField()


class SignalOut(Out):
    signal = serializers.CharField()
    path = serializers.CharField()
    value = serializers.FloatField(allow_null=True)
    unit = serializers.CharField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField()
    window_s = serializers.IntegerField()
    age_s = serializers.FloatField(allow_null=True)
    limit = serializers.FloatField(allow_null=True)
    state = serializers.ChoiceField(["inside", "near", "over", "too_few", "stale"])


class OverviewRolloutOut(RolloutOut):
    tasks_per_min = serializers.FloatField()
    signals = SignalOut(many=True)
    alerts = serializers.IntegerField()


class OverviewOut(Out):
    as_of = serializers.DateTimeField()
    rollouts = OverviewRolloutOut(many=True)


class NeedsOut(Out):
    runs = serializers.IntegerField()
    seconds = serializers.IntegerField(allow_null=True)
    per_hour = serializers.FloatField(allow_null=True)
    counted = serializers.CharField()


class VerdictOut(Out):
    guard = serializers.CharField()
    kind = serializers.ChoiceField(["criterion", "trigger"])
    path = serializers.CharField()
    segment = serializers.CharField(allow_null=True)
    verdict = serializers.CharField()
    value = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    unit = serializers.CharField()
    reference = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField()
    window_s = serializers.IntegerField()
    age_s = serializers.FloatField(allow_null=True)
    evidence = serializers.DictField()
    needs = NeedsOut(allow_null=True)
    sentence = serializers.CharField()
    ledger_block = serializers.IntegerField()


class ReasonOut(Out):
    advice = serializers.ChoiceField(list(Advice))
    guard = serializers.CharField(help_text="Empty where no guard says it.")
    sentence = serializers.CharField()


class RecommendationOut(Out):
    advice = serializers.ChoiceField(list(Advice), allow_null=True)
    reasons = ReasonOut(many=True)


class MissingOut(Out):
    detail = serializers.CharField()
    fix = serializers.CharField()


class ReadinessItemOut(Out):
    item = serializers.ChoiceField(list(ITEMS))
    title = serializers.CharField()
    present = serializers.BooleanField()
    detail = serializers.CharField()
    evidence = serializers.ListField(child=serializers.CharField())
    missing = MissingOut(many=True)
    findings = serializers.ListField(child=serializers.CharField())


class ReadinessOut(Out):
    rollout = serializers.CharField()
    state = serializers.CharField()
    plan = serializers.IntegerField()
    passed = serializers.BooleanField()
    items = ReadinessItemOut(many=True)


class PointOut(Out):
    t = serializers.DateTimeField()
    value = serializers.FloatField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField()


class MarkOut(Out):
    t = serializers.DateTimeField()
    kind = serializers.CharField()
    text = serializers.CharField()


class SeriesOut(Out):
    signal = serializers.CharField()
    unit = serializers.CharField()
    step_s = serializers.IntegerField()
    points = PointOut(many=True)
    marks = MarkOut(many=True)
    limit = serializers.FloatField(allow_null=True)
    baseline = serializers.FloatField(allow_null=True)
    # Only of metric points, whose points then have `least`, `most`, `newest_at` too.
    kind = serializers.ChoiceField(["gauge", "sum", "histogram"], required=False)
    sources = serializers.ListField(child=serializers.CharField(), required=False)


class ExposureVersionOut(Out):
    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    cause = serializers.CharField(allow_null=True)
    actor = serializers.CharField(allow_null=True)
    digest = serializers.CharField()
    workflows = serializers.ListField(child=serializers.CharField())


class ExposureChangeOut(Out):
    workflow = serializers.CharField()
    path = serializers.CharField()
    segment = serializers.CharField(allow_null=True)
    what = serializers.CharField()
    before = serializers.JSONField()
    after = serializers.JSONField()
    exposed = serializers.BooleanField()
    held = serializers.BooleanField()
    sentence = serializers.CharField()


class ExposureRecordOut(ExposureVersionOut):
    changes = ExposureChangeOut(many=True)
    document = serializers.DictField()


class ServedOut(Out):
    segment = serializers.CharField(allow_null=True)
    share = serializers.FloatField(allow_null=True)
    held = serializers.BooleanField()
    release = serializers.CharField(allow_null=True)
    mode = serializers.CharField()
    route = serializers.CharField(allow_null=True)
    settings = serializers.DictField()
    actions = serializers.DictField(child=serializers.CharField())
    rules = serializers.ListField(child=serializers.DictField())


class PathThenOut(Out):
    workflow = serializers.CharField()
    path = serializers.CharField()
    rollout = serializers.CharField(allow_null=True)
    exposed = ServedOut(many=True)
    apart = ServedOut(many=True)
    others = ServedOut()
    since = ExposureVersionOut(allow_null=True)


class ExposureThenOut(Out):
    time = serializers.DateTimeField()
    version = ExposureVersionOut()
    fractional = serializers.CharField()
    paths = PathThenOut(many=True)


class EvaluationErrorOut(Out):
    code = serializers.CharField()
    detail = serializers.CharField()


class ContextThenOut(Out):
    at = serializers.DateTimeField()
    key = serializers.CharField()
    version = ExposureVersionOut()
    since = ExposureVersionOut(allow_null=True)
    variant = serializers.CharField(allow_null=True)
    value = serializers.DictField(allow_null=True)
    metadata = serializers.DictField()
    error = EvaluationErrorOut(allow_null=True)
    fractional = serializers.CharField()
    computed_with = serializers.CharField()
    same_generation = serializers.BooleanField()


class AuditOut(Out):
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    action = serializers.CharField()
    actor = serializers.CharField()
    actor_kind = serializers.CharField()
    workflow = serializers.CharField(allow_blank=True)
    subject_type = serializers.CharField()
    subject = serializers.CharField()
    reason = serializers.DictField()
    data = serializers.DictField()  # type: ignore[assignment]  # a declared field, not the base's


class MeOut(Out):
    name = serializers.CharField()
    kind = serializers.ChoiceField(["person", "token"])
    roles = serializers.DictField(child=serializers.ListField(child=serializers.CharField()))
    scopes = serializers.ListField(child=serializers.CharField(), allow_null=True)
    workflows = serializers.ListField(child=serializers.CharField())


class SignalDefinedOut(Out):
    slug = serializers.CharField()
    name = serializers.CharField()
    title = serializers.CharField()
    kind = serializers.ChoiceField(["rate", "mean", "quantile", "count", "freshness"])
    unit = serializers.CharField(allow_blank=True)
    better = serializers.ChoiceField(["higher", "lower"])
    own = serializers.BooleanField(help_text="Defined by the team, in the workflow's plan.")
    collected = serializers.BooleanField()
    fed_by = serializers.CharField()
    too_little = serializers.CharField(help_text="How it reads before there is enough data.")
    version = serializers.IntegerField(allow_null=True)
    since = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField(allow_null=True)


class SignalDefinedIn(serializers.Serializer[None]):
    """As it stands in a plan, whose reader judges it."""

    slug = serializers.CharField(required=False)
    name = serializers.CharField(required=False)
    title = serializers.CharField(required=False)
    phrase = serializers.CharField(required=False, help_text="With {} for the value.")
    unit = serializers.CharField(required=False)
    kind = serializers.ChoiceField(["rate", "mean", "quantile", "count"])
    better = serializers.ChoiceField(["lower", "higher"])
    measure = serializers.CharField(required=False)
    evaluation = serializers.CharField(required=False)
    outcome = serializers.ListField(child=serializers.CharField(), required=False)
    failure_category = serializers.ListField(child=serializers.CharField(), required=False)
    feedback = serializers.ListField(child=serializers.CharField(), required=False)
    review = serializers.ListField(child=serializers.CharField(), required=False)
    q = serializers.FloatField(required=False)
    above = serializers.FloatField(required=False)
    per_task = serializers.BooleanField(required=False)


class PlanOut(Out):
    workflow = serializers.CharField()
    number = serializers.IntegerField()
    created = serializers.BooleanField()
    rollout = serializers.CharField(allow_null=True)
    dry_run = serializers.BooleanField()
    diff = serializers.ListField(child=serializers.CharField())
    loosens = serializers.ListField(child=serializers.CharField())
    change = serializers.IntegerField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)


class FindingOut(Out):
    code = serializers.CharField()
    severity = serializers.ChoiceField(["gap", "advice"])
    pointer = serializers.CharField()
    sentence = serializers.CharField()


class PlanVersionOut(Out):
    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    by = serializers.CharField()
    approved_by = serializers.CharField(allow_null=True)
    digest = serializers.CharField()
    diff = serializers.ListField(child=serializers.CharField())


class PlanWholeOut(PlanVersionOut):
    workflow = serializers.CharField()
    document = serializers.DictField()
    text = serializers.CharField()
    findings = FindingOut(many=True)


class EffectOut(Out):
    direction = serializers.ChoiceField(["tighter", "looser"])
    where = serializers.CharField()
    sentence = serializers.CharField()


class PlanChangeOut(Out):
    id = serializers.IntegerField()
    workflow = serializers.CharField()
    state = serializers.ChoiceField(["pending", "approved", "rejected", "expired", "void"])
    digest = serializers.CharField()
    base = serializers.IntegerField()
    requested_at = serializers.DateTimeField()
    requested_by = serializers.CharField()
    expires_at = serializers.DateTimeField()
    effects = EffectOut(many=True)
    diff = serializers.ListField(child=serializers.CharField())
    decided_at = serializers.DateTimeField(allow_null=True)
    decided_by = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_blank=True)
    applied_as = serializers.IntegerField(allow_null=True)


class SegmentMatchOut(Out):
    matches = serializers.BooleanField()
    segment = serializers.CharField(allow_null=True)
    reads = serializers.ListField(child=serializers.CharField())
    missing = serializers.ListField(child=serializers.CharField())
    tasks = serializers.IntegerField(allow_null=True)
    sentences = serializers.ListField(child=serializers.CharField())


class ReleaseOut(Out):
    workflow = serializers.CharField()
    version = serializers.CharField()
    registered = serializers.BooleanField()
    source = serializers.DictField()  # type: ignore[assignment]  # a declared field, not the base's
    changes = ChangeOut(many=True)


class StepOut(Out):
    rollout = serializers.CharField()
    version = serializers.IntegerField()
    exposure_version = serializers.IntegerField()
    state = serializers.CharField()


class WaitingOut(StepOut):
    waiting_for = serializers.ListField(child=serializers.CharField())


class OutcomeOut(StepOut):
    changed_meanwhile = serializers.ListField(child=serializers.CharField())


class OutcomeWaitingOut(OutcomeOut):
    waiting_for = serializers.ListField(child=serializers.CharField())


class DecisionOut(Out):
    person = serializers.CharField()
    decision = serializers.ChoiceField(["approve", "reject"])
    reason = serializers.CharField(allow_blank=True)
    at = serializers.DateTimeField()


class BreakGlassOut(Out):
    reason = serializers.CharField()
    reviewed_by = serializers.CharField(allow_null=True)
    reviewed_at = serializers.DateTimeField(allow_null=True)
    note = serializers.CharField(allow_blank=True)


class ShareOut(Out):
    segment = serializers.CharField()
    share = serializers.FloatField()


class ExpansionOut(Out):
    id = serializers.IntegerField()
    workflow = serializers.CharField()
    rollout = serializers.CharField()
    candidate = serializers.CharField()
    state = serializers.ChoiceField(
        ["pending", "approved", "rejected", "void", "expired", "started"]
    )
    void_reason = serializers.CharField(allow_blank=True)
    from_version = serializers.IntegerField()
    from_stage = serializers.IntegerField()
    stage = serializers.IntegerField()
    exposed = ShareOut(many=True)
    digest = serializers.CharField()
    approvals = serializers.IntegerField()
    approvals_needed = serializers.IntegerField()
    approvals_why = serializers.CharField()
    decisions = DecisionOut(many=True)
    requested_by = serializers.CharField()
    at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    for_break_glass = serializers.BooleanField()
    break_glass = BreakGlassOut(allow_null=True)
    started_by = serializers.CharField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    exposure_version = serializers.IntegerField(allow_null=True)


class ExpansionWholeOut(ExpansionOut):
    evidence = serializers.DictField()
