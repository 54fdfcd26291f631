"""When each item of a trace is sent, and what its times become. Pure but for the clock given."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rollout_console.replay.items import Item

# Items due closer together than this go in one batch.
SEND_EVERY_S: Final = 0.2


def shifted(item: Item, *, newest: datetime, now: datetime) -> Item:
    """Return the item with its times moved so that the trace's newest lies at `now`."""
    by = now - newest
    return item.moved(lambda at: at + by, started_at=now)


@dataclass(slots=True)
class Player:
    """Holds items back until they are due, `speed` times as fast as they were recorded.

    An item's times become the moments at which they are played. One that stands behind its time
    in the file is sent when it is met, with the time it is due.
    """

    oldest: datetime
    speed: float
    started_at: datetime
    clock: Callable[[], datetime]
    wait: Callable[[float], object]
    going_on: Callable[[], bool]
    flush: Callable[[], object]
    _flushed_at: datetime | None = None

    def played(self, item: Item) -> Item | None:
        """Wait for the item's moment and return it with its new times; None once stopped."""
        made = item.moved(self._moment, started_at=self.started_at)
        while self.going_on():
            now = self.clock()
            ahead_s = (made.at - now).total_seconds()
            since_s = (now - (self._flushed_at or self.started_at)).total_seconds()
            if ahead_s > 0 or since_s >= SEND_EVERY_S:
                self.flush()
                self._flushed_at = now
            if ahead_s <= 0:
                return made
            # Never shorter than a batch needs to gather.
            self.wait(max(ahead_s, SEND_EVERY_S))
        return None

    def _moment(self, at: datetime) -> datetime:
        after_s = (at - self.oldest).total_seconds() / self.speed
        return self.started_at + timedelta(seconds=after_s)
