"""What deciding is about: a guard's rule, its evidence, its verdict, and how it is worded. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from signals.catalogue import RARE, STATES, Signal
from signals.format import bare_text, range_text, span_text, value_text
from signals.guards.proof import Proof
from signals.stats.estimate import Estimate
from signals.stats.intervals import Interval

Compare = Literal["limit", "stable", "history", "hard_cap"]


class Word(StrEnum):
    HOLDING = "holding"
    FAILING = "failing"
    UNDECIDED = "undecided"
    QUIET = "quiet"
    WATCHING = "watching"
    TRIPPED = "tripped"
    BLIND = "blind"


@dataclass(frozen=True, slots=True)
class Rule:
    """A guard's definition, as far as deciding needs it. `margin` is in the signal's unit."""

    is_trigger: bool
    signal: Signal
    compare: Compare
    limit: float | None
    margin: float | None
    window_s: int
    min_n: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What arrived in scope. The window ends at the newest arrival, not at the look.

    So a batch that was drained late is judged as it would have been on time, and the numbers
    stand still, with their age, while nothing arrives.

    `since` is the window's start and `started_at` where all evidence starts; `data_at` is the
    newest arrival of a task that reported the signal; `recent_n` how many did so in the window
    that ends there. `largest` is the greatest single task for a hard cap; `what` names what was
    counted, where a signal counts the commonest of several. `distrusted` says why what arrived is
    not to be believed, "" where nothing speaks against it. `outside` is what another system's alert
    says that trips this trigger, `marked` what one says of the path; "" for none. `proof` is what
    all of it says since `started_at`, None for what is decided by the window alone.
    """

    started_at: datetime
    since: datetime
    data_at: datetime | None = None
    recent_n: int = 0
    candidate: Estimate | None = None
    stable: Estimate | None = None
    largest: Estimate | None = None
    what: str = ""
    distrusted: str = ""
    outside: str = ""
    marked: str = ""
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with the numbers it stands on, in the signal's unit, and a plain sentence.

    `needs` says about how many more tasks an open question takes, where evidence tells.
    """

    word: Word
    sentence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    needs: int | None = None


def beyond(signal: Signal, value: float, limit: float) -> bool:
    """Whether `value` is worse than `limit`; the limit itself is still allowed."""
    return value < limit if signal.better == "higher" else value > limit


def ends(signal: Signal, interval: Interval) -> tuple[float, float]:
    """Return the better and the worse end of a range."""
    if signal.better == "higher":
        return interval.high, interval.low
    return interval.low, interval.high


def word_open(rule: Rule, alarming: bool) -> Word:
    if not rule.is_trigger:
        return Word.UNDECIDED
    return Word.WATCHING if alarming else Word.QUIET


def with_numbers(word: Word, sentence: str, found: Estimate | None) -> Decision:
    if found is None:
        return Decision(word, sentence)
    return Decision(word, sentence, found.value, found.low, found.high, found.n)


def measured(rule: Rule, evidence: Evidence, found: Estimate) -> str:
    facts = [span_of(rule, evidence), f"n {found.n:,}"]
    if rule.signal.source in STATES:
        # A trigger counts only what was asked for since its evidence starts.
        asked = f"asked since {clock(evidence.started_at)}" if rule.is_trigger else "now"
        facts = [asked, f"{found.n:,} tasks {span_of(rule, evidence)}"]
    elif rule.signal.source not in RARE and (
        text := range_text(rule.signal, found.low, found.high)
    ):
        facts.insert(0, f"95 % range {text}")
    return f"{sentence_start(rule.signal, found.value, evidence.what)} ({', '.join(facts)})"


def sentence_start(signal: Signal, value: float, what: str = "") -> str:
    phrase = signal.phrase.format(value_text(signal, value))
    if what:
        phrase = f"{phrase}: {what}"
    if ":" in signal.title:
        return f"{heading(signal)}: {phrase}"
    return phrase[:1].upper() + phrase[1:]


def heading(signal: Signal) -> str:
    return signal.title.partition(":")[0]


def span_of(rule: Rule, evidence: Evidence) -> str:
    if evidence.since <= evidence.started_at:
        return f"since {clock(evidence.started_at)}"
    return f"last {span_text(rule.window_s)}"


def points(signal: Signal, value: float) -> str:
    return f"{value * 100:.10g} points" if signal.unit == "share" else bare_text(signal, value)


def clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S} UTC"
