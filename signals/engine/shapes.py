"""Whole distributions: latency, cost and the like, by their histograms, without any moment."""

from typing import Final

import numpy as np

from signals.engine.effects import Floats
from signals.engine.factors import Ints
from signals.engine.mixture import Mixture, Rows
from signals.engine.rates import LEAST_BLOCK

# Bins of OpenTelemetry's exponential histogram at scale 2: four to a doubling.
BINS_A_DOUBLING: Final = 4
# Everything takes so many times as much ...
STRETCHES: Final = (1.06, 1.12, 1.2, 1.3, 1.45, 1.7, 2.1, 3.0)
# ... or so much more of all tasks take a slow path, which takes so many times as much.
SLOW_SHARES: Final = (0.012, 0.025, 0.05, 0.09, 0.16, 0.3)
SLOW_STRETCHES: Final = (3.0, 4.5, 7.0, 11.0)
# The weight of the past beside what the baseline did lately, in tasks; and how fast that fades.
PAST_TASKS: Final = 150.0
HALF_LIFE_S: Final = 10_800.0
REFRESH_S: Final = 1800.0
# How much of any alternative is the baseline's own shape: no value is ever impossible in it.
LEAKED: Final = 0.02
_FLOOR: Final = 2e-5


def stretched(shape: Floats, times: float) -> Floats:
    """Return the distribution of values `times` as great, over the same bins [..., B]."""
    bins = shape.shape[-1]
    move = BINS_A_DOUBLING * np.log2(times)
    whole, part = int(move), move - int(move)
    result = np.zeros_like(shape)
    for far, weight in ((whole, 1 - part), (whole + 1, part)):
        shift = min(far, bins)
        if shift == 0:
            result += weight * shape
            continue
        result[..., shift:] += weight * shape[..., :-shift]
        result[..., bins - 1] += weight * shape[..., bins - shift :].sum(axis=-1)
    return result


def worse_shapes(shape: Floats) -> Floats:
    """Return what a degraded release may do to a distribution: [G, B] to [G, K, B]."""
    slow = sum(stretched(shape, times) for times in SLOW_STRETCHES) / len(SLOW_STRETCHES)
    found = [stretched(shape, times) for times in STRETCHES]
    found += [(1 - share) * shape + share * slow for share in SLOW_SHARES]
    return np.stack(found, axis=1)


class TwoArmShapes:
    """Histograms of the candidate against those of the baseline in the same blocks.

    With q_b predicted from the baseline's past, q_c an alternative made of it, and
    q_0 = (n_c q_c + n_b q_b) / (n_c + n_b), the factor of a block

        prod over candidate q_c(y) / q_0(y)  x  prod over baseline q_b(y) / q_0(y)

    has mean at most 1 whenever both arms share one distribution, whatever it is and however bad
    the prediction was (Turner, Ly and Grunwald 2024, J. Statistical Planning and Inference 230).
    """

    def __init__(self, expected_s: Floats, *, past: Floats) -> None:
        """Begin.

        Args:
            expected_s: how long the rollout is expected to be watched, seconds, [G].
            past: what the stable release did before, as counts [G, B]; zeros where unknown.
        """
        effects = len(STRETCHES) + len(SLOW_SHARES)
        guards, bins = past.shape
        self.mixture = Mixture(
            expected_s,
            log_effect_weights=np.full(effects, -np.log(effects)),
            log_view_weights=np.zeros(1),
        )
        told = past.sum(axis=1, keepdims=True)
        self.past: Floats = np.minimum(told, PAST_TASKS) * past / np.maximum(told, 1.0)
        self.lately: Floats = np.zeros(past.shape)
        self.open: Ints = np.zeros((guards, 2, bins), dtype=np.int64)
        self.seen_at: Floats = np.zeros(guards)
        self.predicted_at: Floats = np.full(guards, -np.inf)
        self.ratio: Floats = np.ones((guards, effects, bins))

    def step(self, rows: Rows, counts: Ints, *, elapsed_s: Floats) -> None:
        """Take in a block of arrivals of the guards `rows`.

        Args:
            rows: distinct guards that have data, [R].
            counts: values by bin, [R, (candidate, baseline), B].
            elapsed_s: seconds since each guard's evidence began, [R].
        """
        due = elapsed_s - self.predicted_at[rows] >= REFRESH_S
        if due.any():
            self._predict(rows[due])
            self.predicted_at[rows[due]] = elapsed_s[due]
        self.open[rows] += counts
        n = self.open[rows].sum(axis=2)
        full = n[:, 0] * n[:, 1] >= LEAST_BLOCK * np.maximum(n.sum(axis=1), 1)
        if full.any():
            these = rows[full]
            share = n[full, 0] / n[full].sum(axis=1)
            held = self.open[these].astype(float)
            ratio = self.ratio[these]
            factors = np.einsum("gb,gkb->gk", held[:, 0], np.log(ratio))
            mixed = np.log1p(share[:, None, None] * (ratio - 1))
            factors -= np.einsum("gb,gkb->gk", held.sum(axis=1), mixed)
            self.mixture.multiply(these, 0, factors, elapsed=elapsed_s[full])
            self.open[these] = 0
        fade = 0.5 ** ((elapsed_s - self.seen_at[rows]) / HALF_LIFE_S)
        self.lately[rows] = self.lately[rows] * fade[:, None] + counts[:, 1]
        self.seen_at[rows] = elapsed_s

    def _predict(self, rows: Rows) -> None:
        """Foretell the baseline's next block, and what worse candidates would make of it."""
        told = self.past[rows] + self.lately[rows]
        smooth = 0.7 * told
        smooth[:, 1:] += 0.15 * told[:, :-1]
        smooth[:, :-1] += 0.15 * told[:, 1:]
        smooth += 0.3 / smooth.shape[1]
        shape = smooth / smooth.sum(axis=1, keepdims=True)
        shape = (1 - _FLOOR * shape.shape[1]) * shape + _FLOOR
        self.ratio[rows] = LEAKED + (1 - LEAKED) * worse_shapes(shape) / shape[:, None, :]

    def log_evidence(self) -> Floats:
        return self.mixture.log_evidence()
