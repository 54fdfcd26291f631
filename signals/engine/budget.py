"""One false-alarm budget for a rollout, whatever many guards it has."""

from collections.abc import Mapping
from math import exp, log
from typing import Final

ALPHA: Final = 0.05
_CEILING: Final = 700.0


def rollout_log_evidence(log_e: Mapping[str, float]) -> float:
    """Return the log of the mean of e-values: an e-value under any dependence.

    Source: Vovk and Wang 2021, Annals of Statistics 49, section 3.
    """
    if not log_e:
        return 0.0
    top = max(log_e.values())
    total = sum(exp(value - top) for value in log_e.values())
    return top + log(total / len(log_e))


def guilty(log_e: Mapping[str, float], *, alpha: float = ALPHA) -> list[str]:
    """Return the guards that a rollout over its budget trips on, the loudest first.

    e-BH: the largest k whose k-th greatest e-value is at least m / (k alpha) (Wang and Ramdas
    2022, JRSS B 84); at least the loudest one. Empty while the mean is below 1 / alpha.
    """
    if rollout_log_evidence(log_e) < log(1.0 / alpha):
        return []
    ordered = sorted(log_e, key=lambda name: (-log_e[name], name))
    named = 1
    for k, name in enumerate(ordered, start=1):
        if log_e[name] >= log(len(ordered) / (k * alpha)):
            named = k
    return ordered[:named]


def chance(log_e: float) -> float:
    """Return how often chance alone would bring so much evidence at any time: at most this."""
    return min(1.0, exp(-min(max(log_e, 0.0), _CEILING)))
