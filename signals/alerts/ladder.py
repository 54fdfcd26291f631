"""The escalation ladder of a workflow: who is told next of what nobody has acknowledged."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from approvals.authority.principals import persons_told
from rollout_console.catalog.models import Person, Workflow

# What climbs where the plan names no ladder: after five minutes the deputy is told.
DEFAULT: Final[tuple[dict[str, Any], ...]] = ({"after_s": 300, "notify": "deputy"},)


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of a ladder: `after_s` after an alert began to wait, `to` (a role or a name) is told.

    `people` are who that is now; whoever is out has somebody in their place.
    """

    number: int
    last: bool
    after_s: int
    to: str
    people: list[Person]

    def at(self, pages_from: datetime) -> datetime:
        return pages_from + timedelta(seconds=self.after_s)

    @property
    def names(self) -> list[str]:
        return [person.shown_name for person in self.people]

    @property
    def usernames(self) -> list[str]:
        return [person.username for person in self.people]


def rung_next(workflow: Workflow, told: int) -> Rung | None:
    """Return the rung after `told` of them, None past the last; the one rule of who is next."""
    steps = workflow.escalation or DEFAULT
    if told >= len(steps):
        return None
    step = steps[told]
    return Rung(
        number=told + 1,
        last=told + 1 == len(steps),
        after_s=int(step["after_s"]),
        to=str(step["notify"]),
        people=persons_told(str(step["notify"]), workflow),
    )


def rungs(workflow: Workflow) -> list[Rung]:
    """Return the whole ladder, from the first who is told."""
    found: list[Rung] = []
    while (rung := rung_next(workflow, len(found))) is not None:
        found.append(rung)
    return found


def page_time(workflow: Workflow, told: int, pages_from: datetime) -> datetime | None:
    """Return when the rung after `told` is due, None past the last."""
    rung = rung_next(workflow, told)
    return None if rung is None else rung.at(pages_from)
