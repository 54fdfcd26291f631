"""Words for what evidence decides: compared with stable, a limit or the past. Pure."""

from dataclasses import replace
from math import ceil, log, log1p, sqrt
from typing import Final

from signals.format import bare_text, value_text
from signals.guards.proof import MIXING, PASSES, WATCHED, Proof, Totals, chance_text
from signals.guards.words import (
    Decision,
    Evidence,
    Rule,
    Word,
    beyond,
    clock,
    heading,
    measured,
    points,
    span_of,
    with_numbers,
    word_open,
)
from signals.stats.estimate import Estimate

_MOST_NEEDED: Final = 10_000_000
# Methods whose totals are bad ones of tasks, and those whose are sums of values.
_SHARES: Final = frozenset({"exact", "limit", "past"})
_SUMS: Final = frozenset({"bets", "normal"})
# By so many standard deviations an arm is worse than it was before, to call it an outage.
_OUTAGE: Final = 4.0
TOGETHER: Final = "both releases got worse together; not blamed on the release"


def decide_proven(rule: Rule, evidence: Evidence, proof: Proof) -> Decision:
    """Return what a guard says whose word stands on evidence since it was armed.

    Value and range are the window's; the word is the evidence's, which no number of looks moves.
    """
    found = evidence.candidate
    worse = proof.named or proof.held if rule.is_trigger else proof.log_worse >= PASSES
    if worse:
        word = Word.TRIPPED if rule.is_trigger else Word.FAILING
        return with_numbers(word, _worse_text(rule, evidence, proof), found)
    if found is None or (found.n < rule.min_n and proof.candidate.n < rule.min_n):
        return too_few(rule, evidence)
    text = _told(rule, evidence, found)
    if rule.compare == "stable" and proof.stable.n < rule.min_n:
        return with_numbers(
            word_open(rule, alarming=True),
            f"{measured(rule, evidence, found)}; the stable release has {proof.stable.n:,} of"
            f" {rule.min_n:,} {rule.signal.counted} needed to compare.",
            found,
        )
    together = f"; {TOGETHER}" if _both_worse(rule, evidence, proof) else ""
    harmful = _points_to_harm(rule, evidence)
    if rule.is_trigger:
        if harmful or proof.log_worse >= WATCHED:
            sure = ""
            if proof.log_worse >= WATCHED:
                sure = f" (by chance: {chance_text(proof.log_worse)})"
            return with_numbers(Word.WATCHING, f"{text}{together}; {_early(rule)}{sure}.", found)
        return with_numbers(Word.QUIET, f"{text}, {_fine(rule)}{together}.", found)
    if proof.log_fine is not None and proof.log_fine >= PASSES and proof.candidate.n >= rule.min_n:
        chance = chance_text(proof.log_fine)
        return with_numbers(
            Word.HOLDING, f"{text}, {_fine(rule)}; wrong by chance: {chance}{together}.", found
        )
    needs = runs_needed_by(rule, proof)
    more = f"; needs about {needs:,} more {rule.signal.counted}" if needs is not None else ""
    decision = with_numbers(Word.UNDECIDED, f"{text}{together}; {_early(rule)}{more}.", found)
    return replace(decision, needs=needs)


def runs_needed_by(rule: Rule, proof: Proof) -> int | None:
    """Return about how many more of the candidate's tasks a criterion needs; None if unknown.

    What evidence still lacks, with the price of mixing while there is little of it, over what a
    task has brought so far, or should by the rates that were seen.
    """
    n = proof.candidate.n
    short = max(0, rule.min_n - n)
    if proof.log_fine is None or n == 0:
        return short or None
    lacks = PASSES - proof.log_fine
    if lacks <= 0:
        return short or None
    per_task = _information(rule, proof)
    if per_task is None:
        if proof.log_fine <= 0:
            return short or None
        per_task = (proof.log_fine + MIXING) / n
    elif per_task > 0:
        lacks = min(lacks + max(0.0, -proof.log_fine), PASSES + MIXING)
    if per_task <= 0:
        return short or None
    needed = max(short, ceil(lacks / per_task))
    return max(1, needed) if needed <= _MOST_NEEDED else None


def _information(rule: Rule, proof: Proof) -> float | None:
    """Return what a task of the candidate adds to log e of being fine, <= 0 where it is not.

    For a rate p against p0 that is the Kullback-Leibler divergence (Wald 1947); for two arms
    half the squared distance in log odds times the variance that a pair of them has.
    """
    if proof.method == "limit" and rule.limit is not None:
        seen, limit = _rate(proof.candidate), rule.limit
        allowed = limit if rule.signal.better == "lower" else 1 - limit
        allowed = min(max(allowed, 1e-6), 1 - 1e-6)
        sign = 1.0 if seen < allowed else -1.0
        return sign * (seen * log(seen / allowed) + (1 - seen) * (log1p(-seen) - log1p(-allowed)))
    if proof.method == "exact" and proof.stable.n:
        seen, stable = _rate(proof.candidate), _rate(proof.stable)
        allowed = min(stable + (rule.margin or 0.0), 1 - 1e-6)
        gap = log(allowed / (1 - allowed)) - log(seen / (1 - seen))
        pairs = proof.stable.n / (proof.candidate.n + proof.stable.n)
        level = (seen + stable) / 2
        return (1.0 if gap > 0 else -1.0) * gap * gap / 2 * level * (1 - level) * pairs
    return None


def _rate(totals: Totals) -> float:
    return (totals.bad + 0.5) / (totals.n + 1)


def _worse_text(rule: Rule, evidence: Evidence, proof: Proof) -> str:
    found, head = evidence.candidate, heading(rule.signal)
    chance = chance_text(proof.log_worse)
    if proof.method == "categories":
        return _repeats_text(head, proof, chance)
    in_window = found is not None and _points_to_harm(rule, evidence)
    candidate: Estimate | Totals | None = found if in_window else None
    span = span_of(rule, evidence) if in_window else f"since {clock(proof.started_at)}"
    value = found.value if in_window and found is not None else _since(rule, proof.candidate, proof)
    n = candidate.n if candidate is not None else proof.candidate.n
    shown = "" if value is None else value_text(rule.signal, value)
    if rule.compare == "stable":
        stable = evidence.stable if in_window else None
        other = stable.value if stable is not None else _since(rule, proof.stable, proof)
        others = stable.n if stable is not None else proof.stable.n
        against = (
            f": {shown} against {value_text(rule.signal, other)}"
            if shown and other is not None
            else ""
        )
        margin = rule.margin or 0.0
        allowed = f" by more than the {points(rule.signal, margin)} allowed" if margin else ""
        return (
            f"{head}, worse than stable{allowed}{against} (n {n:,} and {others:,}, {span}); a"
            f" difference like this by chance: {chance}."
        )
    if found is not None and in_window:
        text = measured(rule, evidence, found)
    else:
        text = f"{head}{f': {shown}' if shown else ''} (n {n:,}, {span})"
    side = "below" if rule.signal.better == "higher" else "above"
    if rule.compare == "history":
        return f"{text}, {side} what its past makes plausible; by chance: {chance}."
    agreed = bare_text(rule.signal, rule.limit or 0.0)
    return f"{text}, {side} the agreed {agreed}; by chance: {chance}."


def _repeats_text(head: str, proof: Proof, chance: str) -> str:
    failed, others = int(proof.candidate.total), int(proof.stable.total)
    return (
        f"{head}: {proof.told} failed {failed:,} of {proof.candidate.n:,} tasks against {others:,}"
        f" of {proof.stable.n:,} on stable (since {clock(proof.started_at)}); a difference like"
        f" this by chance: {chance}."
    )


def _told(rule: Rule, evidence: Evidence, found: Estimate) -> str:
    text = measured(rule, evidence, found)
    stable = evidence.stable
    if rule.compare == "stable" and stable is not None:
        text = f"{text}; stable: {value_text(rule.signal, stable.value)} (n {stable.n:,})"
    return text


def _early(rule: Rule) -> str:
    if rule.compare == "stable":
        return "too early to tell apart"
    if rule.compare == "history":
        return "too early to tell from its past"
    return f"too early to tell from the agreed {bare_text(rule.signal, rule.limit or 0.0)}"


def _fine(rule: Rule) -> str:
    if rule.compare == "stable":
        return "not worse than allowed" if rule.margin else "not worse"
    if rule.compare == "history":
        return "inside what its past makes plausible"
    return f"inside the agreed {bare_text(rule.signal, rule.limit or 0.0)}"


def _points_to_harm(rule: Rule, evidence: Evidence) -> bool:
    """Whether the window's value is worse than what it is compared with."""
    found = evidence.candidate
    if found is None:
        return False
    if rule.compare == "stable":
        stable = evidence.stable
        if stable is None:
            return False
        gap = found.value - stable.value
        return (-gap if rule.signal.better == "higher" else gap) > (rule.margin or 0.0)
    if rule.limit is None:
        return False
    return beyond(rule.signal, found.value, rule.limit)


def _since(rule: Rule, totals: Totals, proof: Proof) -> float | None:
    """Return an arm's value over all evidence, None where its totals do not tell."""
    if totals.n == 0:
        return None
    if proof.method in _SUMS:
        return totals.total / totals.n
    if proof.method not in _SHARES:
        return None
    bad = totals.bad / totals.n
    # What is counted as bad are tasks that lack what a signal with a better high end counts.
    return 1 - bad if rule.signal.better == "higher" else bad


def _both_worse(rule: Rule, evidence: Evidence, proof: Proof) -> bool:
    """Whether both arms are worse in this window than before it, by far more than chance."""
    found, stable = evidence.candidate, evidence.stable
    if rule.compare != "stable" or proof.method != "exact" or found is None or stable is None:
        return False
    return all(
        _got_worse(rule, arm, totals, proof)
        for arm, totals in ((found, proof.candidate), (stable, proof.stable))
    )


def _got_worse(rule: Rule, now: Estimate, totals: Totals, proof: Proof) -> bool:
    bad_now = now.n * (1 - now.value if rule.signal.better == "higher" else now.value)
    before_n, before = totals.n - now.n, totals.bad - bad_now
    if before_n < rule.min_n or now.n < rule.min_n:
        return False
    rate = max((bad_now + before) / (now.n + before_n), 1e-9)
    spread = sqrt(rate * (1 - rate) * (1 / now.n + 1 / before_n))
    return spread > 0 and (bad_now / now.n - before / before_n) / spread > _OUTAGE


def too_few(rule: Rule, evidence: Evidence) -> Decision:
    found = evidence.candidate
    head = heading(rule.signal)
    have = 0 if found is None else found.n
    span = span_of(rule, evidence)
    needed = f"{head}: {have:,} of {rule.min_n:,} {rule.signal.counted} needed ({span})"
    if found is None:
        return Decision(word_open(rule, alarming=False), f"{needed}.")
    outside = (
        rule.compare == "limit"
        and rule.limit is not None
        and beyond(rule.signal, found.value, rule.limit)
    )
    shown = value_text(rule.signal, found.value)
    against = f", beyond the agreed {bare_text(rule.signal, rule.limit or 0.0)}" if outside else ""
    return with_numbers(
        word_open(rule, alarming=outside), f"{needed}; so far {shown}{against}.", found
    )
