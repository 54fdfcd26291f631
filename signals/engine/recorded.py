"""Recorded rollouts, as files of blocks: read, and judged by the same panels as live guards.

The format is that of `benchmarks/detectors`: a line for each rollout, and a line for each record
of a signal, a minute of arrivals being one block. Every verdict uses only what had arrived.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
import numpy as np

from signals.engine.budget import guilty, rollout_log_evidence
from signals.engine.categories import Categories
from signals.engine.effects import Floats
from signals.engine.factors import Ints
from signals.engine.levels import LevelFilter
from signals.engine.limits import LimitMeans, beyond, bin_floor
from signals.engine.past import Past, past_of
from signals.engine.rates import (
    FIRST_SPREAD,
    MOST_FOLLOWED,
    ConcurrentRates,
    ExactRates,
    LimitRates,
)
from signals.engine.shapes import BINS_A_DOUBLING, TwoArmShapes
from signals.engine.subjects import USUAL_ICC, Subjects

_MINUTE_S: Final = 60.0
_DAY_MINUTES: Final = 1440
_HOURS_BACK: Final = 168
# Bins of the signal's unit from 2^-8 to 2^24, four to a doubling; what lies outside counts in the
# outermost.
FIRST_BIN: Final = -32
BINS: Final = 128
# Strata have their places in the order in which they are first seen; later ones share the last.
STRATA: Final = 3


class SignalMeta(msgspec.Struct):
    """A recorded signal: what it is and what it is held against."""

    name: str
    kind: Literal["rate", "quantile", "mean", "categories"]
    reference: Literal["concurrent", "history", "limit"]
    limit: float
    quantile: float = 0.95
    icc: float = USUAL_ICC
    worse: Literal["up"] = "up"


class ScenarioMeta(msgspec.Struct):
    """A recorded rollout."""

    scenario_id: str
    horizon: int
    alpha: float
    signals: list[SignalMeta]


class Histogram(msgspec.Struct):
    """OpenTelemetry's exponential histogram: bucket i holds (2^(i/2^scale), 2^((i+1)/2^scale)]."""

    scale: int
    counts: dict[str, int]


class Record(msgspec.Struct):
    """What arrived of one signal in one minute on one arm."""

    scenario_id: str
    signal: str
    minute: int
    arm: Literal["candidate", "baseline", "history"]
    n: int
    arrived: int | None = None
    span: int = 1
    bad: int = 0
    sum: float = 0.0
    sum_sq: float = 0.0
    values: list[float] | None = None
    hist: Histogram | None = None
    stratum: str | None = None
    subjects: list[tuple[str, int, int]] | None = None
    categories: dict[str, int] | None = None


class Verdict(msgspec.Struct):
    """What the engine says of a rollout, once."""

    scenario_id: str
    fired: bool
    fired_minute: int | None
    signals: list[str]
    evidence: float


@dataclass(slots=True)
class _Track:
    """One signal of one rollout, minute by minute."""

    meta: SignalMeta
    horizon: int
    counts: Ints
    hours: Ints
    past_bins: Floats
    bins: Ints | None = None
    strata: dict[str, Ints] = field(default_factory=dict)
    subjects: dict[int, list[tuple[int, list[tuple[str, int, int]]]]] = field(default_factory=dict)
    categories: dict[int, list[tuple[int, dict[str, int]]]] = field(default_factory=dict)

    @classmethod
    def empty(cls, meta: SignalMeta, horizon: int) -> "_Track":
        return cls(
            meta,
            horizon,
            counts=np.zeros((horizon, 4), dtype=np.int64),
            hours=np.zeros((_HOURS_BACK, 2), dtype=np.int64),
            past_bins=np.zeros(BINS),
        )

    @property
    def form(self) -> str:
        """Which panel it belongs in."""
        if self.meta.kind in {"quantile", "mean"}:
            return f"{self.meta.kind} {self.meta.reference}"
        if self.meta.kind == "categories" and self.meta.reference == "concurrent":
            return "categories"
        if self.meta.reference != "concurrent":
            return f"rate {self.meta.reference}"
        return "strata" if self.strata else "subjects" if self.subjects else "rate"

    def take(self, record: Record) -> None:
        if record.arm == "history":
            self._take_past(record)
            return
        at = record.minute if record.arrived is None else record.arrived
        if not 0 <= at < self.horizon:
            return
        arm = 0 if record.arm == "candidate" else 1
        told = (record.n, record.bad)
        self.counts[at, 2 * arm : 2 * arm + 2] += told
        if record.stratum is not None:
            held = self.strata.setdefault(record.stratum, np.zeros_like(self.counts))
            held[at, 2 * arm : 2 * arm + 2] += told
        if record.subjects:
            self.subjects.setdefault(at, []).append((arm, record.subjects))
        if record.categories:
            self.categories.setdefault(at, []).append((arm, record.categories))
        if record.values is not None or record.hist is not None:
            if self.bins is None:
                self.bins = np.zeros((self.horizon, 2, BINS), dtype=np.int64)
            _bins_add(self.bins[at, arm], record)

    def _take_past(self, record: Record) -> None:
        if record.hist is not None or record.values is not None:
            _bins_add(self.past_bins, record)
        hour = record.minute // 60 + _HOURS_BACK
        if record.span == 60 and 0 <= hour < _HOURS_BACK:
            self.hours[hour] += (record.n, record.bad)

    def past(self) -> Past | None:
        return past_of(self.hours)


def _bins_add(into: Any, record: Record) -> None:
    if record.values is not None:
        logs = np.log2(np.maximum(np.asarray(record.values), 2.0**-60)) * BINS_A_DOUBLING
        places = np.ceil(logs).astype(np.int64) - 1 - FIRST_BIN
        np.add.at(into, np.clip(places, 0, BINS - 1), 1)
        return
    assert record.hist is not None
    # Another scale's bucket lies where its upper bound does.
    finer = 2.0 ** (2 - record.hist.scale)
    for index, count in record.hist.counts.items():
        place = int(np.ceil((int(index) + 1) * finer)) - 1 - FIRST_BIN
        into[min(max(place, 0), BINS - 1)] += count


@dataclass(slots=True)
class Scenario:
    """A recorded rollout with all its records."""

    meta: ScenarioMeta
    tracks: dict[str, _Track]

    @classmethod
    def of(cls, meta: ScenarioMeta) -> "Scenario":
        return cls(meta, {each.name: _Track.empty(each, meta.horizon) for each in meta.signals})

    def take(self, record: Record) -> None:
        """Add a record.

        Raises:
            ValueError: it names a signal that the rollout has not, or counts what cannot be.
        """
        if record.n < 0 or record.bad < 0:
            raise ValueError("a record cannot count less than nothing")
        if record.bad > record.n:
            raise ValueError(f"a record cannot have {record.bad} bad of {record.n} tasks")
        track = self.tracks.get(record.signal)
        if track is None:
            raise ValueError(
                f"rollout {self.meta.scenario_id} has no signal {record.signal!r}; add it to its"
                " signals in scenarios.jsonl"
            )
        track.take(record)


def judged(scenarios: Sequence[Scenario]) -> Iterator[Verdict]:
    """Judge recorded rollouts side by side; a verdict each, in their order."""
    forms: dict[str, list[_Track]] = {}
    places: dict[tuple[int, str], tuple[str, int]] = {}
    for number, scenario in enumerate(scenarios):
        for name, track in scenario.tracks.items():
            held = forms.setdefault(track.form, [])
            places[number, name] = (track.form, len(held))
            held.append(track)
    series = {form: _series(form, tracks) for form, tracks in forms.items()}
    for number, scenario in enumerate(scenarios):
        rows = {}
        for name in scenario.tracks:
            form, row = places[number, name]
            rows[name] = series[form][row, : scenario.meta.horizon]
        yield _verdict(scenario.meta, rows)


def _verdict(meta: ScenarioMeta, rows: dict[str, Floats]) -> Verdict:
    most = np.logaddexp.reduce(np.stack(list(rows.values())), axis=0) - np.log(len(rows))
    over = np.flatnonzero(most >= np.log(1.0 / meta.alpha))
    at = int(over[0]) if len(over) else meta.horizon - 1
    log_e = {name: float(row[at]) for name, row in rows.items()}
    return Verdict(
        scenario_id=meta.scenario_id,
        fired=bool(len(over)),
        fired_minute=at if len(over) else None,
        signals=guilty(log_e, alpha=meta.alpha),
        evidence=float(np.exp(min(rollout_log_evidence(log_e), 300.0))),
    )


def _series(form: str, tracks: Sequence[_Track]) -> Floats:
    """Return log e of each track after each minute, [G, T]; a shorter one's stands still."""
    if form == "categories":
        return _category_series(tracks)
    has = _stacked([track.counts[:, 0] + track.counts[:, 2] > 0 for track in tracks])
    step, evidence = _PANELS[form](tracks)
    series = np.zeros(has.shape)
    for minute in range(has.shape[1]):
        rows = np.flatnonzero(has[:, minute])
        if len(rows):
            step(rows, minute, np.full(len(rows), minute * _MINUTE_S))
            series[:, minute] = evidence()
        elif minute:
            series[:, minute] = series[:, minute - 1]
    return series


_Panel = tuple[Callable[[Any, int, Floats], object], Callable[[], Floats]]


def _expected_s(tracks: Sequence[_Track]) -> Floats:
    return np.array([track.horizon * _MINUTE_S for track in tracks])


def _stacked(arrays: Iterable[Any]) -> Any:
    """Stack arrays of different lengths of time, the shorter ones filled up with nothing."""
    held = list(arrays)
    longest = max(len(each) for each in held)
    result = np.zeros((len(held), longest, *held[0].shape[1:]), dtype=held[0].dtype)
    for row, each in enumerate(held):
        result[row, : len(each)] = each
    return result


def _usual(pasts: Sequence[Past | None], minute: int) -> Floats:
    at = minute % _DAY_MINUTES
    return np.array([0.0 if past is None else past.at(at) for past in pasts])


def _rate_panel(tracks: Sequence[_Track]) -> _Panel:
    counts = _stacked(track.counts for track in tracks)
    pasts = [track.past() for track in tracks]
    followed = [past is not None and past.bad_a_minute <= MOST_FOLLOWED for past in pasts]
    panel = ConcurrentRates(_expected_s(tracks), followed=np.array(followed))
    return (
        lambda rows, minute, at: panel.step(
            rows, counts[rows, minute], _usual(pasts, minute)[rows], elapsed_s=at
        ),
        panel.log_evidence,
    )


def _strata_panel(tracks: Sequence[_Track]) -> _Panel:
    held = []
    for track in tracks:
        parts = np.zeros((track.horizon, STRATA, 4), dtype=np.int64)
        for place, counts in enumerate(track.strata.values()):
            parts[:, min(place, STRATA - 1)] += counts
        held.append(parts)
    parts = _stacked(held)
    panel = ExactRates(_expected_s(tracks), strata=STRATA)
    return (
        lambda rows, minute, at: panel.step(rows, parts[rows, minute], elapsed_s=at),
        panel.log_evidence,
    )


def _subject_panel(tracks: Sequence[_Track]) -> _Panel:
    held = []
    for track in tracks:
        weigh = Subjects(track.meta.icc)
        weighted = np.zeros((track.horizon, 4))
        for minute in sorted(track.subjects):
            for arm, told in track.subjects[minute]:
                weighted[minute, 2 * arm : 2 * arm + 2] += weigh.weighted(arm, told)
        held.append(weighted)
    counts = _stacked(held)
    pasts = [track.past() for track in tracks]
    panel = LevelFilter(_expected_s(tracks), spread=np.full(len(tracks), FIRST_SPREAD))
    return (
        lambda rows, minute, at: panel.step(
            rows, counts[rows, minute], _usual(pasts, minute)[rows], elapsed_s=at
        ),
        panel.log_evidence,
    )


def _history_panel(tracks: Sequence[_Track]) -> _Panel:
    counts = _stacked(track.counts for track in tracks).astype(float)
    pasts = [track.past() for track in tracks]
    known = np.array([past is not None for past in pasts])
    spread = np.array([1.0 if past is None else past.spread for past in pasts])
    panel = LevelFilter(_expected_s(tracks), spread=spread, steady=True)

    def step(rows: Any, minute: int, at: Floats) -> None:
        if minute and minute % _DAY_MINUTES == 0:
            panel.new_day(np.arange(len(tracks)))
        # What has no past is held against nothing.
        some = known[rows]
        if some.any():
            these = rows[some]
            panel.step(
                these, counts[these, minute], _usual(pasts, minute)[these], elapsed_s=at[some]
            )

    return step, panel.log_evidence


def _limit_panel(tracks: Sequence[_Track]) -> _Panel:
    counts = _stacked(track.counts for track in tracks)
    limit = np.array([track.meta.limit for track in tracks])
    panel = LimitRates(_expected_s(tracks), limit=limit)
    return (
        lambda rows, minute, at: panel.step(rows, counts[rows, minute, :2], elapsed_s=at),
        panel.log_evidence,
    )


def _shape_bins(tracks: Sequence[_Track]) -> Any:
    empty = [np.zeros((track.horizon, 2, BINS), dtype=np.int64) for track in tracks]
    return _stacked(
        nothing if track.bins is None else track.bins
        for track, nothing in zip(tracks, empty, strict=True)
    )


def _shape_panel(tracks: Sequence[_Track]) -> _Panel:
    bins = _shape_bins(tracks)
    panel = TwoArmShapes(_expected_s(tracks), past=np.stack([t.past_bins for t in tracks]))
    return (
        lambda rows, minute, at: panel.step(rows, bins[rows, minute], elapsed_s=at),
        panel.log_evidence,
    )


def _limit_mean_panel(tracks: Sequence[_Track]) -> _Panel:
    bins = _shape_bins(tracks)[:, :, 0]
    floor = np.broadcast_to(bin_floor(BINS, FIRST_BIN), (len(tracks), BINS))
    limit = np.array([_mean_limit(track) for track in tracks])
    panel = LimitMeans(_expected_s(tracks), limit=limit, floor=floor)
    return (
        lambda rows, minute, at: panel.step(rows, bins[rows, minute], elapsed_s=at),
        panel.log_evidence,
    )


def _limit_quantile_panel(tracks: Sequence[_Track]) -> _Panel:
    bins = _shape_bins(tracks)[:, :, 0]
    floor = bin_floor(BINS, FIRST_BIN)
    limit = np.array([_quantile_limit(track) for track in tracks])
    above = np.array([1.0 - track.meta.quantile for track in tracks])
    panel = LimitRates(_expected_s(tracks), limit=above)
    return (
        lambda rows, minute, at: panel.step(
            rows, beyond(bins[rows, minute], floor=floor, limit=limit[rows]), elapsed_s=at
        ),
        panel.log_evidence,
    )


def _mean_limit(track: _Track) -> float:
    """Return the limit; against the past, the most that its own histogram allows its mean."""
    if track.meta.reference == "limit" or track.past_bins.sum() == 0:
        return track.meta.limit
    top = bin_floor(BINS, FIRST_BIN + 1)
    return float((track.past_bins * top).sum() / track.past_bins.sum())


def _quantile_limit(track: _Track) -> float:
    """Return the limit; against the past, the upper bound of the bin that held its quantile."""
    if track.meta.reference == "limit" or track.past_bins.sum() == 0:
        return track.meta.limit
    cumulated = np.cumsum(track.past_bins) / track.past_bins.sum()
    place = int(np.searchsorted(cumulated, track.meta.quantile))
    return float(bin_floor(BINS, FIRST_BIN + 1)[min(place, BINS - 1)])


def _category_series(tracks: Sequence[_Track]) -> Floats:
    series = np.zeros((len(tracks), max(track.horizon for track in tracks)))
    for row, track in enumerate(tracks):
        panel, last = Categories(track.horizon * _MINUTE_S), 0.0
        for minute in range(track.horizon):
            n_c, _, n_b, _ = track.counts[minute].tolist()
            if n_c or n_b:
                arms: tuple[dict[str, int], dict[str, int]] = ({}, {})
                for arm, told in track.categories.get(minute, []):
                    arms[arm].update(told)
                panel.step(n_c, n_b, *arms, elapsed_s=minute * _MINUTE_S)
                if arms[0] or arms[1]:
                    last = panel.log_evidence()
            series[row, minute] = last
        series[row, track.horizon :] = last
    return series


_PANELS: Final[dict[str, Callable[[Sequence[_Track]], _Panel]]] = {
    "rate": _rate_panel,
    "strata": _strata_panel,
    "subjects": _subject_panel,
    "rate history": _history_panel,
    "rate limit": _limit_panel,
    "categories history": _history_panel,
    "rate concurrent": _rate_panel,
    "mean concurrent": _shape_panel,
    "quantile concurrent": _shape_panel,
    "mean limit": _limit_mean_panel,
    "mean history": _limit_mean_panel,
    "quantile limit": _limit_quantile_panel,
    "quantile history": _limit_quantile_panel,
}
