"""Words that evidence decides: by e-values, not by the window's numbers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import log
from typing import Any

from signals.catalogue import SIGNALS
from signals.guards.decide import decide
from signals.guards.proof import Proof, Totals
from signals.guards.proven import TOGETHER, runs_needed_by
from signals.guards.words import Compare, Decision, Evidence, Rule, Word
from signals.stats.estimate import Estimate
from signals.stats.sequences import rate_sequence

NOW = datetime(2026, 11, 24, 14, 35, tzinfo=UTC)
STARTED = datetime(2026, 11, 24, 14, 5, tzinfo=UTC)


def rate(bad: int, n: int) -> Estimate:
    found = rate_sequence(bad, n)
    assert found is not None
    return Estimate(bad / n, found.low, found.high, n)


def proof(*, worse: float = 1.0, fine: float | None = None, **fields: Any) -> Proof:
    """Return a proof with these e-values, of 33 bad of 412 tasks against 64 of 1,630."""
    return Proof(
        **{
            "method": "exact",
            "started_at": STARTED,
            "log_worse": log(worse),
            "log_fine": None if fine is None else log(fine),
            "candidate": Totals(412, 33),
            "stable": Totals(1630, 64),
            **fields,
        }
    )


def look(
    told: Proof,
    *,
    trigger: bool = True,
    compare: Compare = "stable",
    limit: float | None = None,
    margin: float | None = None,
    window_s: int = 7200,
    min_n: int = 50,
    data_age_s: float = 2.0,
    **evidence: Any,
) -> Decision:
    data_at = NOW - timedelta(seconds=data_age_s)
    seen = Evidence(
        started_at=STARTED,
        since=max(STARTED, data_at - timedelta(seconds=window_s)),
        data_at=data_at,
        recent_n=412,
        candidate=rate(33, 412),
        stable=rate(64, 1630),
        proof=told,
    )
    return decide(
        Rule(trigger, SIGNALS["error_rate"], compare, limit, margin, window_s, min_n),
        replace(seen, **evidence),
        now=NOW,
        queue_age_s=None,
        queue_limit_s=60,
    )


def test_a_guilty_trigger_says_how_unlikely_chance_is() -> None:
    found = look(proof(worse=419, named=True))
    assert found.word is Word.TRIPPED
    assert found.sentence == (
        "Tasks that failed, worse than stable: 8.0 % against 3.9 % (n 412 and 1,630, since"
        " 14:05:00 UTC); a difference like this by chance: less than 1 in 410."
    )


def test_great_evidence_alone_does_not_trip_what_the_budget_does_not_name() -> None:
    """Of many triggers one must come to more than 20 on its own: the budget is the rollout's."""
    found = look(proof(worse=30))
    assert found.word is Word.WATCHING
    assert found.sentence.endswith("too early to tell apart (by chance: less than 1 in 30).")


def test_what_tripped_stays_so_until_its_evidence_is_gone() -> None:
    assert look(proof(worse=3, held=True)).word is Word.TRIPPED
    assert look(proof(worse=0.9)).word is Word.WATCHING
    assert look(proof(worse=0.9), candidate=rate(10, 412)).word is Word.QUIET


def test_numbers_of_all_evidence_are_told_where_the_window_looks_fine_again() -> None:
    found = look(proof(worse=50, held=True), candidate=rate(1, 90), window_s=300)
    assert "8.0 % against 3.9 % (n 412 and 1,630, since 14:05:00 UTC)" in found.sentence
    assert (found.value, found.n) == (1 / 90, 90)


def test_a_criterion_holds_on_evidence_and_enough_tasks() -> None:
    asked: dict[str, Any] = {"trigger": False, "margin": 0.05}
    assert look(proof(fine=25), **asked).word is Word.HOLDING
    assert look(proof(fine=19), **asked).word is Word.UNDECIDED
    assert look(proof(fine=25), min_n=413, **asked).word is Word.UNDECIDED
    assert look(proof(worse=25, fine=0.1), **asked).word is Word.FAILING
    held = look(proof(fine=25), **asked)
    assert held.sentence.endswith("not worse than allowed; wrong by chance: less than 1 in 25.")


def test_blind_never_holds() -> None:
    for silent in ({"data_age_s": 900.0}, {"distrusted": "Ids are used again."}):
        found = look(proof(fine=1e9), trigger=False, margin=0.05, **silent)
        assert found.word is Word.BLIND
    none = look(proof(fine=1e9, candidate=Totals()), trigger=False, candidate=None)
    assert none.word is Word.UNDECIDED


def test_too_little_of_stable_is_said() -> None:
    found = look(proof(stable=Totals(12, 1)), stable=rate(1, 12))
    assert found.word is Word.WATCHING
    assert found.sentence.endswith("the stable release has 12 of 50 tasks needed to compare.")


def test_an_outage_of_both_is_told_apart() -> None:
    both = proof(candidate=Totals(2000, 200), stable=Totals(8000, 800))
    found = look(both, candidate=rate(120, 400), stable=rate(480, 1600), window_s=900)
    assert TOGETHER in found.sentence
    one = look(both, candidate=rate(120, 400), stable=rate(80, 1600), window_s=900)
    assert TOGETHER not in one.sentence


def test_a_limit_and_the_past_have_words_of_their_own() -> None:
    over = look(proof(worse=80, named=True, method="limit"), compare="limit", limit=0.05)
    assert over.sentence.endswith("above the agreed 5 %; by chance: less than 1 in 80.")
    past = look(proof(worse=80, named=True, method="past"), compare="history")
    assert past.sentence.endswith(
        "above what its past makes plausible; by chance: less than 1 in 80."
    )


def test_an_open_criterion_says_how_many_tasks_it_needs() -> None:
    """2 % against an agreed 5 %: a task brings KL(0.02 || 0.05) = 0.0118 on average."""
    rule = Rule(False, SIGNALS["error_rate"], "limit", 0.05, None, 7200, 50)
    told = proof(fine=2, method="limit", candidate=Totals(249, 4))
    needed = runs_needed_by(rule, told)
    seen = 4.5 / 250
    per_task = seen * log(seen / 0.05) + (1 - seen) * log((1 - seen) / 0.95)
    assert needed == round((log(20) - log(2)) / per_task + 0.5)
    over = proof(fine=0.5, method="limit", candidate=Totals(249, 30))
    assert runs_needed_by(rule, over) is None
    few = proof(fine=2, method="limit", candidate=Totals(9, 0))
    assert (runs_needed_by(rule, few) or 0) >= 41
