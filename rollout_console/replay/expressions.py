"""The expressions of a mapping: parsed once, computed for each record. Pure; see docs/replay.md.

No name reaches anything but the record's own values and the functions of FUNCTIONS.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rollout_console.replay.functions import FUNCTIONS, LAZY, ValueRefused, number_of, truth_of

LENGTH_MAX: Final = 2_000
DEPTH_MAX: Final = 40
# Each operator nests what it computes, so this bounds the depth of a computation too.
TOKENS_MAX: Final = 400

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)
      | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<name>\$?[A-Za-z_][A-Za-z0-9_]*)
      | (?P<quoted>`[^`]+`)
      | (?P<sign>==|!=|<=|>=|\[\]|[-+*/<>()\[\],.])
    )""",
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}
_RESERVED: Final = frozenset({*_WORDS, "and", "or", "not", "in"})

Compute = Callable[[Mapping[str, Any]], Any]


class ExpressionInvalid(Exception):
    """The text is no expression; the sentence says what stands where."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression; `names` are the record's fields, `given` the `$` names, that it reads.

    Called with a record's values it returns the value, or raises ValueRefused.
    """

    text: str
    names: frozenset[str]
    given: frozenset[str]
    compute: Compute

    def __call__(self, values: Mapping[str, Any]) -> Any:
        return self.compute(values)


def constant(value: Any) -> Expression:
    """Return the expression that is always `value`."""
    return Expression(repr(value), frozenset(), frozenset(), lambda _: value)


def expression_read(text: str) -> Expression:
    """Parse an expression.

    Raises:
        ExpressionInvalid: it is not one.
    """
    if len(text) > LENGTH_MAX:
        raise ExpressionInvalid(f"An expression has at most {LENGTH_MAX:,} characters.")
    parser = _Parser(text)
    compute = parser.whole()
    return Expression(text, frozenset(parser.names), frozenset(parser.given), compute)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent; each method returns the closure that computes what it read."""

    def __init__(self, text: str) -> None:
        self.names: set[str] = set()
        self.given: set[str] = set()
        self._tokens = _tokens(text)
        self._place = 0
        self._depth = 0
        # Inside a filter, names are those of the list's items.
        self._in_filter = 0

    def whole(self) -> Compute:
        compute = self._either()
        if (token := self._peek()) is not None:
            raise ExpressionInvalid(f"{_shown(token)} does not belong there.")
        return compute

    def _either(self) -> Compute:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise ExpressionInvalid(f"At most {DEPTH_MAX} levels may be nested.")
        left = self._both()
        while self._take("or"):
            left = _or(left, self._both())
        self._depth -= 1
        return left

    def _both(self) -> Compute:
        left = self._negation()
        while self._take("and"):
            left = _and(left, self._negation())
        return left

    def _negation(self) -> Compute:
        nots = 0
        while self._take("not"):
            nots += 1
        inner = self._comparison()
        if nots == 0:
            return inner
        odd = nots % 2 == 1
        return lambda values: truth_of(inner(values)) is not odd

    def _comparison(self) -> Compute:
        left = self._sum()
        token = self._peek()
        if token is None:
            return left
        if token.text in _COMPARISONS and token.kind == "sign":
            self._place += 1
            return _binary(_COMPARISONS[token.text], left, self._sum())
        if self._take("in"):
            return _is_among(left, self._choices())
        return left

    def _choices(self) -> list[Compute]:
        self._need("[")
        choices = [self._sum()]
        while self._take(","):
            choices.append(self._sum())
        self._need("]")
        return choices

    def _sum(self) -> Compute:
        left = self._product()
        while (token := self._peek()) is not None and token.text in ("+", "-"):
            self._place += 1
            left = _binary(_ARITHMETIC[token.text], left, self._product())
        return left

    def _product(self) -> Compute:
        left = self._signed()
        while (token := self._peek()) is not None and token.text in ("*", "/"):
            self._place += 1
            left = _binary(_ARITHMETIC[token.text], left, self._signed())
        return left

    def _signed(self) -> Compute:
        minuses = 0
        while self._take("-"):
            minuses += 1
        inner = self._primary()
        if minuses % 2 == 0:
            return inner
        return _binary(_ARITHMETIC["-"], lambda _: 0, inner)

    def _primary(self) -> Compute:
        token = self._next()
        if token.kind == "number":
            number = float(token.text)
            if not math.isfinite(number):
                raise ExpressionInvalid(f"{token.text[:40]} is too large a number.")
            value: Any = int(token.text) if token.text.isdigit() else number
            return lambda _: value
        if token.kind == "text":
            text = _ESCAPE.sub(r"\1", token.text[1:-1])
            return lambda _: text
        if token.text == "(":
            inner = self._either()
            self._need(")")
            return inner
        if token.kind == "name" and token.text in _WORDS:
            word = _WORDS[token.text]
            return lambda _: word
        if token.kind not in ("name", "quoted") or token.text in _RESERVED:
            raise ExpressionInvalid(f"{_shown(token)} does not belong there.")
        if token.kind == "name" and self._take("("):
            return self._steps(self._call(token))
        return self._lookup(token)

    def _call(self, token: _Token) -> Compute:
        arguments: list[Compute] = []
        if not self._take(")"):
            arguments.append(self._either())
            while self._take(","):
                arguments.append(self._either())
            self._need(")")
        name, n = token.text, len(arguments)
        if name in LAZY:
            lazy, least, most = LAZY[name]
            compute: Compute = lambda values: lazy(arguments, values)  # noqa: E731  # beside its twin
        elif name in FUNCTIONS:
            function, least, most = FUNCTIONS[name]
            compute = lambda values: function(*[each(values) for each in arguments])  # noqa: E731
        else:
            known = ", ".join(sorted({*FUNCTIONS, *LAZY}))
            raise ExpressionInvalid(f"There is no function “{name[:80]}”; there are: {known}.")
        if not least <= n <= most:
            raise ExpressionInvalid(f"“{name}” takes {_times(least, most)}, not {n}.")
        return compute

    def _lookup(self, token: _Token) -> Compute:
        root = token.text.strip("`")
        if not self._in_filter:
            (self.given if token.text.startswith("$") else self.names).add(root)
        return self._steps(lambda values: values.get(root))

    def _steps(self, compute: Compute) -> Compute:
        while True:
            if self._take("."):
                step = self._next()
                if step.kind not in ("name", "quoted"):
                    raise ExpressionInvalid(f"A name is missing before {_shown(step)}.")
                compute = _member(compute, step.text.strip("`"))
            elif self._take("[]"):
                compute = _items(compute)
            elif self._take("["):
                self._in_filter += 1
                condition = self._either()
                self._in_filter -= 1
                self._need("]")
                compute = _filtered(compute, condition)
            else:
                return compute

    def _peek(self) -> _Token | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _next(self) -> _Token:
        token = self._peek()
        if token is None:
            raise ExpressionInvalid("It ends too early.")
        self._place += 1
        return token

    def _take(self, text: str) -> bool:
        token = self._peek()
        if token is None or token.text != text or token.kind not in ("sign", "name"):
            return False
        self._place += 1
        return True

    def _need(self, text: str) -> None:
        if not self._take(text):
            token = self._peek()
            before = "at its end" if token is None else f"before {_shown(token)}"
            raise ExpressionInvalid(f"“{text}” is missing {before}.")


def _tokens(text: str) -> list[_Token]:
    tokens = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise ExpressionInvalid(f"“{text[at : at + 20].strip()}” cannot be read.")
        tokens.append(_Token(found.lastgroup, found[found.lastgroup], found.start()))
        at = found.end()
    if len(tokens) > TOKENS_MAX:
        raise ExpressionInvalid(f"An expression has at most {TOKENS_MAX} words and signs.")
    return tokens


def _shown(token: _Token) -> str:
    return f"“{token.text[:40]}” at character {token.at + 1}"


def _times(least: int, most: int) -> str:
    if least == most:
        return f"{least} value{'' if least == 1 else 's'}"
    return f"{least} or more values" if most > 50 else f"{least} to {most} values"


# --- What the closures do ---


def _or(left: Compute, right: Compute) -> Compute:
    return lambda values: truth_of(left(values)) or truth_of(right(values))


def _and(left: Compute, right: Compute) -> Compute:
    return lambda values: truth_of(left(values)) and truth_of(right(values))


def _binary(function: Callable[[Any, Any], Any], left: Compute, right: Compute) -> Compute:
    return lambda values: function(left(values), right(values))


def _is_among(left: Compute, choices: list[Compute]) -> Compute:
    def compute(values: Mapping[str, Any]) -> bool:
        value = left(values)
        return any(_equal(value, choice(values)) for choice in choices)

    return compute


def _member(inner: Compute, name: str) -> Compute:
    return lambda values: _member_of(inner(values), name)


def _member_of(value: Any, name: str) -> Any:
    """Return a member; of a list, each item's, those without one left out."""
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, list):
        return [found for item in value if (found := _member_of(item, name)) is not None]
    return None


def _items(inner: Compute) -> Compute:
    def compute(values: Mapping[str, Any]) -> list[Any]:
        made: list[Any] = []
        for item in _list_of(inner(values)):
            made.extend(item if isinstance(item, list) else [item])
        return made

    return compute


def _filtered(inner: Compute, condition: Compute) -> Compute:
    def compute(values: Mapping[str, Any]) -> list[Any]:
        return [
            item
            for item in _list_of(inner(values))
            if isinstance(item, dict) and truth_of(condition(item))
        ]

    return compute


def _list_of(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueRefused("what is followed by [ ] is no list")
    return value


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) != isinstance(right, int | float):
        # A CSV cell is text: '200' is 200.
        texts = isinstance(left, str) or isinstance(right, str)
        if not texts or left is None or right is None:
            return False
        try:
            return number_of(left) == number_of(right)
        except ValueRefused:
            return False
    return bool(left == right)


def _ordered(left: Any, right: Any) -> tuple[Any, Any] | None:
    if left is None or right is None:
        return None
    if isinstance(left, str) and isinstance(right, str):
        return left, right
    return number_of(left), number_of(right)


def _less(left: Any, right: Any) -> bool:
    pair = _ordered(left, right)
    return pair is not None and pair[0] < pair[1]


def _at_most(left: Any, right: Any) -> bool:
    pair = _ordered(left, right)
    return pair is not None and pair[0] <= pair[1]


def _computed(
    function: Callable[[int | float, int | float], int | float],
) -> Callable[[Any, Any], Any]:
    """Arithmetic on numbers: unknown where either side is, refused where it is not finite."""

    def compute(left: Any, right: Any) -> int | float | None:
        if left is None or right is None:
            return None
        try:
            value = function(number_of(left), number_of(right))
            finite = math.isfinite(value)
        except ZeroDivisionError:
            raise ValueRefused("it divides by 0") from None
        except OverflowError:
            finite = False
        if not finite:
            raise ValueRefused("the number is too large")
        return value

    return compute


_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": _less,
    "<=": _at_most,
    ">": lambda left, right: _less(right, left),
    ">=": lambda left, right: _at_most(right, left),
}
_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": _computed(lambda left, right: left + right),
    "-": _computed(lambda left, right: left - right),
    "*": _computed(lambda left, right: left * right),
    "/": _computed(lambda left, right: left / right),
}
