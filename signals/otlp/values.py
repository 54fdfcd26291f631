"""OTLP's attribute values as JSON values that Postgres keeps, nothing lost. Pure."""

import base64
import math
from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

# What JSON has no word for is kept as an object with one member of this kind.
BYTES: Final = "bytes_base64"
DOUBLE: Final = "double"


def attributes_plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes by key; of a key told twice, which the protocol forbids, the last."""
    return {text_clean(pair.key): plain(pair.value) for pair in attributes}


def plain(value: AnyValue) -> Any:
    """Return a value as JSON has it; bytes and the doubles without a number become objects."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return text_clean(value.string_value)
    if kind == "double_value":
        number = value.double_value
        return number if math.isfinite(number) else {DOUBLE: str(number)}
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_plain(value.kvlist_value.values)
    if kind == "bytes_value":
        return {BYTES: base64.b64encode(value.bytes_value).decode()}
    return None if kind is None else getattr(value, kind)


def text_clean(text: str) -> str:
    """Return text that Postgres keeps: a NUL becomes the replacement character."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text
