"""A plan's text as plain values, with the line that each one stands on.

YAML is read by the core schema of YAML 1.2, the one that is JSON with less punctuation: a date
stays text, and `no`, `on` and `12:30` are words. Pure: no Django.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from rollout_console.core.strict_json import DEPTH_MAX, JsonRefused, json_load, value_check

BYTES_MAX: Final = 1024 * 1024
# Values after aliases are expanded: a short text can otherwise describe billions.
VALUES_MAX: Final = 50_000

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT: Final = re.compile(r"[-+]?[0-9]{1,400}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_OTHER_BREAKS: Final = "\r\x85\u2028\u2029"
_NOT_FINITE: Final = frozenset({".inf", "-.inf", "+.inf", ".nan"})


class PlanUnreadable(Exception):
    """The text is no plan at all; `line` counts from 1 where it is known."""

    def __init__(self, detail: str, line: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.line = line


@dataclass(frozen=True, slots=True)
class PlanText:
    """A parsed text: its value, and by JSON pointer the line of each part (none for JSON)."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Node:
    """A YAML node before aliases are expanded: `kind` is scalar, list or map."""

    kind: str
    line: int
    value: Any = None
    items: list[Any] = field(default_factory=list)


def yaml_load(text: str | bytes) -> PlanText:
    """Return the one document of a YAML text.

    Raises:
        PlanUnreadable: broken syntax, repeated keys, tags, too large, too deep, or aliases that
            expand to too much.
    """
    text = _decoded(text)
    try:
        root = _composed(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = mark.line + 1 if mark is not None else None
        raise PlanUnreadable(f"Not YAML: {words}.", line) from error
    builder = _Builder()
    value = builder.build(root, "", 1)
    try:
        value_check(value)
    except JsonRefused as error:
        raise PlanUnreadable(str(error)) from error
    return PlanText(value, builder.lines)


def plan_json_load(text: str | bytes) -> PlanText:
    """Return the value of a JSON text; JSON has no lines worth naming.

    Raises:
        PlanUnreadable: it is not JSON, or too large.
    """
    text = _decoded(text)
    try:
        return PlanText(json_load(text))
    except JsonRefused as error:
        raise PlanUnreadable(str(error)) from error


def yaml_dump(document: Any) -> str:
    """Return a document as YAML that `yaml_load` reads back as the same values."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def yaml_dump_line(value: Any) -> str:
    """Return a value as YAML on one line, fit to stand inside `{}` and `[]`."""
    holder = yaml.dump(
        [value],
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=10**9,
        default_flow_style=True,
    )
    return str(holder).strip()[1:-1]


class _Dumper(yaml.SafeDumper):
    """Quotes what `yaml_load` would read as other than text, beside what PyYAML quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if any(letter in text for letter in _OTHER_BREAKS):
        # Line breaks to YAML 1.1, which folds them into spaces unless they are escaped.
        style = '"'
    elif "\n" in text:
        style = "|"
    elif text.lower() in _NOT_FINITE or not isinstance(_plain(text, 0), str):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _float_represent(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    digits = repr(value)
    if "e" in digits and "." not in digits:
        # 1e-05 is a number in YAML 1.2 only, and PyYAML would tag it.
        digits = digits.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", digits)


_Dumper.add_representer(str, _text_represent)
_Dumper.add_representer(float, _float_represent)


def _decoded(given: str | bytes) -> str:
    raw = given if isinstance(given, bytes) else given.encode("utf-8", "replace")
    if len(raw) > BYTES_MAX:
        raise PlanUnreadable("A plan has at most 1 MiB.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise PlanUnreadable("The text is not UTF-8.", line) from error
    if "\x00" in text:
        line = text[: text.index("\x00")].count("\n") + 1
        raise PlanUnreadable("The text holds a NUL character; take it out.", line)
    return text


def _composed(text: str) -> _Node:
    """Build the node graph from parser events, without recursion: depth is the sender's."""
    root: _Node | None = None
    stack: list[_Node] = []
    anchors: dict[str, _Node] = {}
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if count > 3 * VALUES_MAX:
            raise PlanUnreadable(f"A plan holds at most {VALUES_MAX:,} values.", _line(event))
        if isinstance(event, yaml.DocumentStartEvent) and root is not None:
            raise PlanUnreadable("One plan a file: a second document starts here.", _line(event))
        if isinstance(event, yaml.AliasEvent):
            node = anchors.get(event.anchor or "")
            if node is None:
                raise PlanUnreadable(f"The alias *{event.anchor} has no anchor.", _line(event))
        elif isinstance(event, yaml.ScalarEvent):
            node = _Node("scalar", _line(event), _scalar(event))
        elif isinstance(event, yaml.CollectionStartEvent):
            _tag_check(event, event.tag)
            kind = "list" if isinstance(event, yaml.SequenceStartEvent) else "map"
            node = _Node(kind, _line(event))
        else:
            if isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
            continue
        if stack:
            stack[-1].items.append((node, _line(event)))
        else:
            root = node
        if not isinstance(event, yaml.AliasEvent) and event.anchor:
            anchors[event.anchor] = node
        if node.kind != "scalar" and not isinstance(event, yaml.AliasEvent):
            stack.append(node)
            if len(stack) > DEPTH_MAX:
                raise PlanUnreadable(f"At most {DEPTH_MAX} levels may be nested.", _line(event))
    if root is None:
        raise PlanUnreadable("The text is empty.")
    return root


class _Builder:
    """Turns nodes into values, counting them, and notes the line of each pointer."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self._count = 0

    def build(self, node: _Node, pointer: str, depth: int, line: int | None = None) -> Any:
        self._count += 1
        line = line or node.line
        if depth > DEPTH_MAX or self._count > VALUES_MAX:
            raise PlanUnreadable(
                f"At most {VALUES_MAX:,} values and {DEPTH_MAX} levels, aliases counted.", line
            )
        self.lines[pointer] = line
        if node.kind == "scalar":
            return node.value
        if node.kind == "list":
            return [
                self.build(item, f"{pointer}/{index}", depth + 1, at)
                for index, (item, at) in enumerate(node.items)
            ]
        made: dict[str, Any] = {}
        for (key_node, key_line), (value_node, _) in zip(
            node.items[::2], node.items[1::2], strict=True
        ):
            key = key_node.value
            if key_node.kind != "scalar" or not isinstance(key, str):
                raise PlanUnreadable("A key must be text; put it in quotes.", key_line)
            if key in made:
                raise PlanUnreadable(f"The key {key[:80]!r} stands twice.", key_line)
            made[key] = self.build(
                value_node, f"{pointer}/{pointer_part(key)}", depth + 1, key_line
            )
        return made


def pointer_part(key: str) -> str:
    """Return a key as it stands in a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _tag_check(event: Any, tag: str | None) -> None:
    if tag not in (None, "!"):
        raise PlanUnreadable("Tags (!…) are not used in plans; take it out.", _line(event))


def _scalar(event: Any) -> Any:
    text: str = event.value
    _tag_check(event, event.tag)
    plain, _ = event.implicit
    return _plain(text, _line(event)) if plain else text


def _plain(text: str, line: int) -> Any:
    """Return what an unquoted scalar means by the core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.lower() in _NOT_FINITE:
        raise PlanUnreadable("NaN and infinity are not numbers here.", line)
    return text
