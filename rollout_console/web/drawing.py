"""Geometry of the small drawings that the server renders as SVG. Pure: no Django."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# The limit's tick sits here on every track, whatever the unit or direction.
LIMIT_X: Final = 72.0
TRACK: Final = 100.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit-aligned bar on a track of 100: fill up to the limit, overflow, 95 % whiskers."""

    fill: float
    over: float
    low: float | None
    high: float | None


def limit_bar(used: float | None, *, low: float | None = None, high: float | None = None) -> Bar:
    """Return the bar for shares of the limit used (1.0 is the limit); None draws an empty track."""
    if used is None:
        return Bar(0.0, 0.0, None, None)
    at = _x(used)
    if low is None or high is None:
        return Bar(round(min(at, LIMIT_X), 1), round(max(0.0, at - LIMIT_X), 1), None, None)
    left, right = sorted((_x(low), _x(high)))
    return Bar(
        round(min(at, LIMIT_X), 1),
        round(max(0.0, at - LIMIT_X), 1),
        round(left, 1),
        round(right, 1),
    )


def _x(used: float) -> float:
    return min(TRACK, max(0.0, used * LIMIT_X))


# What of the limit the chart of all signals has room for; its ticks, and how they read.
DOTS_TO: Final = 1.75
_TICKS: Final = ((0.0, "0 %"), (0.5, "50 %"), (1.0, "limit"), (1.5, "150 %"))


@dataclass(frozen=True, slots=True)
class Dot:
    """A value against a limit line that all share, on a track of 100, with its 95 % range.

    `beyond` is further out than the track goes: its mark points on, and has no range. A range
    whose upper end is further out is drawn without that end.
    """

    x: float
    low: float | None
    high: float | None
    high_shown: bool
    beyond: bool


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    text: str
    limit: bool


def limit_dot(used: float, *, low: float | None = None, high: float | None = None) -> Dot:
    """Return the dot for shares of the limit used (1.0 is the limit)."""
    beyond = used > DOTS_TO
    if low is None or high is None or beyond:
        return Dot(_dot_x(used), None, None, high_shown=False, beyond=beyond)
    return Dot(_dot_x(used), _dot_x(low), _dot_x(high), high_shown=high <= DOTS_TO, beyond=False)


def limit_ticks() -> list[Tick]:
    return [Tick(_dot_x(share), text, share == 1.0) for share, text in _TICKS]


def _dot_x(used: float) -> float:
    return round(min(1.0, max(0.0, used / DOTS_TO)) * TRACK, 1)


@dataclass(frozen=True, slots=True)
class Step:
    """One bar of the small ladder, in a box of 84 by 31."""

    kind: str
    x: float
    y: float
    width: float
    height: float


def ladder_steps(*, stages: int, stage: int, exposed: bool) -> list[Step]:
    """Return the bars of the small ladder; without exposure every rung is one to come."""
    count = max(1, stages)
    width = 84.0 / count
    steps = []
    for number in range(1, count + 1):
        height = 30.0 * (0.2 + 0.8 * number / count) if count > 1 else 18.0
        kind = "pend"
        if exposed and number <= stage:
            kind = "now" if number == stage else "done"
        steps.append(
            Step(
                kind,
                x=round((number - 1) * width + 0.8, 1),
                y=round(30.0 - height, 1),
                width=round(width - 2.4, 1),
                height=round(height, 1),
            )
        )
    return steps


# Radii of the rings that stand for the stages, the innermost first.
def ring_radii(stages: int) -> list[float]:
    """Return one radius a stage within a circle of 70, the first stage innermost."""
    count = max(1, stages)
    return [round(14 + (70 - 14) * number / max(1, count - 1), 1) for number in range(count)]


@dataclass(frozen=True, slots=True)
class Floating:
    """A bar of a waterfall on a track of 100; `kind` is whole, up, down or none."""

    kind: str
    x: float
    width: float
    zero: float


def waterfall(start: float, parts: Sequence[float]) -> list[Floating]:
    """Return bars for a start, for each part where the one before it ended, and for their sum.

    `zero` is where nothing stands on the track: parts may lead below it.
    """
    edges = [start]
    for part in parts:
        edges.append(edges[-1] + part)
    low, high = min(0.0, *edges), max(0.0, *edges)
    scale = TRACK / (high - low) if high > low else 0.0

    def bar(kind: str, one: float, other: float) -> Floating:
        left, right = sorted((one, other))
        width = max(0.6, (right - left) * scale) if kind != "none" else 0.0
        x = min((left - low) * scale, TRACK - width)
        return Floating(kind, round(x, 2), round(width, 2), round(-low * scale, 2))

    bars = [bar("whole", 0.0, start)]
    for before, part in zip(edges, parts, strict=False):
        kind = "up" if part > 0 else "down" if part < 0 else "none"
        bars.append(bar(kind, before, before + part))
    return [*bars, bar("whole", 0.0, edges[-1])]
