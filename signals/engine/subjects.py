"""People who come back: how much the next task of one person is worth."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

# Taken where nobody has measured how alike one person's outcomes are.
USUAL_ICC: Final = 0.1


@dataclass(slots=True)
class Subjects:
    """Weights tasks so that a loud person counts once, not often.

    The first m tasks of a person together weigh m / (1 + (m - 1) icc), the number of unrelated
    tasks whose mean is as uncertain (Kish 1965, Survey Sampling, the design effect); the next
    weighs what it adds. `icc` is the intra-class correlation of outcomes.
    """

    icc: float = USUAL_ICC
    seen: dict[tuple[int, str], int] = field(default_factory=dict)

    def weighted(self, arm: int, told: Iterable[tuple[str, int, int]]) -> tuple[float, float]:
        """Return weighted tasks and bad ones of (subject, tasks, bad ones) in one arm's block."""
        tasks = bad = 0.0
        for subject, n, x in told:
            before = self.seen.get((arm, subject), 0)
            self.seen[arm, subject] = before + n
            added = self._worth(before + n) - self._worth(before)
            tasks += added
            bad += added * x / n
        return tasks, bad

    def _worth(self, tasks: int) -> float:
        return tasks / (1.0 + (tasks - 1) * self.icc) if tasks else 0.0
