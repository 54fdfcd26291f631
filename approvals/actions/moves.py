"""What may be reported of an allowed action, one word after the other. Pure: no Django."""

from enum import StrEnum
from typing import Final


class Result(StrEnum):
    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"


# An action is done or fails once; only what was done can be taken back.
MOVES: Final = frozenset(
    {(None, Result.DONE), (None, Result.FAILED), (Result.DONE, Result.UNDONE)},
)


def next_allowed(held: Result | None) -> list[str]:
    """Return what may be reported after `held`, None for nothing yet."""
    return sorted(after.value for before, after in MOVES if before == held)
