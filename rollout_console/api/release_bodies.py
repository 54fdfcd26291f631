"""What releases and their comparison answer with; only the OpenAPI document reads these."""

from rest_framework import serializers

from rollout_console.api.serializers import Out, ReleaseOut
from signals.stats.compare import WORDS


class RoleOut(Out):
    role = serializers.ChoiceField(choices=["candidate", "stable"])
    path = serializers.CharField()


class ReleaseReadOut(ReleaseOut):
    roles = RoleOut(many=True)
    first_at = serializers.DateTimeField()
    newest_task_at = serializers.DateTimeField(allow_null=True)


class BasisOut(Out):
    kind = serializers.ChoiceField(choices=["concurrent", "sequential", "apart"])
    to = serializers.DateTimeField()
    segments = serializers.ListField(
        child=serializers.CharField(allow_null=True),
        allow_null=True,
        help_text="Those compared, null for all; null among them: tasks without a segment.",
    )
    step_s = serializers.IntegerField(help_text="60, or 3600 where minutes are kept no longer.")
    steps_both = serializers.IntegerField(help_text="Steps in which both had a task.")
    steps = serializers.IntegerField(help_text="Steps in which either had one.")
    sentence = serializers.CharField()

    def get_fields(self) -> dict[str, serializers.Field]:  # type: ignore[type-arg]
        # “from” is a word of the language.
        return {"from": serializers.DateTimeField(), **super().get_fields()}


class SideOut(Out):
    release = serializers.CharField()
    n = serializers.IntegerField()
    n_fallback = serializers.IntegerField()
    cost_n = serializers.IntegerField()
    first_at = serializers.DateTimeField(allow_null=True)
    newest_at = serializers.DateTimeField(allow_null=True)


class EstimateOut(Out):
    value = serializers.FloatField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField()


class GapOut(Out):
    value = serializers.FloatField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)


class ComparedOut(Out):
    signal = serializers.CharField()
    unit = serializers.CharField()
    better = serializers.ChoiceField(choices=["higher", "lower"])
    candidate = EstimateOut(allow_null=True)
    stable = EstimateOut(allow_null=True)
    difference = GapOut(allow_null=True)
    word = serializers.ChoiceField(choices=WORDS)
    note = serializers.CharField(allow_blank=True)


class CountsOut(Out):
    candidate = serializers.IntegerField()
    stable = serializers.IntegerField()


class CostPartOut(Out):
    part = serializers.CharField()
    value = serializers.FloatField()


class CostChangeOut(Out):
    unit = serializers.CharField()
    candidate = serializers.FloatField()
    stable = serializers.FloatField()
    difference = GapOut()
    n = CountsOut()
    parts = CostPartOut(many=True)
    tokens_known = serializers.BooleanField()
    retries_known = serializers.BooleanField()
    output_weight = serializers.FloatField()


class ComparisonOut(Out):
    workflow = serializers.CharField()
    path = serializers.CharField()
    as_of = serializers.DateTimeField()
    to = serializers.DateTimeField()
    basis = BasisOut()
    candidate = SideOut()
    stable = SideOut()
    signals = ComparedOut(many=True)
    cost_change = CostChangeOut(allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field]:  # type: ignore[type-arg]
        return {"from": serializers.DateTimeField(), **super().get_fields()}
