"""How long an open question needs at today's traffic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.catalogue import Reach
from signals.guards.pace import Pace, in_reach


def test_a_pace_says_tasks_time_and_traffic() -> None:
    assert Pace(140, 23.0).sentence == "about 140 more tasks, 6.1 h at today's 23 tasks/h"
    assert Pace(1, 0.5).sentence == "about 1 more task, 2 h at today's 0.5 tasks/h"
    assert Pace(30, 0.0).sentence == "about 30 more tasks; never at today's 0 tasks/h"
    assert Pace(30, None).sentence.endswith("how many come in an hour is not known yet")
    assert (
        Pace(9, 12.0, "reviews").sentence == "about 9 more reviews, 45 min at today's 12 reviews/h"
    )


@given(st.integers(1, 10**7), st.floats(1e-3, 1e6))
def test_more_traffic_never_takes_longer(runs: int, per_hour: float) -> None:
    once, twice = Pace(runs, per_hour).seconds, Pace(runs, 2 * per_hour).seconds
    assert once is not None
    assert twice is not None
    assert 1 <= twice <= once
    assert once == max(1, round(runs / per_hour * 3600))


@pytest.mark.parametrize(
    ("reach", "normal", "moved"),
    [
        ("normal", True, False),
        ("release", True, True),
        ("arm", True, True),
        ("fallback", False, True),
    ],
)
def test_a_reach_says_which_tasks_count(reach: Reach, normal: bool, moved: bool) -> None:
    assert in_reach(moved=False, reach=reach) is normal
    assert in_reach(moved=True, reach=reach) is moved
