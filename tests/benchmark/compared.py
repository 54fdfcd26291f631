"""Two sides of recorded data through the engine, and what it says of them in words.

What `manage.py judge` does with files is done here with tasks in memory: blocks of a minute, the
same panels, the same limit of evidence. Estimates and their ranges are those of the console.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isinf
from statistics import median
from typing import Final, Literal

from signals.engine.budget import ALPHA
from signals.engine.recorded import Record, Scenario, ScenarioMeta, SignalMeta, Verdict, judged
from signals.stats.compare import LEAST_N
from signals.stats.estimate import Estimate, difference
from signals.stats.intervals import ordered_quantile, rate_interval

# The panels see ratios only: a value at the other side's median lies in the middle of their bins.
_MIDDLE: Final = 256.0
_WEEK_MIN: Final = 10_080

Arm = Literal["candidate", "baseline", "history"]


@dataclass(frozen=True, slots=True)
class Task:
    """One outcome: of a rate 1 where it is bad, else what was measured; `minute` is its block."""

    minute: int
    value: float
    stratum: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A signal of a candidate against another side: beside it, before it, or a limit.

    `signal` reads on from "share of" for rates and stands alone for quantiles. `limit` is a share,
    used where `reference` is limit. `scale` and `unit` say how a value is shown.
    """

    signal: str
    candidate: str
    other: str
    kind: Literal["rate", "quantile"]
    reference: Literal["concurrent", "history", "limit"]
    tasks: Sequence[Task]
    others: Sequence[Task] = ()
    limit: float = 0.0
    quantile: float = 0.5
    unit: str = "%"
    scale: float = 100.0


@dataclass(frozen=True, slots=True)
class Judged:
    """What the engine says; `better` is None where the other direction is no question to it."""

    of: Comparison
    worse: Verdict
    better: Verdict | None
    first: Estimate
    second: Estimate | None
    low: float | None
    high: float | None

    @property
    def gap(self) -> float:
        return self.first.value - (self.of.limit if self.second is None else self.second.value)


@dataclass(frozen=True, slots=True)
class Section:
    """One data set: what is compared, the comparisons, and what they cannot tell."""

    title: str
    what: str
    comparisons: Sequence[Comparison]
    cannot: Sequence[str]
    more: Sequence[str] = field(default_factory=tuple)


def in_order(values: Iterable[float]) -> list[Task]:
    """Return values with their number as block: only their order counts."""
    return [Task(number, value) for number, value in enumerate(values)]


def together(name: str, comparisons: Sequence[Comparison], *, turned: bool = False) -> Scenario:
    """Return comparisons as the signals of one recorded rollout; `turned` asks for the better."""
    signals = [
        SignalMeta(
            name=each.signal,
            kind=each.kind,
            reference=each.reference,
            limit=1.0 - each.limit if turned else each.limit,
            quantile=each.quantile,
        )
        for each in comparisons
    ]
    horizon = 1 + max(task.minute for each in comparisons for task in (*each.tasks, *each.others))
    scenario = Scenario.of(
        ScenarioMeta(scenario_id=name, horizon=horizon, alpha=ALPHA, signals=signals)
    )
    for each in comparisons:
        for record in _records(name, each, turned=turned):
            scenario.take(record)
    return scenario


def _records(rollout: str, of: Comparison, *, turned: bool) -> list[Record]:
    middle = _MIDDLE / (median(task.value for task in of.others or of.tasks) or 1.0)
    arms: list[tuple[Arm, Sequence[Task]]] = [("candidate", of.tasks)]
    if of.reference == "concurrent":
        arms.append(("baseline", of.others))
    if turned and of.kind == "quantile":
        arms = [("baseline", of.tasks), ("candidate", of.others)]
    blocks: dict[tuple[int, Arm, str], list[float]] = defaultdict(list)
    for name, tasks in arms:
        for task in tasks:
            blocks[task.minute, name, task.stratum or ""].append(task.value)
    if of.reference == "history":
        blocks[-_WEEK_MIN, "history", ""] = [task.value for task in of.others]
    records = []
    for (minute, arm, stratum), values in sorted(blocks.items()):
        record = Record(rollout, of.signal, minute, arm, len(values), stratum=stratum or None)
        if of.kind == "rate":
            bad = round(sum(values))
            record.bad = len(values) - bad if turned else bad
        else:
            record.values = [value * middle for value in values]
            record.span = _WEEK_MIN if arm == "history" else 1
        records.append(record)
    return records


def judge_all(comparisons: Sequence[Comparison]) -> list[Judged]:
    """Return a verdict on each comparison by itself, with estimates at its end."""
    result = []
    for each in comparisons:
        (worse,) = judged([together("worse", [each])])
        better = None
        if each.reference != "history":
            (better,) = judged([together("better", [each], turned=True)])
        first = _estimate(each, each.tasks)
        second = _estimate(each, each.others) if each.others else None
        span = None if second is None else difference(first, second)
        low, high = (None, None) if span is None else (span.low, span.high)
        if second is None and first.low is not None and first.high is not None:
            low, high = first.low - each.limit, first.high - each.limit
        result.append(Judged(each, worse, better, first, second, low, high))
    return result


def _estimate(of: Comparison, tasks: Sequence[Task]) -> Estimate:
    n = len(tasks)
    if of.kind == "rate":
        bad = sum(task.value for task in tasks)
        interval, value = rate_interval(bad, n), bad / n
    else:
        values = sorted(task.value for task in tasks)
        found = ordered_quantile([(v, v, 1) for v in values], values[0], values[-1], of.quantile)
        assert found is not None
        value, interval = found
    assert interval is not None
    low, high = _finite(interval.low, interval.high)
    return Estimate(value, low, high, n)


def verdict(found: Judged) -> str:
    """Return the verdict in one sentence, which never claims more than the evidence bears."""
    of, word = found.of, "worse" if found.worse.fired else "better"
    told = found.worse if found.worse.fired else found.better
    if told is not None and told.fired:
        assert told.fired_minute is not None
        seen = sum(task.minute <= told.fired_minute for task in of.tasks)
        return (
            f"**{word.capitalize()}**: where nothing differs, chance says so in at most 1 of"
            f" {1 / ALPHA:.0f} comparisons, however often one looks; enough after {seen:,} of"
            f" {len(of.tasks):,}."
        )
    least = min(found.first.n, LEAST_N if found.second is None else found.second.n)
    if least < LEAST_N:
        return f"**Undecided**: {least} on a side are too few to tell a small difference from none."
    if found.low is not None and found.high is not None and not found.low <= 0 <= found.high:
        if found.better is None and found.high < 0:
            return "**Undecided**: it lies lower, but only whether it is worse was asked."
        return (
            "**Undecided**: one look at the end would call it a difference, but the evidence is"
            f" short of the {1 / ALPHA:.0f} that a verdict needs which holds at every look."
        )
    return "**Undecided**: no difference shows, but any within the range would fit the data too."


def row(found: Judged) -> str:
    """Return the comparison as a row of the table under `HEAD`."""
    of = found.of
    other = of.other if found.second is None else f"{of.other}: {_side(of, found.second)}"
    better = "not asked" if found.better is None else evidence(found.better)
    cells = (
        _named(of),
        f"{of.candidate}: {_side(of, found.first)}",
        other,
        f"{shown(of, found.gap, sign=True)} ({_span(of, found.low, found.high, sign=True)})",
        f"{evidence(found.worse)} / {better}",
        verdict(found),
    )
    return f"| {' | '.join(cells)} |"


HEAD: Final = (
    "| signal | candidate | against | difference (95 % range) | evidence, worse / better |"
    " verdict |",
    "|---|---|---|---|---|---|",
)


def evidence(of: Verdict) -> str:
    """Return an e-value as it reads: 20 is enough."""
    if of.evidence >= 1e6:
        return "over a million"
    return f"{of.evidence:,.0f}" if of.evidence >= 100 else f"{of.evidence:.2g}"


def _named(of: Comparison) -> str:
    if of.kind == "rate":
        return f"share of {of.signal}"
    return f"{of.signal}, {'median' if of.quantile == 0.5 else f'p{100 * of.quantile:.0f}'}"


def _side(of: Comparison, told: Estimate) -> str:
    return f"{shown(of, told.value)} ({_span(of, told.low, told.high)}), n {told.n:,}"


def _span(of: Comparison, low: float | None, high: float | None, *, sign: bool = False) -> str:
    ends = ["open" if end is None else _figure(of, end, sign=sign) for end in _finite(low, high)]
    return f"{' to '.join(ends)} {_unit(of, sign=sign)}"


def _finite(*ends: float | None) -> list[float | None]:
    return [None if end is None or isinf(end) else end for end in ends]


def shown(of: Comparison, value: float, *, sign: bool = False) -> str:
    """Return a value in the unit that it is shown in."""
    return f"{_figure(of, value, sign=sign)} {_unit(of, sign=sign)}"


def _unit(of: Comparison, *, sign: bool) -> str:
    return "points" if sign and of.kind == "rate" else of.unit


def _figure(of: Comparison, value: float, *, sign: bool) -> str:
    scaled, plus = value * of.scale, "+" if sign else ""
    if of.kind == "rate":
        return f"{scaled:{plus}.1f}"
    return f"{scaled:{plus},.0f}" if abs(scaled) >= 100 else f"{scaled:{plus}.3g}"
