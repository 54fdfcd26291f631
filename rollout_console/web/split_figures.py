"""A chart of one signal parted by something: a line for each of the commonest values. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rollout_console.web.figures import (
    COLOURS,
    ChartMark,
    Drill,
    Series,
    beyond,
    layout_of,
    moment_text,
    scale_of,
    unbroken,
)
from signals.buckets.selectors import Point
from signals.catalogue import Signal
from signals.format import range_text, value_text

# By dash and name at the end before colour: a chart is read in greyscale too.
DASHES: Final = ("solid", "5px,3px", "2px,2px", "9px,3px,2px,3px", "12px,4px")
LINES_MAX: Final = len(DASHES)
_COLOUR_OF: Final = ("line", "stable", "action", "ink-2", "ink-3")


@dataclass(frozen=True, slots=True)
class Line:
    """What one line is called, its points by step, and the way to the runs behind them."""

    name: str
    points: Sequence[Point]
    drill: Drill | None = None


def split_figure(
    signal: Signal,
    lines: Sequence[Line],
    *,
    limit: float | None,
    marks: Sequence[ChartMark],
    start: datetime,
    end: datetime,
    step_s: int,
) -> dict[str, Any]:
    """Return the figure of at most `LINES_MAX` lines: {"data": […], "layout": {…}}."""
    scale = scale_of(signal)
    drawn = lines[:LINES_MAX]
    frame = Series(
        signal=signal,
        candidate=[point for line in drawn for point in line.points],
        stable=[],
        limit=limit,
        marks=marks,
        start=start,
        end=end,
        step_s=step_s,
    )
    layout = layout_of(frame, scale)
    # Room for the names at the lines' ends.
    layout["margin"]["r"] = 120
    layout["height"] = 300
    layout["annotations"] += _names(drawn, scale)
    return {
        "data": [
            _trace(signal, line, place, scale=scale, step_s=step_s)
            for place, line in enumerate(drawn)
        ]
        + beyond(frame, scale),
        "layout": layout,
    }


def _trace(signal: Signal, line: Line, place: int, *, scale: float, step_s: int) -> dict[str, Any]:
    x: list[str] = []
    y: list[float | None] = []
    texts: list[list[str] | None] = []
    sizes: list[int] = []
    for part in unbroken(line.points, step_s):
        if x:
            x.append(x[-1])
            y.append(None)
            texts.append(None)
            sizes.append(0)
        for point in part:
            x.append(moment_text(point.t))
            y.append(round(point.value * scale, 6))
            texts.append(
                [
                    value_text(signal, point.value),
                    range_text(signal, point.low, point.high),
                    f"{point.n:,}",
                    line.drill.href(point.t) if line.drill else "",
                ]
            )
            sizes.append(5 if len(part) == 1 else 0)
    colour = COLOURS[_COLOUR_OF[place]]
    name = line.name.replace("<", "(").replace(">", ")")
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "meta": {"role": f"split{place + 1}"},
        "x": x,
        "y": y,
        "customdata": texts,
        "connectgaps": False,
        "line": {"color": colour, "width": 2, "dash": DASHES[place]},
        "marker": {"color": colour, "size": sizes},
        "hovertemplate": f"{name} %{{customdata[0]}} (%{{customdata[1]}}), "
        "n %{customdata[2]}<extra></extra>",
    }


def _names(lines: Sequence[Line], scale: float) -> list[dict[str, Any]]:
    """Return a label at the end of each line, moved apart where they would meet."""
    ends = sorted(
        (
            (line.points[-1].value * scale, place, line)
            for place, line in enumerate(lines)
            if line.points
        ),
        key=lambda each: (each[0], each[1]),
    )
    values = [point.value * scale for line in lines for point in line.points]
    apart = (max(values) - min(values)) * 0.09 if values else 0.0
    labels = []
    lowest = float("-inf")
    for value, place, line in ends:
        shown = max(value, lowest + apart)
        lowest = shown
        text = line.name if len(line.name) <= 18 else f"{line.name[:17]}…"
        labels.append(
            {
                "name": "split",
                "text": text.replace("<", "(").replace(">", ")"),
                "x": 1.01,
                "xref": "paper",
                "y": round(shown, 6),
                "yref": "y",
                "xanchor": "left",
                "yanchor": "middle",
                "showarrow": False,
                "font": {"size": 11, "color": COLOURS[_COLOUR_OF[place]], "weight": 600},
            }
        )
    return labels
