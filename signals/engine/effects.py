"""What a degradation may look like: its sizes, and when it may begin."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Odds ratios from "just visible in a hundred thousand tasks" to "most tasks fail", each the
# square-ish step from its neighbour in log odds that a mixture needs to lose little in between.
LOG_EFFECTS: Final[Floats] = np.asarray(0.03 * 1.4 ** np.arange(14), dtype=np.float64)
LOG_WEIGHTS: Final[Floats] = np.full(len(LOG_EFFECTS), -np.log(len(LOG_EFFECTS)))

# Where the weight on starts lies: at once, evenly over the time the rollout is expected to take,
# and, ever thinner, after it.
AT_ONCE: Final = 0.5
OVER_PLAN: Final = 0.45
AFTER_PLAN: Final = 1.0 - AT_ONCE - OVER_PLAN


def spent_weight(elapsed: Floats, expected: Floats) -> Floats:
    """Return how much of the weight on starts lies in [0, elapsed], for each guard.

    Args:
        elapsed: time since evidence began, any unit, >= 0.
        expected: how long the rollout is expected to be watched, same unit, > 0.

    It is known beforehand, whatever the data says, and never passes 1, which makes the mixture
    over starts an e-process (Shin, Ramdas and Rinaldo 2023, arXiv 2203.03532, section 4, with
    weights that sum to one in place of their unit weights, so that Ville's inequality applies).
    """
    share = elapsed / expected
    within = np.minimum(share, 1.0)
    late = np.maximum(share - 1.0, 0.0)
    return AT_ONCE + OVER_PLAN * within + AFTER_PLAN * (1.0 - 1.0 / (1.0 + np.log1p(late)))
