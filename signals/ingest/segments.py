"""Which segment a run belongs to, by the workflow's rules over its context. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from openfeature.contrib.tools.flagd.core.targeting import targeting
from openfeature.evaluation_context import EvaluationContext

# How many different contexts one workflow's rules remember the answer to.
REMEMBERED: Final = 20_000

# What a workflow's exposed mix is told by, beside what its rules name: the contract's context
# keys, but for those that say who it is.
STANDARD_ATTRIBUTES: Final = frozenset({"team", "customer_segment", "account_group", "role"})
IDENTITIES: Final = frozenset({"targetingKey", "account"})
ATTRIBUTES_MAX: Final = 10
ATTRIBUTE_LENGTH: Final = 80

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder(order="sorted").encode


@dataclass(slots=True)
class SegmentRules:
    """The segments of a workflow, first match first; JSONLogic as exposure evaluates it.

    Most of a context (who it is) matters to no rule, so answers are remembered by the members
    that the rules do name, and whole contexts too: the same people come again.
    """

    rules: list[tuple[int, Any]]
    _names: frozenset[str] | None = field(init=False)
    _declared: tuple[str, ...] = field(init=False)
    _remembered: dict[bytes, int] = field(init=False, default_factory=dict)
    _read: dict[bytes, tuple[int, str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._names = _names_read(rule for _, rule in self.rules)
        self._declared = declared_attributes(self._names or ())

    def read(self, context: bytes) -> tuple[int, str]:
        """Return the segment of a context and its declared attributes.

        The segment is the id of the first one whose rule holds, 0 if none does; the attributes
        are JSON text of an object of texts, empty for none.

        Args:
            context: JSON text of an object, or empty.
        """
        found = self._read.get(context)
        if found is None:
            if len(self._read) >= REMEMBERED:
                self._read.clear()
            found = self._read[context] = self._fresh(context)
        return found

    def _fresh(self, context: bytes) -> tuple[int, str]:
        if not context:
            return 0, ""
        try:
            members = _decode(context)
        except (msgspec.DecodeError, RecursionError):
            return 0, ""
        told = {
            name: text
            for name in self._declared
            if (text := attribute_text(members.get(name))) is not None
        }
        return self._segment(members), _encode(told).decode() if told else ""

    def _segment(self, members: dict[str, Any]) -> int:
        if not self.rules:
            return 0
        if self._names is None:
            return self._first(members)
        key = _encode({name: members[name] for name in self._names if name in members})
        found = self._remembered.get(key)
        if found is None:
            found = self._first(members)
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = found
        return found

    def _first(self, members: dict[str, Any]) -> int:
        targeting_key = members.get("targetingKey")
        context = EvaluationContext(
            targeting_key=targeting_key if isinstance(targeting_key, str) else None,
            attributes=members,
        )
        for segment_id, rule in self.rules:
            if _holds(rule, context):
                return segment_id
        return 0


def declared_attributes(named: Iterable[str]) -> tuple[str, ...]:
    """Return the attributes kept of a context, where a workflow's rules read those `named`."""
    own = sorted(set(named) - STANDARD_ATTRIBUTES - IDENTITIES)
    return (*sorted(STANDARD_ATTRIBUTES), *own)[:ATTRIBUTES_MAX]


def attribute_text(value: Any) -> str | None:
    """Return an attribute as kept, None where it is no text, number, truth or holds a NUL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:.15g}"
    if not isinstance(value, str) or value == "" or "\0" in value:
        return None
    return value[:ATTRIBUTE_LENGTH]


def _holds(rule: Any, context: EvaluationContext) -> bool:
    try:
        # Inside an `if`, as the exposure document asks it, so that truth means the same.
        return targeting("", {"if": [rule, True, False]}, context) is True
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError):
        # A rule that cannot be computed on this context does not hold on it.
        return False


def _names_read(rules: Iterable[Any]) -> frozenset[str] | None:
    """Return the members that the rules read; None where that cannot be told from the rules."""
    names: set[str] = set()
    for rule in rules:
        for operator, argument in _operations(rule):
            if operator in ("missing", "missing_some", "fractional"):
                return None
            if operator != "var":
                continue
            name = argument[0] if isinstance(argument, list) and argument else argument
            if not isinstance(name, str) or name == "" or name.startswith("$flagd"):
                return None
            names.add(name.split(".", 1)[0])
    return frozenset(names)


def _operations(rule: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(rule, dict):
        for operator, argument in rule.items():
            yield operator, argument
            yield from _operations(argument)
    elif isinstance(rule, list):
        for member in rule:
            yield from _operations(member)


def rule_names(rule: Any) -> list[str] | None:
    """Return the context's members that a rule reads; None where it may read any."""
    names = _names_read([rule])
    return None if names is None else sorted(names)
