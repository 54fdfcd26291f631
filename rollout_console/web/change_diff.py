"""What a release changed, before and after, as a diff that reads. Pure: no Django.

Short values stand beside each other, maps in JSON by their keys, everything else by lines with
the words that changed marked in them.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Kind = Literal["same", "removed", "added", "gap"]

SHORT: Final = 32
CONTEXT: Final = 3
# Lines above which a diff starts folded, and those that a page shows at all.
FOLDED: Final = 24
SHOWN: Final = 1_500
KEYS_SHOWN: Final = 300
_VALUE: Final = 2_000
# More differences than these are no edit any more: aligning them costs much and says little.
_LINES_APART: Final = 400
_WORDS_APART: Final = 300
# Lines that share less than this part of their words are two lines, not one that was edited.
_ALIKE: Final = 0.35
_WORDS: Final = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a line; `marked` where just these words are the change."""

    text: str
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a diff; kind `gap` stands for `skipped` lines that are the same."""

    kind: Kind
    pieces: list[Piece] = field(default_factory=list)
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a map whose value was added, removed or changed."""

    name: str
    kind: Literal["added", "removed", "changed"]
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Diff:
    """One change. `form` says which of the others is filled.

    `values`: `before` and `after`. `keys`: `keys`, and `same` more that did not change. `lines`:
    `lines`, with `removed` and `added` counted; `cut` more are not shown. `none`: both are one.
    """

    form: Literal["values", "keys", "lines", "none"]
    before: str = ""
    after: str = ""
    keys: list[Key] = field(default_factory=list)
    same: int = 0
    lines: list[Line] = field(default_factory=list)
    removed: int = 0
    added: int = 0
    cut: int = 0

    @property
    def folded(self) -> bool:
        """Whether it is too long to stand open among others."""
        return len(self.lines) > FOLDED or len(self.keys) > FOLDED


def change_diff(before: str, after: str) -> Diff:
    """Return how `after` differs from `before`."""
    if before == after:
        return Diff("none", before=before, after=after)
    left, right = _map(before), _map(after)
    if left is not None and right is not None:
        return _keys(left, right)
    if all(len(text) <= SHORT and "\n" not in text for text in (before, after)):
        return Diff("values", before=before, after=after)
    return _lines(before.splitlines(), after.splitlines())


def _map(text: str) -> dict[str, Any] | None:
    """Return a map in JSON; nothing at all is an empty one."""
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _keys(before: dict[str, Any], after: dict[str, Any]) -> Diff:
    left, right = _flat(before), _flat(after)
    keys = []
    # In the order of the file that is now, with what is gone behind it.
    for name in [*right, *(name for name in left if name not in right)]:
        if name not in left:
            keys.append(Key(name, "added", "", _text(right[name])))
        elif name not in right:
            keys.append(Key(name, "removed", _text(left[name]), ""))
        elif json.dumps(left[name]) != json.dumps(right[name]):
            # Not by ==, to which 1, 1.0 and true are one.
            keys.append(Key(name, "changed", _text(left[name]), _text(right[name])))
    same = len(right) - sum(key.kind != "removed" for key in keys)
    if not keys:
        return Diff("none", same=same)
    shown = keys[:KEYS_SHOWN]
    return Diff("keys", keys=shown, same=same, cut=len(keys) - len(shown))


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """Return a map's leaves by their dotted place; a list is a leaf, unless it holds maps."""
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        place, each = waiting.pop()
        inner: list[tuple[str, Any]] = []
        if isinstance(each, dict) and each:
            inner = [(f"{place}.{key}" if place else str(key), held) for key, held in each.items()]
        elif isinstance(each, list) and any(isinstance(held, dict) for held in each):
            inner = [(f"{place}[{index}]", held) for index, held in enumerate(each)]
        if inner:
            waiting += reversed(inner)
        elif place:
            found[place] = each
    return found


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and (not text or text != text.strip()):
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE else text[:_VALUE] + "…"


def _lines(before: Sequence[str], after: Sequence[str]) -> Diff:
    steps = _steps(before, after, _LINES_APART)
    removed = sum(step[0] == "removed" for step in steps)
    added = sum(step[0] == "added" for step in steps)
    if not removed and not added:
        # Only how lines end differs, or whether the last one does.
        return Diff("none", before="\n".join(before), after="\n".join(after))
    lines = _folded(_marked(steps))
    shown = lines[:SHOWN]
    return Diff("lines", lines=shown, removed=removed, added=added, cut=len(lines) - len(shown))


def _marked(steps: Sequence[tuple[Kind, str]]) -> list[Line]:
    """Mark the words that changed where a line stands for another one."""
    lines: list[Line] = []
    place = 0
    while place < len(steps):
        if steps[place][0] == "same":
            lines.append(Line("same", [Piece(steps[place][1])]))
            place += 1
            continue
        gone: list[str] = []
        come: list[str] = []
        while place < len(steps) and steps[place][0] != "same":
            (gone if steps[place][0] == "removed" else come).append(steps[place][1])
            place += 1
        pairs = [_words(old, new) for old, new in zip(gone, come, strict=False)]
        olds = [pair[0] for pair in pairs] + [[Piece(text)] for text in gone[len(pairs) :]]
        news = [pair[1] for pair in pairs] + [[Piece(text)] for text in come[len(pairs) :]]
        lines += [Line("removed", pieces) for pieces in olds]
        lines += [Line("added", pieces) for pieces in news]
    return lines


def _words(old: str, new: str) -> tuple[list[Piece], list[Piece]]:
    steps = _steps(_WORDS.findall(old), _WORDS.findall(new), _WORDS_APART)
    same = sum(len(text) for kind, text in steps if kind == "same" and not text.isspace())
    most = max(len("".join(old.split())), len("".join(new.split())), 1)
    if same < _ALIKE * most:
        return [Piece(old)], [Piece(new)]
    return _pieces(steps, "removed"), _pieces(steps, "added")


def _pieces(steps: Sequence[tuple[Kind, str]], kept: Kind) -> list[Piece]:
    pieces: list[Piece] = []
    for kind, text in steps:
        if kind not in ("same", kept):
            continue
        marked = kind == kept
        if pieces and pieces[-1].marked == marked:
            pieces[-1] = Piece(pieces[-1].text + text, marked)
        else:
            pieces.append(Piece(text, marked))
    return pieces


def _folded(lines: Sequence[Line]) -> list[Line]:
    """Leave out what stands more than `CONTEXT` lines from any change."""
    near = [False] * len(lines)
    for place, line in enumerate(lines):
        if line.kind != "same":
            around = range(max(0, place - CONTEXT), min(len(lines), place + CONTEXT + 1))
            for each in around:
                near[each] = True
    made: list[Line] = []
    for line, shown in zip(lines, near, strict=True):
        if shown:
            made.append(line)
        elif made and made[-1].kind == "gap":
            made[-1] = Line("gap", skipped=made[-1].skipped + 1)
        else:
            made.append(Line("gap", skipped=1))
    return made


def _steps(before: Sequence[str], after: Sequence[str], most: int) -> list[tuple[Kind, str]]:
    """Return the fewest removals and additions that lead from one to the other.

    Above `most` of them what stands between the equal ends is removed and added as a whole, so
    that no two texts cost more than most² steps.

    Source: Myers 1986, An O(ND) difference algorithm, Algorithmica 1, the greedy algorithm.
    """
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    room = min(len(before), len(after)) - start
    while end < room and before[-1 - end] == after[-1 - end]:
        end += 1
    left, right = before[start : len(before) - end], after[start : len(after) - end]
    head: list[tuple[Kind, str]] = [("same", text) for text in before[:start]]
    tail: list[tuple[Kind, str]] = [("same", text) for text in before[len(before) - end :]]
    return [*head, *_between(left, right, most), *tail]


def _between(left: Sequence[str], right: Sequence[str], most: int) -> list[tuple[Kind, str]]:
    whole: list[tuple[Kind, str]] = [
        *(("removed", text) for text in left),
        *(("added", text) for text in right),
    ]
    if not left or not right or set(left).isdisjoint(right):
        return whole
    n, m = len(left), len(right)
    furthest = {1: 0}
    trace: list[dict[int, int]] = []
    for depth in range(min(n + m, most) + 1):
        trace.append(dict(furthest))
        for k in range(-depth, depth + 1, 2):
            down = k == -depth or (k != depth and furthest[k - 1] < furthest[k + 1])
            x = furthest[k + 1] if down else furthest[k - 1] + 1
            while x < n and x - k < m and left[x] == right[x - k]:
                x += 1
            furthest[k] = x
            if x >= n and x - k >= m:
                return _walked(left, right, trace)
    return whole


def _walked(
    left: Sequence[str], right: Sequence[str], trace: Sequence[dict[int, int]]
) -> list[tuple[Kind, str]]:
    """Return the steps of Myers's path, from its end back to its start."""
    x, y = len(left), len(right)
    steps: list[tuple[Kind, str]] = []
    for depth in range(len(trace) - 1, -1, -1):
        furthest, k = trace[depth], x - y
        down = k == -depth or (k != depth and furthest[k - 1] < furthest[k + 1])
        from_k = k + 1 if down else k - 1
        from_x = furthest[from_k]
        from_y = from_x - from_k
        while x > from_x and y > from_y and x > 0 and y > 0:
            x, y = x - 1, y - 1
            steps.append(("same", left[x]))
        if depth == 0:
            break
        if down:
            y -= 1
            steps.append(("added", right[y]))
        else:
            x -= 1
            steps.append(("removed", left[x]))
    steps.reverse()
    return steps
