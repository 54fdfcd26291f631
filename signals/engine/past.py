"""A path's own past as reference, where no baseline runs beside the candidate."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from signals.engine.effects import Floats
from signals.engine.factors import Ints

HOURS: Final = 24
# A spread is never believed to be less than this, in log odds, however alike few days looked.
LEAST_SPREAD: Final = 0.03
# The past shows few days; their spread is taken so much wider.
FEW_DAYS: Final = 1.25
_HARMONICS: Final = 2
_STEPS: Final = 12


@dataclass(frozen=True, slots=True)
class Past:
    """What the stable release did, as a level for each hour of the day.

    `level` is in log odds, [24]; `day_spread` the standard deviation of a day's own level and
    `error` that of the fit, both in log odds; `bad_a_minute` how many bad outcomes came a minute.
    """

    level: Floats
    day_spread: float
    error: float
    bad_a_minute: float

    def at(self, minute: float) -> float:
        """Return the level so many minutes after midnight of the first hour, log odds."""
        hour = ((minute - 30.0) / 60.0) % HOURS
        whole = int(hour)
        part = hour - whole
        return float(self.level[whole] * (1 - part) + self.level[(whole + 1) % HOURS] * part)

    @property
    def spread(self) -> float:
        """How far a day may lie from the level: the few days seen may not show the widest."""
        return float(np.hypot(self.day_spread * FEW_DAYS, self.error))


def past_of(hours: Ints) -> Past | None:
    """Return what hourly counts [(n, bad)] of whole days say, oldest first; None without any.

    The level follows the hour by two harmonics of the day (a logistic fit by Newton's method);
    what days differ beyond chance is their own spread, by the method of moments. A day's level is
    a draw that the candidate's day shares, so it widens the reference and does not average out.
    """
    n, x = hours[:, 0].astype(float), hours[:, 1].astype(float)
    if n.sum() == 0:
        return None
    hour = np.arange(len(n)) % HOURS
    design = _design(hour)
    # A little pull towards a level that does not move, so that few hours fit no wild curve.
    pull = np.array([0.0] + [0.5] * (design.shape[1] - 1))
    rate = (x.sum() + 0.5) / (n.sum() + 1)
    weight = np.zeros(design.shape[1])
    weight[0] = np.log(rate / (1 - rate))
    information = np.eye(len(weight))
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-design @ weight))
        information = (design * (n * p * (1 - p))[:, None]).T @ design + np.diag(pull + 1e-9)
        step = np.linalg.solve(information, design.T @ (x - n * p) - pull * weight)
        weight = weight + np.clip(step, -1, 1)
    p = 1 / (1 + np.exp(-design @ weight))
    spread = _day_spread(n, x, p)
    every = _design(np.arange(HOURS))
    covariance = np.linalg.inv(information)
    error = np.sqrt(np.einsum("hk,kl,hl->h", every, covariance, every))
    return Past(every @ weight, spread, float(error.mean()), float(x.sum() / (60.0 * len(n))))


def _design(hour: np.ndarray) -> Floats:
    columns = [np.ones(len(hour))]
    for k in range(1, _HARMONICS + 1):
        angle = 2 * np.pi * k * (hour + 0.5) / HOURS
        columns += [np.sin(angle), np.cos(angle)]
    return np.stack(columns, axis=1)


def _day_spread(n: Floats, x: Floats, p: Floats) -> float:
    days = len(n) // HOURS
    if days < 2:
        return 2 * LEAST_SPREAD
    cut = days * HOURS
    more = (x - n * p)[:cut].reshape(days, HOURS).sum(axis=1)
    chance = (n * p * (1 - p))[:cut].reshape(days, HOURS).sum(axis=1)
    some = chance > 0
    if some.sum() < 2:
        return 2 * LEAST_SPREAD
    levels, variances = more[some] / chance[some], 1 / chance[some]
    beyond = float(np.var(levels, ddof=1) - variances.mean())
    return max(LEAST_SPREAD, float(np.sqrt(max(beyond, 0.0))))
