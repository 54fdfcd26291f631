"""Bodies of the exposed mix and of economics; only the OpenAPI document reads them."""

from rest_framework import serializers

from rollout_console.api.serializers import Out

STANDINGS = ["shown", "rare", "missing", "unseen", "untold"]


class RangeOut(Out):
    value = serializers.FloatField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField()


class MixPartOut(Out):
    n = serializers.IntegerField()
    of = serializers.IntegerField()
    share = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)


class MixValueOut(Out):
    attribute = serializers.CharField()
    value = serializers.CharField()
    exposed = MixPartOut()
    others = MixPartOut()
    standing = serializers.ChoiceField(STANDINGS)
    needs = serializers.IntegerField(allow_null=True)


class MixAttributeOut(Out):
    attribute = serializers.CharField()
    values = MixValueOut(many=True)
    distance = serializers.FloatField(allow_null=True)
    exposed_of = serializers.IntegerField()
    others_of = serializers.IntegerField()


class MixGapOut(Out):
    attribute = serializers.CharField()
    value = serializers.CharField()
    standing = serializers.ChoiceField(STANDINGS)
    sure = serializers.BooleanField()
    sentence = serializers.CharField()


class MixPathOut(Out):
    path = serializers.CharField()
    name = serializers.CharField()
    planned = serializers.BooleanField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    exposed = serializers.IntegerField()
    others = serializers.IntegerField()
    too_protected = serializers.BooleanField()
    attributes = MixAttributeOut(many=True)
    gaps = MixGapOut(many=True)


class MixOut(Out):
    rollout = serializers.CharField()
    as_of = serializers.DateTimeField()
    paths = MixPathOut(many=True)


class CostOut(Out):
    per_task = RangeOut(allow_null=True)
    total = serializers.FloatField()
    of = serializers.IntegerField()


class BurnOut(Out):
    spent = serializers.FloatField(allow_null=True)
    budget = serializers.FloatField(allow_null=True)
    used_share = serializers.FloatField(allow_null=True)
    elapsed_share = serializers.FloatField()


class PeriodOut(Out):
    name = serializers.ChoiceField(["hour", "day"])
    since = serializers.DateTimeField()
    burn = BurnOut()
    known = serializers.IntegerField()
    of = serializers.IntegerField()


class ProjectionOut(Out):
    step = serializers.ChoiceField(["next", "full"])
    stage = serializers.IntegerField(allow_null=True)
    share = serializers.FloatField(allow_null=True)
    basis = serializers.ChoiceField(["measured", "planned", "unknown"])
    spend = RangeOut(allow_null=True)
    reviews = RangeOut(allow_null=True)


class ModeUseOut(Out):
    mode = serializers.CharField()
    segment = serializers.CharField(allow_null=True)
    n = serializers.IntegerField()
    of = serializers.IntegerField()
    share = RangeOut(allow_null=True)
    escalated = serializers.IntegerField()
    cost = CostOut(allow_null=True)
    cap = serializers.FloatField(allow_null=True)
    cost_state = serializers.ChoiceField(["inside", "near", "over", "too_few"], allow_null=True)


class FlowOut(Out):
    n = serializers.IntegerField()
    answered = serializers.IntegerField()
    answered_escalated = serializers.IntegerField()
    modes = ModeUseOut(many=True)
    by_segment = ModeUseOut(many=True)
    stable_share = RangeOut(allow_null=True)


class TokensOut(Out):
    segment = serializers.CharField(allow_null=True)
    tasks = serializers.IntegerField()
    input = RangeOut(allow_null=True)
    input_total = serializers.FloatField()
    output = RangeOut(allow_null=True)
    output_total = serializers.FloatField()


class ReviewsOut(Out):
    arrivals = RangeOut(allow_null=True)
    backlog = serializers.IntegerField()
    oldest_s = serializers.FloatField(allow_null=True)
    capacity_per_hour = serializers.FloatField(allow_null=True)
    load = RangeOut(allow_null=True)
    hours_to_clear = serializers.FloatField(allow_null=True)
    rejected = RangeOut(allow_null=True)
    took_ms = RangeOut(allow_null=True)


class RouteOut(Out):
    route = serializers.CharField()
    n = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]  # a declared field, not the base's
    p50 = RangeOut(allow_null=True)
    p95 = RangeOut(allow_null=True)
    p99 = RangeOut(allow_null=True)
    slow = RangeOut(allow_null=True)
    cost = CostOut()


class EconomicsPathOut(Out):
    path = serializers.CharField()
    name = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    span_s = serializers.FloatField()
    last_at = serializers.DateTimeField(allow_null=True)
    age_s = serializers.FloatField(allow_null=True)
    tasks = serializers.IntegerField()
    tasks_per_hour = RangeOut()
    exposed_share = serializers.FloatField(allow_null=True)
    cost = CostOut()
    candidate_cost = CostOut()
    stable_cost = CostOut()
    spend = RangeOut(allow_null=True)
    spend_all = RangeOut(allow_null=True)
    budget_per_hour = serializers.FloatField(allow_null=True)
    periods = PeriodOut(many=True)
    projections = ProjectionOut(many=True)
    flow = FlowOut()
    tokens = TokensOut(many=True)
    reviews = ReviewsOut()
    slow_limit_ms = serializers.FloatField(allow_null=True)
    routes = RouteOut(many=True)


class EconomicsOut(Out):
    rollout = serializers.CharField()
    as_of = serializers.DateTimeField()
    paths = EconomicsPathOut(many=True)
