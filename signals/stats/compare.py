"""One release's signals against another's, with ranges and a word that claims no more. Pure."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from signals.buckets.measures import Measures
from signals.catalogue import Signal, signal_of
from signals.stats.cost_change import CostChange, Spent, cost_change
from signals.stats.estimate import Estimate, difference, estimate

Word = Literal["better", "worse", "none_clear", "too_few", "not_known"]
WORDS: Final[tuple[Word, ...]] = get_args(Word)

# What a comparison shows, in its order.
COMPARED: Final = (
    "cost_per_task_usd",
    "latency_p50_ms",
    "latency_p95_ms",
    "quality_pass_rate",
    "quality_score",
    "input_tokens_per_task",
    "output_tokens_per_task",
    "retry_rate",
    "error_rate",
    "retrieval_empty_rate",
    "retrieval_score",
    "fallback_rate",
)
# With fewer tasks on a side a range of a mean is too narrow to found a word on.
LEAST_N: Final = 30
# With more tasks of unknown cost than this part, the known ones may not stand for the others.
_COST_UNKNOWN_MAX: Final = 0.05


@dataclass(frozen=True, slots=True)
class Side:
    """What one release's tasks add up to: in mode normal, and moved to a fallback mode."""

    normal: Measures
    fallback: Measures

    @property
    def n(self) -> int:
        return self.normal.n + self.fallback.n

    def of(self, signal: Signal) -> Measures:
        """Return the tasks that the signal is about: see `signals.catalogue.Reach`."""
        match signal.reach:
            case "normal":
                return self.normal
            case "fallback":
                return self.fallback
            case _:
                return self.normal + self.fallback


@dataclass(frozen=True, slots=True)
class Compared:
    """A signal of both releases; `gap` is candidate - stable with its 95 % range.

    Values are in the signal's unit. `gap` is None where there is nothing to subtract, `low` and
    `high` where the data sets no bound. `note` says in a sentence what a number hides.
    """

    signal: Signal
    candidate: Estimate | None
    stable: Estimate | None
    gap: float | None
    low: float | None
    high: float | None
    word: Word
    note: str = ""


def compare(
    slug: str,
    candidate: Side,
    stable: Side,
    *,
    span_s: float = 3600.0,
    slow_ms: float | None = None,
) -> Compared:
    """Return a signal of the catalogue on both sides and what their difference says.

    One that is counted by the hour says nothing of two releases that served for unlike times.

    `better` and `worse` need both samples large enough and a range without zero; it is right at
    one look, so a page that is looked at all day is no test. A cost that is not known of every
    candidate's task is never better, and with many unknown there is no difference at all.
    """
    signal = signal_of(slug)
    left, right = candidate.of(signal), stable.of(signal)
    first = estimate(signal, left, span_s=1.0, slow_ms=slow_ms)
    second = estimate(signal, right, span_s=1.0, slow_ms=slow_ms)
    notes = _costs_unknown(signal, left, right)
    if first is None or second is None or _mostly_unknown(signal, left, right):
        return Compared(signal, first, second, None, None, None, "not_known", notes)
    gap = first.value - second.value
    span = difference(first, second)
    low, high = (None, None) if span is None else (span.low, span.high)
    word: Word
    if first.n < LEAST_N or second.n < LEAST_N:
        word = "too_few"
    elif low is None or high is None:
        word = "not_known"
    elif low <= 0 <= high:
        word = "none_clear"
    else:
        word = "better" if (gap > 0) == (signal.better == "higher") else "worse"
        if word == "better" and signal.unit == "usd" and left.cost_n < left.n:
            word = "not_known"
    return Compared(signal, first, second, gap, _bound(low), _bound(high), word, notes)


def compare_all(candidate: Side, stable: Side, *, slow_ms: float | None = None) -> list[Compared]:
    """Return every signal of `COMPARED` that either side reported."""
    rows = [compare(slug, candidate, stable, slow_ms=slow_ms) for slug in COMPARED]
    return [row for row in rows if row.candidate is not None or row.stable is not None or row.note]


@dataclass(frozen=True, slots=True)
class CostCompared:
    """The change in mean cost over all tasks, fallbacks included, in parts and with its range."""

    change: CostChange
    low: float | None
    high: float | None
    n: int
    stable_n: int


def compare_cost(candidate: Side, stable: Side) -> CostCompared | None:
    """Return why a task costs what it does now; None where its cost is not (nearly) known."""
    left, right = candidate.normal + candidate.fallback, stable.normal + stable.fallback
    signal = signal_of("cost_per_task_usd")
    first = estimate(signal, left, span_s=1.0)
    second = estimate(signal, right, span_s=1.0)
    if first is None or second is None or _mostly_unknown(signal, left, right):
        return None
    change = cost_change(
        Spent(candidate.normal, candidate.fallback), Spent(stable.normal, stable.fallback)
    )
    if change is None:
        return None
    span = difference(first, second)
    low, high = (None, None) if span is None else (_bound(span.low), _bound(span.high))
    return CostCompared(change, low, high, first.n, second.n)


def _costs_unknown(signal: Signal, left: Measures, right: Measures) -> str:
    if signal.unit != "usd":
        return ""
    return " ".join(
        f"Cost known for {arm.cost_n:,} of {arm.n:,} {name} tasks."
        for name, arm in (("candidate", left), ("stable", right))
        if arm.cost_n < arm.n
    )


def _mostly_unknown(signal: Signal, *sides: Measures) -> bool:
    return signal.unit == "usd" and any(
        side.n - side.cost_n > _COST_UNKNOWN_MAX * side.n for side in sides
    )


def _bound(value: float | None) -> float | None:
    return None if value is None or value in (float("inf"), float("-inf")) else value
