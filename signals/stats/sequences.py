"""95 % ranges that are right at every look at once: confidence sequences. Pure: no Django.

They hold for whatever grows from one start, however often somebody looks and whenever he stops:
all evidence since a guard was armed, or one step of a chart while it fills. A window that moves on
begins a new one with each step; its range is right while that window grows. They are wider than
the fixed-time ranges of `signals.stats.intervals`, which are right at one look only.
"""

from functools import lru_cache
from math import ceil, floor, lgamma, log, log1p, sqrt
from typing import Final

from signals.stats.intervals import ALPHA, Interval, Z, t_quantile

# The mixture over rates: Jeffreys' prior, which favours none.
_A: Final = 0.5
_STEPS: Final = 50
# For how many tasks the range of a mean is tightest.
TUNED_FOR: Final = 200
# Where sums are of few tasks their spread is not known: as wide again as Student's range is.
_T_UP_TO: Final = 200


def rate_sequence(successes: float, n: int) -> Interval | None:
    """Return the range of a rate from `successes` of `n` tasks, inside 0-1; None for n = 0.

    All rates that a mixture over rates does not beat by 1 / ALPHA.

    Raises:
        ValueError: `successes` lies outside 0..n.

    Source: Robbins 1970, Ann. Math. Stat. 41(5), method of mixtures; with a beta mixture Lindon
    and Malek 2022, NeurIPS 35, section 4, as in `signals.stats.assignment`.
    """
    if not 0 <= successes <= n:
        raise ValueError("successes must lie between 0 and n")
    if n == 0:
        return None
    failures = n - successes
    top = _log_beta(_A + successes, _A + failures) - _log_beta(_A, _A) + log(ALPHA)
    seen = successes / n

    def edge(outside: float) -> float:
        inside = seen
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            likely = (successes * log(middle) if successes else 0.0) + (
                failures * log1p(-middle) if failures else 0.0
            )
            if top >= likely:
                outside = middle
            else:
                inside = middle
        return outside

    low = 0.0 if successes == 0 else edge(0.0)
    return Interval(low, 1.0 if failures == 0 else edge(1.0))


def mean_sequence(n: int, total: float, squares: float) -> Interval | None:
    """Return the range of a mean from a count, a sum and a sum of squares, n >= 2.

    Right in the limit of many tasks, however they are distributed; with few it is widened as
    Student's range is.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Ann. Statist. 52(6), theorem
    2.2 (asymptotic confidence sequence), tuned as in their appendix B.2.
    """
    if n < 2:
        return None
    mean = total / n
    deviation = sqrt(max(0.0, squares - total * mean) / (n - 1))
    if n <= _T_UP_TO:
        deviation *= t_quantile(1 - ALPHA / 2, n - 1) / Z
    rho_squared = (-2 * log(ALPHA) + log(-2 * log(ALPHA) + 1)) / TUNED_FOR
    scaled = n * rho_squared + 1
    half = deviation * sqrt(2 * scaled / (n * n * rho_squared) * log(sqrt(scaled) / ALPHA))
    return Interval(mean - half, mean + half)


@lru_cache(maxsize=4096)
def quantile_sequence_ranks(n: int, q: float) -> tuple[int, int]:
    """Return the ranks (from 1) of the order statistics that bound the q-quantile at every look.

    Rank 0 or n + 1 means that `n` values cannot bound it on that side.

    Raises:
        ValueError: n < 1 or q outside (0, 1).

    Source: Howard and Ramdas 2022, Bernoulli 28(3), theorem 1 and equation (15).
    """
    if n < 1 or not 0 < q < 1:
        raise ValueError("n must be at least 1 and q inside (0, 1)")
    spent = (1.4 * log(max(log(2.1 * n), 1.0)) + log(10 / ALPHA)) / n
    aside = 1.5 * sqrt(q * (1 - q) * spent) + 0.8 * spent
    low = floor((q - aside) * n)
    high = ceil((q + aside) * n) + 1
    return max(0, low), min(n + 1, high)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
