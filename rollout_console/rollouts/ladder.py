"""The ladder of stages: what the next rung is, and what an exposed set may become. Pure.

An exposed set maps segment slugs to the share (0-1] of their units that is exposed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

ExposedSet = Mapping[str, Decimal]
T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True)
class NextRung:
    """The rung that an expansion would start: its position (from 1) and what it exposes.

    `again` is true where it is the present stage in full, after containment took some away.
    """

    position: int
    exposed: ExposedSet
    again: bool


def next_rung(*, stage: int, exposed: ExposedSet, stages: Sequence[ExposedSet]) -> NextRung | None:
    """Return what comes next, None from the last stage in full.

    Args:
        stage: the present stage's position, from 1.
        exposed: what is exposed now.
        stages: what each stage of the plan exposes, in order.
    """
    full = stages[stage - 1]
    if dict(exposed) != dict(full):
        return NextRung(stage, full, again=True)
    if stage == len(stages):
        return None
    return NextRung(stage + 1, stages[stage], again=False)


def is_subset(part: ExposedSet, whole: ExposedSet) -> bool:
    """Whether everybody whom `part` exposes is exposed by `whole` too."""
    return all(share <= whole.get(segment, Decimal(0)) for segment, share in part.items())


def tasks_in_all(sizes: Mapping[str, T], rules: Mapping[str, object]) -> T | int:
    """Return how many tasks there are, from the segments' sizes and their rules.

    Segments overlap: one whose rule is `true` is everybody, and its size the whole. Without one
    their sum is the nearest that is known.
    """
    whole = [size for segment, size in sizes.items() if rules.get(segment) is True]
    return min(whole) if whole else sum(sizes.values())


def cut(target: ExposedSet, limit: ExposedSet) -> dict[str, Decimal]:
    """Return `target` without what `limit` does not expose: the most that both allow."""
    return {
        segment: min(share, limit[segment]) for segment, share in target.items() if segment in limit
    }
