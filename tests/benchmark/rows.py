"""One measured row of `docs/benchmarks.md`, and how repeated measurements become one figure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured beside its ceiling or peer, in the same run.

    `ratio` is ours to ceiling and `noise` the spread of the rounds, (max - min) / median; both
    shares, None where they mean nothing.
    """

    name: str
    ours: float
    ceiling: float | None
    ratio: float | None
    unit: str
    noise: float | None
    note: str


def noise(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)


def beside(
    name: str, ours: Sequence[float], ceiling: Sequence[float], *, unit: str, note: str
) -> Row:
    """Return the row of paired rounds: medians, and the median of the rounds' ratios."""
    return Row(
        name=name,
        ours=statistics.median(ours),
        ceiling=statistics.median(ceiling),
        ratio=statistics.median(a / b for a, b in zip(ours, ceiling, strict=True)),
        unit=unit,
        noise=max(noise(ours), noise(ceiling)) if len(ours) > 1 else None,
        note=note,
    )


def bound(name: str, ours: float, *, unit: str, note: str) -> Row:
    """Return a row that counts by itself."""
    return Row(name, ours, None, None, unit, None, note)
