"""Geometry of the fallback map and of bars by path, drawn by the server as SVG. Pure: no Django."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# The drawing's columns: path, its release's answers, fallbacks, whoever takes escalations.
WIDTH: Final = 900
_X: Final = {"path": 10, "answers": 250, "fallback": 490, "escalation": 720}
_BOX: Final = {"path": 170, "answers": 110, "fallback": 170, "escalation": 175}
_HEIGHT: Final = 44
_GAP: Final = 14
_TOP: Final = 26
# The line of all tasks; thinner ones stay visible.
_LINE_MOST: Final = 16.0
_LINE_LEAST: Final = 1.0


@dataclass(frozen=True, slots=True)
class Box:
    kind: str
    x: float
    y: float
    width: float
    height: float
    title: str
    note: str


@dataclass(frozen=True, slots=True)
class Link:
    """A line between two boxes, as wide as its share of the path's tasks."""

    kind: str
    d: str
    width: float


@dataclass(frozen=True, slots=True)
class Map:
    width: int
    height: float
    heads: list[tuple[float, str]]
    boxes: list[Box]
    links: list[Link]


@dataclass(frozen=True, slots=True)
class Branch:
    """One way through a path's map: its words, and shares (0-1) of the path's tasks."""

    title: str
    note: str
    share: float
    escalated_share: float
    hot: bool = False


def flow_map(
    *,
    path: tuple[str, str],
    answers: Branch,
    fallbacks: Sequence[Branch],
    escalation: tuple[str, str],
) -> Map:
    """Lay out path → answers or fallback → escalation; lines are as wide as shares of tasks."""
    rows = max(1, len(fallbacks))
    tall = rows * _HEIGHT + (rows - 1) * _GAP
    middle = _TOP + (tall - _HEIGHT) / 2
    boxes = [
        _box("path", middle, *path),
        _box("answers", middle, answers.title, answers.note),
    ]
    links = [_link("path", middle, "answers", middle, "", 1.0)]
    escalates = answers.escalated_share > 0 or any(each.escalated_share > 0 for each in fallbacks)
    for place, each in enumerate(fallbacks):
        y = _TOP + place * (_HEIGHT + _GAP)
        boxes.append(_box("fallback", y, each.title, each.note, "hot" if each.hot else "alt"))
        links.append(_link("answers", middle, "fallback", y, "d", each.share))
        if each.escalated_share > 0:
            links.append(_link("fallback", y, "escalation", middle, "x", each.escalated_share))
    height = _TOP + tall + 10
    if answers.escalated_share > 0:
        # Under the fallbacks, so that it crosses none of them.
        low = _TOP + tall + 16
        height = low + 14
        start = _X["answers"] + _BOX["answers"] / 2
        end = _X["escalation"] + _BOX["escalation"] / 2
        width = _line(answers.escalated_share)
        links.append(
            Link(
                "x",
                f"M{start:.0f} {middle + _HEIGHT:.0f}V{low:.0f}H{end:.0f}V{middle + _HEIGHT:.0f}",
                width,
            )
        )
    if escalates:
        boxes.append(_box("escalation", middle, *escalation))
    heads = [("path", "Path"), ("answers", "Answered"), ("fallback", "Fallback taken")]
    if escalates:
        heads.append(("escalation", "Escalated to"))
    return Map(
        width=WIDTH,
        height=round(height, 1),
        heads=[(_X[column], words) for column, words in heads],
        boxes=boxes,
        links=links,
    )


def _box(column: str, y: float, title: str, note: str, kind: str = "") -> Box:
    return Box(kind, _X[column], round(y, 1), _BOX[column], _HEIGHT, _cut(title), note)


def _link(first: str, y1: float, second: str, y2: float, kind: str, share: float) -> Link:
    x1, x2 = _X[first] + _BOX[first], _X[second]
    a, b = y1 + _HEIGHT / 2, y2 + _HEIGHT / 2
    half = (x1 + x2) / 2
    return Link(
        kind, f"M{x1} {a:.1f}C{half:.0f} {a:.1f} {half:.0f} {b:.1f} {x2} {b:.1f}", _line(share)
    )


def _line(share: float) -> float:
    return round(max(_LINE_LEAST, _LINE_MOST * min(1.0, share)), 1)


def _cut(text: str) -> str:
    return text if len(text) <= 24 else text[:23] + "…"


@dataclass(frozen=True, slots=True)
class BarPair:
    """A path's previous and current value as bar widths on a track of 100, from zero."""

    label: str
    previous: float | None
    previous_text: str
    current: float | None
    current_text: str


def bar_pairs(
    rows: Sequence[tuple[str, float | None, str, float | None, str]],
) -> list[BarPair]:
    """Return bars that share one scale, the greatest value filling it; None stays without a bar."""
    most = max((v for _, a, _, b, _ in rows for v in (a, b) if v is not None), default=0.0)

    def wide(value: float | None) -> float | None:
        if value is None:
            return None
        return round(100 * value / most, 1) if most > 0 else 0.0

    return [
        BarPair(label, wide(before), before_text, wide(now), now_text)
        for label, before, before_text, now, now_text in rows
    ]
