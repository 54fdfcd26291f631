"""A panel for each method: blocks of arrivals in, e-values out. Pure: no Django, no clock."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil, log, log2
from typing import Final

import msgspec
import numpy as np

from signals.buckets.arrivals import Arrivals
from signals.buckets.keys import BLOCK_S
from signals.buckets.measures import bucket_bounds
from signals.engine.categories import Categories, Category
from signals.engine.effects import Floats
from signals.engine.gaps import (
    HOURLY_STAKES,
    Bets,
    MeanGaps,
    histogram_over_factors,
    histogram_under_factors,
    over_factors,
    under_factors,
)
from signals.engine.levels import LevelFilter
from signals.engine.mixture import Rows
from signals.engine.rates import (
    EXACT_WEIGHT,
    FIRST_SPREAD,
    MOST_FOLLOWED,
    ExactRates,
    LimitRates,
)
from signals.engine.shapes import BINS_A_DOUBLING, TwoArmShapes
from signals.guards.methods import (
    Spec,
    Word,
    above,
    bad_counts,
    histogram_of,
    moments,
    summed,
    tail_of,
)
from signals.guards.panel import DAY_S, Member, Memory, Panel, Taken

# Parts of the traffic (segment, input condition) that are compared apart; what is seen later
# shares the last.
STRATA: Final = 8
# How many bins of scale 2 there are, from which on: 1 ms to 18 h, and 1e-7 to 2,000 dollars.
_BINS: Final = {"latency": (0, 104), "cost": (-92, 136)}
# The ledger's histograms are of scale 5.
_COARSER: Final = 3
# Of so many of the stable release's tasks a quantile is taken.
_LEAST_PAST: Final = 30
_HOUR_S: Final = 3600.0
# So many day-to-day deviations above the usual level a rate is still what the past allows.
_DAYS_WIDE: Final = 2.0


class ExactPanel(Panel):
    """Rates of two arms in the same blocks, by segment and input condition."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.margin = np.array([each.spec.margin for each in members])
        self.engines["worse"] = ExactRates(self.expected_s, strata=STRATA)
        if self.holds:
            self.engines["fine"] = ExactRates(self.expected_s, strata=STRATA, sign=-1.0)
        self.effects = {name: each.log_odds.copy() for name, each in self.engines.items()}
        # Where the past says what is usual, the level that both arms share is followed as well,
        # in the part of the traffic that was seen first: there nothing but it can differ.
        self.followed = np.array(
            [
                each.past is not None
                and each.past.bad_a_minute <= MOST_FOLLOWED
                and each.spec.margin == 0
                # A criterion widens exposure: by the exact test alone (ADR 16).
                and not each.spec.holds
                for each in members
            ]
        )
        if self.followed.any():
            spread = np.full(len(self.members), FIRST_SPREAD)
            self.engines["level"] = LevelFilter(self.expected_s, spread=spread)

    def _step(self, rows: Rows, told: Sequence[tuple[Member, Taken]], at: Floats) -> None:
        self._allow(rows, [member.memory for member, _ in told])
        counts = np.zeros((len(rows), STRATA, 4), dtype=np.int64)
        for row, (member, taken) in enumerate(told):
            for arm, arrivals in enumerate(taken.arms):
                for stratum, some in _by_stratum(member.memory, arrivals).items():
                    n, bad = _bad(member.spec, some, lenient=True)
                    counts[row, stratum, 2 * arm : 2 * arm + 2] += (n, bad)
                    member.memory.n[arm] += n
                    member.memory.bad[arm] += bad
        for name in ("worse", "fine"):
            if name in self.engines:
                self.engines[name].step(rows, counts, elapsed_s=at)
        first = counts[:, 0]
        these = self.followed[rows] & (first[:, 0] + first[:, 2] > 0)
        if these.any():
            self.engines["level"].step(
                rows[these],
                first[these].astype(float),
                self._usual(told)[these],
                elapsed_s=at[these],
            )

    def log_worse(self) -> Floats:
        exact = super().log_worse()
        if "level" not in self.engines:
            return exact
        level = self.engines["level"].log_evidence()
        both = np.logaddexp(exact + log(EXACT_WEIGHT), level + log(1 - EXACT_WEIGHT))
        return np.where(self.followed, both, exact)

    def _allow(self, rows: Rows, memories: Sequence[Memory]) -> None:
        """Let the odds that the margin allows follow what closed blocks say of stable's rate."""
        margin = self.margin[rows]
        if not margin.any():
            return
        held = self.engines["worse"].open[rows, :, 2:].sum(axis=1)
        known = np.array([[each.n[1], each.bad[1]] for each in memories]) - held
        rate = np.clip((known[:, 1] + 0.5) / (known[:, 0] + 1.0), 1e-6, 1 - 1e-6)
        allowed = np.clip(rate + margin, 1e-6, 1 - 1e-6)
        log_null = np.where(margin > 0, _log_odds(allowed) - _log_odds(rate), 0.0)
        for name, effects in self.effects.items():
            self.engines[name].log_null[rows] = log_null
            self.engines[name].log_odds[rows] = log_null[:, None] + effects[rows]


class LimitPanel(Panel):
    """Rates, and exceedances of a limit, against what is agreed."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        agreed = np.array([_agreed_rate(each.spec) for each in members])
        self.engines["worse"] = LimitRates(self.expected_s, limit=agreed)
        if self.holds:
            self.engines["fine"] = LimitRates(self.expected_s, limit=agreed, sign=-1.0)

    def _step(self, rows: Rows, told: Sequence[tuple[Member, Taken]], at: Floats) -> None:
        for name, engine in self.engines.items():
            lenient = name == "worse"
            counts = np.array([_bad(m.spec, t.candidate, lenient=lenient) for m, t in told])
            engine.step(rows, counts, elapsed_s=at)
            if lenient:
                for (member, _), (n, bad) in zip(told, counts.tolist(), strict=True):
                    member.memory.n[0] += n
                    member.memory.bad[0] += bad


class PastPanel(Panel):
    """Against the path's own past, where no stable release runs beside the candidate.

    A day has a level of its own, which the candidate's tasks share, so that it does not average
    out: it is followed, within what days differ by. What is held is held against the highest
    level that is still plausible.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        spread = np.array([1.0 if m.past is None else m.past.spread for m in members])
        self.engines["worse"] = LevelFilter(self.expected_s, spread=spread, steady=True)
        if self.holds:
            plausible = np.full(len(members), 0.5)
            self.engines["fine"] = LimitRates(self.expected_s, limit=plausible, sign=-1.0)

    def _step(self, rows: Rows, told: Sequence[tuple[Member, Taken]], at: Floats) -> None:
        today = int(self.end_s // DAY_S)
        other = [row for row, (m, _) in zip(rows, told, strict=True) if m.memory.day != today]
        if other:
            self.engines["worse"].new_day(np.array(other))
        counts = np.zeros((len(rows), 4))
        for row, (member, taken) in enumerate(told):
            n, bad = _bad(member.spec, taken.candidate, lenient=True)
            counts[row, :2] = n, bad
            member.memory.day = today
            member.memory.n[0] += n
            member.memory.bad[0] += bad
        some = counts[:, 0] > 0
        if not some.any():
            return
        usual = self._usual(told)[some]
        self.engines["worse"].step(rows[some], counts[some], usual, elapsed_s=at[some])
        if self.holds:
            fine = self.engines["fine"]
            wide = np.array([m.past.spread if m.past else 0.0 for m, _ in told])[some]
            fine.limit[rows[some]] = 1 / (1 + np.exp(-usual - _DAYS_WIDE * wide))
            fine.step(rows[some], counts[some, :2].astype(np.int64), elapsed_s=at[some])


class BetsPanel(Panel):
    """Means of values that are at least 0 against what is agreed."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.engines["worse"] = Bets(self.expected_s)
        if self.holds:
            self.engines["fine"] = Bets(self.expected_s)

    def _step(self, rows: Rows, told: Sequence[tuple[Member, Taken]], at: Floats) -> None:
        some, worse, fine = [], [], []
        for row, (member, taken) in enumerate(told):
            n, total, squares = moments(member.spec, summed(a.measures for a in taken.candidate))
            if n == 0:
                continue
            member.memory.n[0] += n
            member.memory.total[0] += total
            bets = _bets(member.spec, taken.candidate, n, total, squares)
            some.append(row)
            worse.append(bets[0])
            fine.append(bets[1])
        if not some:
            return
        self.engines["worse"].step(rows[some], np.stack(worse), elapsed_s=at[some])
        if self.holds:
            self.engines["fine"].step(rows[some], np.stack(fine), elapsed_s=at[some])


class HourlyPanel(Panel):
    """What comes in an hour against what is agreed: each block of 5 seconds is one value.

    However unevenly it comes, the capital that bets on "more than agreed" has a mean of at most 1
    while no block is expected to bring more, given those before it.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.engines["worse"] = Bets(self.expected_s, stakes=HOURLY_STAKES)

    def _step(self, rows: Rows, told: Sequence[tuple[Member, Taken]], at: Floats) -> None:
        factors = []
        for (member, taken), until_s in zip(told, at, strict=True):
            n, total, _ = moments(member.spec, summed(a.measures for a in taken.candidate))
            assert member.spec.limit is not None
            usual = member.spec.limit * BLOCK_S / _HOUR_S
            empty = max(0.0, (until_s - member.memory.until_s) / BLOCK_S - 1)
            factors.append(
                np.log1p(HOURLY_STAKES * (total / usual - 1)) + empty * np.log1p(-HOURLY_STAKES)
            )
            member.memory.until_s = float(until_s)
            member.memory.n[0] += n
            member.memory.total[0] += total
        self.engines["worse"].step(rows, np.stack(factors), elapsed_s=at)


class GapPanel(Panel):
    """Means of two arms in the same blocks, of sums alone."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        margin = np.array([each.spec.margin for each in members])
        self.engines["worse"] = MeanGaps(self.expected_s, margin=margin)
        if self.holds:
            self.engines["fine"] = MeanGaps(self.expected_s, margin=margin, sign=-1.0)

    def _step(self, rows: Rows, told: Sequence[tuple[Member, Taken]], at: Floats) -> None:
        counts = np.zeros((len(rows), 2, 3))
        for row, (member, taken) in enumerate(told):
            worse = 1.0 if member.spec.signal.better == "lower" else -1.0
            for arm, arrivals in enumerate(taken.arms):
                if not arrivals:
                    continue
                n, total, squares = moments(member.spec, summed(a.measures for a in arrivals))
                counts[row, arm] = n, worse * total, squares
                member.memory.n[arm] += n
                member.memory.total[arm] += total
        for engine in self.engines.values():
            engine.step(rows, counts, elapsed_s=at)


class _Shapes(TwoArmShapes):
    """Remembers what each prediction was made of, in place of the prediction."""

    def __init__(self, expected_s: Floats, *, past: Floats) -> None:
        super().__init__(expected_s, past=past)
        self.then: Floats = np.zeros(past.shape)

    def _predict(self, rows: Rows) -> None:
        self.then[rows] = self.lately[rows]
        super()._predict(rows)

    def predict_again(self) -> None:
        rows = np.flatnonzero(np.isfinite(self.predicted_at))
        lately, self.lately = self.lately, self.then.copy()
        super()._predict(rows)
        self.lately = lately


class ShapePanel(Panel):
    """Whole distributions of two arms; for criteria, exceedances of what stable's past allows."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.histogram = histogram_of(members[0].spec.signal)
        _, bins = _BINS[self.histogram]
        past = np.zeros((len(members), bins))
        for row, member in enumerate(members):
            for index, count in member.bins:
                past[row, _bin(self.histogram, None if index == _ZERO else index)] += count
        self.engines["worse"] = _Shapes(self.expected_s, past=past)
        if self.holds:
            allowed = np.array([1.0 - tail_of(each.spec.signal) for each in members])
            self.engines["fine"] = LimitRates(self.expected_s, limit=allowed, sign=-1.0)

    def load(self, bodies: Mapping[int, bytes]) -> None:
        super().load(bodies)
        self.engines["worse"].predict_again()

    def _step(self, rows: Rows, told: Sequence[tuple[Member, Taken]], at: Floats) -> None:
        _, bins = _BINS[self.histogram]
        drawn = np.zeros((len(rows), 2, bins), dtype=np.int64)
        beyond = np.zeros((len(rows), 2), dtype=np.int64)
        for row, (member, taken) in enumerate(told):
            memory = member.memory
            found = [_drawn(arm, self.histogram) for arm in taken.arms]
            usual = _stable_quantile(member.spec, memory)
            shift = _allowed_shift(member.spec, usual)
            for arm, histogram in enumerate(found):
                for index, count in histogram.items():
                    place = _bin(self.histogram, index) - (shift if arm == 0 else 0)
                    drawn[row, arm, max(place, 0)] += count
                memory.n[arm] += sum(histogram.values())
            if usual is not None:
                beyond[row] = (
                    sum(found[0].values()),
                    above(found[0], usual + member.spec.margin, lenient=False),
                )
            for index, count in found[1].items():
                key = _ZERO if index is None else index
                memory.seen[key] = memory.seen.get(key, 0) + count
        self.engines["worse"].step(rows, drawn, elapsed_s=at)
        some = beyond[:, 0] > 0
        if self.holds and some.any():
            self.engines["fine"].step(rows[some], beyond[some], elapsed_s=at[some])


class CategoryPanel(Panel):
    """Failures by category, of kinds nobody listed beforehand."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(members)
        self.found = [Categories(each.expected_s) for each in members]

    def _step(self, rows: Rows, told: Sequence[tuple[Member, Taken]], at: Floats) -> None:
        for place, (member, taken), elapsed_s in zip(rows, told, at, strict=True):
            memory, tasks, failures = member.memory, [], []
            for arm, arrivals in enumerate(taken.arms):
                failed: dict[str, int] = {}
                for each in arrivals:
                    for name, count in each.failures.items():
                        failed[name] = failed.get(name, 0) + count
                tasks.append(sum(each.measures.n for each in arrivals))
                failures.append(failed)
                memory.n[arm] += tasks[arm]
                memory.bad[arm] += sum(failed.values())
            self.found[place].step(
                tasks[0], tasks[1], failures[0], failures[1], elapsed_s=float(elapsed_s)
            )
            if (loudest := self.found[place].guiltiest()) is not None:
                memory.told = loudest[0]
                memory.total = [float(count) for count in loudest[1].failures]

    def log_worse(self) -> Floats:
        return np.array([each.log_evidence() for each in self.found])

    def dump(self, place: int) -> bytes:
        each = self.found[place]
        found = [
            [
                *(name, one.weight, one.calm.tobytes(), one.worse.tobytes()),
                *(one.spent, one.minute, one.tasks, one.failures),
            ]
            for name, one in each.found.items()
        ]
        return msgspec.msgpack.encode([super().dump(place), each.tasks, each.places, found])

    def load(self, bodies: Mapping[int, bytes]) -> None:
        for place, body in bodies.items():
            rest, tasks, places, found = msgspec.msgpack.decode(body)
            super().load({place: rest})
            each = self.found[place]
            each.tasks, each.places = tuple(tasks), places
            for name, weight, calm, worse, spent, minute, seen, failures in found:
                each.found[name] = Category(
                    weight,
                    np.frombuffer(calm).copy(),
                    np.frombuffer(worse).reshape(-1, len(calm) // 8).copy(),
                    spent,
                    minute,
                    tuple(seen),
                    tuple(failures),
                )


PANELS: Final[Mapping[Word, Callable[[Sequence[Member]], Panel]]] = {
    "exact": ExactPanel,
    "limit": LimitPanel,
    "exceedances": LimitPanel,
    "past": PastPanel,
    "bets": BetsPanel,
    "hourly": HourlyPanel,
    "normal": GapPanel,
    "shape": ShapePanel,
    "categories": CategoryPanel,
}
_ZERO: Final = -(10**6)


def _agreed_rate(spec: Spec) -> float:
    """Return the part of tasks that may be bad."""
    assert spec.limit is not None
    signal = spec.signal
    if signal.source == "quantile":
        rate = 1.0 - signal.q if signal.better == "lower" else signal.q
    else:
        rate = spec.limit if signal.better == "lower" else 1.0 - spec.limit
    return min(max(rate, 1e-6), 1 - 1e-6)


def _bad(spec: Spec, arrivals: Iterable[Arrivals], *, lenient: bool) -> tuple[int, int]:
    n = bad = 0
    for each in arrivals:
        more, worse = bad_counts(spec, each, lenient=lenient)
        n, bad = n + more, bad + worse
    return n, bad


def _by_stratum(memory: Memory, arrivals: Sequence[Arrivals]) -> dict[int, list[Arrivals]]:
    found: dict[int, list[Arrivals]] = {}
    for each in arrivals:
        key = (each.place.scope.segment_id, each.place.input_condition)
        if key not in memory.strata and len(memory.strata) < STRATA:
            memory.strata.append(key)
        stratum = memory.strata.index(key) if key in memory.strata else STRATA - 1
        found.setdefault(stratum, []).append(each)
    return found


def _bets(
    spec: Spec, arrivals: Sequence[Arrivals], n: int, total: float, squares: float
) -> tuple[Floats, Floats]:
    """Return a block's log factors of the bets on "beyond the limit" and on "inside it"."""
    assert spec.limit is not None
    limit = spec.limit
    if histogram_of(spec.signal):
        counts = _drawn(arrivals, histogram_of(spec.signal))
        if sum(counts.values()) == n:
            edges = [(0.0, 0.0) if each is None else bucket_bounds(each) for each in counts]
            low, high = (np.array([side]) / limit for side in zip(*edges, strict=True))
            weight = np.array([list(counts.values())], dtype=float)
            over = histogram_over_factors(weight, low)
            return over[0], histogram_under_factors(weight, high)[0]
    if spec.signal.better == "higher":
        # A score in 0-1 falls short of the best by so much.
        total, squares, limit = n - total, n - 2 * total + squares, max(1.0 - limit, 1e-6)
    values = np.array([float(n)]), np.array([total / limit]), np.array([squares / limit**2])
    return over_factors(*values)[0], under_factors(*values)[0]


def _drawn(arrivals: Iterable[Arrivals], name: str) -> dict[int | None, int]:
    counts: dict[int | None, int] = {}
    for each in arrivals:
        for index, count in (each.latency if name == "latency" else each.cost).items():
            counts[index] = counts.get(index, 0) + count
    return counts


def _bin(histogram: str, index: int | None) -> int:
    """Return the bin of scale 2 that a bucket lies in; values of 0 stand below all others."""
    least, bins = _BINS[histogram]
    return 0 if index is None else min(max((index >> _COARSER) - least, 0), bins - 1)


def _stable_quantile(spec: Spec, memory: Memory) -> float | None:
    """Return what the stable release's quantile was at most, None while little is known."""
    if not spec.holds and spec.margin <= 0:
        return None
    n = sum(memory.seen.values())
    if n < _LEAST_PAST:
        return None
    left = tail_of(spec.signal) * n
    for index in sorted(memory.seen):
        left -= memory.seen[index]
        if left <= 0:
            return 0.0 if index == _ZERO else bucket_bounds(index)[1]
    return None


def _allowed_shift(spec: Spec, usual: float | None) -> int:
    """Return by how many bins the margin lets the candidate's values lie higher."""
    if spec.margin <= 0 or not usual:
        return 0
    return ceil(BINS_A_DOUBLING * log2(1 + spec.margin / usual))


def _log_odds(rate: Floats) -> Floats:
    return np.asarray(np.log(rate) - np.log1p(-rate))
