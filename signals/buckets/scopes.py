"""What a reading of the ledger is about: spans of arrivals on a path, and whose runs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from signals.buckets.keys import MODE_NORMAL

# The columns of a `Scope`, of a ledger or bucket `l`.
SCOPE: Final = f"l.release_id, l.arm, l.segment_id, l.mode <> {MODE_NORMAL}"
# Ledger rows `l` by span `w`, history left out; `arrived_in` makes its parameters.
ARRIVED_IN: Final = (
    "unnest(%s::int[], %s::int[], %s::timestamptz[], %s::timestamptz[])"
    " as w(k, path_id, since, until) join {ledger} l on l.path_id = w.path_id"
    " and not l.backfill and l.arrived_at > w.since and l.arrived_at <= w.until"
)


class Span(NamedTuple):
    """Arrivals on a path in (since, until]: a window ends with the newest arrival it counts."""

    path_id: int
    since: datetime
    until: datetime


class Scope(NamedTuple):
    """Whose runs: 0 for no segment, release or known arm; `moved` ran in a fallback mode."""

    release_id: int
    arm: int
    segment_id: int
    moved: bool = False


def arrived_in(spans: Sequence[Span], wanted: Sequence[Span]) -> list[list[Any]]:
    """Return spans as the columns of a table, numbered by their place among the wanted."""
    places = {span: place for place, span in enumerate(wanted)}
    return [
        [places[span] for span in spans],
        [span.path_id for span in spans],
        [span.since for span in spans],
        [span.until for span in spans],
    ]
