"""Serializer fields that take one JSON type each: DRF's own read `"1"` as a number."""

from typing import Any

from rest_framework import serializers


class Text(serializers.CharField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Must be text.")
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("Must be a whole number.")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("Must be true or false.")
        return data


class Number(serializers.FloatField):
    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise serializers.ValidationError("Must be a number.")
        return super().to_internal_value(data)


class Choice(serializers.ChoiceField):
    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            raise serializers.ValidationError("Must be text.")
        return super().to_internal_value(data)


class Moment(serializers.DateTimeField):
    """RFC 3339 with an offset."""

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise serializers.ValidationError("Must be a time as text: RFC 3339 with an offset.")
        if not (value.endswith(("Z", "z")) or value[-6:-5] in ("+", "-")):
            raise serializers.ValidationError("Say the offset from UTC, as in …T12:00:00Z.")
        try:
            return super().to_internal_value(value)
        except (OverflowError, ValueError) as error:
            raise serializers.ValidationError("This time is out of range.") from error


class JsonMap(serializers.DictField):
    """A JSON object, its members as they came."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Must be an object, as {…}.")
        return dict(data)


class Body(serializers.Serializer[Any]):
    """A request body: a map, every key of which is known."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = [key for key in data if key not in self.fields]
            if unknown:
                known = ", ".join(self.fields)
                raise serializers.ValidationError(
                    {key: [f"Not known here; known: {known}."] for key in unknown[:20]}
                )
        return super().to_internal_value(data)
