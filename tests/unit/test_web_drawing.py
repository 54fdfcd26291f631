"""What pages draw and say, as values."""

from datetime import UTC, datetime, timedelta

import plotly.graph_objects as go
import pytest

from rollout_console.web.drawing import (
    Bar,
    Dot,
    ladder_steps,
    limit_bar,
    limit_dot,
    limit_ticks,
    ring_radii,
)
from rollout_console.web.figures import ChartMark, Series, figure, table_rows
from rollout_console.web.words import duration_text, names_text, rate_text, share_text
from signals.buckets.selectors import Point
from signals.catalogue import signal_of

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_the_limit_stands_at_the_same_place_for_every_signal() -> None:
    assert limit_bar(0.5) == Bar(36.0, 0.0, None, None)
    assert limit_bar(1.0) == Bar(72.0, 0.0, None, None)
    assert limit_bar(1.25, low=1.1, high=9.0) == Bar(72.0, 18.0, 79.2, 100.0)
    assert limit_bar(-1.0, low=0.3, high=0.1) == Bar(0.0, 0.0, 7.2, 21.6)
    assert limit_bar(None, low=0.1, high=0.2) == Bar(0.0, 0.0, None, None)


def test_every_signal_stands_against_one_limit_line() -> None:
    assert [(tick.x, tick.text) for tick in limit_ticks()] == [
        (0.0, "0 %"),
        (28.6, "50 %"),
        (57.1, "limit"),
        (85.7, "150 %"),
    ]
    assert [tick.limit for tick in limit_ticks()] == [False, False, True, False]
    assert limit_dot(1.0) == Dot(57.1, None, None, high_shown=False, beyond=False)
    assert limit_dot(0.7, low=0.35, high=1.4) == Dot(40.0, 20.0, 80.0, True, False)
    assert limit_dot(0.0, low=-1.0, high=3.0) == Dot(0.0, 0.0, 100.0, False, False)
    assert limit_dot(1.76, low=1.4, high=9.0) == Dot(100.0, None, None, False, True)


def test_the_small_ladder_shows_where_a_rollout_stands() -> None:
    kinds = [step.kind for step in ladder_steps(stages=4, stage=2, exposed=True)]
    assert kinds == ["done", "now", "pend", "pend"]
    assert {step.kind for step in ladder_steps(stages=3, stage=2, exposed=False)} == {"pend"}
    heights = [step.height for step in ladder_steps(stages=3, stage=1, exposed=True)]
    assert heights == sorted(heights)
    assert [step.kind for step in ladder_steps(stages=0, stage=1, exposed=True)] == ["now"]


def test_rings_grow_from_the_first_stage_outwards() -> None:
    assert ring_radii(5) == [14.0, 28.0, 42.0, 56.0, 70.0]
    assert ring_radii(1) == [14.0]


@pytest.mark.parametrize(
    ("share", "said"),
    [(None, "\N{EN DASH}"), (0.0, "0 %"), (0.012, "1.2 %"), (0.08, "8 %"), (0.348, "35 %")],
)
def test_shares_are_said_in_percent(share: float | None, said: str) -> None:
    assert share_text(share) == said


def test_lengths_of_time_keep_their_two_largest_units() -> None:
    assert duration_text(0) == "0 s"
    assert duration_text(90) == "1 min 30 s"
    assert duration_text(3600) == "1 h"
    assert duration_text(172_800) == "2 d"
    assert duration_text(33_120) == "9 h 12 min"


def test_names_and_rates_read_as_a_sentence() -> None:
    assert names_text([]) == "nobody yet"
    assert names_text(["a", "b", "c"]) == "a, b and c"
    assert (rate_text(11.42), rate_text(12_345.6)) == ("11.4", "12,346")


def series(*seconds: int, marks: tuple[ChartMark, ...] = ()) -> Series:
    points = [Point(NOON + timedelta(seconds=s), 0.9, 0.8, 0.95, 20) for s in seconds]
    return Series(
        signal=signal_of("quality_pass_rate"),
        candidate=points,
        stable=[],
        limit=0.85,
        marks=marks,
        start=NOON,
        end=NOON + timedelta(minutes=15),
        step_s=10,
    )


def test_gaps_stay_gaps_and_a_lone_step_is_seen() -> None:
    drawn = figure(series(0, 10, 20, 100))
    line = next(trace for trace in drawn["data"] if trace["meta"]["role"] == "line")
    assert line["y"] == [90.0, 90.0, 90.0, None, 90.0]
    assert line["marker"]["size"] == [0, 0, 0, 0, 4]
    ribbon = next(trace for trace in drawn["data"] if trace["meta"]["role"] == "ribbon")
    assert ribbon["y"] == [95.0, 95.0, 95.0, 80.0, 80.0, 80.0]
    go.Figure(drawn)


def test_the_axis_always_holds_the_limit() -> None:
    low, high = figure(series(0, 10))["layout"]["yaxis"]["range"]
    assert low < 85.0 < 90.0 < high <= 103.0
    go.Figure(figure(series()))


def test_marks_that_would_meet_are_labelled_one_above_the_other() -> None:
    at = NOON + timedelta(minutes=14)
    marks = (
        ChartMark(at, "release", "2026.11.2 live: <b>Internal operations</b> 90 %"),
        ChartMark(at, "action", "paused by olivia"),
    )
    layout = figure(series(0, marks=marks))["layout"]
    labels = {note["name"]: note for note in layout["annotations"]}
    assert labels["action"]["text"] == "paused by olivia ▼"
    assert labels["release"]["text"] == "2026.11.2 live: (b)Inte… ◆"
    assert (labels["release"]["yshift"], labels["action"]["yshift"]) == (12, 0)
    assert {note["xanchor"] for note in (labels["release"], labels["action"])} == {"right"}


def test_the_table_has_the_same_numbers_newest_first() -> None:
    rows = table_rows(series(0, 10))
    assert [row.at for row in rows] == [NOON + timedelta(seconds=10), NOON]
    assert (rows[0].value, rows[0].n, rows[0].stable) == ("90.0 %", "20", "\N{EN DASH}")


def costs(*values: float, limit: float | None = None) -> Series:
    points = [Point(NOON + timedelta(minutes=n), v, v, v, 100) for n, v in enumerate(values)]
    return Series(
        signal=signal_of("cost_per_task_usd"),
        candidate=points,
        stable=[],
        limit=limit,
        marks=[],
        start=NOON,
        end=NOON + timedelta(hours=2),
        step_s=60,
    )


def marked_beyond(series: Series) -> list[tuple[str, str, float]]:
    drawn = figure(series)
    go.Figure(drawn)
    return [
        mark
        for trace in drawn["data"]
        if trace["meta"]["role"] == "beyond"
        for mark in zip(trace["x"], trace["text"], trace["y"], strict=True)
    ]


def test_one_absurd_value_does_not_own_the_chart() -> None:
    series = costs(0.02, 0.03, 0.025, 0.02, 0.03, 90.0, 0.02)
    drawn = figure(series)

    assert drawn["layout"]["yaxis"]["range"] == [0.018, 0.032]
    assert marked_beyond(series) == [("2026-11-24 12:05:00", "$90.00", 0.032)]
    line = next(trace for trace in drawn["data"] if trace["meta"]["role"] == "line")
    assert line["y"][5] == 90.0
    assert line["customdata"][5][0] == "$90.00"
    assert [row.value for row in table_rows(series)][1] == "$90.00"


def test_what_is_large_and_not_absurd_or_lasts_is_drawn_whole() -> None:
    large = costs(*[0.02] * 9, 0.2)
    lasting = costs(*[0.02] * 55, *[9.0] * 5)
    limited = costs(*[0.02] * 9, 9.0, limit=1.0)
    new = costs(0.02, 0.02, 0.02, 90.0)
    for series in (large, lasting, limited, new):
        top = figure(series)["layout"]["yaxis"]["range"][1]
        assert top > max(point.value for point in series.candidate)
        assert marked_beyond(series) == []
    # Two in forty are few, three are not.
    assert len(marked_beyond(costs(*[0.02] * 38, 9.0, 12.0))) == 2
    assert marked_beyond(costs(*[0.02] * 37, 9.0, 9.0, 12.0)) == []
