"""Charts as plain JSON in Plotly's figure form. Pure: no Django.

Every mark carries a role (a trace in `meta.role`, a shape or annotation in `name`), so that the
page recolours it from the design tokens; the colours here are those of the light theme.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from signals.buckets.selectors import Point
from signals.catalogue import Signal
from signals.format import MISSING, limit_text, range_text, value_text

COLOURS: Final = {
    "line": "#0072b2",
    "ribbon": "rgba(0, 114, 178, 0.17)",
    "stable": "#009e73",
    "limit": "#16181b",
    "release": "#43474d",
    "action": "#d55e00",
    "grid": "#ecece8",
    "ink": "#16181b",
    "ink-2": "#43474d",
    "ink-3": "#62666d",
    "surface": "#ffffff",
}
_LABEL_MAX: Final = 24
_SHORTEST: Final = timedelta(seconds=1)
# A value so many times as large as all others owns the chart, once there are enough others.
_TIMES: Final = 10.0
_ENOUGH: Final = 5


@dataclass(frozen=True, slots=True)
class ChartMark:
    """A moment that a chart marks; kind `release` draws ◆ solid, `action` ▼ dotted."""

    at: datetime
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Drill:
    """How a point leads to the runs behind it: their page, and what each line asks of it.

    `stable` is for charts with a line of the stable arm beside.
    """

    page: str
    asked: Mapping[str, str | Sequence[str]]
    step_s: int
    end: datetime
    stable: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    # From here on the candidate's line goes on with what the stable arm serves.
    served_from: datetime | None = None

    def href(self, at: datetime, *, stable: bool = False, until: datetime | None = None) -> str:
        """Return the address of the runs of the step that starts at `at`, or of [at, until)."""
        over = self.served_from is not None and at >= self.served_from
        asked = self.stable if stable or over else self.asked
        until = until or min(
            at + timedelta(seconds=self.step_s), max(self.end, at + timedelta(seconds=1))
        )
        span = {"from": _utc(at), "to": _utc(until)}
        return f"{self.page}?{urlencode({**asked, **span}, doseq=True)}"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One step as text, for the table beside the chart; the hrefs lead to its runs."""

    at: datetime
    value: str
    range: str
    n: str
    stable: str
    href: str = ""
    stable_href: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """What a chart draws: the candidate's points, and the stable arm's of the same segments."""

    signal: Signal
    candidate: Sequence[Point]
    stable: Sequence[Point]
    limit: float | None
    marks: Sequence[ChartMark]
    start: datetime
    end: datetime
    step_s: int
    drill: Drill | None = None


def table_rows(series: Series) -> list[TableRow]:
    """Return every step that has a number, newest first."""
    candidate = {point.t: point for point in series.candidate}
    stable = {point.t: point for point in series.stable}
    rows = []
    for at in sorted({*candidate, *stable}, reverse=True):
        point, other = candidate.get(at), stable.get(at)
        rows.append(
            TableRow(
                at=at,
                value=value_text(series.signal, point.value) if point else MISSING,
                range=range_text(series.signal, point.low, point.high) if point else "",
                n=f"{point.n:,}" if point else "",
                stable=value_text(series.signal, other.value) if other else MISSING,
                href=series.drill.href(at) if series.drill and point else "",
                stable_href=series.drill.href(at, stable=True) if series.drill and other else "",
            )
        )
    return rows


def figure(series: Series) -> dict[str, Any]:
    """Return the figure of a signal over time: {"data": […], "layout": {…}}."""
    scale = scale_of(series.signal)
    data = [
        *_ribbon(series, scale),
        *_line(series, series.stable, "stable", scale),
        *_line(series, series.candidate, "line", scale),
        *_end(series, scale),
        *beyond(series, scale),
    ]
    return {"data": data, "layout": layout_of(series, scale)}


def scale_of(signal: Signal) -> float:
    return {"share": 100.0, "ms": 0.001}.get(signal.unit, 1.0)


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def moment_text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def unbroken(points: Sequence[Point], step_s: int) -> list[list[Point]]:
    """Part points where steps are missing: gaps stay gaps."""
    parts: list[list[Point]] = []
    reach = timedelta(seconds=step_s * 1.5)
    for point in points:
        if parts and point.t - parts[-1][-1].t <= reach:
            parts[-1].append(point)
        else:
            parts.append([point])
    return parts


def _line(series: Series, points: Sequence[Point], role: str, scale: float) -> list[dict[str, Any]]:
    if not points:
        return []
    x: list[str | None] = []
    y: list[float | None] = []
    stable = role == "stable"
    texts: list[list[str] | None] = []
    sizes: list[int] = []
    for part in unbroken(points, series.step_s):
        if x:
            x.append(x[-1])
            y.append(None)
            texts.append(None)
            sizes.append(0)
        for point in part:
            sizes.append(4 if len(part) == 1 else 0)
            x.append(moment_text(point.t))
            y.append(round(point.value * scale, 6))
            texts.append(
                [
                    value_text(series.signal, point.value),
                    range_text(series.signal, point.low, point.high),
                    f"{point.n:,}",
                    series.drill.href(point.t, stable=stable) if series.drill else "",
                ]
            )
    name = "stable" if stable else "candidate"
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "meta": {"role": role},
            "x": x,
            "y": y,
            "customdata": texts,
            "connectgaps": False,
            "line": {
                "color": COLOURS[role],
                "width": 1.5 if stable else 2,
                "dash": "5px,3px" if stable else "solid",
            },
            # A lone step has no line to stand on.
            "marker": {"color": COLOURS[role], "size": sizes},
            "hovertemplate": f"{name} %{{customdata[0]}} (%{{customdata[1]}}), "
            "n %{customdata[2]}<extra></extra>",
        }
    ]


def _ribbon(series: Series, scale: float) -> list[dict[str, Any]]:
    x: list[str | None] = []
    y: list[float | None] = []
    for part in unbroken(series.candidate, series.step_s):
        known = [p for p in part if p.low is not None and p.high is not None]
        if len(known) < 2:
            continue
        if x:
            x.append(None)
            y.append(None)
        outline = [(p.t, p.high) for p in known] + [(p.t, p.low) for p in reversed(known)]
        x.extend(moment_text(at) for at, _ in outline)
        y.extend(round((value or 0.0) * scale, 6) for _, value in outline)
    if not x:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "95 % range",
            "meta": {"role": "ribbon"},
            "x": x,
            "y": y,
            "fill": "toself",
            "fillcolor": COLOURS["ribbon"],
            "line": {"width": 0, "color": "rgba(0, 0, 0, 0)"},
            "hoverinfo": "skip",
        }
    ]


def _end(series: Series, scale: float) -> list[dict[str, Any]]:
    if not series.candidate:
        return []
    last = series.candidate[-1]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "newest",
            "meta": {"role": "end"},
            "x": [moment_text(last.t)],
            "y": [round(last.value * scale, 6)],
            "marker": {
                "color": COLOURS["line"],
                "size": 8,
                "line": {"color": COLOURS["surface"], "width": 2},
            },
            "hoverinfo": "skip",
        }
    ]


def beyond(series: Series, scale: float) -> list[dict[str, Any]]:
    """Return the marks at the upper edge of values that the frame leaves out, each with its text.

    The table and the hover text have them as they are.
    """
    top = _range(series, scale)[1]
    points = [p for p in (*series.candidate, *series.stable) if p.value * scale > top]
    if not points or series.signal.unit == "share":
        return []
    texts = [value_text(series.signal, point.value) for point in points]
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": "beyond the scale",
            "meta": {"role": "beyond"},
            "x": [moment_text(point.t) for point in points],
            "y": [top] * len(points),
            "text": texts,
            "textposition": "bottom center",
            "textfont": {"size": 11, "color": COLOURS["ink-2"]},
            "marker": {"symbol": "triangle-up", "size": 10, "color": COLOURS["action"]},
            "cliponaxis": False,
            "hoverinfo": "skip",
        }
    ]


def layout_of(series: Series, scale: float) -> dict[str, Any]:
    prefix = "$" if series.signal.unit.startswith("usd") else ""
    suffix = {"share": " %", "ms": " s"}.get(series.signal.unit, "")
    shapes: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    if series.limit is not None:
        shapes.append(_limit_line(series.limit * scale))
        annotations.append(
            _label(
                "limit",
                f"limit {limit_text(series.signal, series.limit)}",
                x=0.01,
                xref="paper",
                y=series.limit * scale,
                xanchor="left",
                colour=COLOURS["ink"],
            )
        )
    labelled = {kind: _last(series.marks, kind) for kind in ("release", "action")}
    span = series.end - series.start
    shown = [mark.at for mark in labelled.values() if mark is not None]
    # Labels that would meet stand one above the other.
    crowded = len(shown) > 1 and max(shown) - min(shown) < span / 2
    for mark in series.marks:
        shapes.append(_mark_line(mark))
        text = _short(mark.text) if mark is labelled.get(mark.kind) else ""
        left = mark.at - series.start > span / 2
        annotations.append(
            _label(
                mark.kind,
                _mark_text(mark.kind, text, left=left),
                x=moment_text(mark.at),
                y=1,
                yref="paper",
                xanchor="right" if left else "left",
                colour=COLOURS["ink-2"],
                raised=crowded and mark.kind == "release",
            )
        )
    return {
        "height": 220,
        "margin": {"l": 46, "r": 12, "t": 34, "b": 26},
        "showlegend": False,
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "font": {"size": 11, "color": COLOURS["ink-3"]},
        "hovermode": "x unified",
        "dragmode": False,
        "xaxis": {
            "type": "date",
            "range": [moment_text(series.start), moment_text(series.end)],
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
            "ticks": "outside",
            "ticklen": 3,
            "nticks": 5,
            "tickformat": "%H:%M" if series.end - series.start <= timedelta(days=1) else "%d %b",
        },
        "yaxis": {
            "range": _range(series, scale),
            "gridcolor": COLOURS["grid"],
            "zeroline": False,
            "fixedrange": True,
            "nticks": 4,
            "tickprefix": prefix,
            "ticksuffix": suffix,
            "automargin": True,
        },
        "shapes": shapes,
        "annotations": annotations,
    }


def _limit_line(y: float) -> dict[str, Any]:
    return {
        "type": "line",
        "name": "limit",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": y,
        "y1": y,
        "line": {"color": COLOURS["limit"], "width": 1.5, "dash": "6px,3px"},
    }


def _mark_line(mark: ChartMark) -> dict[str, Any]:
    action = mark.kind == "action"
    return {
        "type": "line",
        "name": mark.kind,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "x0": moment_text(mark.at),
        "x1": moment_text(mark.at),
        "line": {
            "color": COLOURS[mark.kind],
            "width": 1.25,
            "dash": "2px,2px" if action else "solid",
        },
    }


def _label(
    name: str,
    text: str,
    *,
    x: float | str,
    y: float,
    xanchor: str,
    colour: str,
    xref: str = "x",
    yref: str = "y",
    raised: bool = False,
) -> dict[str, Any]:
    return {
        "name": name,
        "text": text,
        "x": x,
        "xref": xref,
        "y": y,
        "yref": yref,
        "xanchor": xanchor,
        "yanchor": "bottom",
        "yshift": 12 if raised else 0,
        "showarrow": False,
        "font": {"size": 11, "color": colour, "weight": 600},
    }


def _mark_text(kind: str, text: str, *, left: bool) -> str:
    shape = "▼" if kind == "action" else "◆"
    return " ".join(part for part in ((text, shape) if left else (shape, text)) if part)


def _last(marks: Sequence[ChartMark], kind: str) -> ChartMark | None:
    return max((mark for mark in marks if mark.kind == kind), key=lambda m: m.at, default=None)


def _short(text: str) -> str:
    # Angle brackets would be read as Plotly's own markup.
    plain = text.replace("<", "(").replace(">", ")")
    return plain if len(plain) <= _LABEL_MAX else plain[: _LABEL_MAX - 1].rstrip() + "…"


def _range(series: Series, scale: float) -> list[float]:
    """Fit the data, and always hold the limit; ranges of few runs may run out of the frame.

    So may a few values that would own the chart: `beyond` marks them at its edge.
    """
    values = sorted(point.value * scale for point in (*series.candidate, *series.stable))
    limit = [] if series.limit is None else [series.limit * scale]
    if not values and not limit:
        return [0.0, 100.0 if series.signal.unit == "share" else 1.0]
    kept = [*values[: len(values) - _absurd(values, least=max(limit, default=0.0))], *limit]
    low, high = min(kept), max(kept)
    room = (high - low) * 0.2 or abs(high) * 0.2 or 1.0
    # Only a team's own signal goes below zero.
    low, high = low - room if low < 0 else max(0.0, low - room), high + room
    if series.signal.unit == "share":
        high = min(high, 103.0)
    return [round(low, 6), round(high, 6)]


def _absurd(values: Sequence[float], *, least: float) -> int:
    """Return how many of the largest values, in ascending order, a chart is better off without.

    At most one in twenty, and one at least, each more than ten times all that is left and
    `least`: with them the others would lie in the lowest tenth, a line without a shape. An
    incident that lasts has more such points, and is drawn whole.
    """
    few = min(max(1, len(values) // 20), len(values) - _ENOUGH)
    for count in range(few, 0, -1):
        if 0 < max(values[-count - 1], least) * _TIMES < values[-count]:
            return count
    return 0
