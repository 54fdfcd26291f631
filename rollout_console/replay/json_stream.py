"""The items of one list inside a large JSON document, one at a time. Pure.

Only the item at hand and one chunk are in memory. An item is found by its brackets and strings
and decoded apart, so that a broken one costs itself alone.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

import msgspec

CHUNK: Final = 256 * 1024
VALUE_MAX: Final = 64 * 1024 * 1024
DEPTH_MAX: Final = 500

_STRUCTURE: Final = re.compile(rb'["\[\]{}]')
_STRING_END: Final = re.compile(rb'["\\]')
_SCALAR_END: Final = re.compile(rb"[\s,\]}]")
_SPACE: Final = b" \t\r\n"
_decode: Final = msgspec.json.Decoder().decode


class JsonBroken(Exception):
    """The document cannot be followed any further; the sentence says where."""


class JsonItems:
    """Iterates over the raw bytes of the items; `head` fills with the members asked for.

    Args:
        read: returns up to so many bytes, none at the end.
        steps: the keys that lead from the top to the list.
        head: top-level members to decode that stand before it.
    """

    def __init__(
        self, read: Callable[[int], bytes], *, steps: Sequence[str], head: Collection[str] = ()
    ) -> None:
        self.head: dict[str, Any] = {}
        self._read = read
        self._steps = steps
        self._wanted = head
        self._buffer = bytearray()
        self._at = 0
        self._passed = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield each item.

        Raises:
            JsonBroken: it is not JSON there, or the list is not where the steps lead.
        """
        if self._peek() == 0xEF:
            self._need(b"\xef\xbb\xbf")
        for depth, step in enumerate(self._steps):
            self._find(step, is_top=depth == 0)
        if self._peek() != ord("["):
            where = ".".join(self._steps)
            raise self._broken(f"there is no list at {where}[]" if where else "there is no list")
        self._at += 1
        if self._peek() == ord("]"):
            self._at += 1
        else:
            while True:
                yield self._value(keep=True)
                if not self._goes_on(ord("]")):
                    break
        # To the end, so that a file cut short is seen to be.
        self._buffer.clear()
        while self._read(CHUNK):
            pass

    def _find(self, step: str, *, is_top: bool) -> None:
        """Enter an object and stop before the value of its member `step`."""
        if self._peek() != ord("{"):
            raise self._broken(f"there is no object that holds “{step}”")
        self._at += 1
        if self._peek() == ord("}"):
            raise self._broken(f"there is no “{step}”")
        while True:
            if self._peek() != ord('"'):
                raise self._broken("a key is missing")
            key = self._decoded(self._value(keep=True))
            self._need(b":")
            if key == step:
                self._peek()
                return
            if is_top and key in self._wanted:
                self.head[key] = self._decoded(self._value(keep=True))
            else:
                self._value(keep=False)
            if not self._goes_on(ord("}")):
                raise self._broken(f"there is no “{step}”")

    def _goes_on(self, closing: int) -> bool:
        """Whether a comma follows rather than the closing bracket."""
        sign = self._peek()
        if sign not in (ord(","), closing):
            raise self._broken("a comma is missing")
        self._at += 1
        return sign != closing

    def _need(self, sign: bytes) -> None:
        for byte in sign:
            if self._peek() != byte:
                raise self._broken(f"“{sign.decode('latin-1')}” is missing")
            self._at += 1

    def _value(self, *, keep: bool) -> bytes:
        """Pass over one value; return its bytes, nothing unless they are to be kept."""
        first = self._peek()
        if first is None:
            raise self._broken("it ends too early")
        self._drop()
        depth = 0
        while True:
            if first not in b'"[{':
                self._to(_SCALAR_END, keep=keep, at_end_too=True)
                break
            byte = self._to(_STRUCTURE, keep=keep)
            self._at += 1
            if byte == ord('"'):
                while self._to(_STRING_END, keep=keep) == ord("\\"):
                    self._more(2, keep=keep)
                    self._at += 2
                self._at += 1
            else:
                depth += 1 if byte in b"[{" else -1
                if depth > DEPTH_MAX:
                    raise self._broken(f"more than {DEPTH_MAX} levels are nested")
            if depth <= 0:
                break
        found = bytes(self._buffer[: self._at]) if keep else b""
        self._drop()
        return found

    def _to(self, pattern: re.Pattern[bytes], *, keep: bool, at_end_too: bool = False) -> int:
        """Go to the next byte that the pattern finds and return it."""
        start = self._at
        while True:
            found = pattern.search(self._buffer, start)
            if found is not None:
                self._at = found.start()
                return self._buffer[self._at]
            self._at = start = len(self._buffer)
            if not keep:
                self._drop()
                start = 0
            if not self._fill():
                if at_end_too:
                    return 0
                raise self._broken("it ends too early")

    def _peek(self) -> int | None:
        """Pass over white space; return the next byte, None at the end."""
        while True:
            while self._at < len(self._buffer):
                byte = self._buffer[self._at]
                if byte not in _SPACE:
                    return byte
                self._at += 1
            self._drop()
            if not self._fill():
                return None

    def _more(self, count: int, *, keep: bool) -> None:
        while len(self._buffer) - self._at < count:
            if not self._fill():
                raise self._broken("it ends too early")

    def _fill(self) -> bool:
        if len(self._buffer) > VALUE_MAX:
            raise self._broken(f"a value is larger than {VALUE_MAX:,} bytes")
        chunk = self._read(CHUNK)
        self._buffer += chunk
        return bool(chunk)

    def _drop(self) -> None:
        """Forget what lies before the place."""
        self._passed += self._at
        del self._buffer[: self._at]
        self._at = 0

    def _decoded(self, raw: bytes) -> Any:
        try:
            return _decode(raw)
        except msgspec.DecodeError as error:
            raise self._broken(str(error)) from error

    def _broken(self, words: str) -> JsonBroken:
        return JsonBroken(f"Not the JSON expected: {words}, at byte {self._passed + self._at + 1}.")
