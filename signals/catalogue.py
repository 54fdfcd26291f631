"""The signals the console knows, as data. Pure: no Django.

A signal is a named measure with a kind, a unit and a better direction (design.md, "Words").
`source` names how its value is made from ledger measures; None means that what it needs is not
collected yet, and a guard on it says so instead of holding.
"""

from dataclasses import dataclass
from typing import Final, Literal

from signals.feeds import Feed

Kind = Literal["rate", "mean", "quantile", "count", "freshness"]
Unit = Literal["share", "score", "ms", "s", "usd", "usd/h", "/h", "tokens", "count", "per task"]
Better = Literal["higher", "lower"]
Source = Literal[
    "share",
    "missing_share",
    "mean",
    "quantile",
    "slow_share",
    "count",
    "repeats",
    "backlog",
    "waiting",
    "per_task",
    "hourly",
    "age",
    "above_share",
]
# Whose runs a signal reads, of those on the candidate's arm: `normal` its release in mode normal,
# `release` its release in any mode, `arm` whatever its people were served, `fallback` only what
# ran in a fallback mode.
Reach = Literal["normal", "release", "arm", "fallback"]

# Events so rare that few tasks without one say nothing, and what waits at this moment: both are
# counted, not estimated.
RARE: Final = frozenset({"count", "repeats"})
STATES: Final = frozenset({"backlog", "waiting"})
FACTS: Final = RARE | STATES


# What observations may add to a ledger row.
_LABEL_FIELDS: Final = frozenset(
    {
        "quality_n",
        "score_n",
        "labelled",
        "n_critical",
        "reviews_n",
        "feedback_positive",
        "feedback_negative",
    }
)


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal. `n_of` and `total_of` name fields of `signals.buckets.measures.Measures`.

    `name` is for tight places, `title` for headings, `phrase` for sentences: it has one place
    for the value, and reads without knowing any jargon. `counted` is what its `n` counts.
    `by_event` is for shares of tasks whose labels come later than they: in a chart both stand
    in the tasks' own minute.

    A team's `own` signal has a unit of its own choice. `also` names fields that add to the total;
    `feed` is a part of `Measures` that does, and that counts its tasks where `n_of` is empty.
    """

    slug: str
    name: str
    title: str
    phrase: str
    kind: Kind
    unit: Unit | str
    better: Better
    source: Source | None = None
    n_of: str = "n"
    total_of: str = ""
    squares_of: str = ""
    q: float = 0.0
    reach: Reach = "normal"
    counted: str = "tasks"
    by_event: bool = False
    own: bool = False
    also: tuple[str, ...] = ()
    above: float | None = None
    feed: Feed | None = None

    @property
    def collected(self) -> bool:
        return self.source is not None

    @property
    def fields(self) -> frozenset[str]:
        """The fields of `Measures` that its value and range are made of."""
        return frozenset({self.n_of, self.total_of, self.squares_of, *self.also} - {""})

    @property
    def arrival_fields(self) -> frozenset[str]:
        """The fields whose newest arrival says how fresh it is: rare events count themselves."""
        told = {self.n_of, *([self.total_of, *self.also] if self.source == "count" else [])}
        if self.feed is not None and (self.feed.kind == "measure" or self.source == "count"):
            # A sum over all tasks is fresh while the measure is told, not while tasks come.
            told = (told - {"n"} if self.feed.kind == "measure" else told) | {self.feed.key}
        elif self.feed is not None and not self.n_of:
            told |= {self.feed.key}
        return frozenset(told - {""})

    @property
    def reads_labels(self) -> bool:
        """Whether labels that come after their task belong to it."""
        if self.feed is not None and self.feed.kind != "measure":
            return True
        return self.source == "repeats" or not self.fields.isdisjoint(_LABEL_FIELDS)

    @property
    def reads_histogram(self) -> bool:
        """Whether it reads the histogram of latencies."""
        return self.feed is None and self.source in {"quantile", "slow_share"}

    @property
    def draws_feed(self) -> bool:
        """Whether it reads the histogram of its feed."""
        return self.feed is not None and self.source in {"quantile", "above_share"}


def _latency(slug: str, q: float, mark: str, who: str) -> Signal:
    return Signal(
        slug,
        f"Latency {mark}",
        f"Latency: time that {who} took",
        f"{who} took {{}} or more",
        "quantile",
        "ms",
        "lower",
        source="quantile",
        n_of="latency_n",
        q=q,
    )


def _outcome(
    slug: str, name: str, title: str, phrase: str, total_of: str, reach: Reach = "normal"
) -> Signal:
    return Signal(
        slug,
        name,
        title,
        phrase,
        "rate",
        "share",
        "lower",
        source="share",
        total_of=total_of,
        reach=reach,
    )


def _mean(
    slug: str, name: str, title: str, phrase: str, unit: Unit, better: Better, field: str
) -> Signal:
    return Signal(
        slug,
        name,
        title,
        phrase,
        "mean",
        unit,
        better,
        source="mean",
        n_of=f"{field}_n",
        total_of=f"{field}_sum",
        squares_of=f"{field}_sq",
    )


def _tokens(slug: str, word: str, field: str) -> Signal:
    return Signal(
        slug,
        f"{word} tokens",
        f"{word} tokens a task",
        f"a task used {{}} {word.lower()} tokens",
        "mean",
        "tokens",
        "lower",
        source="mean",
        n_of=f"{field}_n",
        total_of=f"{field}_sum",
        squares_of=f"{field}_sq",
    )


_ALL: Final = (
    Signal(
        "quality_pass_rate",
        "Quality",
        "Quality: tasks that passed",
        "{} of tasks passed",
        "rate",
        "share",
        "higher",
        source="share",
        n_of="quality_n",
        total_of="quality_passed",
    ),
    _mean(
        "quality_score",
        "Quality score",
        "Quality: score",
        "tasks scored {}",
        "score",
        "higher",
        "score",
    ),
    Signal(
        "critical_failures",
        "Critical failures",
        "Critical failures",
        "critical failures: {}",
        "count",
        "count",
        "lower",
        source="count",
        total_of="n_critical",
        reach="release",
    ),
    Signal(
        "retrieval_empty_rate",
        "Empty retrieval",
        "Retrieval: tasks that found nothing",
        "{} of tasks found no document",
        "rate",
        "share",
        "lower",
        source="share",
        n_of="retrieved_n",
        total_of="retrieved_empty",
    ),
    _mean(
        "retrieval_score",
        "Retrieval",
        "Retrieval: how well documents fit",
        "documents fitted by {}",
        "score",
        "higher",
        "retrieval_score",
    ),
    _latency("latency_p50_ms", 0.5, "p50", "the slower half of tasks"),
    _latency("latency_p95_ms", 0.95, "p95", "the slowest 5 % of tasks"),
    _latency("latency_p99_ms", 0.99, "p99", "the slowest 1 % of tasks"),
    Signal(
        "slow_path_rate",
        "Slow tasks",
        "Latency: tasks over the slow limit",
        "{} of tasks took longer than the slow limit",
        "rate",
        "share",
        "lower",
        source="slow_share",
        n_of="latency_n",
    ),
    _mean(
        "cost_per_task_usd",
        "Cost / task",
        "Cost per task",
        "a task cost {}",
        "usd",
        "lower",
        "cost",
    ),
    Signal(
        "spend_usd_per_hour",
        "Spend",
        "Spend an hour",
        "tasks cost {}",
        "mean",
        "usd/h",
        "lower",
        source="hourly",
        n_of="cost_n",
        total_of="cost_sum",
        squares_of="cost_sq",
    ),
    _tokens("input_tokens_per_task", "Input", "input_tokens"),
    _tokens("output_tokens_per_task", "Output", "output_tokens"),
    Signal(
        "retry_rate",
        "Retries",
        "Retries a task",
        "{} retries a task",
        "mean",
        "per task",
        "lower",
        source="per_task",
        n_of="retries_n",
        total_of="retries_sum",
    ),
    _outcome("error_rate", "Errors", "Tasks that failed", "{} of tasks failed", "n_error"),
    _outcome(
        "fallback_rate",
        "Fallback",
        "Tasks that used a fallback",
        "{} of tasks used a fallback",
        "fallback_n",
        "arm",
    ),
    Signal(
        "fallback_cost_per_task_usd",
        "Fallback cost",
        "Cost per task in a fallback",
        "a task in a fallback cost {}",
        "mean",
        "usd",
        "lower",
        source="mean",
        n_of="cost_n",
        total_of="cost_sum",
        squares_of="cost_sq",
        reach="fallback",
    ),
    _outcome(
        "escalation_rate",
        "Escalations",
        "Tasks that were escalated",
        "{} of tasks were escalated",
        "n_escalated",
        "arm",
    ),
    Signal(
        "review_arrivals_per_hour",
        "Review load",
        "Reviews asked for an hour",
        "{} reviews were asked for",
        "mean",
        "/h",
        "lower",
        source="hourly",
        total_of="review_requested",
        reach="arm",
    ),
    Signal(
        "review_backlog",
        "Review backlog",
        "Reviews waiting",
        "{} reviews wait",
        "count",
        "count",
        "lower",
        source="backlog",
        reach="arm",
    ),
    Signal(
        "review_age_s",
        "Review age",
        "Oldest waiting review",
        "the oldest review has waited {}",
        "freshness",
        "s",
        "lower",
        source="waiting",
        reach="arm",
    ),
    Signal(
        "review_reject_rate",
        "Rejections",
        "Reviews that rejected",
        "reviewers rejected {}",
        "rate",
        "share",
        "lower",
        source="share",
        n_of="reviews_n",
        total_of="reviews_rejected",
        reach="arm",
        counted="reviews",
    ),
    Signal(
        "trust_negative_rate",
        "Trust",
        "Tasks with negative feedback",
        "{} of tasks had negative feedback",
        "rate",
        "share",
        "lower",
        source="share",
        total_of="feedback_negative",
        reach="arm",
        by_event=True,
    ),
    Signal(
        "repeated_failures",
        "Repeats",
        "Same failure again",
        "the same failure came {} times",
        "count",
        "count",
        "lower",
        source="repeats",
        reach="release",
    ),
    _mean(
        "confidence_mean",
        "Confidence",
        "Confidence of answers",
        "answers were {} confident",
        "score",
        "higher",
        "confidence",
    ),
    Signal(
        "action_undo_rate",
        "Undone actions",
        "Actions that were undone",
        "{} of actions were undone",
        "rate",
        "share",
        "lower",
    ),
    Signal(
        "action_failure_rate",
        "Failed actions",
        "Actions that failed",
        "{} of actions failed",
        "rate",
        "share",
        "lower",
    ),
    Signal(
        "data_age_s",
        "Data age",
        "Age of the newest task",
        "the newest task is {} old",
        "freshness",
        "s",
        "lower",
        source="age",
    ),
    Signal(
        "label_missing_rate",
        "Missing labels",
        "Tasks without a quality label",
        "{} of tasks have no quality label",
        "rate",
        "share",
        "lower",
        source="missing_share",
        total_of="labelled",
        by_event=True,
    ),
    Signal(
        "assignment_mismatch",
        "Assignment",
        "Tasks served by the wrong release",
        "{} of tasks were served by the wrong release",
        "rate",
        "share",
        "lower",
    ),
)

SIGNALS: Final[dict[str, Signal]] = {signal.slug: signal for signal in _ALL}

# The order of signal cells and charts; the rest follows in the catalogue's order.
SHOWN_FIRST: Final = (
    "quality_pass_rate",
    "quality_score",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "cost_per_task_usd",
)
_ORDER: Final = {
    slug: place
    for place, slug in enumerate([*SHOWN_FIRST, *(s for s in SIGNALS if s not in SHOWN_FIRST)])
}


def signal_of(slug: str) -> Signal:
    """Return the signal of the catalogue; one that is not in it is known by name only.

    A team's own is found by its workflow, in `signals.own.selectors`.
    """
    known = SIGNALS.get(slug)
    if known is not None:
        return known
    return Signal(slug, slug, slug, f"{slug} is {{}}", "mean", "count", "lower")


def shown_at(slug: str) -> int:
    """Return where a signal stands among others on a page."""
    return _ORDER.get(slug, len(_ORDER))
