"""Guards' evidence side by side: blocks of arrivals in, e-values out. Pure: no Django, no clock.

A panel holds guards whose evidence is made the same way and began at the same time. What it keeps
of one guard is independent of the others in it, and can be taken out as bytes and put back.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, log2
from typing import Any, Final

import msgspec
import numpy as np

from signals.buckets.blocks import Arrivals
from signals.buckets.keys import BLOCK_S
from signals.buckets.measures import bucket_bounds
from signals.engine.bets import (
    OneArmBets,
    gap_factors,
    over_factors,
    over_histogram_factors,
    under_factors,
    under_histogram_factors,
)
from signals.engine.categories import Categories
from signals.engine.categories import _Category as Category
from signals.engine.effects import Floats
from signals.engine.mixture import Mixture
from signals.engine.rates import TOGETHER, OneArmRates, TwoArmRates
from signals.engine.shapes import TwoArmShapes
from signals.guards.methods import Spec, Word, above, bad_counts, histogram_of, moments, summed

# What the bytes of a state mean. Another number makes every state anew from the ledger.
ENGINE: Final = 1
# Parts of the traffic (segment, input condition) that are compared apart; what is seen later
# shares the last.
STRATA: Final = 8
HOURS: Final = 24
_HOUR_S: Final = 3600.0
_LEAST_PAST: Final = 30


class Memory(msgspec.Struct):
    """What a guard's evidence was made of. `n`, `bad`, `total`, `squares`: candidate, stable."""

    segments: list[int] = []
    strata: list[tuple[int, int]] = []
    n: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    bad: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    total: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0])
    squares: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0])
    # The stable release's values by bucket, where a threshold is taken from them.
    seen: dict[str, int] = {}
    told: str = ""


@dataclass(slots=True)
class Member:
    """A guard in a panel. `upper` are the rates that its past makes plausible, by UTC hour."""

    spec: Spec
    expected_s: float
    memory: Memory = field(default_factory=Memory)
    upper: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """What a block brought for one guard, by arm."""

    candidate: list[Arrivals]
    stable: list[Arrivals]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Log e-values against "not worse" and "worse by the margin, or beyond the limit".

    The second is None where nobody asked. `memory` is what they were made of.
    """

    log_worse: float
    log_fine: float | None
    memory: Memory


class Panel:
    """Guards of one method. Subclasses make `engines` and step them."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.expected = np.array([each.expected_s for each in members])
        self.holds = np.array([each.spec.holds for each in members])
        self.engines: dict[str, Any] = {}

    def step(self, taken: Mapping[int, Taken], *, number: int, elapsed_s: float) -> None:
        """Take in one block: by place of a member what it brought."""
        raise NotImplementedError

    def evidence(self) -> list[Evidence]:
        worse = self.engines["worse"].log_evidence()
        fine = self.engines["fine"].log_evidence() if "fine" in self.engines else None
        return [
            Evidence(
                float(worse[place]),
                float(fine[place]) if fine is not None and self.holds[place] else None,
                member.memory,
            )
            for place, member in enumerate(self.members)
        ]

    def dump(self, place: int) -> bytes:
        """Return what the panel knows of one member."""
        arrays = {
            name: [str(values.dtype), list(values.shape[1:]), values[place].tobytes()]
            for name, values in self._arrays().items()
        }
        return msgspec.msgpack.encode([self.members[place].memory, arrays])

    def load(self, place: int, body: bytes) -> None:
        """Put back what `dump` returned."""
        memory, arrays = _decode(body)
        self.members[place].memory = memory
        for name, values in self._arrays().items():
            dtype, shape, raw = arrays[name]
            values[place] = np.frombuffer(raw, dtype=dtype).reshape(shape)

    def _arrays(self) -> dict[str, np.ndarray]:
        found = {}
        for name, engine in self.engines.items():
            for attribute, values in _state(engine):
                found[f"{name}.{attribute}"] = values
        return found


_decode: Final = msgspec.msgpack.Decoder(
    tuple[Memory, dict[str, tuple[str, list[int], bytes]]]
).decode
_KEPT: Final = ("log_m", "spent", "open", "opened")


def _state(engine: Any) -> Iterable[tuple[str, np.ndarray]]:
    """Yield the arrays of an engine that hold what it took in, guards first."""
    for part in (engine, getattr(engine, "mixture", None)):
        for name in _KEPT:
            values = getattr(part, name, None)
            if isinstance(values, np.ndarray):
                yield name, values


class ExactPanel(Panel):
    """Rates of two arms in the same blocks, by segment and input condition."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.margins = np.array([each.spec.margin for each in members])
        self.engines["worse"] = _two_arms(self.expected, sign=1.0)
        if self.holds.any():
            self.engines["fine"] = _two_arms(self.expected, sign=-1.0)

    def step(self, taken: Mapping[int, Taken], *, number: int, elapsed_s: float) -> None:
        counts = np.zeros((len(self.members), STRATA, 4), dtype=np.int64)
        self._allow()
        for place, block in taken.items():
            member = self.members[place]
            for arm, arrivals in enumerate((block.candidate, block.stable)):
                for stratum, rows in _by_stratum(member.memory, arrivals).items():
                    n, bad = _bad(member.spec, rows, lenient=True)
                    counts[place, stratum, 2 * arm : 2 * arm + 2] += (n, bad)
                    member.memory.n[arm] += n
                    member.memory.bad[arm] += bad
        for engine in self.engines.values():
            engine.step(counts, elapsed=elapsed_s)

    def _allow(self) -> None:
        """Let the odds that are still allowed follow what closed blocks say of stable's rate."""
        if not self.margins.any():
            return
        held = self.engines["worse"].open[:, :, 2:].sum(axis=1)
        known = np.array([[each.memory.n[1], each.memory.bad[1]] for each in self.members]) - held
        rate = np.clip((known[:, 1] + 0.5) / (known[:, 0] + 1.0), 1e-6, 1 - 1e-6)
        allowed = np.clip(rate + self.margins, 1e-6, 1 - 1e-6)
        log_null = np.where(self.margins > 0, _logit(allowed) - _logit(rate), 0.0)
        for name, engine in self.engines.items():
            step = engine.log_odds[0] - engine.log_null[0]
            assert (step > 0).all() if name == "worse" else (step < 0).all()
            engine.log_null = log_null
            engine.log_odds = log_null[:, None] + step


def _two_arms(expected: Floats, *, sign: float) -> TwoArmRates:
    engine = TwoArmRates(expected, strata=STRATA, sign=sign)
    # One stratum alone is weighed apart, but most traffic has only one.
    weights = [TOGETHER + 0.25, *[(1 - TOGETHER - 0.25) / STRATA] * STRATA]
    engine.mixture = Mixture(
        expected,
        log_effect_weights=engine.mixture.log_effect_weights,
        log_view_weights=np.log(np.array(weights)),
    )
    return engine


class LimitPanel(Panel):
    """Rates, and exceedances of a limit, against what is agreed."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.nulls = np.array([_null_rate(each.spec) for each in members])
        self.engines["worse"] = OneArmRates(self.expected)
        if self.holds.any():
            self.engines["fine"] = OneArmRates(self.expected, sign=-1.0)

    def step(self, taken: Mapping[int, Taken], *, number: int, elapsed_s: float) -> None:
        for name, engine in self.engines.items():
            counts = np.zeros((len(self.members), 2), dtype=np.int64)
            for place, block in taken.items():
                member = self.members[place]
                counts[place] = _bad(member.spec, block.candidate, lenient=name == "worse")
                if name == "worse":
                    member.memory.n[0] += int(counts[place, 0])
                    member.memory.bad[0] += int(counts[place, 1])
            engine.step(counts, self.nulls, elapsed=elapsed_s)


class PastPanel(Panel):
    """Rates against the most that the path's own past makes plausible at that hour of the day."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.upper = np.array([each.upper for each in members])
        self.engines["worse"] = OneArmRates(self.expected)
        if self.holds.any():
            self.engines["fine"] = OneArmRates(self.expected, sign=-1.0)

    def step(self, taken: Mapping[int, Taken], *, number: int, elapsed_s: float) -> None:
        counts = np.zeros((len(self.members), 2), dtype=np.int64)
        for place, block in taken.items():
            member = self.members[place]
            counts[place] = _bad(member.spec, block.candidate, lenient=True)
            member.memory.n[0] += int(counts[place, 0])
            member.memory.bad[0] += int(counts[place, 1])
        hour = number * BLOCK_S // int(_HOUR_S) % HOURS
        for engine in self.engines.values():
            engine.step(counts, self.upper[:, hour], elapsed=elapsed_s)


class BetsPanel(Panel):
    """Means of values that are at least 0 against what is agreed."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.engines["worse"] = OneArmBets(self.expected)
        if self.holds.any():
            self.engines["fine"] = OneArmBets(self.expected)

    def step(self, taken: Mapping[int, Taken], *, number: int, elapsed_s: float) -> None:
        rows, worse, fine = [], [], []
        for place, block in taken.items():
            member = self.members[place]
            told, bets = _bets(member.spec, block.candidate)
            n, total, squares = told
            if n == 0:
                continue
            member.memory.n[0] += n
            member.memory.total[0] += total
            member.memory.squares[0] += squares
            rows.append(place)
            worse.append(bets[0])
            fine.append(bets[1])
        if not rows:
            return
        places = np.array(rows)
        self.engines["worse"].step(places, np.array(worse), elapsed=elapsed_s)
        if "fine" in self.engines:
            self.engines["fine"].step(places, np.array(fine), elapsed=elapsed_s)


def _bets(
    spec: Spec, arrivals: Sequence[Arrivals]
) -> tuple[tuple[int, float, float], tuple[Floats, Floats]]:
    """Return a block's tasks, sum and squares, and its log factors of both bets."""
    assert spec.limit is not None
    n, total, squares = moments(spec, summed(each.measures for each in arrivals))
    if n == 0:
        return (0, 0.0, 0.0), (np.zeros(0), np.zeros(0))
    told, limit = (n, total, squares), spec.limit
    counts: dict[int | None, int] = {}
    if histogram_of(spec.signal) == "cost":
        for each in arrivals:
            for index, count in each.cost.items():
                counts[index] = counts.get(index, 0) + count
    if sum(counts.values()) == n:
        edges = [(0.0, 0.0) if each is None else bucket_bounds(each) for each in counts]
        low, high = np.array(edges).T / limit
        weight = np.array([list(counts.values())], dtype=float)
        return told, (
            over_histogram_factors(weight, low)[0],
            under_histogram_factors(weight, high)[0],
        )
    if spec.signal.better == "higher":
        # A score in 0-1 falls short by so much.
        total, squares, limit = n - total, n - 2 * total + squares, max(1.0 - limit, 1e-6)
    values = np.array([float(n)]), np.array([total / limit]), np.array([squares / limit**2])
    return told, (over_factors(*values)[0], under_factors(*values)[0])


class NormalPanel(Panel):
    """Means of two arms in the same blocks, right in the limit of many tasks."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.margins = np.array([each.spec.margin for each in members])
        self.engines["worse"] = _Gaps(self.expected)
        if self.holds.any():
            self.engines["fine"] = _Gaps(self.expected)

    def step(self, taken: Mapping[int, Taken], *, number: int, elapsed_s: float) -> None:
        held = self.engines["worse"].open
        for place, block in taken.items():
            member = self.members[place]
            for arm, arrivals in enumerate((block.candidate, block.stable)):
                held[place, arm] += (
                    moments(member.spec, summed(each.measures for each in arrivals))
                    if arrivals
                    else (0, 0.0, 0.0)
                )
        n_c, n_b = held[:, 0, 0], held[:, 1, 0]
        full = np.flatnonzero(n_c * n_b >= 0.6 * np.maximum(n_c + n_b, 1))
        rows, gaps, variances, weights = [], [], [], []
        for place in full:
            member = self.members[place]
            known = _variance(member.memory)
            (c, c_sum, c_sq), (b, b_sum, b_sq) = held[place]
            if known is not None:
                worse = 1.0 if member.spec.signal.better == "lower" else -1.0
                rows.append(place)
                gaps.append(worse * (c_sum / c - b_sum / b) - member.spec.margin)
                variances.append(known)
                weights.append(c * b / (c + b))
            for arm, (n, total, squares) in enumerate(((c, c_sum, c_sq), (b, b_sum, b_sq))):
                member.memory.n[arm] += int(n)
                member.memory.total[arm] += float(total)
                member.memory.squares[arm] += float(squares)
        for name, engine in self.engines.items():
            sign = 1.0 if name == "worse" else -1.0
            engine.open[full] = 0
            if rows:
                engine.mixture.multiply(
                    np.array(rows),
                    0,
                    gap_factors(sign * np.array(gaps), np.array(variances), np.array(weights)),
                    elapsed=elapsed_s,
                )


class _Gaps(OneArmBets):
    def __init__(self, expected: Floats) -> None:
        super().__init__(expected)
        # Tasks, sum and sum of squares of both arms, of a block that is not full.
        self.open: Floats = np.zeros((len(expected), 2, 3))


def _variance(memory: Memory) -> float | None:
    """Return the variance of one task from both arms' past, None while too little is known."""
    n = memory.n[0] + memory.n[1]
    if n < _LEAST_PAST:
        return None
    found = 0.0
    for arm in (0, 1):
        if memory.n[arm]:
            found += memory.squares[arm] - memory.total[arm] ** 2 / memory.n[arm]
    scale = (memory.squares[0] + memory.squares[1]) / n
    return max(found / n, 1e-9 * scale, 1e-12)


# How many buckets of scale 2 there are from each histogram's least: 1 ms to 19 h, 1e-7 to 4,000.
_BINS: Final = {"latency": (0, 104), "cost": (-92, 140)}
_COARSER: Final = 3


class _Shapes(TwoArmShapes):
    """One guard's, which remembers what its prediction was made of."""

    then: Floats

    def _predict(self) -> None:
        self.then = self.lately.copy()
        super()._predict()

    def dump(self) -> list[Any]:
        return [
            self.seen_at,
            self.refreshed_at,
            *(values.tobytes() for values in self._kept()),
        ]

    def load(self, told: list[Any]) -> None:
        self.seen_at, self.refreshed_at, *raw = told
        self.then = self.lately.copy()
        for values, each in zip(self._kept(), raw, strict=True):
            values[...] = np.frombuffer(each, dtype=values.dtype).reshape(values.shape)
        if self.refreshed_at > -np.inf:
            lately = self.lately
            self.lately = self.then
            super()._predict()
            self.lately = lately

    def _kept(self) -> tuple[np.ndarray, ...]:
        if not hasattr(self, "then"):
            self.then = self.lately.copy()
        mixture = self.mixture
        return (
            mixture.log_m,
            mixture.spent,
            self.past,
            self.known,
            self.lately,
            self.open,
            self.then,
        )


class ShapePanel(Panel):
    """Whole distributions of two arms; against a margin, exceedances of what stable's past allows.

    What an engine predicts from depends on when it was stepped, so each guard has its own.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.shapes = []
        for place in range(len(members)):
            _, bins = _BINS[histogram_of(members[place].spec.signal)]
            self.shapes.append(
                _Shapes(self.expected[place : place + 1], past=np.zeros((1, bins)), time_scale=60.0)
            )
        self.fine = OneArmRates(self.expected, sign=-1.0) if self.holds.any() else None
        if self.fine is not None:
            self.engines["fine"] = self.fine

    def step(self, taken: Mapping[int, Taken], *, number: int, elapsed_s: float) -> None:
        counts = np.zeros((len(self.members), 2), dtype=np.int64)
        nulls = np.full(len(self.members), 0.5)
        for place, block in taken.items():
            member = self.members[place]
            spec, memory, name = member.spec, member.memory, histogram_of(member.spec.signal)
            told = [_drawn(arm, name) for arm in (block.candidate, block.stable)]
            least, bins = _BINS[name]
            shift = _allowed_shift(spec, memory)
            drawn = np.zeros((1, 2, bins), dtype=np.int64)
            for arm, histogram in enumerate(told):
                for index, count in histogram.items():
                    # Values of 0 stand below all others.
                    bin_ = 0 if index is None else (index >> _COARSER) - least
                    drawn[0, arm, min(max(bin_ - (shift if arm == 0 else 0), 0), bins - 1)] += count
            self.shapes[place].step(drawn, elapsed=elapsed_s)
            if spec.holds and (threshold := _threshold(spec, memory)) is not None:
                n = sum(told[0].values())
                counts[place] = n, above(told[0], threshold, lenient=False)
                nulls[place] = 1.0 - _q(spec)
            for arm, histogram in enumerate(told):
                memory.n[arm] += sum(histogram.values())
            for index, count in told[1].items():
                key = "" if index is None else str(index)
                memory.seen[key] = memory.seen.get(key, 0) + count
        if self.fine is not None:
            self.fine.step(counts, nulls, elapsed=elapsed_s)

    def evidence(self) -> list[Evidence]:
        fine = self.fine.log_evidence() if self.fine is not None else None
        return [
            Evidence(
                float(self.shapes[place].log_evidence()[0]),
                float(fine[place]) if fine is not None and member.spec.holds else None,
                member.memory,
            )
            for place, member in enumerate(self.members)
        ]

    def dump(self, place: int) -> bytes:
        return msgspec.msgpack.encode([super().dump(place), self.shapes[place].dump()])

    def load(self, place: int, body: bytes) -> None:
        rest, told = msgspec.msgpack.decode(body)
        super().load(place, rest)
        self.shapes[place].load(told)


def _drawn(arrivals: Sequence[Arrivals], name: str) -> dict[int | None, int]:
    counts: dict[int | None, int] = {}
    for each in arrivals:
        for index, count in (each.latency if name == "latency" else each.cost).items():
            counts[index] = counts.get(index, 0) + count
    return counts


def _q(spec: Spec) -> float:
    # A mean is held by its tail: most of what a task may cost lies there.
    return spec.signal.q or 0.9


def _stable_quantile(spec: Spec, memory: Memory) -> float | None:
    n = sum(memory.seen.values())
    if n < _LEAST_PAST:
        return None
    left = _q(spec) * n - memory.seen.get("", 0)
    for index in sorted(int(key) for key in memory.seen if key):
        left -= memory.seen[str(index)]
        if left <= 0:
            return bucket_bounds(index)[1]
    return None


def _threshold(spec: Spec, memory: Memory) -> float | None:
    """Return the value that at most 1 - q of the candidate's tasks may pass."""
    found = _stable_quantile(spec, memory)
    return None if found is None else found + spec.margin


def _allowed_shift(spec: Spec, memory: Memory) -> int:
    """Return by how many buckets the margin lets the candidate's values lie higher."""
    found = _stable_quantile(spec, memory) if spec.margin > 0 else None
    if not found:
        return 0
    return ceil(4 * log2(1 + spec.margin / found))


class CategoryPanel(Panel):
    """Failures by category, of kinds nobody listed beforehand; each guard has its own."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.found = [Categories(each.expected_s) for each in members]

    def step(self, taken: Mapping[int, Taken], *, number: int, elapsed_s: float) -> None:
        for place, block in taken.items():
            memory = self.members[place].memory
            tasks, failures = [], []
            for arm, arrivals in enumerate((block.candidate, block.stable)):
                failed: dict[str, int] = {}
                for each in arrivals:
                    for name, count in each.failures.items():
                        failed[name] = failed.get(name, 0) + count
                tasks.append(sum(each.measures.n for each in arrivals))
                failures.append(failed)
                memory.n[arm] += tasks[arm]
                memory.bad[arm] += sum(failed.values())
            self.found[place].step(*tasks, *failures, elapsed=elapsed_s)
            guilty = self.found[place].guiltiest()
            if guilty is not None:
                memory.told = guilty[0]
                memory.total = [float(guilty[1]), float(guilty[2])]

    def evidence(self) -> list[Evidence]:
        return [
            Evidence(each.log_evidence(), None, member.memory)
            for each, member in zip(self.found, self.members, strict=True)
        ]

    def dump(self, place: int) -> bytes:
        each = self.found[place]
        found = [
            [
                name,
                one.log_weight,
                one.seen_at,
                one.log_m.tobytes(),
                one.spent,
                one.candidate,
                one.baseline,
            ]
            for name, one in each.found.items()
        ]
        return msgspec.msgpack.encode([super().dump(place), each.tasks, each.open, found])

    def load(self, place: int, body: bytes) -> None:
        rest, tasks, opened, found = msgspec.msgpack.decode(body)
        super().load(place, rest)
        each = self.found[place]
        each.tasks, each.open = tasks, opened
        for name, log_weight, seen_at, log_m, spent, candidate, baseline in found:
            each.found[name] = Category(
                log_weight, seen_at, np.frombuffer(log_m).copy(), spent, candidate, baseline
            )


PANELS: Final[Mapping[Word, Callable[[Sequence[Member]], Panel]]] = {
    "exact": ExactPanel,
    "limit": LimitPanel,
    "exceedances": LimitPanel,
    "past": PastPanel,
    "bets": BetsPanel,
    "normal": NormalPanel,
    "shape": ShapePanel,
    "categories": CategoryPanel,
}


def _null_rate(spec: Spec) -> float:
    assert spec.limit is not None
    signal = spec.signal
    if signal.source == "quantile":
        rate = 1.0 - signal.q if signal.better == "lower" else signal.q
    else:
        rate = spec.limit if signal.better == "lower" else 1.0 - spec.limit
    return min(max(rate, 1e-6), 1 - 1e-6)


def _bad(spec: Spec, arrivals: Sequence[Arrivals], *, lenient: bool) -> tuple[int, int]:
    n = bad = 0
    for each in arrivals:
        more, worse = bad_counts(spec, each.measures, each.latency, lenient=lenient)
        n, bad = n + more, bad + worse
    return n, bad


def _by_stratum(memory: Memory, arrivals: Sequence[Arrivals]) -> dict[int, list[Arrivals]]:
    found: dict[int, list[Arrivals]] = {}
    for each in sorted(arrivals, key=lambda one: one.place):
        key = (each.place.scope.segment_id, each.place.input_condition)
        if key not in memory.strata and len(memory.strata) < STRATA:
            memory.strata.append(key)
        stratum = memory.strata.index(key) if key in memory.strata else STRATA - 1
        found.setdefault(stratum, []).append(each)
    return found


def _logit(rate: Floats) -> Floats:
    return np.asarray(np.log(rate) - np.log1p(-rate))
