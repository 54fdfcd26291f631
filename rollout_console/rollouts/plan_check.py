"""Reading an untrusted document field by field, keeping every fault instead of the first.

Pure: no Django.
"""

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from rollout_console.core.strict_json import INT_MAX
from rollout_console.rollouts.plan_yaml import pointer_part

SLUG: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
KEY_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
RELEASE: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
MONEY_MAX: Final = 1_000_000
# What the database's whole-number columns hold.
COUNT_MAX: Final = 2**31 - 1
ERRORS_MAX: Final = 100

_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: where (JSON pointer), and what to do about it."""

    pointer: str
    detail: str


@dataclass(slots=True)
class Faults:
    """What was found wrong so far, in reading order; stops noting at a hundred."""

    found: list[Fault] = field(default_factory=list)

    def add(self, pointer: str, detail: str) -> None:
        if len(self.found) < ERRORS_MAX:
            self.found.append(Fault(pointer, detail))


class Part:
    """A map of the document. Each reader returns a usable value and notes what is wrong."""

    def __init__(self, value: Any, pointer: str, faults: Faults, *, what: str) -> None:
        self.pointer = pointer
        self.faults = faults
        self.what = what
        self._asked: set[str] = set()
        if not isinstance(value, dict):
            faults.add(pointer, f"{what} must be a map of fields, not {kind_of(value)}.")
            self._map: dict[str, Any] = {}
            self.whole = False
        else:
            self._map = value
            self.whole = True

    def at(self, key: str) -> str:
        return f"{self.pointer}/{pointer_part(key)}"

    def fault(self, key: str, detail: str) -> None:
        self.faults.add(self.at(key), detail)

    def has(self, key: str) -> bool:
        return self._map.get(key) is not None

    def stated(self, key: str) -> bool:
        """Whether the key stands there, be it with null."""
        return key in self._map

    def raw(self, key: str) -> Any:
        self._asked.add(key)
        return self._map.get(key)

    def _get(self, key: str, *, required: bool) -> Any:
        self._asked.add(key)
        value = self._map.get(key)
        if value is None:
            if required and self.whole:
                self.faults.add(self.at(key), f"{self.what} needs “{key}”.")
            return _MISSING
        return value

    def text(self, key: str, *, required: bool = False, most: int = 200, default: str = "") -> str:
        value = self._get(key, required=required)
        if value is _MISSING:
            return default
        if not isinstance(value, str):
            hint = "put it in quotes" if isinstance(value, int | float | bool) else "write text"
            self.fault(key, f"“{key}” must be text, not {kind_of(value)}: {hint}.")
            return default
        if not value.strip() and required:
            self.fault(key, f"“{key}” is empty.")
        if len(value) > most:
            self.fault(key, f"“{key}” has at most {most:,} characters.")
        return value

    def pattern(
        self, key: str, pattern: re.Pattern[str], rule: str, *, required: bool = True
    ) -> str:
        before = len(self.faults.found)
        value = self.text(key, required=required)
        if value and len(self.faults.found) == before and not pattern.fullmatch(value):
            self.fault(key, f"“{value[:80]}” does not fit: {rule}.")
        return value

    def slug(self, key: str, *, required: bool = True, dots: bool = True) -> str:
        if dots:
            rule = "lower-case letters, digits, . _ - and at most 80 of them"
            return self.pattern(key, SLUG, rule, required=required)
        rule = "lower-case letters, digits, _ - (no dot) and at most 80 of them"
        return self.pattern(key, KEY_SLUG, rule, required=required)

    def release(self, key: str) -> str:
        return self.pattern(key, RELEASE, "letters, digits, . _ - and at most 100 of them")

    def choice(
        self, key: str, known: Sequence[str], *, default: str | None = None, required: bool = False
    ) -> str:
        before = len(self.faults.found)
        value = self.text(key, required=required)
        if not value:
            return default or known[0]
        if value not in known:
            if len(self.faults.found) == before:
                self.fault(key, f"“{value[:80]}” is not known{close_to(value, known)}")
            return default or known[0]
        return value

    def reference(self, key: str, known: Iterable[str], noun: str, *, required: bool = True) -> str:
        names = list(known)
        value = self.text(key, required=required)
        if value and value not in names:
            self.fault(
                key, f"There is no {noun} “{value[:80]}” in this plan{close_to(value, names)}"
            )
        return value

    def whole_number(
        self, key: str, *, least: int, default: int | None = None, required: bool = False
    ) -> int | None:
        value = self._get(key, required=required)
        if value is _MISSING:
            return default
        if isinstance(value, float) and value.is_integer() and abs(value) <= INT_MAX:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fault(key, f"“{key}” must be a whole number, not {kind_of(value)}.")
            return default
        if not least <= value <= COUNT_MAX:
            self.fault(key, f"“{key}” must be from {least} to {COUNT_MAX:,}.")
            return default
        return value

    def number(
        self,
        key: str,
        *,
        above: float | None = None,
        least: float | None = None,
        most: float | None = None,
        money: bool = False,
        required: bool = False,
    ) -> float | None:
        value = self._get(key, required=required)
        if value is _MISSING:
            return None
        number = _money(value) if money else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            self.fault(key, f"“{key}” must be a number, not {kind_of(value)}.")
            return None
        number = float(number)
        if money:
            most = MONEY_MAX if most is None else most
        if not math.isfinite(number):
            self.fault(key, f"“{key}” must be finite.")
        elif above is not None and not number > above:
            self.fault(key, f"“{key}” must be more than {above:g}.")
        elif least is not None and number < least:
            self.fault(key, f"“{key}” must be at least {least:g}.")
        elif most is not None and number > most:
            self.fault(key, f"“{key}” must be at most {most:,g}.")
        else:
            return number
        return None

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self._get(key, required=False)
        if value is _MISSING:
            return default
        if not isinstance(value, bool):
            self.fault(key, f"“{key}” must be true or false, not {kind_of(value)}.")
            return default
        return value

    def items(
        self, key: str, *, required: bool = False, least: int = 0, most: int = 500
    ) -> list[Any]:
        value = self._get(key, required=required)
        if value is _MISSING:
            return []
        if not isinstance(value, list):
            self.fault(key, f"“{key}” must be a list, not {kind_of(value)}.")
            return []
        if not least <= len(value) <= most:
            self.fault(key, f"“{key}” must hold {least} to {most} items.")
            return value[:most]
        return value

    def texts(self, key: str, *, required: bool = False, most: int = 200) -> list[str]:
        made = []
        for index, item in enumerate(self.items(key, required=required)):
            if not isinstance(item, str) or not item.strip() or len(item) > most:
                self.faults.add(
                    f"{self.at(key)}/{index}", f"“{key}” holds texts of 1 to {most} characters."
                )
            else:
                made.append(item)
        return made

    def part(self, key: str, *, what: str) -> "Part":
        value = self._get(key, required=False)
        return Part({} if value is _MISSING else value, self.at(key), self.faults, what=what)

    def parts(
        self, key: str, *, what: str, required: bool = False, least: int = 0, most: int = 500
    ) -> list["Part"]:
        return [
            Part(item, f"{self.at(key)}/{index}", self.faults, what=what)
            for index, item in enumerate(self.items(key, required=required, least=least, most=most))
        ]

    def nothing_else(self) -> None:
        """Note every key that nobody asked for, with the nearest one that exists."""
        for key in self._map:
            if key not in self._asked:
                self.fault(
                    key, f"{self.what} has no “{key[:80]}”{close_to(key, sorted(self._asked))}"
                )


def unique(parts: Iterable[tuple[Part, str]], key: str, noun: str) -> None:
    """Note each name that stands a second time."""
    seen: set[str] = set()
    for part, name in parts:
        if name and name in seen:
            part.fault(key, f"The {noun} “{name[:80]}” stands twice.")
        seen.add(name)


def close_to(word: str, known: Sequence[str], *, most: int = 1) -> str:
    """Return how a sentence about an unknown word ends: the nearest known ones, or all."""
    near = difflib.get_close_matches(word[:100], known, n=most, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(f'“{name}”' for name in near)}?"
    if 0 < len(known) <= 12:
        return f"; known: {', '.join(known)}."
    return "."


def kind_of(value: Any) -> str:
    """Return what a value is, in words for people."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text “{value[:40]}”"
    return "a list" if isinstance(value, list) else "a map"


def _money(value: Any) -> Any:
    """Return dollars as a number; a decimal text counts as one."""
    if not isinstance(value, str):
        return value
    try:
        amount = Decimal(value) if re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,20})?", value) else None
    except InvalidOperation:
        amount = None
    return value if amount is None else float(amount)
