"""A plan's file changed as little as its new content asks for: comments stay. Pure: no Django.

YAML libraries drop comments, so the text itself is edited at the places that differ: a value in
place, otherwise the smallest section around it that stands on lines of its own. What comes out
is read again; where that is not the new document, larger parts are written anew.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from rollout_console.rollouts.plan_yaml import PlanUnreadable, yaml_dump, yaml_dump_line, yaml_load

_COMMENT: Final = re.compile(r"(?:^|(?<=\s))#[^\n]*", re.MULTILINE)


_END: Final = object()


@dataclass(frozen=True, slots=True)
class Edited:
    """The new text, and the comments of the old one that it could not keep."""

    text: str
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A replacement of text[start:end]."""

    start: int
    end: int
    text: str


def text_edited(text: str, document: Any) -> Edited:
    """Return `text` changed so that it reads as `document`."""
    try:
        before = yaml_load(text).value
    except PlanUnreadable:
        return Edited(yaml_dump(document))
    if _same(before, document):
        return Edited(text)
    # Pure Python: its marks count characters, as slices do.
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for deep in (True, False):
        cuts = list(_Editor(text, deep=deep).node(root, before, document, column=0))
        made = _applied(text, cuts)
        if made is not None and _reads_as(made, document):
            return Edited(made, _lost(text, made))
    made = yaml_dump(document)
    return Edited(made, _lost(text, made))


class _Editor:
    """Finds the cuts. Not `deep`: a top-level section that differs is written anew."""

    def __init__(self, text: str, *, deep: bool) -> None:
        self.text = text
        self.deep = deep

    def node(self, node: Any, old: Any, new: Any, *, column: int) -> Iterator[_Cut]:
        """Yield what makes a node read as `new`; `column` is where its block starts."""
        if _same(old, new):
            return
        if isinstance(node, yaml.MappingNode) and isinstance(new, dict) and isinstance(old, dict):
            if not node.flow_style:
                yield from self._block(node, old, new)
                return
            if list(old) == list(new):
                for (_, value), key in zip(node.value, old, strict=True):
                    yield from self.node(value, old[key], new[key], column=column)
                return
        if isinstance(node, yaml.SequenceNode) and isinstance(new, list) and isinstance(old, list):
            if len(old) == len(new):
                for value, was, now in zip(node.value, old, new, strict=True):
                    yield from self.node(value, was, now, column=value.start_mark.column)
                return
            if not node.flow_style:
                yield from self._items(node, old, new)
                return
        start, end = node.start_mark.index, self._end(node)
        gap = " " if start and self.text[start - 1] == ":" else ""
        yield _Cut(start, end, gap + yaml_dump_line(new))

    def _block(self, node: Any, old: dict[str, Any], new: dict[str, Any]) -> Iterator[_Cut]:
        at = node.start_mark.column
        top = at == 0
        last = 0
        for (key_node, value), key in zip(node.value, old, strict=True):
            start, end = key_node.start_mark.index, max(self._end(value), self._end(key_node))
            last = max(last, end)
            if key not in new:
                yield self._removal(start, end)
            elif _same(old[key], new[key]):
                continue
            elif self._inside(value, old[key], new[key]) and (self.deep or not top):
                yield from self.node(value, old[key], new[key], column=at)
            else:
                yield _Cut(start, end, self._entry({key: new[key]}, at))
        added = {key: value for key, value in new.items() if key not in old}
        if added:
            after = self.text.find("\n", last)
            last = len(self.text) if after < 0 else after
            yield _Cut(last, last, "\n" + " " * at + self._entry(added, at))

    def _items(self, node: Any, old: list[Any], new: list[Any]) -> Iterator[_Cut]:
        """Yield what makes a block's list longer at its end, or takes items out of it."""
        for index in _gone(old, new):
            item = node.value[index]
            dash = self.text.rfind("-", 0, item.start_mark.index)
            yield self._removal(dash, self._end(item))
        if len(new) < len(old):
            return
        for value, was, now in zip(node.value, old, new, strict=False):
            yield from self.node(value, was, now, column=value.start_mark.column)
        at, last = node.start_mark.column, node.value[-1]
        flow = isinstance(last, yaml.CollectionNode) and last.flow_style
        lines = [
            line
            for item in new[len(old) :]
            for line in (
                [f"- {yaml_dump_line(item)}"]
                if flow
                else yaml_dump([item]).rstrip("\n").split("\n")
            )
        ]
        end = self._end(node)
        after = self.text.find("\n", end)
        # Behind what else stands on the last item's line: its comment.
        end = len(self.text) if after < 0 else after
        yield _Cut(end, end, "".join(f"\n{' ' * at}{line}" for line in lines))

    def _inside(self, value: Any, old: Any, new: Any) -> bool:
        """Whether the change can be made within the value, its line left as it is."""
        if isinstance(value, yaml.MappingNode):
            return isinstance(new, dict) and isinstance(old, dict) and bool(old) and bool(new)
        if isinstance(value, yaml.SequenceNode):
            if not isinstance(new, list) or not isinstance(old, list) or not old or not new:
                return False
            longer = len(new) >= len(old)
            return bool(value.flow_style) or longer or bool(_gone(old, new))
        return not isinstance(new, dict | list) and value.style not in ("|", ">")

    def _entry(self, entry: dict[str, Any], column: int) -> str:
        lines = yaml_dump(entry).rstrip("\n").split("\n")
        return ("\n" + " " * column).join(lines)

    def _removal(self, start: int, end: int) -> _Cut:
        """Return the cut of an entry with its line, where it has one of its own."""
        line = self.text.rfind("\n", 0, start) + 1
        if self.text[line:start].strip():
            return _Cut(start, end, "")
        after = self.text.find("\n", end)
        return _Cut(line, len(self.text) if after < 0 else after + 1, "")

    def _end(self, node: Any) -> int:
        """Return where a node's last sign stands: a block's own mark is behind its comments."""
        if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
            last = node.value[-1]
            if isinstance(last, tuple):
                return max(self._end(last[0]), self._end(last[1]))
            return self._end(last)
        end: int = node.end_mark.index
        if getattr(node, "style", None) in ("|", ">"):
            return len(self.text[:end].rstrip("\n"))
        return end


def _gone(old: list[Any], new: list[Any]) -> list[int]:
    """Return which items were taken out, none where what is left is not the others."""
    gone = []
    left = iter(new)
    now = next(left, _END)
    for index, item in enumerate(old):
        if now is not _END and _same(item, now):
            now = next(left, _END)
        else:
            gone.append(index)
    return gone if now is _END else []


def _applied(text: str, cuts: list[_Cut]) -> str | None:
    """Return the text with its cuts made; None where two of them overlap."""
    made, end = [], 0
    for cut in sorted(cuts, key=lambda cut: (cut.start, cut.end)):
        if cut.start < end:
            return None
        made += [text[end : cut.start], cut.text]
        end = cut.end
    return "".join([*made, text[end:]])


def _reads_as(text: str, document: Any) -> bool:
    try:
        return _same(yaml_load(text).value, document)
    except PlanUnreadable:
        return False


def _same(one: Any, other: Any) -> bool:
    """Whether two documents say the same; True is not 1, and 1 is 1.0 as in JSON."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _lost(before: str, after: str) -> list[str]:
    kept = comments(after)
    lost = []
    for comment in comments(before):
        if comment in kept:
            kept.remove(comment)
        else:
            lost.append(comment)
    return lost


def comments(text: str) -> list[str]:
    """Return the comments of a readable text, in its order."""
    spans = sorted(_scalars(yaml.compose(text, Loader=yaml.SafeLoader)))
    found = []
    for match in _COMMENT.finditer(text):
        start = match.start()
        if not any(begin <= start < end for begin, end in spans):
            found.append(match.group().rstrip())
    return found


def _scalars(root: Any) -> Iterator[tuple[int, int]]:
    waiting = [root]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            yield node.start_mark.index, node.end_mark.index
        elif isinstance(node, yaml.MappingNode):
            waiting.extend(each for pair in node.value for each in pair)
        else:
            waiting.extend(node.value)
