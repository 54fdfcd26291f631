"""How each containment action reads: on its form, on the bar, in the menus. Pure but for rows."""

from dataclasses import dataclass
from typing import Final

from rollout_console.containment import policy
from rollout_console.rollouts.models import Rollout
from rollout_console.web.words import share_text


@dataclass(frozen=True, slots=True)
class Look:
    """An action's name and shape, the same wherever it is offered. `key` is its letter."""

    name: str
    short: str
    icon: str
    style: str
    tint: str
    key: str = ""
    danger: bool = False


LOOKS: Final[dict[str, Look]] = {
    "pause": Look("Pause expansion", "Pause", "s-paused", "a-pause", "t-pause", "P"),
    "resume": Look("Resume expansion", "Resume", "play", "a-pause", "t-done", "P"),
    "narrow": Look("Narrow exposure", "Narrow", "s-narrowed", "a-narrow", "t-narrow", "N"),
    "fallback": Look("Switch to fallback", "Fallback", "s-fallback", "a-fall", "t-fall", "F"),
    "clear_fallback": Look("Clear fallback", "Clear", "undo", "a-fall", "t-done"),
    "rollback": Look("Roll back", "Roll back", "s-rolled", "a-roll", "t-roll", "R", danger=True),
    "disable_action": Look("Disable action route", "Disable", "stop", "a-stop", "t-stop", "X"),
    "require_approval": Look("Require approval", "Require approval", "user", "a-stop", "t-stop"),
    "enable_action": Look("Enable action route", "Enable", "play", "a-stop", "t-done"),
    "escalate": Look("Escalate", "Escalate", "up", "a-stop", "t-pause"),
}


@dataclass(frozen=True, slots=True)
class Button:
    """A containment action as offered somewhere; `small` says what it would do, or who can."""

    action: str
    small: str
    may: bool = True
    suggested: bool = False

    @property
    def slug(self) -> str:
        return slug_of(self.action)

    @property
    def look(self) -> Look:
        return LOOKS[self.action]


# A form stands for each of them.
OFFERED: Final = policy.ACTIONS


def slug_of(action: str) -> str:
    """Return an action as it stands in an address."""
    return action.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Action:
    """How an action's form reads, for one rollout."""

    slug: str
    title: str
    button: str
    lead: str
    look: Look
    then: list[tuple[str, str]]
    returning: str
    measure: str


_AUDITED: Final = ("chain", "It stands in the audit log, and the charts carry a mark.")
_ARMED: Final = ("shield", "Triggers stay armed and keep watching.")
_BAKE: Final = ("clock", "The bake starts anew: expansion waits for fresh evidence.")
_TWO: Final = (
    "the owner and a second person, or the owner alone while no trigger has tripped since."
)


def action_for(rollout: Rollout, action: str, *, exposed: str) -> Action:
    """Return an action's words for this rollout; `exposed` names what is exposed now."""
    name, candidate = rollout.workflow.name, rollout.candidate.version
    stable = rollout.stable.version if rollout.stable else ""
    to = stable or "the way without AI"
    look = LOOKS[action]
    button, measure = look.name, "Tasks held"
    if action == "pause":
        title = f"Pause expansion of {name}?"
        lead = (
            f"Hold at {exposed}. {candidate} goes on serving them; nothing widens."
            if exposed
            else "Nothing widens."
        )
        then = [
            ("s-paused", "Expansion stops and exposure holds. It does not turn the AI off."),
            _ARMED,
        ]
        returning = f"Resuming needs {_TWO}"
    elif action == "rollback":
        title, button, measure = f"Roll back {name} to {to}?", f"Roll back to {to}", "Tasks moved"
        lead = (
            f"{candidate} stops serving live users. Everyone returns to {stable}, the stable"
            " release."
            if stable
            else f"{candidate} stops serving live users. There is no stable release, so everyone"
            " gets the path's declared way without AI."
        )
        then = [
            ("s-rolled", f"{to} serves every segment from each client's next question on."),
            ("stop", f"The action routes of {candidate} turn to deny; those of stable stay."),
        ]
        returning = (
            f"This is final for this rollout. Returning to {candidate} is a new rollout"
            " of it, through the gate."
        )
    elif action == "narrow":
        title, measure = f"Narrow who gets {candidate}", "Tasks on it now"
        lead = f"Choose the segments that stay on {candidate}. The rest go back to {to}."
        then = [("s-narrowed", f"Whoever is left out gets {to} with the next question."), _BAKE]
        returning = "Widening again is an expansion: every criterion holding, and an approval."
    elif action == "fallback":
        title, measure = f"Switch {name} to a fallback", "Tasks rerouted"
        lead = f"Tasks keep moving without relying on {candidate} as it is."
        then = [
            ("s-fallback", "The same people stay covered; only how the task is done changes."),
            _ARMED,
        ]
        returning = f"Clearing the fallback needs {_TWO}"
    elif action == "clear_fallback":
        title, measure = f"Clear the fallback of {name}?", "Tasks rerouted now"
        lead = f"{candidate} answers as it is again, for whom it is exposed to."
        then = [("undo", "Action routes that were disabled stay so."), _BAKE]
        returning = "Falling back again needs one person and a reason."
    elif action == "resume":
        title = f"Resume expansion of {name}?"
        lead = f"{candidate} stays exposed as it is; widening becomes possible again."
        then = [("play", "Nothing widens by this: an expansion is still asked for."), _BAKE]
        returning = "Pausing again needs one person and a reason."
    elif action == "enable_action":
        title, measure = f"Enable an action route of {name}", "Tasks on it now"
        lead = "The route is as the plan has it again, for both releases."
        then = [("play", "Workflows learn it with their next question.")]
        returning = "Disabling it again needs one person and a reason."
    elif action == "escalate":
        title = f"Escalate {name}?"
        lead = "The next on the ladder is told. Nothing that is served changes."
        then = [("bell", "A running clock goes on: escalating is no reduction.")]
        returning = "There is nothing to take back."
    else:
        denied = action == "disable_action"
        title = f"{'Disable' if denied else 'Require approval for'} an action route of {name}"
        measure = "Tasks on it now"
        lead = (
            "The route is denied for both releases, at once."
            if denied
            else "Whoever asks to use the route waits for a person, for both releases."
        )
        then = [("stop", "It is never looser than it is now, and outlives this rollout."), _BAKE]
        returning = f"Enabling it again needs {_TWO}"
    return Action(
        slug=slug_of(action),
        title=title,
        button=button,
        lead=lead,
        look=look,
        then=[*then, _AUDITED],
        returning=returning,
        measure=measure,
    )


DONE_WORDS: Final[dict[str, str]] = {
    "pause": "Expansion is paused",
    "resume": "Expansion is resumed",
    "narrow": "Exposure is narrowed",
    "fallback": "Switched to the fallback",
    "clear_fallback": "The fallback is cleared",
    "rollback": "Rolled back",
    "disable_action": "The action route is disabled",
    "require_approval": "The action route asks for approval",
    "enable_action": "The action route is enabled",
    "escalate": "Escalated",
}

MODE_TEXTS: Final[dict[str, str]] = {
    "human_review": "Every answer waits for a reviewer; routes that were allowed ask first.",
    "manual": "People do the task without AI; every action route is denied.",
    "read_only": "Answers stay; action routes that write are denied.",
}


def mode_text(mode: str, declared: dict[str, object], *, stable: str, candidate: str) -> str:
    """Return what a declared fallback mode does, in words for its form."""
    if mode == "previous_stable":
        return f"{stable or 'The way without AI'} answers; {candidate} stays ready."
    if mode == "simpler_route":
        return f"{candidate} by its route “{declared.get('route', '')}”."
    if mode == "reduced_context":
        settings = declared.get("settings")
        shown = settings.items() if isinstance(settings, dict) else ()
        return "With " + ", ".join(f"{key} {value}" for key, value in shown) + "."
    return MODE_TEXTS[mode]


def exposed_text(parts: list[tuple[str, float]]) -> str:
    """Return exposed segments with their shares, in words."""
    return " + ".join(f"{name} {share_text(share)}" for name, share in parts)
