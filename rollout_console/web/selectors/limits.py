"""All signals of a rollout against one shared limit line: which is how far from its own."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rollout_console.web.drawing import Tick, limit_ticks
from rollout_console.web.selectors.rollouts import CellRow
from rollout_console.web.words import SIGNALS, Shown

# The worst first: the card's heading counts these.
_COUNTED: Final = {
    "over": "over",
    "near": "near limit",
    "stale": "stale",
    "too_few": "without enough data",
    "inside": "inside",
}


@dataclass(frozen=True, slots=True)
class LimitsView:
    """The chart's card; `headline` counts the worst state, `rest` the others.

    `at` is when the oldest of the signals shown was reported.
    """

    rows: list[CellRow]
    ticks: list[Tick]
    shown: Shown
    headline: str
    rest: str
    at: datetime | None


def limits_view(cells: Sequence[CellRow]) -> LimitsView | None:
    """Return the cells that have a limit as one chart, in their order; None without any."""
    rows = [cell for cell in cells if cell.limited]
    if not rows:
        return None
    counts = Counter(cell.state for cell in rows)
    told = [
        (state, f"{counts[state]} {words}") for state, words in _COUNTED.items() if counts[state]
    ]
    (worst, headline), *rest = told
    return LimitsView(
        rows=rows,
        ticks=limit_ticks(),
        shown=SIGNALS[worst],
        headline=headline,
        rest=", ".join(words for _, words in rest),
        at=min((cell.at for cell in rows if cell.at is not None), default=None),
    )
