"""What is folded: each ledger's key, what of it adds up, and the tables it is folded into. Pure.

A bucket is labelled by its first minute, whatever its length. Buckets of one minute are folded
from the ledger, longer ones from those of a minute.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from signals.buckets.keys import BUCKET_KEY, COUNTS, HISTOGRAMS, MAXIMA, SUBJECTS_MAX, SUMS

MINUTE_S: Final = 60
FIVE_MINUTES_S: Final = 300
HOUR_S: Final = 3600
# The folds that are made of minutes, shortest first.
COARSE_S: Final = (FIVE_MINUTES_S, HOUR_S)


@dataclass(frozen=True, slots=True)
class Fold:
    """A ledger and its folds.

    Attributes:
        ledger: the append-only table with a row per drain and key.
        tables: the fold's table by the length of its buckets in seconds; one of 60 always.
        parts: the columns that part `BUCKET_KEY` further.
        counts: whole numbers that add up.
        sums: double precision that adds up, equal in any order within rounding only.
        minima, maxima: what the least or greatest is kept of; null where there is none.
        histograms: names before `idx` and `cnt`, two arrays of buckets and their counts.
        sets: arrays of distinct numbers, of which the least hundred are kept.
        scales: for a sum whose parts may cancel, SQL of what its rounding is small beside.
    """

    ledger: str
    tables: Mapping[int, str]
    counts: tuple[str, ...]
    parts: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    minima: tuple[str, ...] = ()
    maxima: tuple[str, ...] = ()
    histograms: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    scales: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """What identifies a bucket."""
        return (*BUCKET_KEY, *self.parts)

    @property
    def plain(self) -> tuple[str, ...]:
        """The measures that are one number."""
        return (*self.counts, *self.sums, *self.minima, *self.maxima)

    @property
    def arrays(self) -> tuple[str, ...]:
        pairs = (f"{name}{part}" for name in self.histograms for part in ("idx", "cnt"))
        return (*pairs, *self.sets)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.key, *self.plain, *self.arrays)

    def coarsest(self, step_s: int) -> int:
        """Return the longest bucket, in seconds, that steps of `step_s` can be made of."""
        return max(length for length in self.tables if step_s % length == 0)


ARRIVALS: Final = Fold(
    ledger="arrival_ledger",
    tables=MappingProxyType(
        {MINUTE_S: "minute_bucket", FIVE_MINUTES_S: "five_minute_bucket", HOUR_S: "hour_bucket"}
    ),
    counts=COUNTS,
    sums=SUMS,
    maxima=MAXIMA,
    histograms=tuple(f"{name}_" for name in HISTOGRAMS),
)


def _side(name: str, **members: Any) -> Fold:
    # A side is charted by the hour or read by the minute; its rows are narrow.
    tables = {MINUTE_S: f"{name}_minute", HOUR_S: f"{name}_hour"}
    return Fold(f"{name}_ledger", MappingProxyType(tables), **members)


FAILURES: Final = _side("failure", parts=("category",), counts=("n",), sets=("subjects",))
ROUTES: Final = _side(
    "route",
    parts=("route",),
    counts=("n", "n_error", "fallback_n", "latency_n", "latency_zero", "cost_n"),
    sums=("latency_sum", "cost_sum", "cost_sq"),
    maxima=("latency_max",),
    histograms=("latency_",),
)
OWN_MEASURES: Final = _side(
    "measure",
    parts=("name",),
    counts=("n", "zero"),
    sums=("total", "squares"),
    minima=("least",),
    maxima=("largest",),
    histograms=("", "negative_"),
    # No sum is larger than this, by Cauchy and Schwarz.
    scales=MappingProxyType({"total": "sqrt({side}.n * {side}.squares)"}),
)
MIX: Final = _side("mix", parts=("attribute", "value"), counts=("n",))

EVALUATIONS: Final = _side(
    "evaluation",
    parts=("name",),
    counts=("n", "score_n", "passed_n", "passed"),
    sums=("score_sum", "score_sq"),
)
WORDS: Final = _side("word", parts=("kind", "word", "outcome", "before"), counts=("n",))

FOLDS: Final = (ARRIVALS, FAILURES, ROUTES, OWN_MEASURES, MIX, EVALUATIONS, WORDS)
SET_MAX: Final = SUBJECTS_MAX
