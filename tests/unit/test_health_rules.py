"""When a feed is not to be trusted any more, at the edges."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from signals.catalogue import SIGNALS
from signals.health.rules import (
    Distrust,
    FeedState,
    distrust_of,
    feed_findings,
    reuse_finding,
)

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def feed(source: str = "", *, silent_s: float = 0, **fields: Any) -> FeedState:
    return FeedState(
        **{
            "source": source,
            "newest_at": NOW - timedelta(seconds=silent_s),
            "gap_s": 10.0,
            "label_at": NOW,
            "label_gap_s": 10.0,
            "n_unlabelled": 0,
            "lag_n": 0,
            "lag_low_s": 0.0,
            "lag_p50_s": 0.0,
            "ahead_n": 0,
            **fields,
        }
    )


def kinds(*feeds: FeedState) -> list[str]:
    found = feed_findings(1, "Draft", feeds, reads_labels=True, now=NOW)
    return [finding.kind for finding in found]


@pytest.mark.parametrize(
    ("gap_s", "silent_s", "silent"),
    [
        (10.0, 100, False),
        (10.0, 101, True),
        # Never sooner than a minute, never later than an hour, and over after a day.
        (1.0, 60, False),
        (1.0, 61, True),
        (1000.0, 3600, False),
        (1000.0, 3601, True),
        (None, 3600, False),
        (10.0, 86_400, False),
    ],
)
def test_silence_is_measured_by_the_usual_gap(
    gap_s: float | None, silent_s: float, silent: bool
) -> None:
    assert kinds(feed(gap_s=gap_s, silent_s=silent_s)) == ["path_silent"] * silent


def test_labels_are_missing_once_enough_tasks_came_without() -> None:
    late = NOW - timedelta(seconds=901)

    assert kinds(feed(label_at=late, n_unlabelled=49)) == []
    assert kinds(feed(label_at=late, n_unlabelled=50)) == ["labels_missing"]
    assert kinds(feed(label_at=late, label_gap_s=91.0, n_unlabelled=50)) == []
    assert kinds(feed(label_at=None, label_gap_s=None, n_unlabelled=50)) == ["labels_missing"]


def test_a_clock_is_off_when_a_twentieth_is_ahead_or_half_is_an_hour_late() -> None:
    assert kinds(feed(), feed("crm", lag_n=100, ahead_n=4, lag_low_s=-60)) == []
    assert kinds(feed(), feed("crm", lag_n=100, ahead_n=5, lag_low_s=-60)) == ["clock_skew"]
    assert kinds(feed(), feed("crm", lag_n=9, lag_p50_s=3600)) == []
    assert kinds(feed(), feed("crm", lag_n=9, lag_p50_s=3601)) == ["clock_skew"]


def test_a_few_ids_among_many_are_no_problem() -> None:
    def found(reused: int, n: int) -> bool:
        seen = reuse_finding(1, "Draft", source="crm", reused=reused, n=n, example="x")
        return seen is not None

    assert [found(2, 10), found(3, 300), found(3, 301)] == [False, True, False]


def test_a_problem_reaches_the_guards_that_stand_on_it() -> None:
    def why(signal: str, kind: str, *, segment: int | None, of: int | None, path: int = 1) -> str:
        distrust = Distrust(kind, 1, of, "wrong")
        return distrust_of(SIGNALS[signal], path_id=path, segment_id=segment, distrusts=[distrust])

    assert why("error_rate", "path_silent", segment=None, of=None) == "wrong"
    assert why("error_rate", "path_silent", segment=None, of=None, path=2) == ""
    # The whole path reads every segment; another segment does not.
    assert why("error_rate", "assignment_mismatch", segment=None, of=7) == "wrong"
    assert why("error_rate", "assignment_mismatch", segment=8, of=7) == ""
    assert why("assignment_mismatch", "assignment_mismatch", segment=7, of=7) == ""
    assert why("quality_pass_rate", "labels_missing", segment=None, of=None) == "wrong"
    assert why("error_rate", "labels_missing", segment=None, of=None) == ""
    assert why("label_missing_rate", "labels_missing", segment=None, of=None) == ""
