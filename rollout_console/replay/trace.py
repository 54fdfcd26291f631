"""Several trace files as one stream of items. No Django."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from rollout_console.replay.items import Item, Place, Refusal, items_of
from rollout_console.replay.joins import JOINS, Join
from rollout_console.replay.mapping import Mapping
from rollout_console.replay.sources import Record, TraceFile

EMPTY: Final[dict[str, Any]] = {}


@dataclass(slots=True)
class Trace:
    """The files of one replay and the mapping they are read by.

    `skipped` counts the records of the pass under way that the mapping has no use for. `stored`
    says after which file and row a replay that was cut short goes on: what stands before is met
    by the joins and then passed over.
    """

    files: Sequence[TraceFile]
    mapping: Mapping
    workflow: str
    skipped: int = 0
    stored: tuple[int, int] = field(default=(0, 0))

    def items(self) -> Iterator[Item | Refusal]:
        """Yield every item and refusal, file after file."""
        self.skipped = 0
        first, after = self.stored
        for number, file in enumerate(self.files):
            if number >= first:
                yield from self._of(file, after=after if number == first else 0)

    def by_time(self) -> Iterator[Item | Refusal]:
        """Yield likewise, with the files interleaved by time; each is taken in its own order."""
        self.skipped = 0
        streams = [self._timed(number, file) for number, file in enumerate(self.files)]
        for *_, found in heapq.merge(*streams, key=lambda entry: entry[:3]):
            yield found

    def position(self) -> int:
        """Return how many bytes of the files are read."""
        return sum(file.position() for file in self.files)

    def _timed(
        self, number: int, file: TraceFile
    ) -> Iterator[tuple[float, int, int, Item | Refusal]]:
        # Never back in time: a merge of what is not sorted would hold the other files up.
        latest = float("-inf")
        for place, found in enumerate(self._of(file)):
            if isinstance(found, Item):
                latest = max(latest, found.at.timestamp())
            yield latest, number, place, found

    def _of(self, file: TraceFile, *, after: int = 0) -> Iterator[Item | Refusal]:
        join = JOINS[self.mapping.source.join]() if self.mapping.source.join else None
        for record in file.records():
            if record.row <= after:
                if join is not None and record.values is not None:
                    join.facts(record.values, record.row)
                continue
            useless = True
            for found in self._found(file, record, join):
                useless = False
                yield found
            self.skipped += useless

    def _found(
        self, file: TraceFile, record: Record, join: Join | None
    ) -> Iterator[Item | Refusal]:
        place = Place(file.name, record.row)
        if record.values is None:
            yield Refusal(place, "", record.fault)
            return
        values = {
            **record.values,
            "$file": {"name": file.name},
            "$row": record.row,
            "$head": file.head,
            "$joined": EMPTY if join is None else join.facts(record.values, record.row),
        }
        yield from items_of(self.mapping, values, place=place, workflow=self.workflow)


def span_of(found: Iterable[Item | Refusal]) -> tuple[datetime, datetime] | None:
    """Return the oldest and the newest time of the items, None where there is none."""
    oldest = newest = None
    for each in found:
        if isinstance(each, Item):
            oldest = each.at if oldest is None else min(oldest, each.at)
            newest = each.at if newest is None else max(newest, each.at)
    return None if oldest is None or newest is None else (oldest, newest)
