"""What reports: each drain notes what its batches brought, by source and minute of arrival.

A source is a token name with the kind of what it sends, to one workflow path. Readers are told by
workflow, which a batch itself does not carry.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.db import connection

# Names of one sort that one drain notes for one path; more of them are noise, not names.
NAMES_MAX: Final = 100
CLIENT: Final = "client"
SEGMENT: Final = "segment"


@dataclass(frozen=True, slots=True)
class Brought:
    """What one batch brought to one path: `path_id` is 0 for observations, which name none.

    `accepted` counts duplicates too, `fresh` does not; `newest_at` is when the newest happened.
    """

    drain: int
    workflow_id: int
    path_id: int
    accepted: int
    fresh: int
    newest_at: datetime


@dataclass(slots=True)
class Named:
    """Names that a drain's runs carried: clients, and segments that nobody knows."""

    clients: set[tuple[str, str, str]] = field(default_factory=set)
    segments: dict[int, dict[tuple[str, str, str], int]] = field(default_factory=dict)
    places: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def add(
        self,
        drain: int,
        segments: dict[tuple[str, str, str], int],
        *,
        clients: Collection[tuple[str, str, str]],
        places: Mapping[tuple[str, str], tuple[int, int]],
    ) -> None:
        """Note what one batch named; `places` are the ids of its workflows and paths."""
        self.segments[drain] = segments
        self.clients.update(clients)
        self.places.update(places)

    def segments_of(self, drain: int) -> dict[str, int]:
        """Return the unknown segments of one batch, with how many runs carried each."""
        found: dict[str, int] = {}
        for (_, _, name), n in self.segments.get(drain, {}).items():
            found[name] = found.get(name, 0) + n
        return found

    def rows(self) -> list[tuple[int, int, str, str, int]]:
        """Return (workflow id, path id, sort, name, runs), sorted; a client's runs count 0."""
        counted: dict[tuple[int, int, str, str], int] = {}
        for workflow, path, name in self.clients:
            counted[*self.places[workflow, path], CLIENT, name] = 0
        for batch in self.segments.values():
            for (workflow, path, name), n in batch.items():
                key = (*self.places[workflow, path], SEGMENT, name)
                counted[key] = counted.get(key, 0) + n
        kept: list[tuple[int, int, str, str, int]] = []
        seen: dict[tuple[int, int, str], int] = {}
        for key in sorted(counted):
            seen[key[:3]] = seen.get(key[:3], 0) + 1
            if seen[key[:3]] <= NAMES_MAX:
                kept.append((*key, counted[key]))
        return kept


# Sorted, so that two drains that meet here wait in one order, never in a circle.
_NOTE: Final = """
with came as (
    select * from unnest(
        %(token)s::text[], %(workflow)s::int[], %(path)s::int[], %(minute)s::timestamptz[],
        %(batches)s::int[], %(accepted)s::bigint[], %(fresh)s::bigint[],
        %(received)s::timestamptz[], %(newest)s::timestamptz[]
    ) as c(token_name, workflow_id, path_id, minute, batches, accepted, fresh, received_at,
        newest_at)
), known as (
    insert into source as s (
        workflow_id, path_id, token_name, kind, backfill, first_received_at, last_received_at,
        newest_at
    )
    select workflow_id, path_id, token_name, %(kind)s, %(backfill)s, min(received_at),
        max(received_at), max(newest_at)
    from came group by 1, 2, 3 order by 1, 2, 3
    on conflict (workflow_id, path_id, token_name, kind, backfill) do update set
        last_received_at = greatest(s.last_received_at, excluded.last_received_at),
        newest_at = greatest(s.newest_at, excluded.newest_at)
)
insert into source_minute as m (
    minute, workflow_id, path_id, token_name, kind, backfill, batches, accepted, fresh
)
select minute, workflow_id, path_id, token_name, %(kind)s, %(backfill)s, batches, accepted, fresh
from came order by 1, 2, 3, 4
on conflict (minute, workflow_id, path_id, token_name, kind, backfill) do update set
    batches = m.batches + excluded.batches,
    accepted = m.accepted + excluded.accepted,
    fresh = m.fresh + excluded.fresh
"""

_NAMES: Final = """
insert into source_name as n (hour, workflow_id, path_id, sort, name, runs, last_at)
select date_trunc('hour', %(at)s::timestamptz, 'UTC'), c.*, %(at)s
from unnest(
    %(workflow)s::int[], %(path)s::int[], %(sort)s::text[], %(name)s::text[], %(runs)s::bigint[]
) as c
order by 2, 3, 4, 5
on conflict (hour, workflow_id, path_id, sort, name) do update set
    runs = n.runs + excluded.runs, last_at = greatest(n.last_at, excluded.last_at)
"""


def sources_note(
    batches: Mapping[int, tuple[str, datetime]],
    brought: Sequence[Brought],
    *,
    kind: str,
    backfill: bool,
    named: Named,
) -> None:
    """Note what drained batches brought. Runs in the drain's transaction, as its last statement.

    Args:
        batches: token name and time of receipt, by drain.
    """
    rows: dict[tuple[str, int, int, datetime], list[int]] = {}
    times: dict[tuple[str, int, int, datetime], tuple[datetime, datetime]] = {}
    for each in brought:
        token_name, received_at = batches[each.drain]
        minute = received_at.replace(second=0, microsecond=0)
        key = (token_name, each.workflow_id, each.path_id, minute)
        row = rows.setdefault(key, [0, 0, 0])
        for place, more in enumerate((1, each.accepted, each.fresh)):
            row[place] += more
        received, newest = times.get(key, (received_at, each.newest_at))
        times[key] = (max(received, received_at), max(newest, each.newest_at))
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _NOTE,
            {
                "token": [key[0] for key in rows],
                "workflow": [key[1] for key in rows],
                "path": [key[2] for key in rows],
                "minute": [key[3] for key in rows],
                "batches": [row[0] for row in rows.values()],
                "accepted": [row[1] for row in rows.values()],
                "fresh": [row[2] for row in rows.values()],
                "received": [times[key][0] for key in rows],
                "newest": [times[key][1] for key in rows],
                "kind": kind,
                "backfill": backfill,
            },
        )
        names = named.rows()
        if names:
            columns = zip(*names, strict=True)
            keys = ("workflow", "path", "sort", "name", "runs")
            at = max(received for received, _ in times.values())
            cursor.execute(_NAMES, {"at": at, **dict(zip(keys, map(list, columns), strict=True))})
