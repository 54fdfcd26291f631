"""OTLP's JSON read into its protobuf messages, with the deviations that its specification names.

Ids are hex, enums are integers, 64-bit integers are text or numbers, names are lowerCamelCase and
nothing else, and what nobody knows is passed over. Pure.
"""

import base64
import binascii
import math
from typing import Any, Final, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from signals.ingest.framing import Unreadable

# Written in hex, unlike every other field of bytes.
HEX_FIELDS: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
DEEPEST: Final = 100

_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
    # An enum's number may be one that this version does not know; its name is not taken.
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
}
_FLOATS: Final = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
_NO_NUMBERS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NAMES: Final[dict[str, dict[str, FieldDescriptor]]] = {}


def message_fill(message: Message, value: Any, *, pointer: str = "", depth: int = 0) -> None:
    """Set the fields of `message` from a JSON object; null leaves a field unset.

    Raises:
        Unreadable: a known field holds what it cannot; the sentence points at it.
    """
    if not isinstance(value, dict):
        raise _unfit(pointer, "must be an object")
    if depth > DEEPEST:
        raise _unfit(pointer[:200], "is nested too deeply")
    fields = _fields(message)
    for name, told in value.items():
        field = fields.get(name)
        if field is None or told is None:
            continue
        at = f"{pointer}/{name}"
        if not field.is_repeated:
            _one_set(message, field, told, at, depth)
            continue
        if not isinstance(told, list):
            raise _unfit(at, "must be an array")
        many = getattr(message, field.name)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for number, one in enumerate(told):
                message_fill(many.add(), one, pointer=f"{at}/{number}", depth=depth + 1)
        else:
            many.extend([_scalar(field, one, f"{at}/{n}") for n, one in enumerate(told)])


def _fields(message: Message) -> dict[str, FieldDescriptor]:
    descriptor = message.DESCRIPTOR
    known = _NAMES.get(descriptor.full_name)
    if known is None:
        fields = cast("list[FieldDescriptor]", list(descriptor.fields))
        known = {field.json_name: field for field in fields}
        _NAMES[descriptor.full_name] = known
    return known


def _one_set(message: Message, field: FieldDescriptor, told: Any, at: str, depth: int) -> None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        inner = getattr(message, field.name)
        # Present even where it holds nothing: an empty list of values is a value.
        inner.SetInParent()
        message_fill(inner, told, pointer=at, depth=depth + 1)
    else:
        setattr(message, field.name, _scalar(field, told, at))


def _scalar(field: FieldDescriptor, told: Any, at: str) -> Any:
    if field.type in _INTEGERS:
        return _whole(field, told, at)
    if field.type in _FLOATS:
        return _number(told, at)
    if field.type == FieldDescriptor.TYPE_BOOL:
        if not isinstance(told, bool):
            raise _unfit(at, "must be true or false")
        return told
    if not isinstance(told, str):
        raise _unfit(at, "must be text")
    if field.type == FieldDescriptor.TYPE_STRING:
        # Half a surrogate pair is legal JSON and no text.
        return told if told.isascii() else told.encode("utf-8", "replace").decode()
    return _octets(field, told, at)


def _octets(field: FieldDescriptor, told: str, at: str) -> bytes:
    if field.name in HEX_FIELDS:
        try:
            return binascii.unhexlify(told)
        except ValueError as error:
            raise _unfit(at, "must be hexadecimal digits, not base64") from error
    try:
        padded = told + "=" * (-len(told) % 4)
        return base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError as error:
        raise _unfit(at, "must be base64") from error


def _whole(field: FieldDescriptor, told: Any, at: str) -> int:
    named = field.type == FieldDescriptor.TYPE_ENUM
    if isinstance(told, str) and not named:
        digits = told[1:] if told.startswith("-") else told
        told = int(told) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None
    elif isinstance(told, float) and told.is_integer():
        told = int(told)
    low, high = _INTEGERS[field.type]
    if isinstance(told, bool) or not isinstance(told, int) or not low <= told <= high:
        what = "an integer, not a name" if named else f"a whole number from {low} to {high}"
        raise _unfit(at, f"must be {what}")
    return told


def _number(told: Any, at: str) -> float:
    if isinstance(told, str):
        if told in _NO_NUMBERS:
            return _NO_NUMBERS[told]
        try:
            return float(told)
        except ValueError as error:
            raise _unfit(at, "must be a number") from error
    if isinstance(told, bool) or not isinstance(told, int | float):
        raise _unfit(at, "must be a number")
    try:
        return float(told)
    except OverflowError as error:
        raise _unfit(at, "is out of range") from error


def _unfit(pointer: str, detail: str) -> Unreadable:
    return Unreadable(f"`{pointer or '/'}` {detail}.")
