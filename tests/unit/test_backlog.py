"""What waits for reviewers at any moment, against looking at every review each time."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from signals.buckets.beside import Backlog, backlogs_at

START = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def at(second: int) -> datetime:
    return START + timedelta(seconds=second)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.none() | st.integers(0, 20)), max_size=12),
    st.lists(st.integers(-2, 60), min_size=1, max_size=8).map(sorted),
)
def test_backlogs_equal_a_plain_count(
    reviews: list[tuple[int, int | None]], moments: list[int]
) -> None:
    spans = sorted(
        ((asked, None if lasts is None else asked + lasts) for asked, lasts in reviews),
        key=lambda span: span[0],
    )

    found = backlogs_at(
        [(at(asked), None if closed is None else at(closed)) for asked, closed in spans],
        [at(moment) for moment in moments],
    )

    for backlog, moment in zip(found, moments, strict=True):
        waiting = [
            asked
            for asked, closed in spans
            if asked <= moment and (closed is None or closed > moment)
        ]
        assert backlog == Backlog(len(waiting), at(min(waiting)) if waiting else None)


def test_age_is_the_oldest_ones_and_never_below_zero() -> None:
    waiting = Backlog(2, at(10)) + Backlog(1, at(4)) + Backlog()
    assert (waiting.value("backlog", at=at(60)), waiting.value("waiting", at=at(60))) == (3, 56)
    assert Backlog(1, at(90)).value("waiting", at=at(60)) == 0
    assert Backlog().value("waiting", at=at(60)) == 0
