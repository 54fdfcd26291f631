"""Rates: candidate against the concurrent baseline, or against a rate known beforehand."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from signals.engine.effects import LOG_EFFECTS, LOG_WEIGHTS, Floats
from signals.engine.factors import Ints, one_arm_factors, two_arm_factors
from signals.engine.mixture import Mixture

# A block of two arms closes when it has this much of both: tasks alone decide, never outcomes.
LEAST_BLOCK: Final = 0.6
# The weight of all strata together; the rest is shared among each stratum alone.
TOGETHER: Final = 0.6


def view_weights(strata: int) -> Floats:
    """Return the log weights of the views: together, then each of several strata alone."""
    if strata == 1:
        return np.zeros(1)
    return np.log(np.array([TOGETHER, *[(1 - TOGETHER) / strata] * strata]))


class TwoArmRates:
    """Rates of the candidate against those of the baseline in the same blocks and strata."""

    def __init__(
        self,
        expected: Floats,
        *,
        strata: int = 1,
        patience: Floats | None = None,
        log_null: Floats | None = None,
        sign: float = 1.0,
    ) -> None:
        guards = len(expected)
        self.strata = strata
        self.mixture = Mixture(
            expected, log_effect_weights=LOG_WEIGHTS, log_view_weights=view_weights(strata)
        )
        self.open: Ints = np.zeros((guards, strata, 4), dtype=np.int64)
        self.opened: Floats = np.zeros((guards, strata))
        self.patience = np.full(guards, np.inf) if patience is None else patience
        self.log_null = np.zeros(guards) if log_null is None else log_null
        self.log_odds = self.log_null[:, None] + sign * LOG_EFFECTS

    def step(self, counts: Ints, *, elapsed: float) -> None:
        """Take in one block of arrivals.

        Args:
            counts: [G, strata, (n_c, x_c, n_b, x_b)].
            elapsed: time since evidence began, in the unit of `expected`.
        """
        for stratum in range(self.strata):
            new = counts[:, stratum]
            held = self.open[:, stratum]
            empty = held[:, 0] + held[:, 2] == 0
            self.opened[empty, stratum] = elapsed
            # Half a block that waited too long for its other half is of another time.
            stale = elapsed - self.opened[:, stratum] > self.patience
            if stale.any():
                held[stale] = 0
                self.opened[stale, stratum] = elapsed
            held += new
            n_c, n_b = held[:, 0], held[:, 2]
            full = np.flatnonzero(n_c * n_b >= LEAST_BLOCK * np.maximum(n_c + n_b, 1))
            if len(full) == 0:
                continue
            factors = two_arm_factors(
                *held[full].T, log_odds=self.log_odds[full], log_null=self.log_null[full]
            )
            self.mixture.multiply(full, 0, factors, elapsed=elapsed)
            if self.strata > 1:
                self.mixture.multiply(full, stratum + 1, factors, elapsed=elapsed)
            held[full] = 0

    def log_evidence(self) -> Floats:
        return self.mixture.log_evidence()


class OneArmRates:
    """Rates against one that is known: a limit, or what the path's past makes plausible."""

    def __init__(self, expected: Floats, *, sign: float = 1.0) -> None:
        self.mixture = Mixture(
            expected, log_effect_weights=LOG_WEIGHTS, log_view_weights=np.zeros(1)
        )
        self.log_odds = np.broadcast_to(sign * LOG_EFFECTS, (len(expected), len(LOG_EFFECTS)))

    def step(self, counts: Ints, null_rate: Floats, *, elapsed: float) -> None:
        """Take in tasks and bad ones, [G, 2], against the rates that still are no degradation."""
        some = np.flatnonzero(counts[:, 0])
        if len(some) == 0:
            return
        factors = one_arm_factors(
            *counts[some].T, null_rate=null_rate[some], log_odds=self.log_odds[some]
        )
        self.mixture.multiply(some, 0, factors, elapsed=elapsed)

    def log_evidence(self) -> Floats:
        return self.mixture.log_evidence()


def bad_share(counts: NDArray[np.int64]) -> Floats:
    """Return bad ones by tasks, 0 where there was none."""
    return np.asarray(counts[..., 1] / np.maximum(counts[..., 0], 1))
