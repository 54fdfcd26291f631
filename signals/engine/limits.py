"""Means and quantiles against a limit that is the whole truth, by their histograms."""

from typing import Final

import numpy as np

from signals.engine.effects import Floats
from signals.engine.factors import Ints
from signals.engine.mixture import Mixture, Rows
from signals.engine.shapes import BINS_A_DOUBLING

# Parts of the wealth staked on each task's value being above the limit.
STAKES: Final[Floats] = np.array([0.01, 0.03, 0.08, 0.18, 0.35, 0.6])


def bin_floor(bins: int, first: int = 0) -> Floats:
    """Return the lower bound of each bin, in the measured unit; `first` is the first's index."""
    return np.asarray(2.0 ** ((np.arange(bins) + first) / BINS_A_DOUBLING))


class LimitMeans:
    """Whether the mean of values >= 0 lies above a limit, with no assumption on their tail.

    A gambler with capital 1 stakes a fixed part on "above the limit" at each task: the capital
    prod (1 + s (y / limit - 1)) has mean at most 1 while the mean is at most the limit (Waudby-
    Smith and Ramdas 2024, JRSS B 86, section 4). A value counts as the lower bound of its bin,
    which can only lose the bet.
    """

    def __init__(self, expected_s: Floats, *, limit: Floats, floor: Floats) -> None:
        """Begin; `limit` is [G], `floor` the lower bounds of the bins, [G, B]."""
        self.mixture = Mixture(
            expected_s,
            log_effect_weights=np.full(len(STAKES), -np.log(len(STAKES))),
            log_view_weights=np.zeros(1),
        )
        gain = floor / limit[:, None] - 1.0
        self.log_gain: Floats = np.log1p(STAKES[None, :, None] * gain[:, None, :])

    def step(self, rows: Rows, counts: Ints, *, elapsed_s: Floats) -> None:
        """Take in values by bin of the guards `rows`, [R, B]."""
        factors = np.einsum("gb,gkb->gk", counts.astype(float), self.log_gain[rows])
        self.mixture.multiply(rows, 0, factors, elapsed=elapsed_s)

    def log_evidence(self) -> Floats:
        return self.mixture.log_evidence()


def beyond(counts: Ints, *, floor: Floats, limit: Floats) -> Ints:
    """Return values and those surely above the limit, [R, 2], for a test of a quantile.

    Where the p-quantile is at most the limit, at most 1 - p of all values lie above it.
    """
    above = floor >= limit[:, None]
    return np.stack([counts.sum(axis=1), (counts * above).sum(axis=1)], axis=1)
