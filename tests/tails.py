"""Heavy tails for tests and benchmarks of the sketch, and how far it is from what occurred."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from signals.buckets.measures import HISTOGRAM_SCALE, Histogram
from signals.stats.intervals import histogram_quantile
from tests.ledger import bucket_of

# Half the width of a bucket, as a share of its middle: tanh(ln(2) / 64).
STATED_ERROR: Final = math.tanh(math.log(2) / 2 ** (HISTOGRAM_SCALE + 1))
QUANTILES: Final = (0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999)

TAILS: Final[Mapping[str, Callable[[random.Random], float]]] = {
    "lognormal, sigma 2": lambda rng: rng.lognormvariate(6, 2),
    "Pareto, alpha 1.05": lambda rng: 40 * rng.paretovariate(1.05),
    "Pareto, alpha 0.5": lambda rng: rng.paretovariate(0.5),
    "two modes and a tail": lambda rng: (
        rng.gauss(300, 20) if rng.random() < 0.6 else 9_000 * rng.paretovariate(1.2)
    ),
    "cents, and one call of 9,000 dollars": lambda rng: (
        9000.0 if rng.random() < 1e-5 else rng.lognormvariate(-4, 0.5)
    ),
    "zeros and a tail": lambda rng: 0.0 if rng.random() < 0.3 else rng.weibullvariate(50, 0.4),
}


def sketched(values: Sequence[float]) -> Histogram:
    """Return the histogram of values, by the contract's formula."""
    counts: dict[int, int] = {}
    for value in values:
        if value > 0:
            counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    return Histogram(sum(value == 0 for value in values), max(values, default=0.0), counts)


def worst_error(values: Sequence[float], sketch: Histogram) -> float:
    """Return the largest relative error over `QUANTILES`, of the value that occurred there."""
    ordered = sorted(values)
    worst = 0.0
    for q in QUANTILES:
        exact = ordered[min(len(ordered), max(1, math.ceil(q * len(ordered)))) - 1]
        found = histogram_quantile(
            sketch.zero, sketch.counts, sketch.largest, q, scale=HISTOGRAM_SCALE
        )
        assert found is not None
        worst = max(worst, abs(found[0] - exact) / exact if exact else abs(found[0]))
    return worst
