"""The decision rule, sentence by sentence."""

from datetime import UTC, datetime, timedelta

import pytest

from signals.catalogue import SIGNALS
from signals.guards.decide import (
    cell_state,
    decide,
    runs_needed,
    stale_after_s,
    used_share,
)
from signals.guards.words import Compare, Decision, Evidence, Rule, Word
from signals.stats.estimate import Estimate
from signals.stats.intervals import mean_interval, rate_interval

NOW = datetime(2026, 11, 24, 10, 31, 22, tzinfo=UTC)
STARTED = NOW - timedelta(hours=1)


def rate(passed: int, n: int) -> Estimate:
    found = rate_interval(passed, n)
    assert found is not None
    return Estimate(passed / n, found.low, found.high, n)


def cost(mean: float, n: int, *, spread: float) -> Estimate:
    found = mean_interval(n, mean * n, (mean * mean + spread * spread) * n)
    assert found is not None
    return Estimate(mean, found.low, found.high, n)


def look(
    signal: str,
    candidate: Estimate | None,
    *,
    limit: float | None = None,
    trigger: bool = True,
    compare: Compare = "limit",
    margin: float | None = None,
    min_n: int = 20,
    window_s: int = 120,
    stable: Estimate | None = None,
    largest: Estimate | None = None,
    what: str = "",
    distrusted: str = "",
    data_age_s: float | None = 2,
    started_at: datetime = STARTED,
    queue_age_s: float | None = None,
) -> Decision:
    data_at = None if data_age_s is None else NOW - timedelta(seconds=data_age_s)
    end = data_at or NOW
    return decide(
        Rule(trigger, SIGNALS[signal], compare, limit, margin, window_s, min_n),
        Evidence(
            started_at=started_at,
            since=max(started_at, end - timedelta(seconds=window_s)),
            data_at=data_at,
            recent_n=candidate.n if candidate is not None else 0,
            candidate=candidate,
            stable=stable,
            largest=largest,
            what=what,
            distrusted=distrusted,
        ),
        now=NOW,
        queue_age_s=queue_age_s,
        queue_limit_s=60,
    )


def test_a_whole_range_below_the_limit_trips() -> None:
    found = look("quality_pass_rate", rate(222, 312), limit=0.85)
    assert found.word is Word.TRIPPED
    assert found.sentence == (
        "Quality: 71.2 % of tasks passed (95 % range 65.9–75.9 %, last 2 min, n 312),"  # noqa: RUF001
        " below the agreed 85 %."
    )
    assert (found.n, round(found.value or 0, 4)) == (312, 0.7115)


def test_a_range_that_touches_the_limit_watches() -> None:
    found = look("quality_pass_rate", rate(84, 100), limit=0.85)
    assert found.word is Word.WATCHING
    assert found.sentence.endswith("; too early to tell from the agreed 85 %.")
    criterion = look("quality_pass_rate", rate(84, 100), limit=0.85, trigger=False)
    assert criterion.word is Word.UNDECIDED


def test_a_whole_range_inside_is_quiet_or_holding() -> None:
    assert look("quality_pass_rate", rate(198, 200), limit=0.85).word is Word.QUIET
    found = look("quality_pass_rate", rate(198, 200), limit=0.85, trigger=False)
    assert found.word is Word.HOLDING
    assert look("quality_pass_rate", rate(100, 200), limit=0.85, trigger=False).word is Word.FAILING


def test_lower_is_better_is_the_other_way_round() -> None:
    assert look("cost_per_task_usd", cost(0.2, 50, spread=0.05), limit=0.085).word is Word.TRIPPED
    assert look("cost_per_task_usd", cost(0.05, 50, spread=0.01), limit=0.085).word is Word.QUIET


def test_the_limit_itself_is_still_allowed() -> None:
    at_it = Estimate(0.085, 0.085, 0.085, 50)
    assert look("cost_per_task_usd", at_it, limit=0.085).word is Word.QUIET


@pytest.mark.parametrize(("passed", "word"), [(2, Word.WATCHING), (19, Word.QUIET)])
def test_too_few_tasks_never_trip(passed: int, word: Word) -> None:
    found = look("quality_pass_rate", rate(passed, 19), limit=0.85, min_n=20)
    assert found.word is word
    assert found.sentence.startswith("Quality: 19 of 20 tasks needed (last 2 min); so far")
    criterion = look("quality_pass_rate", rate(passed, 19), limit=0.85, min_n=20, trigger=False)
    assert criterion.word is Word.UNDECIDED


def test_an_open_end_alone_does_not_alarm() -> None:
    inside = look("latency_p95_ms", Estimate(900, 700, None, 60), limit=6000)
    assert inside.word is Word.QUIET
    beyond = look("latency_p95_ms", Estimate(7000, 5000, None, 60), limit=6000)
    assert beyond.word is Word.WATCHING
    assert look("latency_p95_ms", Estimate(9000, 8000, None, 60), limit=6000).word is Word.TRIPPED
    criterion = look("latency_p95_ms", Estimate(900, 700, None, 60), limit=6000, trigger=False)
    assert criterion.word is Word.UNDECIDED


def test_a_count_above_its_limit_needs_no_least_number() -> None:
    found = look("critical_failures", Estimate(1, 1, 1, 3), limit=0, min_n=100)
    assert found.word is Word.TRIPPED
    assert found.sentence == "Critical failures: 1 (last 2 min, n 3), above the agreed 0."


def test_none_of_38_is_undecided() -> None:
    found = look("critical_failures", Estimate(0, 0, 0, 38), limit=0, trigger=False, min_n=30)
    assert found.word is Word.UNDECIDED
    assert found.sentence.endswith("; something this rare needs about 262 more tasks.")
    enough = look("critical_failures", Estimate(0, 0, 0, 300), limit=0, trigger=False)
    assert enough.word is Word.HOLDING


def test_one_task_over_a_hard_cap_trips_at_once() -> None:
    found = look(
        "cost_per_task_usd",
        Estimate(2.4, None, None, 1),
        compare="hard_cap",
        limit=2.0,
        largest=Estimate(2.4, 2.4, 2.4, 1),
    )
    assert found.word is Word.TRIPPED
    assert found.sentence == (
        "Cost per task: the most that one task cost was $2.40 (last 2 min, n 1), above the cap of"
        " $2.00."
    )
    inside = look(
        "cost_per_task_usd",
        cost(0.05, 50, spread=0.01),
        compare="hard_cap",
        limit=2.0,
        largest=Estimate(0.2, 0.2, 0.2, 50),
    )
    assert inside.word is Word.QUIET
    assert inside.value == 0.2


def test_silence_longer_than_usual_is_blind() -> None:
    # 120 tasks in 2 min: one a second, so 15 s is the least that counts as silence.
    assert look("quality_pass_rate", rate(120, 120), limit=0.85, data_age_s=14).word is Word.QUIET
    found = look("quality_pass_rate", rate(120, 120), limit=0.85, data_age_s=16)
    assert found.word is Word.BLIND
    assert found.sentence == (
        "Quality: no task has reported it since 10:31:06 UTC (at most 15 s is usual), so nothing"
        " is known of it now."
    )
    assert found.n == 120
    # Six in 2 min: ten times 20 s is more than the window, which is the most.
    assert look("quality_pass_rate", rate(6, 6), limit=0.85, data_age_s=110).word is Word.QUIET
    assert look("quality_pass_rate", rate(6, 6), limit=0.85, data_age_s=121).word is Word.BLIND


@pytest.mark.parametrize(
    ("window_s", "span_s", "n", "expected"),
    [
        (900, 900, 300, 30),
        (900, 900, 9000, 15),
        (900, 900, 1, 900),
        (2, 2, 1, 15),
        (900, 0, 0, 900),
        (900, 60, 20, 30),
    ],
)
def test_usual_silence(window_s: float, span_s: float, n: int, expected: float) -> None:
    assert stale_after_s(window_s=window_s, span_s=span_s, n=n) == expected


def test_reports_that_wait_too_long_make_blind() -> None:
    assert look("quality_pass_rate", rate(99, 99), limit=0.85, queue_age_s=59).word is Word.QUIET
    found = look("quality_pass_rate", rate(99, 99), limit=0.85, queue_age_s=61)
    assert found.word is Word.BLIND
    assert "have waited 1 min and longer" in found.sentence


def test_no_task_yet_is_open_first_and_blind_later() -> None:
    early = NOW - timedelta(seconds=30)
    found = look("quality_pass_rate", None, limit=0.85, data_age_s=None, started_at=early)
    assert (found.word, found.sentence) == (
        Word.WATCHING,
        "Quality: no task has reported it yet.",
    )
    criterion = look(
        "quality_pass_rate", None, limit=0.85, data_age_s=None, started_at=early, trigger=False
    )
    assert criterion.word is Word.UNDECIDED
    assert look("quality_pass_rate", None, limit=0.85, data_age_s=None).word is Word.BLIND


@pytest.mark.parametrize("trigger", [True, False])
def test_what_is_not_collected_never_reads_well(trigger: bool) -> None:
    for signal in (each for each in SIGNALS.values() if not each.collected):
        found = look(signal.slug, None, limit=1, trigger=trigger)
        assert found.word is (Word.WATCHING if trigger else Word.UNDECIDED)
        assert found.sentence.endswith("what this needs is not collected yet.")
    past = look("quality_pass_rate", rate(99, 99), compare="history", trigger=trigger)
    assert past.word is (Word.WATCHING if trigger else Word.UNDECIDED)


def test_a_value_without_a_range_decides_nothing() -> None:
    found = look("input_tokens_per_task", Estimate(9000, None, None, 500), limit=8000)
    assert found.word is Word.WATCHING
    criterion = look(
        "input_tokens_per_task", Estimate(100, None, None, 500), limit=8000, trigger=False
    )
    assert criterion.word is Word.UNDECIDED


def test_compared_with_stable() -> None:
    worse = look(
        "quality_pass_rate", rate(140, 200), compare="stable", margin=0.02, stable=rate(190, 200)
    )
    assert worse.word is Word.TRIPPED
    assert worse.sentence == (
        "Quality: 70.0 % of tasks passed (95 % range 63.3–75.9 %, last 2 min, n 200);"  # noqa: RUF001
        " stable: 95.0 % (n 200), worse by more than the 2 points allowed."
    )
    same = look(
        "quality_pass_rate",
        rate(9500, 10000),
        compare="stable",
        margin=0.02,
        stable=rate(9510, 10000),
        trigger=False,
    )
    assert same.word is Word.HOLDING
    open_ = look(
        "quality_pass_rate",
        rate(90, 100),
        compare="stable",
        margin=0.02,
        stable=rate(93, 100),
        trigger=False,
    )
    assert open_.word is Word.UNDECIDED


def test_two_equal_releases_do_not_alarm() -> None:
    found = look("quality_pass_rate", rate(90, 100), compare="stable", stable=rate(90, 100))
    assert found.word is Word.QUIET


def test_too_little_on_stable_is_said() -> None:
    found = look("quality_pass_rate", rate(90, 100), compare="stable", stable=rate(3, 3))
    assert found.word is Word.WATCHING
    assert found.sentence.endswith("the stable release has 3 of 20 tasks needed to compare.")


def test_age_of_data_is_its_own_measure() -> None:
    fresh = look("data_age_s", None, limit=60, data_age_s=10)
    assert (fresh.word, fresh.value) == (Word.QUIET, 10.0)
    assert look("data_age_s", None, limit=60, data_age_s=61).word is Word.TRIPPED
    assert look("data_age_s", None, limit=60, data_age_s=None).word is Word.TRIPPED


def test_runs_needed() -> None:
    assert runs_needed(limit=0.9, value=None, low=None, high=None, n=5, min_n=30) == 25
    # Half-width 0.04 must shrink to 0.02: four times the tasks.
    assert runs_needed(limit=0.9, value=0.92, low=0.88, high=0.95, n=100, min_n=30) == 300
    assert runs_needed(limit=0.9, value=0.9, low=0.8, high=0.95, n=100, min_n=30) is None
    assert runs_needed(limit=6000, value=5000, low=4000, high=None, n=100, min_n=30) is None


@pytest.mark.parametrize(
    ("word", "value", "low", "high", "n", "state"),
    [
        ("quiet", 0.95, 0.93, 0.97, 100, "inside"),
        ("watching", 0.91, 0.88, 0.94, 100, "near"),
        ("tripped", 0.8, 0.75, 0.85, 100, "over"),
        ("quiet", 0.95, 0.6, 1.0, 5, "too_few"),
        ("watching", None, None, None, 0, "too_few"),
        ("blind", 0.95, 0.93, 0.97, 100, "stale"),
    ],
)
def test_cell_states(
    word: str, value: float | None, low: float | None, high: float | None, n: int, state: str
) -> None:
    found = cell_state(
        word=word,
        signal=SIGNALS["quality_pass_rate"],
        limit=0.9,
        value=value,
        low=low,
        high=high,
        n=n,
        min_n=20,
    )
    assert found == state


def test_share_of_the_limit_that_is_used() -> None:
    assert used_share(SIGNALS["latency_p95_ms"], 3000, 6000) == 0.5
    assert used_share(SIGNALS["quality_pass_rate"], 0.95, 0.9) == pytest.approx(0.5)
    assert used_share(SIGNALS["critical_failures"], 0, 0) == 0.0
    assert used_share(SIGNALS["critical_failures"], 1, 0) == 2.0
    assert used_share(SIGNALS["latency_p95_ms"], None, 6000) is None


def counted(value: float, n: int) -> Estimate:
    return Estimate(value, value, value, n)


def test_a_repeated_failure_is_named() -> None:
    found = look("repeated_failures", counted(7, 312), limit=5, what="refund_policy_misread")
    assert found.word is Word.TRIPPED
    assert found.sentence == (
        "The same failure came 7 times: refund_policy_misread (last 2 min, n 312),"
        " above the agreed 5."
    )
    quiet = look("repeated_failures", counted(5, 312), limit=5, what="refund_policy_misread")
    assert quiet.word is Word.QUIET
    compared = look("repeated_failures", counted(7, 99), compare="stable", stable=counted(1, 99))
    assert compared.word is Word.WATCHING


@pytest.mark.parametrize("signal", ["critical_failures", "repeated_failures"])
@pytest.mark.parametrize("compare", ["limit", "hard_cap"])
def test_rare_events_hold_only_after_many_tasks(signal: str, compare: Compare) -> None:
    early = look(signal, counted(0, 38), limit=0, trigger=False, compare=compare)
    assert early.word is Word.UNDECIDED
    assert early.sentence.endswith("needs about 262 more tasks.")
    assert look(signal, counted(0, 300), limit=0, trigger=False, compare=compare).word is (
        Word.HOLDING
    )
    assert look(signal, counted(1, 38), limit=0, trigger=False, compare=compare).word is (
        Word.FAILING
    )


def test_a_backlog_is_judged_as_it_stands() -> None:
    holding = look("review_backlog", counted(12, 40), limit=20, trigger=False)
    assert (holding.word, holding.sentence) == (
        Word.HOLDING,
        "12 reviews wait (now, 40 tasks last 2 min), inside the agreed 20.",
    )
    few = look("review_backlog", counted(12, 19), limit=20, trigger=False)
    assert few.word is Word.UNDECIDED
    assert few.sentence.endswith("last 2 min); needs about 1 more tasks.")
    beyond = look("review_backlog", counted(21, 0), limit=20)
    assert beyond.word is Word.TRIPPED
    assert beyond.sentence.startswith("21 reviews wait (asked since ")


@pytest.mark.parametrize("age_s", [None, 4000])
def test_silence_unmakes_no_fact(age_s: float | None) -> None:
    for signal in ("critical_failures", "repeated_failures", "review_backlog", "review_age_s"):
        beyond = look(signal, counted(9, 40), limit=2, data_age_s=age_s)
        assert beyond.word is Word.TRIPPED, signal
        inside = look(signal, counted(1, 40), limit=2, data_age_s=age_s)
        assert inside.word is Word.BLIND, signal
    behind = look("critical_failures", counted(9, 40), limit=2, queue_age_s=61)
    assert behind.word is Word.BLIND


def test_too_few_reviews_are_called_reviews() -> None:
    found = look("review_reject_rate", rate(3, 9), limit=0.3, min_n=20)
    assert found.sentence.startswith("Reviews that rejected: 9 of 20 reviews needed")


WHY = "The source “crm” uses ids again."


@pytest.mark.parametrize("trigger", [True, False])
@pytest.mark.parametrize("passed", [222, 312])
def test_what_is_not_to_be_trusted_neither_holds_nor_trips(trigger: bool, passed: int) -> None:
    found = look(
        "quality_pass_rate", rate(passed, 312), limit=0.85, trigger=trigger, distrusted=WHY
    )

    assert found.word is Word.BLIND
    assert found.sentence == f"Quality: not to be trusted now. {WHY}"
    assert found.n == 312


def test_one_task_beyond_a_cap_is_true_whatever_is_wrong_with_the_rest() -> None:
    beyond, inside = (Estimate(usd, usd, usd, 40) for usd in (9000.0, 1.0))
    asked = {"limit": 2.0, "compare": "hard_cap", "distrusted": WHY}

    tripped = look("cost_per_task_usd", beyond, largest=beyond, **asked)  # type: ignore[arg-type]
    blind = look("cost_per_task_usd", inside, largest=inside, **asked)  # type: ignore[arg-type]

    assert (tripped.word, blind.word) == (Word.TRIPPED, Word.BLIND)


def test_a_count_beyond_its_limit_stays_a_fact() -> None:
    found = look("critical_failures", Estimate(3, 3, 3, 100), limit=0, distrusted=WHY)

    assert found.word is Word.TRIPPED
