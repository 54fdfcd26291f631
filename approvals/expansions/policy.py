"""When exposure may be widened and by whose word, as values. Pure: no Django."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final, Literal

from rollout_console.rollouts.ladder import ExposedSet, NextRung, tasks_in_all
from rollout_console.rollouts.states import RolloutState

# Above this part (0-1) of the path's tasks a stage takes two approvers.
TWO_APPROVERS_ABOVE: Final = 0.25
RISKY: Final = frozenset({"medium", "high"})
# A verdict that nobody renewed for so long says nothing of now. A criterion is read again at
# least every five minutes, a trigger every second.
CRITERION_AGE_S: Final = 660.0
TRIGGER_AGE_S: Final = 60.0


class RequestState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    VOID = "void"
    EXPIRED = "expired"
    STARTED = "started"


OPEN: Final = frozenset({RequestState.PENDING, RequestState.APPROVED})

Kind = Literal["known", "waiting"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a guard says: its word, why, about how much more it needs, and how old that is."""

    guard: str
    word: str
    sentence: str
    needs: str
    age_s: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a rollout when somebody wants to widen it, or has asked to."""

    state: RolloutState
    rung: NextRung | None
    bake_from: datetime | None
    bake_s: int
    runs: int
    min_runs: int
    criteria: tuple[Said, ...]
    triggers: tuple[Said, ...]
    modes: tuple[str, ...]
    waiting: int | None
    read_at: datetime


@dataclass(frozen=True, slots=True)
class Precondition:
    """One thing that must hold before exposure widens, with its evidence.

    `kind` is `known` where what is missing speaks against widening, and `waiting` where it is
    only not known yet: break-glass skips waiting, never a warning.
    """

    slug: str
    title: str
    met: bool
    detail: str
    kind: Kind = "known"


@dataclass(frozen=True, slots=True)
class Bound:
    """What a request stands on; any of it moving makes the request void."""

    version: int
    plan: str
    plan_number: int
    release: str
    last_alert: int


# The version moves with most of the others, so it is named only where nothing says more.
_MOVED: Final[Mapping[str, str]] = {
    "plan": "the plan changed",
    "plan_number": "a new plan was applied",
    "release": "the release changed",
    "last_alert": "a trigger tripped",
    "version": "the rollout changed",
}


@dataclass(frozen=True, slots=True)
class TaskShare:
    """The part (0-1) of the path's tasks that an exposed set reaches, and by what it is known."""

    share: float | None
    basis: Literal["measured", "planned", "unknown"]


@dataclass(frozen=True, slots=True)
class Approvers:
    """How many people have to approve, and why."""

    needed: int
    why: str


def preconditions(facts: Facts) -> list[Precondition]:
    """Return everything that must hold before a wider exposure is asked for, or started."""
    return [
        _state(facts),
        _ladder(facts),
        _modes(facts),
        *_triggers(facts),
        _bake(facts),
        _runs(facts),
        *_criteria(facts),
        _waiting(facts),
    ]


def missing(found: Iterable[Precondition], *, break_glass: bool = False) -> list[Precondition]:
    """Return what does not hold; break-glass leaves out what is only not known yet."""
    return [each for each in found if not each.met and not (break_glass and each.kind == "waiting")]


def lapse(
    *, asked: Bound, now_bound: Bound, facts: Facts, expires_at: datetime
) -> tuple[RequestState, str] | None:
    """Return the state that an open request falls into by itself, and why; None while it stands.

    A criterion that turns undecided or blind only holds the start up. One that fails, like a
    trigger that trips, is other evidence than was shown.
    """
    if facts.state is not RolloutState.LIVE:
        return RequestState.VOID, f"The rollout is {facts.state.replace('_', ' ')}."
    for name, words in _MOVED.items():
        if getattr(asked, name) != getattr(now_bound, name):
            return RequestState.VOID, f"Since it was asked for, {words}."
    for said in facts.triggers:
        if said.word == "tripped":
            return RequestState.VOID, f"A trigger tripped: {said.sentence}"
    for said in facts.criteria:
        if said.word == "failing":
            return RequestState.VOID, f"A criterion fails now: {said.sentence}"
    if facts.read_at >= expires_at:
        return RequestState.EXPIRED, f"Nobody started it before {expires_at:%d %b %H:%M:%S} UTC."
    return None


def approvers_needed(*, after: TaskShare, risky_routes: Sequence[str]) -> Approvers:
    """Return one, or two where the next stage is large, not known, or can act on the world."""
    if risky_routes:
        return Approvers(2, f"the workflow has riskier action routes: {', '.join(risky_routes)}")
    if after.share is None:
        return Approvers(2, "how much of the path's tasks it reaches is not known")
    shown = f"{after.share * 100:.3g} % of the path's tasks ({after.basis})"
    if after.share > TWO_APPROVERS_ABOVE:
        return Approvers(2, f"it reaches {shown}, more than {TWO_APPROVERS_ABOVE * 100:.0f} %")
    return Approvers(1, f"it reaches {shown}, not more than {TWO_APPROVERS_ABOVE * 100:.0f} %")


def task_share(
    exposed: ExposedSet,
    *,
    measured: Mapping[str, int],
    total: int,
    planned: Mapping[str, int | None],
    rules: Mapping[str, object],
) -> TaskShare:
    """Return which part of a path's tasks an exposed set reaches.

    Args:
        exposed: the set in question.
        measured: tasks by segment in the window that was measured, whatever they were served.
        total: all tasks in that window, those of no segment included.
        planned: the plan's tasks a day by segment, of every segment; None where it says none.
        rules: the segments' rules.

    Traffic counts where each of the segments had a task in it; else the plan's figures do, and
    without those nothing is known.
    """
    if total > 0 and all(measured.get(segment) for segment in exposed):
        return TaskShare(_part(exposed, measured, total), "measured")
    sizes = {segment: size for segment, size in planned.items() if size is not None}
    whole = tasks_in_all(sizes, rules)
    if len(sizes) == len(planned) and whole > 0 and set(exposed) <= set(sizes):
        return TaskShare(_part(exposed, sizes, whole), "planned")
    return TaskShare(None, "unknown")


def largest_share(shares: Iterable[TaskShare]) -> TaskShare:
    """Return the share that asks for most care: one that is not known before any that is."""
    found = list(shares)
    unknown = TaskShare(None, "unknown")
    if not found or any(each.share is None for each in found):
        return unknown
    return max(found, key=lambda each: each.share or 0.0)


def state_after_approval(*, approvals: int, needed: int) -> RequestState:
    return RequestState.APPROVED if approvals >= needed else RequestState.PENDING


def _part(exposed: ExposedSet, sizes: Mapping[str, int], total: int) -> float:
    reached = sum((share * sizes[segment] for segment, share in exposed.items()), Decimal(0))
    return min(1.0, float(reached / total))


def _state(facts: Facts) -> Precondition:
    return Precondition(
        "state",
        "The rollout is live",
        facts.state is RolloutState.LIVE,
        f"It is {facts.state.replace('_', ' ')}.",
    )


def _ladder(facts: Facts) -> Precondition:
    rung = facts.rung
    detail = "It is at its last stage in full: complete it instead."
    if rung is not None:
        detail = f"Stage {rung.position}"
        detail += " in full, which containment cut." if rung.again else " comes next."
    return Precondition("ladder", "There is a wider stage", rung is not None, detail)


def _modes(facts: Facts) -> Precondition:
    detail = "Every path serves normally."
    if facts.modes:
        detail = f"In force: {'; '.join(facts.modes)}. Clear it first."
    return Precondition("modes", "No fallback is in force", not facts.modes, detail)


def _bake(facts: Facts) -> Precondition:
    title = f"Baked for at least {_span(facts.bake_s)}"
    if facts.bake_from is None:
        return Precondition("bake", title, False, "Nothing is exposed yet.", "waiting")
    ends_at = facts.bake_from + timedelta(seconds=facts.bake_s)
    since = f"since {facts.bake_from:%d %b %H:%M:%S} UTC"
    if facts.read_at >= ends_at:
        return Precondition("bake", title, True, f"It bakes {since}.", "waiting")
    left = (ends_at - facts.read_at).total_seconds()
    return Precondition("bake", title, False, f"{_span(left)} are left, {since}.", "waiting")


def _runs(facts: Facts) -> Precondition:
    return Precondition(
        "runs",
        f"At least {facts.min_runs:,} runs of the candidate",
        facts.runs >= facts.min_runs,
        f"{facts.runs:,} of {facts.min_runs:,} came on this stage.",
        "waiting",
    )


def _triggers(facts: Facts) -> list[Precondition]:
    found = []
    for said in facts.triggers:
        if said.word == "tripped":
            met, detail, kind = False, said.sentence, "known"
        elif _is_old(said, TRIGGER_AGE_S):
            met, detail, kind = False, _unread(said), "waiting"
        else:
            met, detail, kind = True, said.sentence, "known"
        found.append(
            Precondition(
                f"trigger:{said.guard}",
                f"Trigger {said.guard} has not tripped",
                met,
                detail,
                kind,  # type: ignore[arg-type]  # one of the two words, chosen above
            )
        )
    return found


def _criteria(facts: Facts) -> list[Precondition]:
    if not facts.criteria:
        # Dates alone never widen: without a criterion there is nothing to hold.
        return [Precondition("criteria", "Every criterion holds", False, "The plan names none.")]
    found = []
    for said in facts.criteria:
        detail = f"{said.sentence} {said.needs}".strip()
        met = said.word == "holding"
        if met and _is_old(said, CRITERION_AGE_S):
            met, detail = False, _unread(said)
        found.append(
            Precondition(
                f"criterion:{said.guard}",
                f"Criterion {said.guard} holds",
                met,
                detail if met else f"{said.word.capitalize()}: {detail}",
                "known" if said.word == "failing" else "waiting",
            )
        )
    return found


def _waiting(facts: Facts) -> Precondition:
    detail = "None waits."
    if facts.waiting is not None:
        detail = f"Request {facts.waiting} waits for its decision or its start."
    return Precondition("waiting", "No other request waits", facts.waiting is None, detail)


def _is_old(said: Said, limit_s: float) -> bool:
    return said.age_s is None or said.age_s > limit_s


def _unread(said: Said) -> str:
    if said.age_s is None:
        return "It was not looked at yet."
    return f"It was last looked at {_span(said.age_s)} ago: nobody is watching."


def _span(seconds: float) -> str:
    """Return a length of time in one unit; seconds are rounded up, so that 0 is over."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{math.ceil(seconds)} s"
