"""Containment: one function, one transaction, on Postgres alone."""

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from django.db import connection, transaction

from approvals.authority.matrix import Role, Verb
from approvals.authority.principals import Principal, require
from rollout_console.audit import services as audit
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Workflow
from rollout_console.containment import changes, policy
from rollout_console.containment.changes import Change
from rollout_console.containment.confirm import Side, half_confirm, sides_check
from rollout_console.containment.models import Command
from rollout_console.containment.targets import Press
from rollout_console.core import outbox
from rollout_console.core.canonical import digest
from rollout_console.core.errors import DomainError, InvalidInput, NotFound
from rollout_console.exposure.services import current_number, version_publish
from rollout_console.rollouts import locks
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import EXPOSING, MoveNotAllowed, RolloutState
from signals.alerts.recurrences import reduction_note, reductions_forget
from signals.alerts.services import clocks_stop, tripped_since
from signals.guards.services import criteria_restart, guards_disarm

EVERYWHERE: Final = Press()
# Who gives the halves of what widens again: design.md, "Who".
_SECOND: Final = Side("second", Verb.SECOND_PERSON)


class ActionNotAvailable(DomainError):
    code = "action-not-available"
    title = "This action is not available"


class VersionMoved(DomainError):
    code = "version-moved"
    title = "The rollout changed meanwhile"


class MoveRefused(DomainError):
    """The rollout's state does not admit the action."""

    code = "move-not-allowed"
    title = "Not possible in this state"


class KeyInFlight(DomainError):
    code = "idempotency-key-in-flight"
    title = "This command is still running"


class KeyReused(DomainError):
    code = "idempotency-key-reused"
    title = "This key was used for another command"
    status = 422


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a containment command came to; `exposure_version` is where the change is served.

    Where `waiting_for` names roles, one of them has to send it too before anything changes.
    """

    rollout: str
    version: int
    exposure_version: int
    state: str
    changed_meanwhile: list[str]
    waiting_for: list[str] = field(default_factory=list)


def reason_check(*, code: str, note: str) -> dict[str, str]:
    """Return the reason as it is kept.

    Raises:
        InvalidInput: an unknown code, no note with code `other`, or a note that does not fit.
    """
    if code not in policy.REASONS:
        known = ", ".join(policy.REASONS)
        raise InvalidInput(
            f"Choose a reason: one of {known}.",
            errors=[{"pointer": "/reason/code", "detail": f"Use one of: {known}."}],
        )
    note = note.strip()
    if "\x00" in note or len(note) > policy.NOTE_MAX:
        raise InvalidInput(
            f"A note has at most {policy.NOTE_MAX:,} characters and no NUL.",
            errors=[{"pointer": "/reason/note", "detail": "Shorten the note."}],
        )
    if code == "other" and not note:
        raise InvalidInput(
            "Say in the note what the reason is: the code is “other”.",
            errors=[{"pointer": "/reason/note", "detail": "Write a note."}],
        )
    return {"code": code, "note": note} if note else {"code": code}


def rollout_contain(
    *,
    slug: str,
    action: str,
    reason_code: str,
    note: str,
    principal: Principal,
    key: str,
    now: datetime,
    expected_version: int | None = None,
    opened_at: datetime | None = None,
    press: Press = EVERYWHERE,
) -> Outcome:
    """Do one of design.md's containment actions; pressing twice equals pressing once.

    `key` is the caller's idempotency key. A stale reduction applies and says what changed
    meanwhile; what widens takes the exact version, and the owner with a second person unless
    nothing tripped since.

    Raises:
        NotFound, NotAllowed, InvalidInput, ActionNotAvailable, MoveRefused, VersionMoved,
        KeyInFlight, KeyReused, SecondPersonNeeded, and what `changes` refuses.
    """
    rule = policy.RULES.get(action)
    if rule is None:
        raise ActionNotAvailable(
            f"“{action}” cannot be done here; available: {', '.join(policy.ACTIONS)}."
        )
    _require(slug, action, principal)
    reason = reason_check(code=reason_code, note=note)
    if not 1 <= len(key) <= 200 or "\x00" in key:
        raise InvalidInput("An Idempotency-Key has 1 to 200 characters and no NUL.")
    _fields_check(action, press)
    if rule.widens and expected_version is None:
        raise InvalidInput(
            f"To {policy.words(action)}, say the version that you saw.",
            errors=[{"pointer": "/expected_version", "detail": "Send the rollout's version."}],
        )
    fingerprint = digest(
        {
            "action": action,
            "reason": reason,
            "press": press.plain(),
            "expected_version": expected_version,
        }
    )
    with transaction.atomic():
        if (done := _command_begin(principal, slug, key, fingerprint)) is not None:
            return done
        rollout = locks.rollouts().get(slug=slug)
        if rule.widens and expected_version != rollout.version:
            raise VersionMoved(
                f"You saw version {expected_version}, it is {rollout.version} now: read it again.",
                version=rollout.version,
                changed_meanwhile=_changed_since(rollout, expected_version),
            )
        outcome = action_apply(
            rollout,
            action=action,
            press=press,
            reason=reason,
            principal=principal,
            now=now,
            opened_at=opened_at,
            meanwhile=_changed_since(rollout, expected_version),
        )
        Command.objects.create(
            principal=_scope(principal),
            key=key,
            rollout=rollout,
            fingerprint=fingerprint,
            outcome=asdict(outcome),
            at=now,
        )
    return outcome


def exposure_end(rollout: Rollout, *, state: RolloutState, now: datetime) -> None:
    """Take a rollout out of force in the caller's transaction: nothing of it is exposed."""
    rollout.state = state
    rollout.ended_at = now
    rollout.exposed.all().delete()
    rollout.modes.all().delete()
    rollout.rollout_paths.update(in_force=False)
    guards_disarm(rollout_slug=rollout.slug, now=now)
    clocks_stop(rollout_slug=rollout.slug)


def rollout_changed(
    rollout: Rollout,
    *,
    action: str,
    principal: Principal,
    now: datetime,
    mark: str,
    mark_kind: str = "action",
    reason: dict[str, str] | None = None,
    data: dict[str, Any] | None = None,
) -> int:
    """Save a changed rollout with version, exposure version, audit entry, outbox row and mark.

    While something is exposed, a change starts the bake anew: expansion waits for fresh evidence.
    Returns the exposure version that serves the change.
    """
    rollout.version += 1
    rollout.state_at = now
    rollout.state_by = principal.name
    if RolloutState(rollout.state) in EXPOSING:
        rollout.bake_from = now
        criteria_restart(rollout_slug=rollout.slug, now=now)
    rollout.save(
        update_fields=[
            "state",
            "version",
            "state_at",
            "state_by",
            "stage",
            "stage_at",
            "bake_from",
            "live_at",
            "ended_at",
            "findings",
        ]
    )
    exposure = version_publish(
        cause=f"{rollout.slug} {mark}",
        actor_name=principal.name,
        now=now,
        force=True,
        workflow=rollout.workflow.slug,
    )
    rollout_told(
        rollout,
        action=action,
        principal=principal,
        now=now,
        mark=mark,
        mark_kind=mark_kind,
        reason=reason,
        exposure_version=exposure.number,
        data=data,
    )
    return int(exposure.number)


def rollout_told(
    rollout: Rollout,
    *,
    action: str,
    principal: Principal,
    now: datetime,
    mark: str,
    exposure_version: int,
    mark_kind: str = "action",
    reason: dict[str, str] | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Write audit entry, outbox row and chart mark of what happened to a rollout."""
    facts = {
        "version": rollout.version,
        "exposure_version": exposure_version,
        "state": str(rollout.state),
        **(data or {}),
    }
    audit.append(
        action,
        actor=principal,
        at=now,
        workflow=rollout.workflow.slug,
        subject_type="rollout",
        subject=rollout.slug,
        reason=reason,
        data=facts,
    )
    outbox.add(
        "rollout.changed",
        workflow=rollout.workflow.slug,
        key=rollout.slug,
        at=now,
        data={
            "workflow": rollout.workflow.slug,
            "rollout": rollout.slug,
            "action": action.removeprefix("rollout."),
            **facts,
        },
    )
    changes.mark_add(rollout, kind=mark_kind, text=mark, now=now)


def action_apply(
    rollout: Rollout,
    *,
    action: str,
    press: Press,
    reason: dict[str, str],
    principal: Principal,
    now: datetime,
    opened_at: datetime | None,
    meanwhile: list[str],
) -> Outcome:
    """Do one action to a locked rollout in the caller's transaction; who may is checked before.

    Raises:
        MoveRefused, SecondPersonNeeded, and what `changes` refuses.
    """
    rule = policy.RULES[action]
    before = RolloutState(rollout.state)
    exposed = changes.exposed_set(rollout)
    try:
        after = policy.state_after(before, action) if action in _MOVING else before
    except MoveNotAllowed as refusal:
        raise MoveRefused(str(refusal), state=before.value) from refusal
    if action not in _MOVING and before not in rule.while_:
        raise MoveRefused(
            f"A {before.replace('_', ' ')} rollout exposes nobody, so there is nothing to"
            f" {policy.words(action)}.",
            state=before.value,
        )
    waiting_for: list[str] = []
    if rule.widens:
        waiting_for = _waiting_for(rollout, action, press, principal=principal, now=now)
    change = Change(changed=False)
    if not waiting_for:
        change = _change(rollout, action, press, after=after, now=now)
    outcome = Outcome(
        rollout=rollout.slug,
        version=rollout.version,
        exposure_version=current_number(),
        state=str(rollout.state),
        changed_meanwhile=meanwhile,
        waiting_for=waiting_for,
    )
    if not change.changed:
        return outcome
    data = {
        "from": before.value,
        "exposed_before": [
            {"segment": slug, "share": str(share.normalize())} for slug, share in exposed.items()
        ],
        "opened_at": opened_at.isoformat() if opened_at else None,
        **change.data,
    }
    told: dict[str, Any] = {
        "action": rule.audit,
        "principal": principal,
        "now": now,
        "mark": f"{rule.mark}{change.where} by {principal.name}",
        "reason": reason,
        "data": data,
    }
    if action == "escalate":
        rollout_told(rollout, exposure_version=outcome.exposure_version, **told)
        return outcome
    number = rollout_changed(rollout, **told)
    if rule.widens:
        reductions_forget(rollout_slug=rollout.slug)
    elif action in policy.REDUCTIONS:
        reduction_note(
            rollout_slug=rollout.slug,
            path_ids=change.paths or None,
            segment_ids=change.segments,
            action_route=press.action_route,
            by_itself=principal.kind == "system",
            now=now,
        )
    if action in policy.CLOCK_STOPPERS:
        clocks_stop(
            rollout_slug=rollout.slug,
            path_ids=change.paths,
            segment_ids=change.segments,
            action_route=press.action_route,
            by_itself=principal.kind == "system",
        )
    return replace(
        outcome,
        version=rollout.version,
        exposure_version=number,
        state=str(rollout.state),
    )


# Actions that move the state machine.
_MOVING: Final = frozenset({"pause", "resume", "rollback"})


def _change(
    rollout: Rollout, action: str, press: Press, *, after: RolloutState, now: datetime
) -> Change:
    if action in _MOVING:
        changed = after is not RolloutState(rollout.state)
        if changed and action == "rollback":
            exposure_end(rollout, state=after, now=now)
        else:
            rollout.state = after
        return Change(changed=changed)
    if action == "narrow":
        return changes.narrow(rollout, press)
    if action == "fallback":
        return changes.fall_back(rollout, press, now=now)
    if action == "clear_fallback":
        return changes.fallback_clear(rollout, press)
    if action == "enable_action":
        return changes.action_enable(rollout, press)
    if action == "escalate":
        return changes.escalate(rollout)
    state = "deny" if action == "disable_action" else "ask"
    return changes.action_restrict(rollout, press, state=state, now=now)


def _fields_check(action: str, press: Press) -> None:
    """Raise InvalidInput for what the action does not take: it must not be passed over."""
    takes = policy.RULES[action].takes
    for name in press.plain():
        if name not in takes:
            known = ", ".join(sorted(takes)) or "nothing beside its reason"
            raise InvalidInput(
                f"To {policy.words(action)} takes no “{name}”; it takes {known}.",
                errors=[{"pointer": f"/{name}", "detail": "Leave it out."}],
            )


def _waiting_for(
    rollout: Rollout, action: str, press: Press, *, principal: Principal, now: datetime
) -> list[str]:
    """Return the roles of which one has to confirm as well; the owner alone may while it is calm.

    Raises:
        NothingToReturn: there is nothing to take back.
        SecondPersonNeeded: this person's half is there already.
    """
    since = changes.returns_since(rollout, action, press)
    is_owner = principal.person_id is not None and principal.may(Verb(action), rollout.workflow_id)
    if is_owner and not tripped_since(rollout_slug=rollout.slug, since=since):
        return []
    sides = (Side(Role.OWNER.value, Verb(action)), _SECOND)
    sides_check(rollout, principal, sides, step=policy.words(action).capitalize())
    halves = half_confirm(
        rollout,
        verb=action,
        sides=sides,
        principal=principal,
        now=now,
        fingerprint=digest(press.plain()),
    )
    return halves.waiting_for


def contain_permit(principal: Principal, action: str, workflow: Workflow) -> None:
    """Raise NotAllowed unless `principal` may send an action, alone or as the second person."""
    if policy.RULES[action].widens and principal.may(Verb.SECOND_PERSON, workflow.pk):
        return
    require(principal, Verb(action), workflow)


def _require(slug: str, action: str, principal: Principal) -> None:
    workflow = Workflow.objects.filter(rollouts__slug=slug).first()
    # Who may not read a rollout is not told that it exists.
    if workflow is None or not (
        principal.may(Verb.READ, workflow.pk) or principal.may(Verb(action), workflow.pk)
    ):
        raise NotFound(f"There is no rollout “{slug}”.")
    contain_permit(principal, action, workflow)


def _scope(principal: Principal) -> str:
    return f"{principal.kind}:{principal.id}"


def _command_begin(principal: Principal, slug: str, key: str, fingerprint: str) -> Outcome | None:
    """Return the outcome that this key already has, or None when the caller is to do it.

    Raises:
        KeyInFlight: another connection holds the same key just now.
        KeyReused: the key stands for another command.
    """
    scope = _scope(principal)
    with connection.cursor() as cursor:
        # Held until the transaction ends; the unique constraint is the judge behind it.
        cursor.execute(
            "select pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [f"{scope} {slug} {key}"]
        )
        (free,) = cursor.fetchone()
    if not free:
        raise KeyInFlight("The same command is running now; repeat it to read its outcome.")
    command = Command.objects.filter(principal=scope, rollout__slug=slug, key=key).first()
    if command is None:
        return None
    if command.outcome is None or command.fingerprint != fingerprint:
        raise KeyReused("Send a new Idempotency-Key: this one stands for another command.")
    return Outcome(**command.outcome)


def _changed_since(rollout: Rollout, expected_version: int | None) -> list[str]:
    if expected_version is None or expected_version == rollout.version:
        return []
    entries = AuditEntry.objects.filter(
        subject_type="rollout", subject=rollout.slug, data__version__gt=expected_version
    ).order_by("pk")
    return [
        f"{entry.actor}: {entry.action.removeprefix('rollout.').replace('_', ' ')}"
        f" at {entry.at:%H:%M:%S} UTC"
        for entry in entries
    ]
