"""What widening takes, as values: every word a guard can say, in every state."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approvals.expansions.policy import (
    Bound,
    Facts,
    RequestState,
    Said,
    TaskShare,
    approvers_needed,
    lapse,
    largest_share,
    missing,
    preconditions,
    state_after_approval,
    task_share,
)
from rollout_console.rollouts.ladder import NextRung
from rollout_console.rollouts.states import RolloutState
from signals.guards.words import Word

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
RUNG = NextRung(2, {"internal": Decimal(1)}, again=False)
HOLDS = Said("cost", "holding", "It costs $0.03.", "", 3.0)
QUIET = Said("slow", "quiet", "It takes 2 s.", "", 1.0)
RIPE = Facts(
    state=RolloutState.LIVE,
    rung=RUNG,
    bake_from=NOW - timedelta(seconds=60),
    bake_s=60,
    runs=50,
    min_runs=50,
    criteria=(HOLDS,),
    triggers=(QUIET,),
    modes=(),
    waiting=None,
    read_at=NOW,
)
BOUND = Bound(version=3, plan="p", plan_number=1, release="r", last_alert=0)


def lacks(facts: Facts, *, break_glass: bool = False) -> list[str]:
    return [each.slug for each in missing(preconditions(facts), break_glass=break_glass)]


def test_what_is_ripe_lacks_nothing() -> None:
    assert lacks(RIPE) == []


@pytest.mark.parametrize(
    ("facts", "slug", "by_break_glass"),
    [
        (replace(RIPE, bake_from=NOW - timedelta(seconds=59.9)), "bake", True),
        (replace(RIPE, bake_from=None), "bake", True),
        (replace(RIPE, runs=49), "runs", True),
        (replace(RIPE, rung=None), "ladder", False),
        (replace(RIPE, modes=("manual on draft",)), "modes", False),
        (replace(RIPE, waiting=7), "waiting", False),
        (replace(RIPE, criteria=()), "criteria", False),
        (replace(RIPE, criteria=(replace(HOLDS, age_s=661.0),)), "criterion:cost", True),
        (replace(RIPE, criteria=(replace(HOLDS, age_s=None),)), "criterion:cost", True),
        (replace(RIPE, triggers=(replace(QUIET, age_s=61.0),)), "trigger:slow", True),
    ],
)
def test_each_thing_is_needed(facts: Facts, slug: str, by_break_glass: bool) -> None:
    assert lacks(facts) == [slug]
    assert (lacks(facts, break_glass=True) == []) == by_break_glass


@pytest.mark.parametrize("state", [state for state in RolloutState if state != "live"])
def test_nothing_but_live_widens_by_any_way(state: RolloutState) -> None:
    for break_glass in (False, True):
        assert lacks(replace(RIPE, state=state), break_glass=break_glass) == ["state"]


@pytest.mark.parametrize("word", [word for word in Word if word != "holding"])
def test_no_other_word_counts_as_holding(word: Word) -> None:
    facts = replace(RIPE, criteria=(replace(HOLDS, word=word.value),))
    assert lacks(facts) == ["criterion:cost"]
    # Against it, or only not known yet.
    assert (lacks(facts, break_glass=True) == []) == (word != "failing")


@pytest.mark.parametrize("word", list(Word))
def test_a_tripped_trigger_blocks_every_way(word: Word) -> None:
    facts = replace(RIPE, triggers=(replace(QUIET, word=word.value),))
    blocked = ["trigger:slow"] if word == "tripped" else []
    assert lacks(facts) == blocked
    assert lacks(facts, break_glass=True) == blocked


def test_what_is_missing_says_what_it_needs() -> None:
    open_ = replace(HOLDS, word="undecided", sentence="n 12.", needs="Needs about 38 more runs.")
    (said,) = missing(preconditions(replace(RIPE, criteria=(open_,))))
    assert (said.title, said.detail) == (
        "Criterion cost holds",
        "Undecided: n 12. Needs about 38 more runs.",
    )


LATER = NOW + timedelta(hours=1)


def test_a_request_stands_while_nothing_moved() -> None:
    assert lapse(asked=BOUND, now_bound=BOUND, facts=RIPE, expires_at=LATER) is None


@pytest.mark.parametrize(
    "moved",
    [
        {"version": 4},
        {"plan": "q"},
        {"plan_number": 2},
        {"release": "s"},
        {"last_alert": 1},
    ],
)
def test_whatever_it_stands_on_moving_makes_it_void(moved: dict[str, object]) -> None:
    now_bound = replace(BOUND, **moved)  # type: ignore[arg-type]  # by name
    found = lapse(asked=BOUND, now_bound=now_bound, facts=RIPE, expires_at=LATER)
    assert found is not None
    assert found[0] is RequestState.VOID


def test_other_evidence_makes_it_void_and_silence_does_not() -> None:
    def state(**facts: object) -> RequestState | None:
        seen = replace(RIPE, **facts)  # type: ignore[arg-type]  # by name
        found = lapse(asked=BOUND, now_bound=BOUND, facts=seen, expires_at=LATER)
        return None if found is None else found[0]

    assert state(criteria=(replace(HOLDS, word="failing"),)) is RequestState.VOID
    assert state(triggers=(replace(QUIET, word="tripped"),)) is RequestState.VOID
    assert state(criteria=(replace(HOLDS, word="undecided"),)) is None
    assert state(criteria=(replace(HOLDS, word="blind"),)) is None
    assert state(triggers=(replace(QUIET, word="watching"),)) is None


def test_it_expires_at_its_last_moment() -> None:
    def state(expires_at: datetime) -> RequestState | None:
        found = lapse(asked=BOUND, now_bound=BOUND, facts=RIPE, expires_at=expires_at)
        return None if found is None else found[0]

    assert state(NOW) is RequestState.EXPIRED
    assert state(NOW + timedelta(microseconds=1)) is None


@pytest.mark.parametrize(
    ("share", "risky", "needed"),
    [
        (0.25, [], 1),
        (0.2500001, [], 2),
        (0.01, ["send_message"], 2),
        (None, [], 2),
    ],
)
def test_how_many_approve(share: float | None, risky: list[str], needed: int) -> None:
    after = TaskShare(share, "unknown" if share is None else "planned")
    found = approvers_needed(after=after, risky_routes=risky)
    assert found.needed == needed
    assert found.why


def test_traffic_counts_before_the_plan() -> None:
    exposed = {"internal": Decimal("0.5"), "eu": Decimal("0.1")}
    planned = {"internal": 400, "eu": 9600}

    def share(measured: dict[str, int], total: int, **sizes: int | None) -> TaskShare:
        return task_share(
            exposed, measured=measured, total=total, planned={**planned, **sizes}, rules={}
        )

    assert share({"internal": 100, "eu": 300}, 1000) == TaskShare(0.08, "measured")
    # A segment without a task in the hour is not known by traffic.
    assert share({"internal": 100}, 1000) == TaskShare(0.116, "planned")
    assert share({}, 0) == TaskShare(0.116, "planned")
    assert share({}, 0, eu=None) == TaskShare(None, "unknown")


def test_everybody_is_the_whole_and_not_one_segment_more() -> None:
    after = task_share(
        {"eu": Decimal("0.7")},
        measured={},
        total=0,
        planned={"eu": 9_000, "everybody": 20_000},
        rules={"eu": {"==": [{"var": "customer_segment"}, "eu"]}, "everybody": True},
    )

    assert after == TaskShare(0.315, "planned")
    found = approvers_needed(after=after, risky_routes=[])
    assert (found.needed, "31.5 % of the path's tasks" in found.why) == (2, True)


def test_the_path_that_asks_for_most_care_counts() -> None:
    small, large = TaskShare(0.1, "measured"), TaskShare(0.3, "planned")
    assert largest_share([small, large]) == large
    assert largest_share([small, TaskShare(None, "unknown"), large]).share is None
    assert largest_share([]).share is None


@given(approvals=st.integers(0, 3), needed=st.sampled_from([1, 2]))
def test_it_is_approved_by_enough_people_and_not_before(approvals: int, needed: int) -> None:
    state = state_after_approval(approvals=approvals, needed=needed)
    assert (state is RequestState.APPROVED) == (approvals >= needed)
