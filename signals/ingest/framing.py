"""From a request's bytes to single items, or a refusal in words. Pure."""

import json
import re
import zlib
from typing import Any, ClassVar, Final

import msgspec

from rollout_console.core.errors import DomainError

MAX_ITEMS: Final = 10_000
MAX_UNPACKED: Final = 16 * 1024 * 1024
# Above this many commas the items are counted before they are split: splitting a body of
# millions of scalars would take half a gigabyte, and 10,000 honest runs hold far fewer.
COMMAS_BEFORE_COUNTING: Final = 1_000_000

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
GZIP_MAGIC: Final = b"\x1f\x8b"
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{},]', re.DOTALL)

_items_of: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_item_of: Final = msgspec.json.Decoder(msgspec.Raw).decode


class Unreadable(DomainError):
    code = "unreadable-body"
    title = "The body cannot be read"
    status = 400


class TooLarge(DomainError):
    code = "too-large"
    title = "Too large"
    status = 413


class MediaTypeUnsupported(DomainError):
    code = "media-type-unsupported"
    title = "Not a media type we read"
    status = 415
    takes: ClassVar[list[str]] = [JSON, NDJSON]


def unpacked(body: bytes, content_encoding: str | None, *, limit: int = MAX_UNPACKED) -> bytes:
    """Return the body without its `Content-Encoding`; gzip of several members is one body.

    Raises:
        MediaTypeUnsupported: it is packed in another way than gzip.
        TooLarge: it holds more than `limit` bytes unpacked.
        Unreadable: the gzip data are broken, cut short, or followed by something else.
    """
    coding = (content_encoding or "identity").strip().lower()
    if coding == "identity":
        if len(body) > limit:
            raise _too_large(limit)
        return body
    if coding not in ("gzip", "x-gzip"):
        raise MediaTypeUnsupported(
            f"Content-Encoding {coding!r} is not read here; send gzip, or none."
        )
    members: list[bytes] = []
    room = limit
    rest = body
    try:
        while True:
            member = zlib.decompressobj(wbits=31)
            data = member.decompress(rest, room + 1)
            if len(data) > room:
                raise _too_large(limit)
            if not member.eof:
                raise Unreadable("The gzip data end too early.")
            members.append(data)
            room -= len(data)
            rest = member.unused_data
            if not rest:
                break
            if not rest.startswith(GZIP_MAGIC):
                raise Unreadable("Something follows the gzip data.")
    except zlib.error as error:
        raise Unreadable("Content-Encoding says gzip, but the data are not.") from error
    return members[0] if len(members) == 1 else b"".join(members)


def items_split(body: bytes, content_type: str | None) -> list[bytes]:
    """Return the JSON text of each item: of one object, an array, or lines (NDJSON).

    Args:
        body: unpacked bytes.
        content_type: the request's; none is read as JSON.

    Raises:
        MediaTypeUnsupported, TooLarge, Unreadable.
    """
    media_type = _media_type(content_type)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"The body is not UTF-8 at byte {error.start}.") from error
    try:
        return _lines(body) if media_type == NDJSON else _array_or_object(body)
    except RecursionError as error:
        raise Unreadable("The JSON is nested too deeply.") from error
    except msgspec.DecodeError as error:
        # Half a surrogate pair is legal JSON and no text: the item that holds it is at fault,
        # not its neighbours. The library calls the whole body broken, so look again.
        if "\\ud" in text or "\\uD" in text:
            return _split_leniently(text, media_type)
        raise Unreadable(f"The body is not JSON: {_reason(error)}") from error


def json_value(item: bytes) -> Any:
    """Return an item as Python values, half surrogate pairs included."""
    return json.loads(item)


def _media_type(content_type: str | None) -> str:
    if not content_type:
        return JSON
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charset = [value for value in parameters if value.startswith("charset=")]
    if media_type not in (JSON, NDJSON):
        raise MediaTypeUnsupported(
            f"{media_type!r} is not read here; send {JSON} or {NDJSON}.",
            takes=MediaTypeUnsupported.takes,
        )
    if any(value[8:].strip('"') not in ("utf-8", "utf8", "us-ascii") for value in charset):
        raise MediaTypeUnsupported("Send UTF-8.", takes=MediaTypeUnsupported.takes)
    return media_type


def _array_or_object(body: bytes) -> list[bytes]:
    start = body.lstrip(b" \t\r\n")[:1]
    if start == b"{":
        return [bytes(_item_of(body))]
    if start == b"":
        raise Unreadable("The body is empty; send an object, an array, or [] for nothing.")
    if start == b"[":
        if body.count(b",") > COMMAS_BEFORE_COUNTING and _counts_too_many(body):
            raise _too_many()
        items = _items_of(body)
        if len(items) > MAX_ITEMS:
            raise _too_many()
        return [bytes(item) for item in items]
    _item_of(body)
    raise Unreadable("The body is neither an object nor an array of objects.")


def _lines(body: bytes) -> list[bytes]:
    items: list[bytes] = []
    start = 0
    # Not split(): sixteen million empty lines need no list.
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        line = body[start:end].strip(b" \t\r")
        start = end + 1
        if not line:
            continue
        if len(items) == MAX_ITEMS:
            raise _too_many()
        items.append(bytes(_item_of(line)))
    return items


def _split_leniently(text: str, media_type: str) -> list[bytes]:
    if media_type == NDJSON:
        values = [_loads(line) for line in text.split("\n") if line.strip(" \t\r")]
    else:
        value = _loads(text)
        values = value if isinstance(value, list) else [value]
    if len(values) > MAX_ITEMS:
        raise _too_many()
    return [json.dumps(value).encode() for value in values]


def _loads(text: str) -> Any:
    def refuse(name: str) -> None:
        raise Unreadable(f"The body is not JSON: {name} is no number.")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise Unreadable("The JSON is nested too deeply.") from error
    except ValueError as error:
        raise Unreadable(f"The body is not JSON: {error}.") from error


def _counts_too_many(body: bytes) -> bool:
    """Say whether a JSON array holds more than MAX_ITEMS items, without keeping any."""
    depth = 0
    commas = 0
    for match in _TOKEN.finditer(body):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
        elif token == b"," and depth == 1:
            commas += 1
            if commas >= MAX_ITEMS:
                return True
    return False


def _reason(error: msgspec.DecodeError) -> str:
    text = str(error).removeprefix("JSON is malformed: ")
    return f"{text}." if text else "it is malformed."


def _too_many() -> TooLarge:
    return TooLarge(f"A request holds at most {MAX_ITEMS:,} items.", max_items=MAX_ITEMS)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"A request holds at most {limit:,} bytes unpacked.", max_bytes=limit)
