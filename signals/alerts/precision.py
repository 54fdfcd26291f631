"""What answered trips say of a guard: how often it was right, and a limit worth a thought.

Pure: no Django.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log10
from typing import Final, Literal

from signals.stats.intervals import Interval, rate_interval

LEAST_ANSWERED: Final = 3
_DIGITS: Final = 3


@dataclass(frozen=True, slots=True)
class Answered:
    """A trip with its answer. `edge` is the end of its range, at the trip, nearest to the limit:
    the guard tripped since that lay beyond the limit. It is the value where there is no range."""

    edge: float
    right: bool


@dataclass(frozen=True, slots=True)
class Precision:
    """How many of the answered trips were right, with a 95 % Wilson interval; None without one."""

    right: int
    answered: int
    share: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A limit that keeps every right trip and drops `dropped` of the `wrong` ones."""

    limit: float
    kept: int
    dropped: int
    wrong: int


def precision(answers: Sequence[bool]) -> Precision:
    """Return the precision of a guard from its answers (true: it was right).

    Source of the interval: Wilson 1927, see `rate_interval`.
    """
    right, n = sum(answers), len(answers)
    return Precision(right, n, right / n if n else None, rate_interval(right, n))


def limit_suggested(
    trips: Sequence[Answered], *, limit: float, better: Literal["higher", "lower"]
) -> Suggestion | None:
    """Return the limit nearest to today's that drops the most wrong trips and keeps all right ones.

    A trip happens when the near end of its range lies beyond the limit; so with a looser limit
    those whose end lies beyond that would have happened all the same. The rule asks for at least
    LEAST_ANSWERED answers and for one wrong trip that can be told from the right ones; else None.
    It only ever loosens: what a tighter limit would have caught, no trip can say. The figure is
    rounded to three digits away from the trips dropped, where that keeps the right ones.

    Args:
        trips: answered ones of the guard, under any of its limits.
        limit: today's, in the signal's unit.
        better: whether more or less of the signal is better.
    """
    if len(trips) < LEAST_ANSWERED:
        return None
    # Turned so that more is worse.
    sign = 1.0 if better == "lower" else -1.0
    now = sign * limit
    wrong = [sign * trip.edge for trip in trips if not trip.right]
    first_right = min((sign * trip.edge for trip in trips if trip.right), default=inf)
    # Trips of an older, tighter limit are dropped by today's already.
    droppable = [edge for edge in wrong if now < edge < first_right and isfinite(edge)]
    if not droppable:
        return None
    least = max(droppable)
    found = _rounded_up(least)
    return Suggestion(
        limit=sign * (found if found < first_right else least),
        kept=sum(sign * trip.edge > now for trip in trips if trip.right),
        dropped=len(droppable),
        wrong=len(wrong),
    )


def _rounded_up(value: float) -> float:
    if value == 0:
        return 0.0
    step = 10.0 ** (floor(log10(abs(value))) - _DIGITS + 1)
    # Nine digits do away with what the division adds.
    return float(f"{ceil(round(value / step, 9)) * step:.9g}")
