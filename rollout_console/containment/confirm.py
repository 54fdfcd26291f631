"""Steps that take two people: each sends the step, and the second half does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from approvals.authority.matrix import MATRIX, Role, Verb
from approvals.authority.principals import NotAllowed, Principal, who_can
from rollout_console.audit import services as audit
from rollout_console.core.errors import DomainError
from rollout_console.rollouts.models import Confirmation, Rollout

CONFIRMATION_S: Final = 15 * 60


class SecondPersonNeeded(DomainError):
    code = "second-person-needed"
    title = "A second person must confirm"
    status = 403


@dataclass(frozen=True, slots=True)
class Side:
    """One half of a step: the name it is kept under, and the verb that gives it."""

    name: str
    verb: Verb

    @property
    def roles(self) -> list[str]:
        """The roles of which one can give this half."""
        return [role.value for role in Role if role in MATRIX[self.verb]]


@dataclass(frozen=True, slots=True)
class Halves:
    """Where a step stands: the usernames that confirmed, and the roles one of which is missing."""

    people: list[str]
    waiting_for: list[str]


def sides_check(
    rollout: Rollout, principal: Principal, sides: Sequence[Side], *, step: str
) -> None:
    """Raise NotAllowed unless `principal` is a person who can give one of the halves."""
    workflow = rollout.workflow
    if principal.person_id is not None and any(
        principal.may(side.verb, workflow.pk) for side in sides
    ):
        return
    names = [name for side in sides for name in who_can(side.verb, workflow)]
    raise NotAllowed(
        f"{step} in {workflow.name} takes {' and '.join(_words(side) for side in sides)}:"
        f" {', '.join(dict.fromkeys(names)) or 'nobody yet'}.",
        who_can=list(dict.fromkeys(names)),
    )


def half_confirm(
    rollout: Rollout,
    *,
    verb: str,
    sides: Sequence[Side],
    principal: Principal,
    now: datetime,
    fingerprint: str = "",
) -> Halves:
    """Add this person's half of a step on a locked rollout; confirming again changes nothing.

    A half lasts 15 minutes and is void when the rollout's version moves. Call `sides_check`
    before.

    Raises:
        SecondPersonNeeded: the half that this person could give is there already.
    """
    assert principal.person_id is not None
    current = rollout.confirmations.filter(
        verb=verb, version=rollout.version, fingerprint=fingerprint
    )
    held = {each.role: each for each in current.filter(expires_at__gt=now).select_related("person")}
    if principal.person_id not in {each.person_id for each in held.values()}:
        side = next(
            (
                side
                for side in sides
                if side.name not in held and principal.may(side.verb, rollout.workflow_id)
            ),
            None,
        )
        if side is None:
            missing = next(side for side in sides if side.name not in held)
            names = who_can(missing.verb, rollout.workflow)
            raise SecondPersonNeeded(
                f"Your side has confirmed already; now it takes: {', '.join(names)}.",
                who_can=names,
            )
        confirmation, _ = Confirmation.objects.update_or_create(
            rollout=rollout,
            verb=verb,
            version=rollout.version,
            fingerprint=fingerprint,
            person_id=principal.person_id,
            defaults={"role": side.name, "expires_at": now + timedelta(seconds=CONFIRMATION_S)},
        )
        held[side.name] = confirmation
        audit.append(
            "rollout.confirmed",
            actor=principal,
            at=now,
            workflow=rollout.workflow.slug,
            subject_type="rollout",
            subject=rollout.slug,
            data={"step": verb, "as": side.name, "version": rollout.version},
        )
    missing_side = next((side for side in sides if side.name not in held), None)
    return Halves(
        people=sorted(each.person.username for each in held.values()),
        waiting_for=[] if missing_side is None else missing_side.roles,
    )


def _words(side: Side) -> str:
    return "its owner" if side.name == Role.OWNER else f"a person who is {' or '.join(side.roles)}"
