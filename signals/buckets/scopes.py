"""What a reading of the ledger is about: spans of arrivals on a path, and whose runs."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from signals.buckets.keys import MODE_NORMAL

# The columns of a `Scope`, of a ledger or bucket `l`.
SCOPE: Final = f"l.release_id, l.arm, l.segment_id, l.mode <> {MODE_NORMAL}"
# What a reach leaves out, of rows `l`.
MODES_OF_REACH: Final = {
    "normal": f" and l.mode = {MODE_NORMAL}",
    "fallback": f" and l.mode <> {MODE_NORMAL}",
}
# Ledger rows `l` by span `w`, history left out; `arrived_in` makes its parameters.
ARRIVED_IN: Final = (
    "unnest(%s::int[], %s::int[], %s::timestamptz[], %s::timestamptz[])"
    " as w(k, path_id, since, until) join {ledger} l on l.path_id = w.path_id"
    " and not l.backfill and l.arrived_at > w.since and l.arrived_at <= w.until"
)
# Live runs `l` by event minute. The fold holds history too, so what the ledger has of it is taken
# off again, as far as it is folded; its arrival lies in the minute itself, so that the ledger's
# index finds the few such rows. `live_minutes` makes the parameters.
LIVE_MINUTES: Final = """(
    select path_id, segment_id, release_id, arm, mode, minute, n from minute_bucket
    where path_id = any(%(paths)s) and minute >= %(since)s and minute <= %(until)s
    union all
    select h.path_id, h.segment_id, h.release_id, h.arm, h.mode, h.minute, -h.n
    from arrival_ledger as h
    where h.path_id = any(%(paths)s) and h.backfill and h.n > 0
        and h.arrived_at >= %(since)s and h.arrived_at < %(until)s + interval '1 minute'
        and h.minute >= %(since)s and h.minute <= %(until)s
        and not exists (
            select from ingest_batch as b where b.seq = h.drain and b.folded_at is null
        )
) as l"""


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


def live_minutes(path_ids: Iterable[int], *, since: datetime, until: datetime) -> dict[str, Any]:
    """Return the parameters of `LIVE_MINUTES`: the minutes that begin in [since, until]."""
    return {"paths": list(path_ids), "since": since, "until": until}


class Kind(NamedTuple):
    """Which kind of case alone: codes of `signals.buckets.keys`, None for all."""

    mode: int | None = None
    input_condition: int | None = None
    risk: int | None = None

    def told(self) -> dict[str, int]:
        """Return the columns that it sets."""
        return {name: code for name, code in self._asdict().items() if code is not None}
