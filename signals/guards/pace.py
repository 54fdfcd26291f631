"""How long an open question needs at today's traffic. Pure: no Django, no clock."""

from dataclasses import dataclass
from typing import Final

from signals.catalogue import Reach
from signals.format import span_text

_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Pace:
    """About how many more `counted` things a question needs, and how many come in an hour.

    `per_hour` is None where nothing was measured. `seconds` is None where they never come, or
    nobody can say.
    """

    runs: int
    per_hour: float | None
    counted: str = "tasks"

    @property
    def seconds(self) -> int | None:
        if not self.per_hour:
            return None
        return max(1, round(self.runs * _HOUR_S / self.per_hour))

    @property
    def sentence(self) -> str:
        """`about 140 more tasks, 6.1 h at today's 23 tasks/h`."""
        noun = self.counted.removesuffix("s") if self.runs == 1 else self.counted
        text = f"about {self.runs:,} more {noun}"
        if self.per_hour is None:
            return f"{text}; how many come in an hour is not known yet"
        if self.per_hour == 0:
            return f"{text}; never at today's 0 {self.counted}/h"
        assert self.seconds is not None
        rate = f"{self.per_hour:,.0f}" if self.per_hour >= 9.5 else f"{self.per_hour:.2g}"
        return f"{text}, {span_text(self.seconds)} at today's {rate} {self.counted}/h"


def in_reach(*, moved: bool, reach: Reach) -> bool:
    """Whether a signal of this reach reads tasks that ran in a fallback mode, or not in one."""
    if reach == "normal":
        return not moved
    return moved or reach != "fallback"
