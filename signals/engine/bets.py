"""Means: bets on values that are at least 0, and an asymptotic test of two arms."""

from typing import Final

import numpy as np

from signals.engine.effects import Floats
from signals.engine.mixture import Mixture

# How much of what is staked is put on "more than agreed", value by value.
STAKES: Final[Floats] = 0.6 / 1.9 ** np.arange(12)
# Values beyond so many times the limit count as that, where a mean is to be shown to lie inside:
# no number of tasks bounds the mean of what may be anything.
CAP_TIMES: Final = 16.0


def over_factors(n: Floats, values: Floats, squares: Floats) -> Floats:
    """Return log e against a mean of at most 1 of values that are at least 0, [R, K].

    For a stake s in (0, 1) and y = value - 1 >= -1,

        1 + s y >= exp(s y + (log(1 - s) + s) y^2)

    so that sums and sums of squares are enough for a product whose mean is at most 1, whatever
    the distribution (Fan, Grama and Liu 2015, Electronic J. Probability 20(1), lemma 4.1, as used
    by Howard et al. 2020, Probability Surveys 17, and Waudby-Smith and Ramdas 2024, JRSS B 86).

    Args:
        n, values, squares: tasks, the sum and the sum of squares of their values in limits, [R].
    """
    y = values - n
    y_sq = np.maximum(squares - 2 * values + n, 0.0)
    price = -np.log1p(-STAKES) - STAKES
    return np.asarray(y[:, None] * STAKES - y_sq[:, None] * price)


def over_histogram_factors(counts: Floats, values: Floats) -> Floats:
    """Return log e against a mean of at most 1, value by value: a bet as such, [R, K].

    Args:
        counts: tasks by bin, [R, B].
        values: the least value of each bin in limits, [R, B] or [B].

    Source: Waudby-Smith and Ramdas 2024, JRSS B 86, section 4.
    """
    told = np.log1p(STAKES * (np.broadcast_to(values, counts.shape)[..., None] - 1.0))
    return np.einsum("rb,rbk->rk", counts, told)


def under_histogram_factors(counts: Floats, values: Floats) -> Floats:
    """Return log e against a mean of at least 1, values beyond `CAP_TIMES` counted as that.

    Args:
        counts: tasks by bin, [R, B].
        values: the greatest value of each bin in limits, [R, B] or [B].
    """
    capped = np.minimum(np.broadcast_to(values, counts.shape), CAP_TIMES)
    stakes = STAKES / (CAP_TIMES - 1.0)
    told = np.log1p(stakes * (1.0 - capped[..., None]))
    return np.einsum("rb,rbk->rk", counts, told)


def under_factors(n: Floats, values: Floats, squares: Floats) -> Floats:
    """Return log e against a mean of at least 1 of values in 0..`CAP_TIMES`, [R, K].

    As `over_factors`, of y = (1 - value) / (cap - 1) >= -1. Where a value lies beyond the cap
    its square makes the bet lose, never win.
    """
    scale = CAP_TIMES - 1.0
    y = (n - values) / scale
    y_sq = np.maximum(squares - 2 * values + n, 0.0) / scale**2
    price = -np.log1p(-STAKES) - STAKES
    return np.asarray(y[:, None] * STAKES - y_sq[:, None] * price)


class OneArmBets:
    """Bets of many guards on a mean that is known, mixed over stakes and starts."""

    def __init__(self, expected: Floats) -> None:
        effects = len(STAKES)
        self.mixture = Mixture(
            expected,
            log_effect_weights=np.full(effects, -np.log(effects)),
            log_view_weights=np.zeros(1),
        )

    def step(self, rows: np.ndarray, log_factors: Floats, *, elapsed: float) -> None:
        """Take in a block's log factors of the guards `rows`, [R, K]."""
        if len(rows):
            self.mixture.multiply(rows, 0, log_factors, elapsed=elapsed)

    def log_evidence(self) -> Floats:
        return self.mixture.log_evidence()


# Differences in standard deviations of one task, from just visible to plain.
SHIFTS: Final[Floats] = 0.02 * 1.5 ** np.arange(12)


def gap_factors(gap: Floats, variance: Floats, weight: Floats) -> Floats:
    """Return log e of blocks against "the candidate's mean is not above the baseline's", [R, K].

    The likelihood ratio of a normal mean difference of so many standard deviations against 0:
    right in the limit of many tasks, however they are distributed (Waudby-Smith, Arbour, Sinha,
    Kennedy and Ramdas 2024, Annals of Statistics 52, asymptotic confidence sequences; as a
    likelihood ratio Robbins 1970, Ann. Math. Stat. 41).

    Args:
        gap: candidate's mean - baseline's, minus what is allowed, [R].
        variance: of one task, from both arms' past, > 0, [R].
        weight: n_c n_b / (n_c + n_b), how many tasks the difference is worth, [R].
    """
    standing = gap / np.sqrt(variance)
    return np.asarray(weight[:, None] * (SHIFTS * standing[:, None] - SHIFTS**2 / 2))
