"""Bodies of action requests, in and out."""

import re
from typing import Any, Final

from rest_framework import serializers

from rollout_console.api.fields import Body, Choice, JsonMap, Text
from rollout_console.api.serializers import Out

# It stands in an address.
_ID: Final = re.compile(r"[A-Za-z0-9._~:-]{1,200}")


class RequestId(Text):
    def to_internal_value(self, data: Any) -> str:
        found = super().to_internal_value(data)
        if not _ID.fullmatch(found):
            raise serializers.ValidationError(
                "1 to 200 of: letters, digits, dot, hyphen, underscore, tilde, colon."
            )
        return found


class ActionIn(Body):
    id = RequestId()
    workflow = Text(max_length=80)
    path = Text(max_length=80)
    action = Text(max_length=80)
    run_id = Text(required=False, allow_blank=True, max_length=200, default="")
    target = Text(max_length=500)
    summary = Text(max_length=2000)
    parameters = JsonMap(required=False)
    # A declared field, not the base's own `context`.
    context = JsonMap(required=False)  # type: ignore[assignment]


class ActionResultIn(Body):
    status = Choice(choices=["done", "failed", "undone"])
    reference = Text(required=False, allow_blank=True, max_length=200, default="")
    detail = Text(required=False, allow_blank=True, max_length=2000, default="")


class ActionOut(Out):
    id = serializers.CharField()
    workflow = serializers.CharField()
    path = serializers.CharField()
    action = serializers.CharField()
    decision = serializers.ChoiceField(choices=["allow", "deny", "pending"])
    reason = serializers.CharField()
    requested_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    result = serializers.ChoiceField(choices=["done", "failed", "undone"], allow_null=True)
    result_at = serializers.DateTimeField(allow_null=True)
    reference = serializers.CharField()
    detail = serializers.CharField()
