"""Containment: one function, one transaction, on Postgres alone."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import SYSTEM, Principal, require
from rollout_console.audit import services as audit
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Workflow
from rollout_console.containment import policy
from rollout_console.containment.models import Command
from rollout_console.core import outbox
from rollout_console.core.canonical import digest
from rollout_console.core.errors import DomainError, InvalidInput, NotFound
from rollout_console.exposure.services import current_number, version_publish
from rollout_console.rollouts import locks
from rollout_console.rollouts.models import Mark, Rollout
from rollout_console.rollouts.states import EXPOSING, MoveNotAllowed, RolloutState
from signals.alerts.models import Alert, AlertState
from signals.guards.selectors import guard_is_tripped
from signals.guards.services import guards_disarm

_AUDIT_NAMES = {"pause": "rollout.paused", "rollback": "rollout.rolled_back"}
_MARK_TEXTS = {"pause": "paused", "rollback": "rolled back"}


class ActionNotAvailable(DomainError):
    code = "action-not-available"
    title = "This action is not available"


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
    """What a containment command came to; `exposure_version` is where the change is served."""

    rollout: str
    version: int
    exposure_version: int
    state: str
    changed_meanwhile: list[str]


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
    body: Any = None,
) -> Outcome:
    """Pause or roll back a rollout; pressing twice equals pressing once.

    `key` is the caller's idempotency key and `body` what else must be equal for it to be the
    same command. A stale press applies and says what changed meanwhile.

    Raises:
        NotFound, NotAllowed, InvalidInput, ActionNotAvailable, MoveRefused, KeyInFlight, KeyReused.
    """
    if action not in policy.ACTIONS:
        raise ActionNotAvailable(
            f"“{action}” cannot be done here; available: {', '.join(policy.ACTIONS)}."
        )
    _require(slug, action, principal)
    reason = reason_check(code=reason_code, note=note)
    if not 1 <= len(key) <= 200 or "\x00" in key:
        raise InvalidInput("An Idempotency-Key has 1 to 200 characters and no NUL.")
    fingerprint = digest(
        {"action": action, "reason": reason, "body": body, "expected_version": expected_version}
    )
    with transaction.atomic():
        if (done := _command_begin(principal, slug, key, fingerprint)) is not None:
            return done
        rollout = locks.rollouts().get(slug=slug)
        meanwhile = _changed_since(rollout, expected_version)
        outcome = _apply(
            rollout,
            action=action,
            reason=reason,
            principal=principal,
            now=now,
            opened_at=opened_at,
            meanwhile=meanwhile,
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


def alerts_contain_due(*, now: datetime) -> int:
    """Apply what due alerts ask for; return how many were claimed.

    The due time is taken off in the same transaction as the action, so an alert acts once
    whoever finds it first.
    """
    due = (
        Alert.objects.filter(due_at__lte=now)
        .exclude(state=AlertState.RESOLVED)
        .exclude(held_until__gt=now)
    )
    done = 0
    for alert in due.select_related("guard").order_by("due_at", "pk"):
        with transaction.atomic():
            # The rollout before the alert, as a press locks them, or the two could deadlock.
            rollout = locks.rollouts().get(slug=alert.rollout)
            if not due.filter(pk=alert.pk).update(due_at=None):
                continue
            done += 1
            action = str((alert.due_action or {}).get("action", ""))
            held = alert.guard.response.get("kind") == "contain_after_hold"
            if held and not guard_is_tripped(guard_id=alert.guard_id):
                # It recovered while its clock ran: there is nothing left to contain.
                continue
            if RolloutState(rollout.state) in EXPOSING and action in policy.ACTIONS:
                _apply(
                    rollout,
                    action=action,
                    reason={
                        "code": policy.reason_for_signal(alert.guard.signal),
                        "note": f"Automatic, by alert {alert.pk}: {alert.sentence}",
                    },
                    principal=SYSTEM,
                    now=now,
                    opened_at=alert.opened_at,
                    meanwhile=[],
                )
    return done


def exposure_end(rollout: Rollout, *, state: RolloutState, now: datetime) -> None:
    """Take a rollout out of force in the caller's transaction: nothing of it is exposed."""
    rollout.state = state
    rollout.ended_at = now
    rollout.exposed.all().delete()
    rollout.rollout_paths.update(in_force=False)
    guards_disarm(rollout_slug=rollout.slug, now=now)
    # A reduction that covers every path stops every clock of this rollout.
    Alert.objects.filter(rollout=rollout.slug).exclude(state=AlertState.RESOLVED).update(
        due_at=None
    )


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

    Returns the exposure version that serves the change.
    """
    rollout.version += 1
    rollout.state_at = now
    rollout.state_by = principal.name
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
    facts = {
        "version": rollout.version,
        "exposure_version": exposure.number,
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
        data={"workflow": rollout.workflow.slug, "rollout": rollout.slug, **facts},
    )
    Mark.objects.create(
        workflow=rollout.workflow, rollout=rollout, kind=mark_kind, text=mark[:200], at=now
    )
    return int(exposure.number)


def _apply(
    rollout: Rollout,
    *,
    action: str,
    reason: dict[str, str],
    principal: Principal,
    now: datetime,
    opened_at: datetime | None,
    meanwhile: list[str],
) -> Outcome:
    before = RolloutState(rollout.state)
    try:
        after = policy.state_after(before, action)
    except MoveNotAllowed as refusal:
        raise MoveRefused(str(refusal), state=before.value) from refusal
    if after is before:
        exposure_number = current_number()
    else:
        exposed = [
            {"segment": row.segment.slug, "share": str(row.share.normalize())}
            for row in rollout.exposed.select_related("segment").order_by("pk")
        ]
        if action == "rollback":
            exposure_end(rollout, state=after, now=now)
        else:
            rollout.state = after
        exposure_number = rollout_changed(
            rollout,
            action=_AUDIT_NAMES[action],
            principal=principal,
            now=now,
            mark=f"{_MARK_TEXTS[action]} by {principal.name}",
            reason=reason,
            data={
                "from": before.value,
                "exposed_before": exposed,
                "opened_at": opened_at.isoformat() if opened_at else None,
            },
        )
    return Outcome(
        rollout=rollout.slug,
        version=rollout.version,
        exposure_version=exposure_number,
        state=str(rollout.state),
        changed_meanwhile=meanwhile,
    )


def _require(slug: str, action: str, principal: Principal) -> None:
    workflow = Workflow.objects.filter(rollouts__slug=slug).first()
    # Who may not read a rollout is not told that it exists.
    if workflow is None or not (
        principal.may(Verb.READ, workflow.pk) or principal.may(Verb(action), workflow.pk)
    ):
        raise NotFound(f"There is no rollout “{slug}”.")
    require(principal, Verb(action), workflow)


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
