"""Sample-ratio mismatch by an always-valid test. Pure: no Django.

Whether the part of people on the candidate's arm is the planned share. The test is a martingale
under the plan, so looking after every person, and stopping whenever one likes, keeps its error.
"""

from dataclasses import dataclass
from math import exp, lgamma, log, log1p
from typing import Final

from signals.stats.intervals import Interval

# Error over the whole life of one epoch of one segment, however often it is looked at.
BUDGET: Final = 0.001
ALPHA: Final = 0.05
# How firmly the mixture sits at the planned share: Beta(K p, K (1 - p)). At a half its standard
# deviation is 0.05, the shift that is to be found soonest.
CONCENTRATION: Final = 100.0
_STEPS: Final = 60


@dataclass(frozen=True, slots=True)
class Assignment:
    """What was seen of one planned share. `value` is |observed - planned|, with a 95 % range.

    `e_value` is how much better a mixture of other shares explains what was seen than the plan
    does: over `1 / BUDGET` is an alarm.
    """

    planned: float
    observed: float
    n: int
    value: float
    low: float
    high: float
    log_e: float

    @property
    def e_value(self) -> float:
        return exp(min(self.log_e, 700.0))


def log_e_value(exposed: int, n: int, share: float) -> float:
    """Return the logarithm of the e-value after `exposed` of `n` people were on the candidate.

    Args:
        exposed: people on the candidate's arm, 0..n.
        n: people in all, each counted once.
        share: planned part on the candidate's arm, in (0, 1).

    Raises:
        ValueError: an argument is outside its range.

    Source: Lindon and Malek 2022, "Anytime-valid inference for multinomial count data", NeurIPS
    35, section 3: the Dirichlet-multinomial mixture, here of two arms, centred at the plan.
    """
    if not 0 < share < 1 or not 0 <= exposed <= n:
        raise ValueError("share must lie inside (0, 1) and exposed in 0..n")
    return _mixture(exposed, n, share) - exposed * log(share) - (n - exposed) * log1p(-share)


def assignment(exposed: int, n: int, share: float) -> Assignment | None:
    """Return the mismatch with its range; None before the first person."""
    if n == 0:
        return None
    observed = exposed / n
    seen = share_range(exposed, n, share)
    gaps = (abs(seen.low - share), abs(seen.high - share))
    inside = seen.low <= share <= seen.high
    return Assignment(
        planned=share,
        observed=observed,
        n=n,
        value=abs(observed - share),
        low=0.0 if inside else min(gaps),
        high=max(gaps),
        log_e=log_e_value(exposed, n, share),
    )


def share_range(exposed: int, n: int, share: float) -> Interval:
    """Return the shares that a test of each would not have rejected: a confidence sequence.

    It holds the true share at every look at once with 95 %, wherever that lies; `share` only
    says where the mixture is centred, and so where the range is tightest.

    Source: as `log_e_value`, section 4 (inverting the test).
    """
    most = log(1 / ALPHA)
    top = _mixture(exposed, n, share)

    def rejected(other: float) -> bool:
        against = top
        if exposed:
            against -= exposed * log(other)
        if n > exposed:
            against -= (n - exposed) * log1p(-other)
        return against >= most

    observed = exposed / n

    def edge(outside: float) -> float:
        inside = observed
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            if rejected(middle):
                outside = middle
            else:
                inside = middle
        return outside

    return Interval(0.0 if exposed == 0 else edge(0.0), 1.0 if exposed == n else edge(1.0))


def _mixture(exposed: int, n: int, share: float) -> float:
    """Return the logarithm of the mixture's likelihood of this order of people."""
    a, b = CONCENTRATION * share, CONCENTRATION * (1 - share)
    return _log_beta(a + exposed, b + n - exposed) - _log_beta(a, b)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
