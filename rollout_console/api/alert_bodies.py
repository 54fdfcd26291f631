"""Bodies of alerts, incidents and trips."""

from rest_framework import serializers

from rollout_console.api.fields import Body, Flag, Moment, Text
from rollout_console.api.serializers import Out


class HoldIn(Body):
    until = Moment()
    reason = Text(max_length=2000)


class ResolveIn(Body):
    was_right = Flag()
    note = Text(required=False, allow_blank=True, max_length=2000, default="")
    onset_at = Moment(required=False)


class AlertOut(Out):
    id = serializers.IntegerField()
    rollout = serializers.CharField()
    guard = serializers.CharField(allow_null=True)
    problem = serializers.CharField(allow_null=True)
    state = serializers.ChoiceField(["open", "acknowledged", "held", "resolved"])
    opened_at = serializers.DateTimeField()
    acked_at = serializers.DateTimeField(allow_null=True)
    owner = serializers.CharField()
    sentence = serializers.CharField()
    due_at = serializers.DateTimeField(allow_null=True)
    due_action = serializers.DictField(allow_null=True)
    incident = serializers.IntegerField(allow_null=True)
    recurrences = serializers.IntegerField()
    contained_at = serializers.DateTimeField(allow_null=True)
    quiet = serializers.BooleanField()


class ReopenIn(Body):
    reason = Text(max_length=2000)


class NextPageOut(Out):
    at = serializers.DateTimeField()
    step = serializers.IntegerField()
    told = serializers.CharField()
    notify = serializers.ListField(child=serializers.CharField())


class IncidentOut(Out):
    id = serializers.IntegerField()
    workflow = serializers.CharField()
    rollout = serializers.CharField()
    state = serializers.ChoiceField(["open", "acknowledged", "resolved"])
    owner = serializers.CharField()
    opened_at = serializers.DateTimeField()
    acked_at = serializers.DateTimeField(allow_null=True)
    acked_by = serializers.CharField(allow_null=True)
    resolved_at = serializers.DateTimeField(allow_null=True)
    reopened_at = serializers.DateTimeField(allow_null=True)
    reopened = serializers.IntegerField()
    sentence = serializers.CharField()
    due_at = serializers.DateTimeField(allow_null=True)
    next_page = NextPageOut(allow_null=True)
    alerts = AlertOut(many=True)


class TripOut(Out):
    alert = serializers.IntegerField()
    incident = serializers.IntegerField(allow_null=True)
    workflow = serializers.CharField()
    rollout = serializers.CharField()
    guard = serializers.CharField()
    signal = serializers.CharField()
    path = serializers.CharField()
    severity = serializers.CharField()
    state = serializers.ChoiceField(["open", "acknowledged", "held", "resolved"])
    sentence = serializers.CharField()
    value = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField()
    opened_at = serializers.DateTimeField()
    acked_at = serializers.DateTimeField(allow_null=True)
    resolved_at = serializers.DateTimeField(allow_null=True)
    was_right = serializers.BooleanField(allow_null=True)
    note = serializers.CharField(allow_blank=True)
    recurrences = serializers.IntegerField()
    detect_s = serializers.FloatField(allow_null=True)
    detect_from = serializers.ChoiceField(["onset", "damage"], allow_null=True)
    done = serializers.ListField(child=serializers.CharField())


class SuggestionOut(Out):
    limit = serializers.FloatField()
    kept = serializers.IntegerField()
    dropped = serializers.IntegerField()
    wrong = serializers.IntegerField()


class LimitHistoryOut(Out):
    hours = serializers.IntegerField()
    beyond_now = serializers.IntegerField()
    beyond_suggested = serializers.IntegerField()


class GuardTripsOut(Out):
    workflow = serializers.CharField()
    guard = serializers.CharField()
    path = serializers.CharField()
    signal = serializers.CharField()
    trips = serializers.IntegerField()
    answered = serializers.IntegerField()
    right = serializers.IntegerField()
    precision = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    detect_median_s = serializers.FloatField(allow_null=True)
    detect_n = serializers.IntegerField()
    limit = serializers.FloatField(allow_null=True)
    suggestion = SuggestionOut(allow_null=True)
    history = LimitHistoryOut(allow_null=True)
