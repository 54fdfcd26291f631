"""What to do with a rollout, and why: one word of six with ranked reasons. Pure: no Django.

It recommends and never acts. In the grey zone (undecided, blind, no data, watching) the word is to
hold: neither to ship nor to panic.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from rollout_console.rollouts.states import EXPOSING, RolloutState


class Advice(StrEnum):
    """In the order of severity."""

    CONTINUE = "continue"
    HOLD = "hold"
    PAUSE = "pause"
    NARROW = "narrow"
    ROLL_BACK = "roll_back"
    REDESIGN = "redesign"


ADVICES: Final[Mapping[Advice, str]] = {
    Advice.CONTINUE: "Continue",
    Advice.HOLD: "Hold",
    Advice.PAUSE: "Pause",
    Advice.NARROW: "Narrow",
    Advice.ROLL_BACK: "Roll back",
    Advice.REDESIGN: "Redesign",
}
_RANK: Final = {advice: place for place, advice in enumerate(Advice)}
_SEVERITY: Final = {"low": 0, "medium": 1, "high": 2, "critical": 3}
# What a plan's response comes to among the six. What holds the candidate's actions or hands its
# tasks to a fallback leaves it exposed, and nothing should widen meanwhile.
_RESPONSES: Final = {
    "pause": Advice.PAUSE,
    "narrow": Advice.NARROW,
    "rollback": Advice.ROLL_BACK,
    "fallback": Advice.PAUSE,
    "disable_action": Advice.PAUSE,
    "require_approval": Advice.PAUSE,
    "escalate": Advice.HOLD,
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What a guard says. `response` is the plan's, `e_value` the evidence of harm, 1 for none."""

    guard: str
    is_trigger: bool
    signal: str
    word: str
    severity: str
    sentence: str
    response: Mapping[str, Any]
    e_value: float = 1.0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: a guard's own sentence, "" for what no guard says."""

    advice: Advice
    guard: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The word, and its reasons: the strongest first."""

    advice: Advice
    reasons: tuple[Reason, ...]

    @property
    def title(self) -> str:
        return ADVICES[self.advice]

    def document(self) -> dict[str, Any]:
        return {
            "advice": self.advice.value,
            "reasons": [
                {"advice": each.advice.value, "guard": each.guard, "sentence": each.sentence}
                for each in self.reasons
            ],
        }


def recommend(
    heard: Iterable[Heard], *, state: RolloutState, lowest_stage: bool, widest_stage: bool
) -> Recommendation | None:
    """Return what to do; None for a rollout that exposes nobody yet, or is over for good.

    Args:
        heard: what every guard says now.
        state: the rollout's.
        lowest_stage: nothing is left to narrow to.
        widest_stage: nothing is left to widen to.
    """
    said = list(heard)
    if state is RolloutState.ROLLED_BACK:
        why = _because(said, Advice.REDESIGN) or (
            Reason(Advice.REDESIGN, "", "It was rolled back: close it with what was found."),
        )
        return Recommendation(Advice.REDESIGN, why)
    if state not in EXPOSING:
        return None
    harm = _because(said, lowest=lowest_stage)
    if harm:
        worst = max((each.advice for each in harm), key=_RANK.__getitem__)
        if lowest_stage and _is_hopeless(said):
            more = "More than one signal says that it is worse, on the first stage already."
            return Recommendation(Advice.REDESIGN, (Reason(Advice.REDESIGN, "", more), *harm))
        return Recommendation(worst, harm)
    open_ = _open(said)
    if open_:
        return Recommendation(Advice.HOLD, open_)
    if state is RolloutState.PAUSED:
        paused = Reason(Advice.HOLD, "", "It is paused and nothing speaks against resuming.")
        return Recommendation(Advice.HOLD, (paused,))
    if not any(not each.is_trigger for each in said):
        none = Reason(Advice.HOLD, "", "No criterion says when to widen.")
        return Recommendation(Advice.HOLD, (none,))
    what = "complete" if widest_stage else "widen to the next stage"
    fine = Reason(
        Advice.CONTINUE, "", f"All criteria hold and no trigger is more than quiet: {what}."
    )
    return Recommendation(Advice.CONTINUE, (fine,))


def _because(
    said: Sequence[Heard], every: Advice | None = None, *, lowest: bool = False
) -> tuple[Reason, ...]:
    """Return the reasons that speak of harm, the strongest first."""
    found = []
    for each in said:
        if each.is_trigger and each.word == "tripped":
            advice = _of_response(each, lowest=lowest)
        elif not each.is_trigger and each.word == "failing":
            advice = Advice.PAUSE if lowest else Advice.NARROW
        else:
            continue
        found.append((every or advice, each))
    found.sort(
        key=lambda pair: (
            -_RANK[pair[0]],
            not pair[1].is_trigger,
            -_SEVERITY.get(pair[1].severity, 0),
            -pair[1].e_value,
            pair[1].guard,
        )
    )
    return tuple(Reason(advice, each.guard, each.sentence) for advice, each in found)


def _of_response(each: Heard, *, lowest: bool) -> Advice:
    action = each.response.get("action")
    advice = _RESPONSES.get(str(action)) if action else None
    if advice is None:
        # The plan only tells: how bad it is decides.
        advice = Advice.ROLL_BACK if each.severity == "critical" else Advice.NARROW
    return Advice.ROLL_BACK if advice is Advice.NARROW and lowest else advice


def _is_hopeless(said: Sequence[Heard]) -> bool:
    """Whether a trigger tripped and criteria of two signals fail: it is no single slip."""
    failing = {each.signal for each in said if not each.is_trigger and each.word == "failing"}
    return len(failing) > 1 and any(each.is_trigger and each.word == "tripped" for each in said)


def _open(said: Sequence[Heard]) -> tuple[Reason, ...]:
    """Return what is not settled: blind guards first, then what points to harm, then the rest."""
    order = {"blind": 0, "watching": 1, "undecided": 2}
    found = [each for each in said if each.word in order]
    found.sort(
        key=lambda each: (
            order[each.word],
            -_SEVERITY.get(each.severity, 0),
            -each.e_value,
            each.guard,
        )
    )
    return tuple(Reason(Advice.HOLD, each.guard, each.sentence) for each in found)
