"""A path's own past as reference, where no baseline runs beside the candidate."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from signals.engine.effects import Floats
from signals.engine.factors import Ints

HOURS: Final = 24
# How many day-to-day deviations, and how many standard errors, above the usual level still count
# as usual.
DAY_WIDTH: Final = 2.0
ERROR_WIDTH: Final = 1.0
# A spread is never believed to be less than this, in log odds, however alike few days looked.
LEAST_SPREAD: Final = 0.03
_HARMONICS: Final = 2
_STEPS: Final = 12


@dataclass(frozen=True, slots=True)
class Past:
    """What the stable release did, hour by hour: the most that is plausible, by hour of the day.

    `upper` is a rate for each hour; `level` the usual rate; `day_spread` the standard deviation
    of a day's own level, and `error` that of the fit, both in log odds.
    """

    upper: Floats
    level: Floats
    day_spread: float
    error: float


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
    weight = np.zeros(design.shape[1])
    rate = (x.sum() + 0.5) / (n.sum() + 1)
    weight[0] = np.log(rate / (1 - rate))
    ridge = np.diag([1e-6] + [0.5] * (design.shape[1] - 1))
    information = ridge
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-design @ weight))
        information = (design * (n * p * (1 - p))[:, None]).T @ design + ridge
        step = np.linalg.solve(
            information, design.T @ (x - n * p) - ridge @ weight * (weight != weight[0])
        )
        weight = weight + np.clip(step, -1, 1)
    p = 1 / (1 + np.exp(-design @ weight))
    spread = _day_spread(n, x, p)
    every = _design(np.arange(HOURS))
    covariance = np.linalg.inv(information)
    error = np.sqrt(np.einsum("hk,kl,hl->h", every, covariance, every))
    log_odds = every @ weight
    days = max(len(n) // HOURS, 1)
    wide = np.hypot(spread, spread / np.sqrt(days))
    upper = log_odds + DAY_WIDTH * wide + ERROR_WIDTH * error
    return Past(
        upper=1 / (1 + np.exp(-upper)),
        level=1 / (1 + np.exp(-log_odds)),
        day_spread=spread,
        error=float(error.mean()),
    )


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
    return max(LEAST_SPREAD, np.sqrt(max(beyond, 0.0)))
