"""The functions of a mapping's expressions, and how values are taken as numbers and truth. Pure."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

TEXT_MAX: Final = 1_000_000
DIGITS_MAX: Final = 40
MANY: Final = 100

_NUMBER: Final = re.compile(r"[-+]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][-+]?\d{1,3})?", re.ASCII)
_NOT_IN_SLUG: Final = re.compile(r"[^a-z0-9_-]+")
_NOT_IN_RELEASE: Final = re.compile(r"[^A-Za-z0-9._-]+")


class ValueRefused(Exception):
    """A record's value does not do; the words finish the sentence “`field`: …”."""


def number_of(value: Any) -> int | float:
    """Return a number, or what a text says as one.

    Raises:
        ValueRefused: it is neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, int) and abs(value) >= 10**DIGITS_MAX:
            raise ValueRefused("the number is too large")
        return value
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            number = int(text) if text.lstrip("+-").isdigit() else float(text)
            if math.isfinite(number):
                return number
    raise ValueRefused(f"{shown(value)} is no number")


def truth_of(value: Any) -> bool:
    """Return true or false; an unknown value is not true."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ValueRefused(f"{shown(value)} is neither true nor false")
    return value


def text_of(value: Any) -> str:
    """Return a text, or a number or truth as one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueRefused(f"{shown(value)} is no text")


def shown(value: Any) -> str:
    """Return a value as it is named in a sentence: short, and never a whole prompt."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"“{value[:60]}”" if len(value) <= 60 else f"“{value[:60]}…”"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else str(value)[:60]


def _text_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function over texts: unknown where the first is, refused where it grows too long."""

    def compute(first: Any, *others: Any) -> Any:
        if first is None:
            return None
        made = function(text_of(first), *[text_of(other) for other in others])
        if isinstance(made, str) and len(made) > TEXT_MAX:
            raise ValueRefused("the text is too long")
        return made

    return compute


def _replace(text: str, old: str, new: str) -> str:
    if not old:
        raise ValueRefused("an empty text cannot be replaced")
    if len(text) + text.count(old) * len(new) > TEXT_MAX:
        raise ValueRefused("the text is too long")
    return text.replace(old, new)


def _after_last(text: str, mark: str) -> str:
    return text.rpartition(mark)[2] if mark else text


def _before_first(text: str, mark: str) -> str:
    return text.partition(mark)[0] if mark else text


def _slug(text: str) -> str | None:
    return _NOT_IN_SLUG.sub("-", text.lower()).strip("-_")[:80] or None


def _release(text: str) -> str | None:
    return _NOT_IN_RELEASE.sub("-", text)[:100] or None


def _cut(first: Any, length: Any) -> str | None:
    return None if first is None else text_of(first)[: max(0, int(number_of(length)))]


def _concat(*values: Any) -> str | None:
    if any(value is None for value in values):
        return None
    made = [text_of(value) for value in values]
    if sum(map(len, made)) > TEXT_MAX:
        raise ValueRefused("the text is too long")
    return "".join(made)


def _contains(where: Any, what: Any) -> bool | None:
    if where is None:
        return None
    if isinstance(where, list):
        return what in where
    return text_of(what) in text_of(where)


def _numbers(value: Any) -> list[int | float]:
    if value is None:
        return []
    if not isinstance(value, list):
        return [number_of(value)]
    return [number_of(item) for item in value if item is not None]


def _sum(value: Any) -> int | float | None:
    """The sum of what is known; unknown where nothing is."""
    numbers = _numbers(value)
    if not numbers:
        return None
    total = math.fsum(numbers) if any(isinstance(n, float) for n in numbers) else sum(numbers)
    if not math.isfinite(total):
        raise ValueRefused("the number is too large")
    return total


def _least(*values: Any) -> int | float | None:
    return min((n for value in values for n in _numbers(value)), default=None)


def _most(*values: Any) -> int | float | None:
    return max((n for value in values for n in _numbers(value)), default=None)


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0 if value is None else 1


def _first(value: Any) -> Any:
    return next(iter(value), None) if isinstance(value, list) else value


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) and value else None if value == [] else value


def _list(*values: Any) -> list[Any]:
    return list(values)


def _values(value: Any) -> list[Any] | None:
    if value is None or isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise ValueRefused(f"{shown(value)} is no object")
    return list(value.values())


def _find(items: Any, member: Any, wanted: Any) -> Any:
    """Return the first of the items whose `member` is `wanted`; null where none is."""
    if items is None or wanted is None:
        return None
    if not isinstance(items, list):
        raise ValueRefused(f"{shown(items)} is no list")
    name = text_of(member)
    return next(
        (item for item in items if isinstance(item, dict) and item.get(name) == wanted), None
    )


def _round(value: Any) -> int | None:
    if value is None:
        return None
    number = number_of(value)
    if abs(number) >= 2**60:
        raise ValueRefused("the number is too large")
    return round(number)


def _number(value: Any) -> int | float | None:
    return None if value is None else number_of(value)


# Name: (function, least and most arguments).
FUNCTIONS: Final[Mapping[str, tuple[Callable[..., Any], int, int]]] = {
    "number": (_number, 1, 1),
    "round": (_round, 1, 1),
    "sum": (_sum, 1, 1),
    "min": (_least, 1, MANY),
    "max": (_most, 1, MANY),
    "count": (_count, 1, 1),
    "first": (_first, 1, 1),
    "last": (_last, 1, 1),
    "list": (_list, 1, MANY),
    "values": (_values, 1, 1),
    "find": (_find, 3, 3),
    "contains": (_contains, 2, 2),
    "starts_with": (_text_function(str.startswith), 2, 2),
    "ends_with": (_text_function(str.endswith), 2, 2),
    "text": (_text_function(str), 1, 1),
    "lower": (_text_function(str.lower), 1, 1),
    "trim": (_text_function(str.strip), 1, 1),
    "cut": (_cut, 2, 2),
    "concat": (_concat, 1, MANY),
    "replace": (_text_function(_replace), 3, 3),
    "after_last": (_text_function(_after_last), 2, 2),
    "before_first": (_text_function(_before_first), 2, 2),
    "slug": (_text_function(_slug), 1, 1),
    "release": (_text_function(_release), 1, 1),
}

Compute = Callable[[Mapping[str, Any]], Any]


def _if(arguments: Sequence[Compute], values: Mapping[str, Any]) -> Any:
    condition, then, *otherwise = arguments
    if truth_of(condition(values)):
        return then(values)
    return otherwise[0](values) if otherwise else None


def _coalesce(arguments: Sequence[Compute], values: Mapping[str, Any]) -> Any:
    return next((value for each in arguments if (value := each(values)) is not None), None)


# These compute only the arguments that they need.
LAZY: Final[
    Mapping[str, tuple[Callable[[Sequence[Compute], Mapping[str, Any]], Any], int, int]]
] = {
    "if": (_if, 2, 3),
    "coalesce": (_coalesce, 1, MANY),
}
