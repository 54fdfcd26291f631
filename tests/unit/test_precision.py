"""Precision of a guard, and the limit that its trips suggest."""

import pytest

from signals.alerts.precision import Answered, Suggestion, limit_suggested, precision


def wrong(*edges: float) -> list[Answered]:
    return [Answered(edge, right=False) for edge in edges]


def right(*edges: float) -> list[Answered]:
    return [Answered(edge, right=True) for edge in edges]


def test_precision_has_its_wilson_interval() -> None:
    found = precision([True, True, False])
    assert (found.right, found.answered, found.share) == (2, 3, 2 / 3)
    assert found.interval is not None
    # Wilson 1927 by hand: (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964.
    assert found.interval.low == pytest.approx(0.20766, abs=1e-5)
    assert found.interval.high == pytest.approx(0.93851, abs=1e-5)
    assert precision([]).share is None


@pytest.mark.parametrize(
    ("trips", "better", "limit", "expected"),
    [
        # More is worse: 6,400 and 6,900 go, 8,200 stays; 9,000 cannot be told from it.
        (
            [*wrong(6400, 6900, 9000), *right(8200, 12_000)],
            "lower",
            6000,
            Suggestion(limit=6900, kept=2, dropped=2, wrong=3),
        ),
        # Less is worse.
        (
            [*wrong(0.84, 0.82), *right(0.61)],
            "higher",
            0.85,
            Suggestion(limit=0.82, kept=1, dropped=2, wrong=2),
        ),
        # Rounded away from what is dropped, where a right one allows it.
        (
            [*wrong(6123.4), *right(8200, 8300)],
            "lower",
            6000,
            Suggestion(limit=6130, kept=2, dropped=1, wrong=1),
        ),
        (
            [*wrong(6123.4), *right(6124, 8300)],
            "lower",
            6000,
            Suggestion(limit=6123.4, kept=2, dropped=1, wrong=1),
        ),
    ],
)
def test_the_nearest_limit_that_drops_most_and_keeps_all(
    trips: list[Answered], better: str, limit: float, expected: Suggestion
) -> None:
    assert limit_suggested(trips, limit=limit, better=better) == expected  # type: ignore[arg-type]
    # No looser limit drops more, and no nearer one as many, without losing a right one.
    sign = 1 if better == "lower" else -1
    kept = min(sign * trip.edge for trip in trips if trip.right)
    assert sign * expected.limit < kept
    assert sum(sign * t.edge <= sign * expected.limit for t in trips if not t.right) == sum(
        sign * t.edge < kept for t in trips if not t.right
    )


@pytest.mark.parametrize(
    "trips",
    [
        wrong(6400, 6900),  # fewer than three answers
        right(6400, 6900, 8200),  # nothing to drop
        [*wrong(9000), *right(7000, 8000)],  # the wrong one lies among the right ones
        [*wrong(5000), *right(7000, 8000)],  # today's limit drops it already
    ],
)
def test_without_reason_there_is_no_suggestion(trips: list[Answered]) -> None:
    assert limit_suggested(trips, limit=6000, better="lower") is None
