"""The one door for observations that a mapping finds in a trace."""

from collections.abc import Sequence

from signals.ingest.runs import ItemError

NOT_TAKEN = "observations are not taken yet"


def observations_refuse(items: Sequence[bytes]) -> list[ItemError]:
    """Say of each observation that this console has no place for it."""
    return [ItemError(index, "", NOT_TAKEN) for index, _ in enumerate(items)]
