"""What flaps and what is contained: the same alert, and a page only on what is news."""

from datetime import UTC, datetime, timedelta

import pytest

from signals.alerts.recurring import FLAPS_WITHIN, Seen, Step, recurrence

T = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
S = timedelta(seconds=1)


def test_quiet_is_noted_once_and_blind_is_neither() -> None:
    waiting = Seen(None, None, 30)
    assert recurrence(waiting, tripped=False, recovered=True, now=T) == Step(T, None)
    quiet = Seen(T, None, 30)
    assert recurrence(quiet, tripped=False, recovered=True, now=T + S) is None
    assert recurrence(quiet, tripped=False, recovered=False, now=T + S) is None
    assert recurrence(waiting, tripped=True, recovered=False, now=T) is None


@pytest.mark.parametrize(
    ("after", "pages"), [(S, False), (FLAPS_WITHIN - S, False), (FLAPS_WITHIN, True)]
)
def test_it_recurs_and_pages_only_after_a_long_quiet(after: timedelta, pages: bool) -> None:
    step = recurrence(Seen(T, None, 30), tripped=True, recovered=False, now=T + after)
    assert step == Step(None, None, recurred=True, pages=pages)


def test_what_is_contained_pages_only_on_evidence_from_after_the_reduction() -> None:
    contained = Seen(None, T, 30)
    # The window still reaches back before the reduction.
    assert recurrence(contained, tripped=True, recovered=False, now=T + 29 * S) is None
    flapping = recurrence(Seen(T + S, T, 30), tripped=True, recovered=False, now=T + 29 * S)
    assert flapping == Step(None, T, recurred=True, pages=False)
    news = recurrence(contained, tripped=True, recovered=False, now=T + 30 * S)
    assert news == Step(None, None, recurred=False, pages=True)
