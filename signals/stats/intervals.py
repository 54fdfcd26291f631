"""Fixed-time 95 % ranges for rates, means, counts and quantiles. Pure: no Django.

Every function here is right at one look chosen beforehand, as in a report of two releases.
Looking every second with them raises more false alarms than 5 %: verdicts and charts show those of
`signals.stats.sequences`. Too little data is None, never a narrow range.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, inf, lgamma, log, pi, sqrt, tan
from statistics import NormalDist
from typing import Final

ALPHA: Final = 0.05
# The two-sided quantile that ALPHA leaves on each side.
Z: Final = NormalDist().inv_cdf(1 - ALPHA / 2)
# Above this many observations the binomial is taken as normal: the ranks differ by at most one.
_EXACT_N: Final = 1000


# From how many values there are and which quantile, the ranks that bound it.
Ranks = Callable[[int, float], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided 95 % range in the metric's unit; an infinite end is not bounded by the data."""

    low: float
    high: float


def rate_interval(successes: float, n: int) -> Interval | None:
    """Return the range of a rate from `successes` of `n` independent tasks, inside 0-1.

    Raises:
        ValueError: `successes` lies outside 0..n.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22(158), without continuity correction.
    """
    if not 0 <= successes <= n:
        raise ValueError("successes must lie between 0 and n")
    if n == 0:
        return None
    share = successes / n
    scale = 1 + Z * Z / n
    centre = (share + Z * Z / (2 * n)) / scale
    half = Z / scale * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    # Rounding may leave 1e-17 where the formula gives exactly 0 or 1.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def mean_interval(n: int, total: float, squares: float) -> Interval | None:
    """Return Student's t range of a mean from a count, a sum and a sum of squares, n >= 2.

    Right for any n where values are normal, and for large n otherwise; with heavy tails and few
    tasks it is too narrow.

    Source: Student 1908, Biometrika 6(1).
    """
    if n < 2:
        return None
    mean = total / n
    variance = max(0.0, squares - total * mean) / (n - 1)
    half = t_quantile(1 - ALPHA / 2, n - 1) * sqrt(variance / n)
    return Interval(mean - half, mean + half)


def count_interval(count: float, weight_squares: float | None = None) -> Interval:
    """Return the range of a Poisson count, or of a sum of independent parts.

    Args:
        count: what was counted or summed, >= 0.
        weight_squares: for a sum, the sum of the squared parts (compound Poisson).

    Source: normal approximation for sums; for plain counts Byar's approximation of the exact
    range, Breslow and Day 1987, Statistical Methods in Cancer Research II, section 2.3.
    """
    if weight_squares is not None:
        half = Z * sqrt(max(0.0, weight_squares))
        return Interval(max(0.0, count - half), count + half)
    more = count + 1
    high = more * (1 - 1 / (9 * more) + Z / (3 * sqrt(more))) ** 3
    if count == 0:
        return Interval(0.0, high)
    low = count * (1 - 1 / (9 * count) - Z / (3 * sqrt(count))) ** 3
    return Interval(max(0.0, low), high)


def difference_interval(
    first: float, first_range: Interval, second: float, second_range: Interval
) -> Interval:
    """Return the range of first - second from each one's value and range (independent arms).

    Source: Newcombe 1998, Stat. Med. 17(8), method 10, for rates; for means the same formula is
    Welch's with each arm's own half-width (Zou and Donner 2008, Stat. Med. 27(10), MOVER).
    """
    gap = first - second
    below = sqrt((first - first_range.low) ** 2 + (second_range.high - second) ** 2)
    above = sqrt((first_range.high - first) ** 2 + (second - second_range.low) ** 2)
    return Interval(gap - below, gap + above)


@lru_cache(maxsize=4096)
def quantile_ranks(n: int, q: float) -> tuple[int, int]:
    """Return the ranks (from 1) of the order statistics that bound the q-quantile.

    Rank 0 or n + 1 means that `n` values cannot bound it on that side. Exact by the binomial up
    to 1,000 values, by its normal approximation beyond.

    Raises:
        ValueError: n < 1 or q outside (0, 1).

    Source: David and Nagaraja 2003, Order Statistics, 3rd ed., section 7.1.
    """
    if n < 1 or not 0 < q < 1:
        raise ValueError("n must be at least 1 and q inside (0, 1)")
    if n > _EXACT_N:
        spread = Z * sqrt(n * q * (1 - q))
        return max(0, int(n * q - spread)), min(n + 1, int(n * q + spread) + 2)
    below = 0.0  # P(fewer than `rank` values lie under the quantile)
    low, high = 0, n + 1
    for count in range(n + 1):
        chance = exp(
            lgamma(n + 1)
            - lgamma(count + 1)
            - lgamma(n - count + 1)
            + count * log(q)
            + (n - count) * log(1 - q)
        )
        # The rank-th value lies above the quantile exactly when fewer than rank lie under it.
        if below <= ALPHA / 2:
            low = count
        below += chance
        if below >= 1 - ALPHA / 2:
            high = count + 1
            break
    return low, high


def histogram_quantile(
    zero: int,
    counts: Mapping[int, int],
    largest: float,
    q: float,
    *,
    scale: int,
    ranks: Ranks = quantile_ranks,
) -> tuple[float, Interval] | None:
    """Return the q-quantile and its range from a base-2 exponential histogram.

    The estimate is the middle of the bucket that holds the ceil(q n)-th value, so it is within
    the sketch's relative error (1.1 % at scale 5) of it; the range takes the outer bounds of the
    buckets that hold the bounding order statistics, so the sketch only widens it.

    Args:
        zero: how many values are 0.
        counts: values by bucket; bucket i holds (2^(i / 2^scale), 2^((i + 1) / 2^scale)].
        largest: the greatest value; nothing is said to lie above it except an open end.
        q: in (0, 1).
        scale: the histogram's scale.
        ranks: which order statistics bound the quantile.

    Source: OpenTelemetry metrics data model, exponential histogram; Masson et al. 2019 (DDSketch),
    PVLDB 12(12), for the middle with the least relative error.
    """
    n = zero + sum(counts.values())
    if n == 0:
        return None
    low_rank, high_rank = ranks(n, q)
    middle_rank = min(n, max(1, ceil(q * n)))
    low, middle, high = (0.0 if low_rank == 0 else None), None, None
    seen = zero
    if low_rank and low_rank <= zero:
        low = 0.0
    if middle_rank <= zero:
        middle = 0.0
    if high_rank <= zero:
        high = 0.0
    per_doubling = 2**scale
    for index in sorted(counts):
        seen += counts[index]
        below, above = 2.0 ** (index / per_doubling), 2.0 ** ((index + 1) / per_doubling)
        if low is None and seen >= low_rank:
            low = below
        if middle is None and seen >= middle_rank:
            middle = min(2.0 * below * above / (below + above), largest or above)
        if high is None and seen >= high_rank:
            high = min(above, largest or above)
    value = middle if middle is not None else largest
    return value, Interval(
        min(low if low is not None else 0.0, value), inf if high is None else max(high, value)
    )


def ordered_quantile(
    buckets: Sequence[tuple[float, float, int]],
    least: float,
    largest: float,
    q: float,
    *,
    ranks: Ranks = quantile_ranks,
) -> tuple[float, Interval] | None:
    """Return the q-quantile and its range from buckets of values of either sign.

    As `histogram_quantile`, but values may lie below 0, so nothing bounds them from below.

    Args:
        buckets: (low, high, count) of each, in ascending order, a half-open range on either side.
        least: the least value.
        largest: the greatest.
        q: in (0, 1).
        ranks: which order statistics bound the quantile.
    """
    n = sum(count for _, _, count in buckets)
    if n == 0:
        return None
    low_rank, high_rank = ranks(n, q)
    middle_rank = min(n, max(1, ceil(q * n)))
    low, middle, high = -inf, largest, inf
    seen = 0
    for below, above, count in buckets:
        before, seen = seen, seen + count
        if before < low_rank <= seen:
            low = max(below, least)
        if before < middle_rank <= seen:
            # The value whose relative error over the bucket is least.
            middle = 2.0 * below * above / (below + above) if below + above else 0.0
            middle = min(max(middle, least), largest)
        if before < high_rank <= seen:
            high = min(above, largest)
    return middle, Interval(min(low, middle), max(high, middle))


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: int) -> float:
    """Return the p-quantile of Student's t with `df` degrees of freedom, p in (0.5, 1).

    Source: Hill 1970, CACM 13(10), algorithm 396; exact formulas for 1 and 2.
    """
    if df < 1 or not 0.5 < p < 1:
        raise ValueError("df must be at least 1 and p inside (0.5, 1)")
    tail = 2 * (1 - p)
    if df == 1:
        return tan((1 - tail) * pi / 2)
    if df == 2:
        return sqrt(2 / (tail * (2 - tail)) - 2)
    a = 1 / (df - 0.5)
    b = 48 / (a * a)
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * sqrt(a * pi / 2) * df
    y = (d * tail) ** (2 / df)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(tail * 0.5)
        y = x * x
        if df < 5:
            c += 0.3 * (df - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = a * y * y
        y = exp(y) - 1 if y > 0.002 else 0.5 * y * y + y
    else:
        y = (
            (1 / (((df + 6) / (df * y) - 0.089 * d - 0.822) * (df + 2) * 3) + 0.5 / (df + 4)) * y
            - 1
        ) * (df + 1) / (df + 2) + 1 / y
    return sqrt(df * y)
