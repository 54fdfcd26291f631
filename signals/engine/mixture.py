"""Evidence mixed over the size and the start of a degradation, for many guards at once."""

import numpy as np
from numpy.typing import NDArray

from signals.engine.effects import Floats, spent_weight

Rows = NDArray[np.intp]


class Mixture:
    """e-processes M_t = (M_{t-1} + w_t) e_t, one for each guard, view and effect.

    `w_t` is the weight of starts between the last factor and this one; what is not spent yet
    stands beside as a constant. Each is an e-process if every factor's mean is at most 1 given
    the past, and so is any weighted mean of them (Ville 1939; Vovk and Wang 2021, Annals of
    Statistics 49; Shin, Ramdas and Rinaldo 2023, arXiv 2203.03532).

    Shapes: guards G, views V (all strata together, then each alone), effects K.
    """

    def __init__(
        self, expected_s: Floats, *, log_effect_weights: Floats, log_view_weights: Floats
    ) -> None:
        guards, views = len(expected_s), len(log_view_weights)
        self.expected_s = expected_s
        self.log_effect_weights = log_effect_weights
        self.log_view_weights = log_view_weights
        self.log_m: Floats = np.full((guards, views, len(log_effect_weights)), -np.inf)
        self.spent: Floats = np.zeros((guards, views))

    def multiply(self, rows: Rows, view: int, log_factors: Floats, *, elapsed: Floats) -> None:
        """Take in one closed block of the guards `rows` in one view.

        Args:
            rows: distinct guards, shape [R].
            view: 0 for all strata together, s + 1 for stratum s alone.
            log_factors: log e of the block for each effect, shape [R, K].
            elapsed: when it closed, seconds since the guard's evidence began, [R].
        """
        now_spent = spent_weight(elapsed, self.expected_s[rows])
        with np.errstate(divide="ignore"):
            fresh = np.log(now_spent - self.spent[rows, view])
        self.log_m[rows, view] = np.logaddexp(self.log_m[rows, view], fresh[:, None]) + log_factors
        self.spent[rows, view] = now_spent

    def log_evidence(self) -> Floats:
        """Return log e of each guard: the mean over effects, starts and views."""
        with np.errstate(divide="ignore"):
            unspent = np.log1p(-self.spent)
        mixed = np.logaddexp.reduce(self.log_m + self.log_effect_weights, axis=2)
        whole = np.logaddexp(mixed, unspent)
        return np.asarray(np.logaddexp.reduce(whole + self.log_view_weights, axis=1))
