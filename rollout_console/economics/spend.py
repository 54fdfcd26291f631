"""Spend against budgets, reviews against capacity, and both after widening. Pure: no Django.

A cost that nobody reported is not known, which is not free: every figure says for how many of how
many tasks it stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

from signals.stats.estimate import Estimate
from signals.stats.intervals import Interval, count_interval, mean_interval, rate_interval

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Burn:
    """What a period's budget has lost so far; shares are 0-1 of the budget and of the period.

    `used_share` is None where no budget is set or no cost is known.
    """

    spent: float | None
    budget: float | None
    used_share: float | None
    elapsed_share: float


def hourly_count(n: int, *, span_s: float) -> Estimate:
    """Return `n` events of `span_s` seconds as an hourly rate with its 95 % range (Poisson)."""
    scale = HOUR_S / max(span_s, 1.0)
    found = count_interval(n)
    return Estimate(n * scale, found.low * scale, found.high * scale, n)


def hourly_sum(n: int, total: float, squares: float, *, span_s: float) -> Estimate | None:
    """Return a sum over `n` tasks in `span_s` seconds as an hourly rate (compound Poisson)."""
    if n == 0:
        return None
    scale = HOUR_S / max(span_s, 1.0)
    found = count_interval(total, squares)
    return Estimate(total * scale, found.low * scale, found.high * scale, n)


def mean_of(n: int, total: float, squares: float) -> Estimate | None:
    """Return a mean with its range; without one where so few values, or no squares, give none."""
    if n == 0:
        return None
    # Squares that are too small for their sum were not kept when the values arrived.
    if squares < total * total / n * (1 - 1e-9):
        return Estimate(total / n, None, None, n)
    found = mean_interval(n, total, squares)
    if found is None:
        return Estimate(total / n, None, None, n)
    return Estimate(total / n, max(0.0, found.low), found.high, n)


def share_of(part: int, whole: int) -> Estimate | None:
    """Return `part` of `whole` tasks as a share with its range; None of no task."""
    found = rate_interval(min(part, whole), whole)
    if found is None:
        return None
    return Estimate(min(part, whole) / whole, found.low, found.high, whole)


def burn(
    *, spent: float | None, budget_per_hour: float | None, elapsed_s: float, period_s: float
) -> Burn:
    """Return how much of a period's budget is used, and how much of the period."""
    budget = None if budget_per_hour is None else budget_per_hour * period_s / HOUR_S
    used = None
    if spent is not None and budget is not None and budget > 0:
        used = spent / budget
    return Burn(spent, budget, used, min(1.0, max(0.0, elapsed_s / period_s)))


def projected(
    tasks_per_hour: Estimate,
    *,
    share: float,
    exposed: Estimate | None,
    others: Estimate | None,
) -> Estimate | None:
    """Return what all tasks of an hour would add up to, were `share` of them exposed.

    Each exposed task adds `exposed` and every other one `others`; traffic and both amounts stay
    as measured. None where an amount that counts is not known: it is never taken for nothing.
    An end of the range is None where the data sets none.

    Args:
        tasks_per_hour: the path's traffic.
        share: part of it that would be exposed, 0-1.
        exposed: mean amount of an exposed task, >= 0.
        others: likewise of the others.

    Raises:
        ValueError: `share` lies outside 0-1.

    Source: Zou and Donner 2008, Stat. Med. 27(10) (MOVER), for the weighted mean; for its product
    with the traffic the same by the first-order expansion around both values.
    """
    if not 0 <= share <= 1:
        raise ValueError("share must lie between 0 and 1")
    parts = [(share, exposed), (1 - share, others)]
    counted = [(weight, amount) for weight, amount in parts if weight > 0]
    known = [(weight, amount) for weight, amount in counted if amount is not None]
    if len(known) < len(counted):
        return None
    mean = sum(weight * amount.value for weight, amount in known)
    below, above = _spread(known)
    per_hour = tasks_per_hour.value
    rate = tasks_per_hour.interval or Interval(-inf, inf)
    low = per_hour * mean - _both(mean * (per_hour - rate.low), per_hour * below)
    high = per_hour * mean + _both(mean * (rate.high - per_hour), per_hour * above)
    n = min(amount.n for _, amount in known)
    return Estimate(
        per_hour * mean,
        max(0.0, low) if low > -inf else None,
        high if high < inf else None,
        n,
    )


def times(estimate: Estimate, factor: float) -> Estimate:
    """Return an estimate and its range scaled by a fixed factor >= 0."""
    low = None if estimate.low is None else estimate.low * factor
    high = None if estimate.high is None else estimate.high * factor
    return Estimate(estimate.value * factor, low, high, estimate.n)


def hours_to_clear(
    backlog: int, *, capacity_per_hour: float | None, arrivals_per_hour: float | None
) -> float | None:
    """Return after how many hours nothing waits, 0 where nothing does, None where it never ends.

    None also where no capacity is set or the arrivals are not known.
    """
    if backlog == 0:
        return 0.0
    if capacity_per_hour is None or arrivals_per_hour is None:
        return None
    if capacity_per_hour <= arrivals_per_hour:
        return None
    return backlog / (capacity_per_hour - arrivals_per_hour)


def _spread(parts: Sequence[tuple[float, Estimate]]) -> tuple[float, float]:
    below = above = 0.0
    for weight, amount in parts:
        low = -inf if amount.low is None else amount.low
        high = inf if amount.high is None else amount.high
        below += (weight * (amount.value - low)) ** 2
        above += (weight * (high - amount.value)) ** 2
    return sqrt(below), sqrt(above)


def _both(first: float, second: float) -> float:
    # Nothing times an open end is nothing: without traffic no amount counts.
    values = [0.0 if value != value else value for value in (first, second)]
    return sqrt(values[0] ** 2 + values[1] ** 2)
