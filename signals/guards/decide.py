"""What a guard says, from evidence. Pure: no Django, no clock; callers pass `now`.

What is compared with stable, a limit or the past is decided by always-valid evidence, in
`signals.guards.proven`; facts, caps and silence are decided here.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from math import ceil, isfinite
from typing import Final, Literal

from signals.catalogue import FACTS, RARE, Signal
from signals.format import bare_text, span_text, value_text
from signals.guards.proven import decide_proven, too_few
from signals.guards.words import (
    Decision,
    Evidence,
    Rule,
    Word,
    beyond,
    clock,
    ends,
    heading,
    measured,
    points,
    sentence_start,
    span_of,
    with_numbers,
    word_open,
)
from signals.stats.estimate import Estimate, difference
from signals.stats.intervals import Interval

# Silence shorter than this is never called blind: batches and drains take their time.
LEAST_SILENCE_S: Final = 15.0
# A count of rare events holds only once so many tasks were seen that, with none found, their
# share is below 1 % (rule of three: 3 / n).
RARE_EVENT_RUNS: Final = 300
_MOST_NEEDED: Final = 10_000_000
# What a guard has where its plan leaves the number to the console.
DEFAULT_TRIGGER_WINDOW_S: Final = 900
DEFAULT_MIN_N: Final = 30

CellState = Literal["inside", "near", "over", "too_few", "stale"]


def decide(
    rule: Rule,
    evidence: Evidence,
    *,
    now: datetime,
    queue_age_s: float | None,
    queue_limit_s: float,
) -> Decision:
    """Return the verdict at `now`.

    What another system says comes first: its alert trips a trigger whatever our own numbers are,
    and no criterion holds on a path that is marked. That it is silent says nothing.

    Args:
        rule: the guard's definition.
        evidence: what arrived for the candidate (and stable) in the guard's scope.
        now: the moment of the look.
        queue_age_s: age of the oldest report that waits to be counted, None for none.
        queue_limit_s: beyond this age what was counted no longer describes now.
    """
    if rule.is_trigger and evidence.outside:
        # Without our numbers: they are not what it trips on.
        return Decision(Word.TRIPPED, evidence.outside)
    own = _decide_own(rule, evidence, now=now, queue_age_s=queue_age_s, queue_limit_s=queue_limit_s)
    if own.word is Word.HOLDING and evidence.marked:
        return replace(
            own,
            word=Word.UNDECIDED,
            sentence=f"{own.sentence} But the path is marked: {evidence.marked}",
        )
    return own


def _decide_own(
    rule: Rule,
    evidence: Evidence,
    *,
    now: datetime,
    queue_age_s: float | None,
    queue_limit_s: float,
) -> Decision:
    """Return what our own numbers say."""
    open_word = Word.WATCHING if rule.is_trigger else Word.UNDECIDED
    head = heading(rule.signal)
    if not rule.signal.collected:
        return Decision(open_word, f"{head}: what this needs is not collected yet.")
    if rule.compare == "history" and evidence.proof is None:
        return Decision(
            open_word, f"{head}: there is no past of the stable release to compare with."
        )
    if queue_age_s is not None and queue_age_s > queue_limit_s:
        return with_numbers(
            Word.BLIND,
            f"{head}: reports have waited {span_text(queue_limit_s)} and longer to be counted, so"
            " nothing is known of it now.",
            evidence.largest or evidence.candidate,
        )
    if rule.signal.source == "age":
        return _decide_age(rule, evidence, now)
    if _is_fact_beyond(rule, evidence):
        # Silence unmakes no failure, and what waits goes on waiting in it.
        return _decide_by_value(rule, evidence)
    if evidence.distrusted:
        return _decide_distrusted(rule, evidence)
    if evidence.data_at is None:
        return _without_data(rule, evidence, now)
    allowed_s = stale_after_s(
        window_s=rule.window_s,
        span_s=min(rule.window_s, (evidence.data_at - evidence.started_at).total_seconds()),
        n=evidence.recent_n,
    )
    if (now - evidence.data_at).total_seconds() > allowed_s:
        return with_numbers(
            Word.BLIND,
            f"{head}: no task has reported it since {clock(evidence.data_at)} (at most"
            f" {span_text(allowed_s)} is usual), so nothing is known of it now.",
            evidence.largest or evidence.candidate,
        )
    if evidence.proof is not None:
        return decide_proven(rule, evidence, evidence.proof)
    if rule.compare == "stable":
        return _decide_stable(rule, evidence)
    return _decide_by_value(rule, evidence)


def _is_fact_beyond(rule: Rule, evidence: Evidence) -> bool:
    found = evidence.candidate
    if rule.signal.source not in FACTS or rule.compare not in {"limit", "hard_cap"}:
        return False
    return found is not None and rule.limit is not None and found.value > rule.limit


def _decide_distrusted(rule: Rule, evidence: Evidence) -> Decision:
    """Nothing is known of what is not to be trusted; one task beyond a cap is true all the same."""
    found = evidence.largest
    if (
        rule.compare == "hard_cap"
        and found is not None
        and rule.limit is not None
        and beyond(rule.signal, found.value, rule.limit)
    ):
        return _decide_cap(rule, evidence)
    return with_numbers(
        Word.BLIND,
        f"{heading(rule.signal)}: not to be trusted now. {evidence.distrusted}",
        found or evidence.candidate,
    )


def _decide_by_value(rule: Rule, evidence: Evidence) -> Decision:
    return (_decide_cap if rule.compare == "hard_cap" else _decide_limit)(rule, evidence)


def least_n(signal: Signal, min_n: int) -> int:
    """Return after how many tasks a criterion may hold that saw nothing wrong."""
    return max(min_n, RARE_EVENT_RUNS) if signal.source in RARE else min_n


def stale_after_s(*, window_s: float, span_s: float, n: int) -> float:
    """Return after how many seconds of silence a guard is blind.

    Ten times the usual gap between reports (`n` of them in `span_s`), but at least 15 s and at
    most the window, or 15 s where the window is shorter.
    """
    most = max(LEAST_SILENCE_S, window_s)
    if n == 0:
        return most
    return min(max(10 * max(span_s, 1.0) / n, LEAST_SILENCE_S), most)


def runs_needed(
    *,
    limit: float | None,
    value: float | None,
    low: float | None,
    high: float | None,
    n: int,
    min_n: int,
) -> int | None:
    """Return about how many more tasks an open question needs, None where nobody can say.

    A range narrows with the square root of the number of tasks, so it stops touching the limit
    when it has shrunk to the distance between value and limit.
    """
    if n < min_n:
        return min_n - n
    if limit is None or value is None:
        return None
    gap = abs(limit - value)
    edge = low if limit < value else high
    if gap == 0 or edge is None or not isfinite(edge):
        return None
    needed = ceil(n * (abs(edge - value) / gap) ** 2) - n
    return max(1, needed) if needed <= _MOST_NEEDED else None


def cell_state(
    *,
    word: str,
    signal: Signal,
    limit: float | None,
    value: float | None,
    low: float | None,
    high: float | None,
    n: int,
    min_n: int,
) -> CellState:
    """Return the state of a signal cell: where the range lies against the limit."""
    if word == Word.BLIND:
        return "stale"
    if value is None or n == 0 or n < min_n:
        return "over" if word in {Word.TRIPPED, Word.FAILING} else "too_few"
    if limit is None:
        return _BY_WORD.get(word, "near")
    interval = Estimate(value, low, high, n).interval
    if interval is None:
        return "near" if beyond(signal, value, limit) else "too_few"
    best, worst = ends(signal, interval)
    if beyond(signal, best, limit):
        return "over"
    if not beyond(signal, worst, limit):
        return "inside"
    if not isfinite(worst) and not beyond(signal, value, limit):
        return "too_few"
    return "near"


def used_share(signal: Signal, value: float | None, limit: float | None) -> float | None:
    """Return the share of the limit that `value` uses up: 1.0 at the limit, more beyond it.

    Where higher is better and values are shares or scores, what is used is the distance from
    perfect: 95 % against an agreed 90 % uses half.
    """
    if value is None or limit is None:
        return None
    if signal.better == "higher":
        if signal.unit in {"share", "score"} and limit < 1:
            return max(0.0, (1 - value) / (1 - limit))
        if limit > 0:
            return limit / value if value > 0 else 2.0
        return 0.0 if value >= limit else 1.0 + limit - value
    if limit > 0:
        return max(0.0, value / limit)
    return 0.0 if value <= limit else 1.0 + value - limit


_BY_WORD: Final[Mapping[str, CellState]] = {
    Word.HOLDING: "inside",
    Word.QUIET: "inside",
    Word.FAILING: "over",
    Word.TRIPPED: "over",
}


def _decide_limit(rule: Rule, evidence: Evidence) -> Decision:
    found = evidence.candidate
    if found is None or rule.limit is None:
        return too_few(rule, evidence)
    if rule.signal.source in FACTS:
        return _decide_count(rule, evidence, found, rule.limit)
    if found.n < rule.min_n:
        return too_few(rule, evidence)
    interval = found.interval
    agreed = f"the agreed {bare_text(rule.signal, rule.limit)}"
    if interval is None:
        outside = beyond(rule.signal, found.value, rule.limit)
        word = word_open(rule, outside)
        where = "beyond" if outside else "inside"
        return with_numbers(
            word,
            f"{measured(rule, evidence, found)}, {where} {agreed}; how sure that is, is not known"
            " yet.",
            found,
        )
    best, worst = ends(rule.signal, interval)
    if beyond(rule.signal, best, rule.limit):
        side = "below" if rule.signal.better == "higher" else "above"
        return with_numbers(
            Word.TRIPPED if rule.is_trigger else Word.FAILING,
            f"{measured(rule, evidence, found)}, {side} {agreed}.",
            found,
        )
    if not beyond(rule.signal, worst, rule.limit):
        return with_numbers(
            Word.QUIET if rule.is_trigger else Word.HOLDING,
            f"{measured(rule, evidence, found)}, inside {agreed}.",
            found,
        )
    # An end that so few tasks cannot bound is no sign of harm by itself.
    alarming = isfinite(worst) or beyond(rule.signal, found.value, rule.limit)
    return with_numbers(
        word_open(rule, alarming),
        f"{measured(rule, evidence, found)}; too early to tell from {agreed}.",
        found,
    )


def _decide_count(rule: Rule, evidence: Evidence, found: Estimate, limit: float) -> Decision:
    """A count above its limit is a fact, not an estimate: it needs no least number of tasks."""
    text = measured(rule, evidence, found)
    agreed = f"the agreed {bare_text(rule.signal, limit)}"
    if found.value > limit:
        word = Word.TRIPPED if rule.is_trigger else Word.FAILING
        return with_numbers(word, f"{text}, above {agreed}.", found)
    if rule.is_trigger:
        return with_numbers(Word.QUIET, f"{text}, inside {agreed}.", found)
    needed = least_n(rule.signal, rule.min_n) - found.n
    if needed <= 0:
        return with_numbers(Word.HOLDING, f"{text}, inside {agreed}.", found)
    rare = "something this rare needs" if rule.signal.source in RARE else "needs"
    return with_numbers(Word.UNDECIDED, f"{text}; {rare} about {needed:,} more tasks.", found)


def _decide_cap(rule: Rule, evidence: Evidence) -> Decision:
    found = evidence.largest or evidence.candidate
    if found is None or rule.limit is None:
        return too_few(rule, evidence)
    single = evidence.largest is not None
    span = span_of(rule, evidence)
    shown = value_text(rule.signal, found.value)
    cap = f"the cap of {bare_text(rule.signal, rule.limit)}"
    if single:
        most = "least" if rule.signal.own and rule.signal.better == "higher" else "most"
        verb = "cost" if rule.signal.unit == "usd" else "took"
        verb = "reported" if rule.signal.own else verb
        text = f"{heading(rule.signal)}: the {most} that one task {verb} was {shown}"
    else:
        text = sentence_start(rule.signal, found.value, evidence.what)
    text = f"{text} ({span}, n {found.n:,})"
    if beyond(rule.signal, found.value, rule.limit):
        word = Word.TRIPPED if rule.is_trigger else Word.FAILING
        side = "below" if rule.signal.better == "higher" else "above"
        return with_numbers(word, f"{text}, {side} {cap}.", found)
    needed = least_n(rule.signal, rule.min_n) - found.n
    if rule.is_trigger or needed <= 0:
        word = Word.QUIET if rule.is_trigger else Word.HOLDING
        return with_numbers(word, f"{text}, inside {cap}.", found)
    return with_numbers(
        Word.UNDECIDED, f"{text}; needs about {needed:,} more {rule.signal.counted}.", found
    )


def _decide_stable(rule: Rule, evidence: Evidence) -> Decision:
    """Compare with what the stable release did for the same segments in the same window.

    A trigger watches only while the candidate looks worse: two equal releases would otherwise
    read `watching` for ever, since the range of no difference always touches zero.
    """
    found, stable = evidence.candidate, evidence.stable
    if found is None or found.n < rule.min_n:
        return too_few(rule, evidence)
    text = measured(rule, evidence, found)
    if stable is None or stable.n < rule.min_n:
        have = 0 if stable is None else stable.n
        return with_numbers(
            word_open(rule, alarming=True),
            f"{text}; the stable release has {have:,} of {rule.min_n:,} {rule.signal.counted}"
            " needed to compare.",
            found,
        )
    gap = difference(found, stable)
    beside = f"{text}; stable: {value_text(rule.signal, stable.value)} (n {stable.n:,})"
    if gap is None or rule.signal.source in FACTS:
        return with_numbers(
            word_open(rule, alarming=True), f"{beside}; how sure that is, is not known yet.", found
        )
    margin = rule.margin or 0.0
    # Harm is how much worse the candidate is, whichever direction is the better one.
    harm = Interval(-gap.high, -gap.low) if rule.signal.better == "higher" else gap
    seen = found.value - stable.value
    if rule.signal.better == "higher":
        seen = -seen
    allowed = f" more than the {points(rule.signal, margin)} allowed" if margin else ""
    if harm.low > margin:
        word = Word.TRIPPED if rule.is_trigger else Word.FAILING
        return with_numbers(word, f"{beside}, worse by{allowed or ' more than chance'}.", found)
    if harm.high <= margin:
        word = Word.QUIET if rule.is_trigger else Word.HOLDING
        return with_numbers(word, f"{beside}, not worse{' than allowed' if margin else ''}.", found)
    return with_numbers(
        word_open(rule, alarming=seen > margin), f"{beside}; too early to tell apart.", found
    )


def _decide_age(rule: Rule, evidence: Evidence, now: datetime) -> Decision:
    newest = evidence.data_at or evidence.started_at
    age = max(0.0, (now - newest).total_seconds())
    n = evidence.recent_n
    text = f"The newest task came at {clock(newest)}"
    if evidence.data_at is None:
        text = f"No task has come since {clock(newest)}"
    if rule.limit is not None and age > rule.limit:
        word = Word.TRIPPED if rule.is_trigger else Word.FAILING
        sentence = f"{text}, longer ago than the agreed {bare_text(rule.signal, rule.limit)}."
    elif evidence.data_at is None or rule.limit is None:
        word, sentence = word_open(rule, alarming=True), f"{text}."
    else:
        word = Word.QUIET if rule.is_trigger else Word.HOLDING
        sentence = f"{text}, inside the agreed {bare_text(rule.signal, rule.limit)}."
    return Decision(word, sentence, age, age, age, n)


def _without_data(rule: Rule, evidence: Evidence, now: datetime) -> Decision:
    head = heading(rule.signal)
    allowed_s = stale_after_s(window_s=rule.window_s, span_s=0, n=0)
    if (now - evidence.started_at).total_seconds() > allowed_s:
        return Decision(
            Word.BLIND,
            f"{head}: no task has reported it since {clock(evidence.started_at)}, so nothing is"
            " known of it.",
        )
    word = Word.WATCHING if rule.is_trigger else Word.UNDECIDED
    return Decision(word, f"{head}: no task has reported it yet.")
