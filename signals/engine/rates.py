"""Rates: candidate against the concurrent baseline, a limit, or the path's own past."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from signals.engine.effects import LOG_EFFECTS, LOG_WEIGHTS, Floats
from signals.engine.factors import Ints, one_arm_factors, two_arm_factors
from signals.engine.levels import LevelFilter
from signals.engine.mixture import Mixture, Rows

# A block of two arms closes when it has this much of both: tasks alone decide, never outcomes.
LEAST_BLOCK: Final = 0.6
# A half of a block that waited so long for its other half is of another time.
PATIENCE_S: Final = 7200.0
# The weight of all strata together; the rest is shared among each stratum alone.
TOGETHER: Final = 0.6
# The weight of the exact test where a shared level is followed as well; and beyond how many bad
# outcomes a minute, of both arms, the exact test needs no help and the level's steps are too
# coarse.
EXACT_WEIGHT: Final = 0.3
MOST_FOLLOWED: Final = 12.0
# How far a path's level may be from its usual one when a rollout begins, log odds.
FIRST_SPREAD: Final = 0.15


def view_weights(strata: int) -> Floats:
    """Return the log weights of the views: together, then each of several strata alone."""
    if strata == 1:
        return np.zeros(1)
    return np.asarray(np.log([TOGETHER, *[(1 - TOGETHER) / strata] * strata]))


class ExactRates:
    """The exact test of `factors.two_arm_factors`, block after block, within strata.

    `sign` 1 asks whether the candidate is worse than `log_null` allows, -1 whether it is better.
    """

    def __init__(
        self,
        expected_s: Floats,
        *,
        strata: int = 1,
        log_null: Floats | None = None,
        sign: float = 1.0,
    ) -> None:
        guards = len(expected_s)
        self.strata = strata
        self.mixture = Mixture(
            expected_s, log_effect_weights=LOG_WEIGHTS, log_view_weights=view_weights(strata)
        )
        self.open: Ints = np.zeros((guards, strata, 4), dtype=np.int64)
        self.opened_s: Floats = np.zeros((guards, strata))
        self.log_null = np.zeros(guards) if log_null is None else log_null
        self.log_odds = self.log_null[:, None] + sign * LOG_EFFECTS

    def step(self, rows: Rows, counts: Ints, *, elapsed_s: Floats) -> None:
        """Take in a block of arrivals of the guards `rows`.

        Args:
            rows: distinct guards that have data, [R].
            counts: tasks and bad ones of both arms, [R, strata, (n_c, x_c, n_b, x_b)].
            elapsed_s: seconds since each guard's evidence began, [R].
        """
        for stratum in range(self.strata):
            held = self.open[rows, stratum]
            opened = self.opened_s[rows, stratum]
            stale = (held[:, 0] + held[:, 2] == 0) | (elapsed_s - opened > PATIENCE_S)
            held[stale] = 0
            self.opened_s[rows, stratum] = np.where(stale, elapsed_s, opened)
            held += counts[:, stratum]
            n_c, n_b = held[:, 0], held[:, 2]
            full = n_c * n_b >= LEAST_BLOCK * np.maximum(n_c + n_b, 1)
            if full.any():
                these = rows[full]
                n_c, x_c, n_b, x_b = held[full].T
                factors = two_arm_factors(
                    n_c, x_c, n_b, x_b, self.log_odds[these], self.log_null[these]
                )
                self.mixture.multiply(these, 0, factors, elapsed=elapsed_s[full])
                if self.strata > 1:
                    self.mixture.multiply(these, stratum + 1, factors, elapsed=elapsed_s[full])
                held[full] = 0
            self.open[rows, stratum] = held

    def log_evidence(self) -> Floats:
        return self.mixture.log_evidence()


class ConcurrentRates:
    """The exact test beside a followed level: the mean of two e-processes is one."""

    def __init__(self, expected_s: Floats, *, followed: NDArray[np.bool_]) -> None:
        """Begin.

        Args:
            expected_s: how long the rollout is expected to be watched, seconds, [G].
            followed: whether the past says what is usual, and traffic is not too high, [G].
        """
        self.exact = ExactRates(expected_s)
        self.level = LevelFilter(expected_s, spread=np.full(len(expected_s), FIRST_SPREAD))
        self.followed = followed

    def step(self, rows: Rows, counts: Ints, usual: Floats, *, elapsed_s: Floats) -> None:
        """Take in a block; `usual` is the level at this time of day, log odds, [R]."""
        self.exact.step(rows, counts[:, None, :], elapsed_s=elapsed_s)
        these = self.followed[rows]
        if these.any():
            self.level.step(
                rows[these], counts[these].astype(float), usual[these], elapsed_s=elapsed_s[these]
            )

    def log_evidence(self) -> Floats:
        exact = self.exact.log_evidence()
        level = self.level.log_evidence()
        both = np.logaddexp(exact + np.log(EXACT_WEIGHT), level + np.log1p(-EXACT_WEIGHT))
        return np.where(self.followed, both, exact)


class LimitRates:
    """A rate against a limit that is the whole truth."""

    def __init__(self, expected_s: Floats, *, limit: Floats, sign: float = 1.0) -> None:
        self.mixture = Mixture(
            expected_s, log_effect_weights=LOG_WEIGHTS, log_view_weights=np.zeros(1)
        )
        self.limit = limit
        self.log_odds = sign * LOG_EFFECTS

    def step(self, rows: Rows, counts: Ints, *, elapsed_s: Floats) -> None:
        """Take in tasks and bad ones of the guards `rows`, [R, 2]."""
        factors = one_arm_factors(
            counts[:, 0], counts[:, 1], self.limit[rows], self.log_odds[None, :]
        )
        self.mixture.multiply(rows, 0, factors, elapsed=elapsed_s)

    def log_evidence(self) -> Floats:
        return self.mixture.log_evidence()
