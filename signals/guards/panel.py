"""What every panel of guards does: take in blocks, say e-values, be kept as bytes. Pure.

A panel holds guards whose evidence is made the same way. What it keeps of one guard does not
depend on the others in it, and can be taken out as bytes and put back.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from signals.buckets.arrivals import Arrivals
from signals.engine.effects import Floats
from signals.engine.levels import LevelFilter
from signals.engine.mixture import Rows
from signals.engine.past import Past
from signals.guards.methods import Spec

# What the bytes of a state mean. Another number makes every state anew from the ledger.
ENGINE: Final = 1
DAY_S: Final = 86_400.0


class Memory(msgspec.Struct):
    """What a guard's evidence was made of; lists of two are of the candidate and of stable.

    `seen` is the stable release's histogram, where a threshold is taken from it; `told` the
    failure category that speaks loudest, whose failures are then in `total`.
    """

    segments: list[int] = []
    strata: list[tuple[int, int]] = []
    n: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    bad: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    total: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0])
    seen: dict[int, int] = {}
    told: str = ""
    day: int = 0
    # When the last block with something of it ended, seconds since evidence began.
    until_s: float = 0.0


@dataclass(slots=True)
class Member:
    """A guard in a panel, with what its path did before: the level, and a histogram."""

    spec: Spec
    expected_s: float
    past: Past | None = None
    bins: Sequence[tuple[int, int]] = ()
    memory: Memory = field(default_factory=Memory)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a block brought for one guard, by arm."""

    candidate: Sequence[Arrivals]
    stable: Sequence[Arrivals]

    @property
    def arms(self) -> tuple[Sequence[Arrivals], Sequence[Arrivals]]:
        return self.candidate, self.stable


class Panel(ABC):
    """Guards of one method: `engines` by what they ask, `worse` and for criteria `fine`."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.expected_s = np.array([each.expected_s for each in members])
        self.holds = any(each.spec.holds for each in members)
        self.engines: dict[str, Any] = {}
        self.end_s = 0.0

    def step(
        self, taken: Mapping[int, Taken], *, elapsed_s: Mapping[int, float], end_s: float
    ) -> None:
        """Take in one block.

        Args:
            taken: what it brought, by place of the member.
            elapsed_s: seconds from the start of evidence to the end of the block, likewise.
            end_s: when the block ended, seconds since the epoch.
        """
        places = sorted(taken)
        self.end_s = end_s
        self._step(
            np.array(places),
            [(self.members[place], taken[place]) for place in places],
            np.array([elapsed_s[place] for place in places]),
        )

    def _usual(self, told: Sequence[tuple[Member, Taken]]) -> Floats:
        """Return the usual level at this time of day, log odds, 0 where no past tells it."""
        minute = self.end_s % DAY_S / 60.0
        return np.array([0.0 if m.past is None else m.past.at(minute) for m, _ in told])

    @abstractmethod
    def _step(self, rows: Rows, told: Sequence[tuple[Member, Taken]], at: Floats) -> None:
        """Take in what a block brought for the members `rows`, `at` seconds after their start."""

    def log_worse(self) -> Floats:
        """Return log e against "not worse", of each member."""
        return np.asarray(self.engines["worse"].log_evidence())

    def log_fine(self) -> Floats | None:
        """Return log e against "worse by the margin, or beyond the limit"; None if not asked."""
        fine = self.engines.get("fine")
        return None if fine is None else np.asarray(fine.log_evidence())

    def dump(self, place: int) -> bytes:
        """Return what the panel knows of one member."""
        return _encode([self.members[place].memory, [a[place].tobytes() for a in self._arrays]])

    def load(self, bodies: Mapping[int, bytes]) -> None:
        """Put back what `dump` returned, by place of the member."""
        for place, body in bodies.items():
            self.members[place].memory, told = _decode(body)
            for values, raw in zip(self._arrays, told, strict=True):
                values[place] = np.frombuffer(raw, dtype=values.dtype).reshape(values.shape[1:])

    @cached_property
    def _arrays(self) -> list[NDArray[Any]]:
        """The arrays of the engines, guards first, that hold what they took in."""
        found: list[NDArray[Any]] = []
        for engine in self.engines.values():
            if isinstance(engine, LevelFilter):
                found += [np.moveaxis(engine.calm, 1, 0), np.moveaxis(engine.worse, 1, 0)]
                found += [engine.spent, engine.minute]
                continue
            found += [engine.mixture.log_m, engine.mixture.spent]
            found += [getattr(engine, name) for name in _ARRAYS if hasattr(engine, name)]
        return found


# What engines keep beside their mixture.
_ARRAYS: Final = ("open", "opened_s", "known", "past", "lately", "seen_at", "predicted_at", "then")
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[Memory, list[bytes]]).decode
