"""Failures by category, of kinds that nobody listed beforehand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np

from signals.engine.effects import Floats, spent_weight

# Rates at which a category may fail tasks, and how much more often a worse candidate does.
LOG_RATES: Final[Floats] = np.linspace(np.log(3e-5), np.log(0.3), 24)
LOG_EFFECTS: Final[Floats] = np.log(np.array([2.0, 4.0, 10.0, 30.0, 100.0]))
# Most categories are rare; but in an outage of both arms any may fail every third task.
USUAL_RATE: Final = 3e-4
USUAL_SPREAD: Final = 1.2
ANYTHING: Final = 0.05
# A rate wanders so far in a minute (standard deviation of its logarithm), and so often a minute
# it becomes another one for both arms: a category that neither knew.
PACE: Final = 0.06
BIRTHS: Final = 0.001
# Categories share the budget in the order in which they are first seen. Those seen while a
# rollout makes itself acquainted with what fails anyway have a share of their own.
ACQUAINTED_TASKS: Final = 1000
LATER_SHARE: Final = 0.6
FIRST_PLACE: Final = 25
LATER_PLACE: Final = 8
_MINUTE_S: Final = 60.0
_LONGEST: Final = 600
_CEILING: Final = 1e60


def _usual() -> Floats:
    shape = np.exp(-0.5 * ((LOG_RATES - np.log(USUAL_RATE)) / USUAL_SPREAD) ** 2)
    flat = np.full(len(LOG_RATES), 1.0 / len(LOG_RATES))
    return np.asarray((1 - ANYTHING) * shape / shape.sum() + ANYTHING * flat)


_USUAL: Final[Floats] = _usual()


@lru_cache(maxsize=_LONGEST + 1)
def _kernel(minutes: int) -> Floats:
    size, width = len(LOG_RATES), LOG_RATES[1] - LOG_RATES[0]
    aside = 0.5 * (PACE / width) ** 2
    walk = np.eye(size)
    for i in range(size):
        for near in (i - 1, i + 1):
            if 0 <= near < size:
                walk[i, near] += aside
                walk[i, i] -= aside
    once = (1 - BIRTHS) * walk + BIRTHS * _USUAL
    return np.asarray(np.linalg.matrix_power(once, minutes))


@dataclass(slots=True)
class Category:
    """What is known of one category; `weight` is its part of the budget."""

    weight: float
    calm: Floats = field(default_factory=_USUAL.copy)
    worse: Floats = field(default_factory=lambda: np.zeros((len(LOG_EFFECTS), len(LOG_RATES))))
    spent: float = 0.0
    minute: int = 0
    tasks: tuple[int, int] = (0, 0)
    failures: tuple[int, int] = (0, 0)

    @property
    def evidence(self) -> float:
        return float(self.worse.sum() / len(LOG_EFFECTS) + 1.0 - self.spent)


class Categories:
    """One guard's failures by category, candidate against baseline.

    Each category has a rate that both arms share, hidden, which wanders and is now and then
    another one; counts are Poisson in it. Its evidence is the likelihood of a candidate that fails
    so many times as often since some start, over that of one that does not, as in `levels`; it is
    brought up to date when the category is seen, with all tasks since. The guard's evidence is
    the weighted mean: weights are given in the order of first sight, whichever arm that is in,
    and add up to at most 1, however many categories come (Vovk and Wang 2021, Annals of
    Statistics 49; for counts of open-ended categories Lindon and Malek 2022, NeurIPS 35).
    """

    def __init__(self, expected_s: float) -> None:
        self.expected_s = expected_s
        self.found: dict[str, Category] = {}
        self.tasks = (0, 0)
        self.places = [0, 0]

    def step(
        self,
        n_c: int,
        n_b: int,
        candidate: Mapping[str, int],
        baseline: Mapping[str, int],
        *,
        elapsed_s: float,
    ) -> None:
        """Take in a block's tasks of both arms, and its failures by category."""
        self.tasks = (self.tasks[0] + n_c, self.tasks[1] + n_b)
        # In one order, whatever order they were told in.
        for name in sorted({*candidate, *baseline}):
            found = self.found.get(name)
            if found is None:
                found = self.found[name] = Category(self._next_weight())
            self._take(found, candidate.get(name, 0), baseline.get(name, 0), elapsed_s)

    def _next_weight(self) -> float:
        later = sum(self.tasks) > ACQUAINTED_TASKS
        first = LATER_PLACE if later else FIRST_PLACE
        place = self.places[later] + first
        self.places[later] += 1
        share = LATER_SHARE if later else 1 - LATER_SHARE
        return share * first / (place * (place + 1))

    def _take(self, found: Category, x_c: int, x_b: int, elapsed_s: float) -> None:
        spent = float(spent_weight(np.array(elapsed_s), np.array(self.expected_s)))
        worse = found.worse + (spent - found.spent) * found.calm
        calm, found.spent = found.calm, spent
        minute = int(elapsed_s // _MINUTE_S)
        if minute > found.minute:
            kernel = _kernel(min(minute - found.minute, _LONGEST))
            calm, worse, found.minute = calm @ kernel, worse @ kernel, minute
        n_c, n_b = self.tasks[0] - found.tasks[0], self.tasks[1] - found.tasks[1]
        found.tasks = self.tasks
        found.failures = (found.failures[0] + x_c, found.failures[1] + x_b)
        raised = LOG_RATES + LOG_EFFECTS[:, None]
        both = (x_c + x_b) * LOG_RATES - (n_c + n_b) * np.exp(LOG_RATES)
        split = x_b * LOG_RATES - n_b * np.exp(LOG_RATES) + x_c * raised
        split = split - n_c * np.exp(np.minimum(raised, 0.0))
        top = both.max()
        calm = calm * np.exp(both - top)
        worse = worse * np.exp(np.minimum(split - top, 300.0))
        scale = calm.sum()
        found.calm, found.worse = calm / scale, np.minimum(worse / scale, _CEILING)

    def log_evidence(self) -> float:
        """Return log e of all categories together."""
        each = self.found.values()
        left = 1.0 - sum(found.weight for found in each)
        return float(np.log(left + sum(found.weight * found.evidence for found in each)))

    def guiltiest(self) -> tuple[str, Category] | None:
        """Return the category that speaks loudest against the candidate."""
        if not self.found:
            return None
        name = max(sorted(self.found), key=lambda n: self.found[n].weight * self.found[n].evidence)
        return name, self.found[name]
