"""How many messages a protobuf body would unfold into, found without unfolding it. Pure.

A message of two bytes on the wire takes a hundred and more in memory, so a body inside the bound
on bytes could still take gigabytes.
"""

from typing import Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

MOST_MESSAGES: Final = 2_000_000

_LENGTH_DELIMITED: Final = 2
_FIXED: Final = {1: 8, 5: 4}


def messages_count(body: bytes, message: Message, *, most: int = MOST_MESSAGES) -> int:
    """Return the number of messages in the bytes of one like `message`; above `most` it stops.

    Broken bytes end the count of the message that holds them: decoding says what is wrong.
    """
    found = 0
    inner: dict[str, dict[int, Descriptor]] = {}
    waiting = [(0, len(body), cast("Descriptor", message.DESCRIPTOR))]
    while waiting and found <= most:
        at, end, kind = waiting.pop()
        fields = inner.get(kind.full_name)
        if fields is None:
            fields = inner[kind.full_name] = {
                field.number: field.message_type
                for field in kind.fields
                if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type is not None
            }
        while at < end and found <= most:
            tag, at = _varint(body, at, end)
            wire_type = tag & 7
            if wire_type == _LENGTH_DELIMITED:
                size, at = _varint(body, at, end)
                message_type = fields.get(tag >> 3)
                if message_type is not None:
                    found += 1
                    waiting.append((at, min(at + size, end), message_type))
                at += size
            elif wire_type == 0:
                _, at = _varint(body, at, end)
            elif wire_type in _FIXED:
                at += _FIXED[wire_type]
            else:
                break
    return found


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        octet = body[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            break
    return value, end
