"""Means of which only sums are kept: against a limit, and of two arms."""

from typing import Final

import numpy as np

from signals.engine.effects import Floats
from signals.engine.limits import STAKES
from signals.engine.mixture import Mixture, Rows
from signals.engine.rates import LEAST_BLOCK

# Values beyond so many times the limit count as that, where a mean is to be shown to lie inside:
# no number of tasks bounds the mean of what may be anything.
CAP_TIMES: Final = 8.0
# Parts of the wealth staked on "inside": what can be lost is bounded there, so more is staked.
UNDER_STAKES: Final[Floats] = np.array([0.03, 0.1, 0.25, 0.5, 0.75, 0.95])
# Parts of the wealth staked on a block of 5 seconds: most hold nothing, and some very much.
HOURLY_STAKES: Final[Floats] = np.array([0.0001, 0.0004, 0.0015, 0.006, 0.02, 0.06])
# Differences in standard deviations of one task, from just visible to plain.
SHIFTS: Final[Floats] = np.asarray(0.02 * 1.5 ** np.arange(12), dtype=np.float64)
# Tasks of both arms before which their spread is not known well enough to compare means.
LEAST_KNOWN: Final = 30.0
_LEAST_VARIANCE: Final = 1e-12


def over_factors(n: Floats, values: Floats, squares: Floats) -> Floats:
    """Return log e against "the mean is at most 1" of values >= 0, [R, K].

    For a stake s in (0, 1) and y = value - 1 >= -1,

        1 + s y >= exp(s y + (log(1 - s) + s) y^2)

    so that sums and sums of squares are enough for a capital whose mean is at most 1, whatever
    the distribution (Fan, Grama and Liu 2015, Electronic Journal of Probability 20; Waudby-Smith
    and Ramdas 2024, JRSS B 86, section 3).

    Args:
        n, values, squares: tasks, sum and sum of squares of their values in limits, [R].
    """
    return _stake(STAKES, values - n, np.maximum(squares - 2 * values + n, 0.0))


def under_factors(n: Floats, values: Floats, squares: Floats) -> Floats:
    """Return log e against "the mean is at least 1" of values in 0..`CAP_TIMES`, [R, K].

    As `over_factors`, of y = (1 - value) / (CAP_TIMES - 1). Where a value lies beyond the cap
    its square makes the bet lose at least what the capped value would.
    """
    scale = CAP_TIMES - 1.0
    y_squared = np.maximum(squares - 2 * values + n, 0.0) / scale**2
    return _stake(UNDER_STAKES, (n - values) / scale, y_squared)


def _stake(stakes: Floats, y: Floats, y_squared: Floats) -> Floats:
    price = -np.log1p(-stakes) - stakes
    return np.asarray(y[:, None] * stakes - y_squared[:, None] * price)


def histogram_under_factors(counts: Floats, values: Floats) -> Floats:
    """Return log e against "the mean is at least 1", value by value, [R, K].

    Args:
        counts: tasks by bin, [R, B].
        values: the greatest value of each bin, in limits, [R, B].

    Source: Waudby-Smith and Ramdas 2024, JRSS B 86, section 4.
    """
    capped = np.minimum(values, CAP_TIMES)
    told = np.log1p(UNDER_STAKES / (CAP_TIMES - 1.0) * (1.0 - capped[..., None]))
    return np.asarray(np.einsum("rb,rbk->rk", counts, told))


def histogram_over_factors(counts: Floats, values: Floats) -> Floats:
    """Return log e against "the mean is at most 1", by the least value of each bin, [R, K]."""
    told = np.log1p(STAKES * (values[..., None] - 1.0))
    return np.asarray(np.einsum("rb,rbk->rk", counts, told))


class Bets:
    """Capital staked on a mean being beyond a limit, or inside it, by factors made above."""

    def __init__(self, expected_s: Floats, *, stakes: Floats = STAKES) -> None:
        self.mixture = Mixture(
            expected_s,
            log_effect_weights=np.full(len(stakes), -np.log(len(stakes))),
            log_view_weights=np.zeros(1),
        )

    def step(self, rows: Rows, log_factors: Floats, *, elapsed_s: Floats) -> None:
        """Take in the log factors of a block of the guards `rows`, [R, K]."""
        self.mixture.multiply(rows, 0, log_factors, elapsed=elapsed_s)

    def log_evidence(self) -> Floats:
        return self.mixture.log_evidence()


class MeanGaps:
    """Means of two arms in the same blocks, where only sums and sums of squares are kept.

    A block's difference is held against 0, in standard deviations of one task as both arms'
    past tells them: the likelihood ratio of a normal shift, right in the limit of many tasks
    however they are distributed (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Annals of
    Statistics 52; Robbins 1970, Annals of Mathematical Statistics 41). It is not exact: where a
    histogram is kept, `shapes` is.
    """

    def __init__(self, expected_s: Floats, *, margin: Floats, sign: float = 1.0) -> None:
        """Begin.

        Args:
            expected_s: how long the rollout is expected to be watched, seconds, [G].
            margin: by how much the candidate may be higher, in the measured unit, [G].
            sign: 1 asks whether it is higher than that, -1 whether it is not.
        """
        self.margin, self.sign = margin, sign
        self.mixture = Mixture(
            expected_s,
            log_effect_weights=np.full(len(SHIFTS), -np.log(len(SHIFTS))),
            log_view_weights=np.zeros(1),
        )
        guards = len(expected_s)
        # Tasks, sum, sum of squares, by arm: of the block that is open, and of those before it.
        self.open: Floats = np.zeros((guards, 2, 3))
        self.known: Floats = np.zeros((guards, 2, 3))

    def step(self, rows: Rows, counts: Floats, *, elapsed_s: Floats) -> None:
        """Take in a block's tasks, sums and sums of squares, [R, (candidate, baseline), 3]."""
        self.open[rows] += counts
        n = self.open[rows, :, 0]
        full = n[:, 0] * n[:, 1] >= LEAST_BLOCK * np.maximum(n.sum(axis=1), 1.0)
        these = rows[full]
        if len(these) == 0:
            return
        held, known = self.open[these], self.known[these]
        before = known[:, :, 0].sum(axis=1)
        judged = before >= LEAST_KNOWN
        if judged.any():
            within = known[:, :, 2] - known[:, :, 1] ** 2 / np.maximum(known[:, :, 0], 1.0)
            variance = within.sum(axis=1)[judged] / before[judged]
            variance = np.maximum(variance, _LEAST_VARIANCE)
            means = held[judged, :, 1] / held[judged, :, 0]
            gap = self.sign * (means[:, 0] - means[:, 1] - self.margin[these][judged])
            tasks = held[judged, :, 0]
            worth = tasks.prod(axis=1) / tasks.sum(axis=1)
            standing = gap / np.sqrt(variance)
            factors = worth[:, None] * (SHIFTS * standing[:, None] - SHIFTS**2 / 2)
            self.mixture.multiply(these[judged], 0, factors, elapsed=elapsed_s[full][judged])
        self.known[these] += held
        self.open[these] = 0.0

    def log_evidence(self) -> Floats:
        return self.mixture.log_evidence()
