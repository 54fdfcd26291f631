"""JSON as RFC 8259 has it, and nothing beside: what Python's parser lets through is refused."""

import json
import math
from typing import Any, Final, NoReturn

# Above this an integer is not the same in every language that reads it.
INT_MAX: Final = 2**53 - 1
DEPTH_MAX: Final = 50


class JsonRefused(Exception):
    """The text is not JSON, or not JSON that we take; the sentence says what and where."""


def json_load(text: str | bytes) -> Any:
    """Return the value of one JSON text.

    Raises:
        JsonRefused: broken syntax, a repeated key, NaN or infinity, a number that does not fit,
            a NUL or half a character in a text, or more than 50 levels.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
        )
    except UnicodeDecodeError as error:
        raise JsonRefused("The text is not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise JsonRefused(
            f"Not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except RecursionError as error:
        raise JsonRefused(f"At most {DEPTH_MAX} levels may be nested.") from error
    except ValueError as error:  # an integer of thousands of digits
        raise JsonRefused("A number has too many digits.") from error
    value_check(value)
    return value


def value_check(value: Any) -> None:
    """Raise JsonRefused for what cannot be stored or read alike everywhere."""
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > DEPTH_MAX:
            raise JsonRefused(f"At most {DEPTH_MAX} levels may be nested.")
        if isinstance(item, dict):
            waiting.extend((key, depth) for key in item)
            waiting.extend((each, depth + 1) for each in item.values())
        elif isinstance(item, list):
            waiting.extend((each, depth + 1) for each in item)
        elif isinstance(item, str):
            _text_check(item)
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise JsonRefused("NaN and infinity are not numbers here.")
        elif isinstance(item, int) and abs(item) > INT_MAX:
            raise JsonRefused("Whole numbers stay within 2^53.")


def _text_check(text: str) -> None:
    if "\x00" in text:
        raise JsonRefused("A text holds a NUL character; take it out.")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise JsonRefused("A text holds half of a character (a lone surrogate).")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise JsonRefused(f"The key {key[:80]!r} stands twice in one object.")
            seen.add(key)
    return made


def _constant(name: str) -> NoReturn:
    raise JsonRefused(f"{name} is not JSON; leave the value out or send null.")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise JsonRefused(f"{digits[:40]} is too large a number.")
    return value
