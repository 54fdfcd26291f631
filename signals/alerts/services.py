"""Open alerts when triggers trip, once each; acknowledge, hold and resolve them.

An alert never contains anything: it carries when and what, and containment claims it.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import IntegrityError, transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import (
    SYSTEM,
    Principal,
    answering,
    persons_told,
    require,
)
from rollout_console.catalog.models import Workflow
from rollout_console.core import outbox
from rollout_console.core.errors import DomainError, InvalidInput, NotFound
from signals.alerts import locks
from signals.alerts.grouping import incident_join, incident_settle
from signals.alerts.models import Alert, AlertState, Incident
from signals.alerts.records import alert_facts, alert_record
from signals.alerts.recurrences import contained_since, recurrences_note
from signals.guards.models import Guard, GuardKind, VerdictWord
from signals.guards.selectors import guard_is_tripped
from signals.guards.services import Looked, guard_evidence_restart, guards_look
from signals.health.services import problem_set_aside

NOTE_MAX: Final = 2000
# The responses that a clock, or no clock at all, carries out without a person.
_BY_ITSELF: Final = frozenset({"contain", "contain_after_hold"})


class AlertResolved(DomainError):
    code = "alert-resolved"
    title = "This alert is resolved"


class HoldTooLong(DomainError):
    code = "hold-too-long"
    title = "An alert cannot be held so long"


class StillTripped(DomainError):
    """The trigger still says tripped, so the alert cannot have been right and be over."""

    code = "still-tripped"
    title = "The trigger is still tripped"


class ResolvedOtherwise(DomainError):
    code = "alert-resolved-otherwise"
    title = "This alert was resolved with another answer"


@transaction.atomic
def guards_watch(*, now: datetime) -> int:
    """Look at every armed guard and open an alert for each tripped trigger without one.

    Returns how many alerts were opened. While another look is under way it does nothing: that
    look, or the next one a second later, sees the same evidence.
    """
    looked = guards_look(now=now)
    triggers = [each for each in looked or [] if each.guard.kind == GuardKind.TRIGGER]
    if not triggers:
        return 0
    waiting = recurrences_note(triggers, now=now)
    return sum(
        _open(each, now=now)
        for each in triggers
        if each.verdict.verdict == VerdictWord.TRIPPED and each.guard.pk not in waiting
    )


@transaction.atomic
def alert_acknowledge(*, alert_id: int, principal: Principal, now: datetime) -> Alert:
    """Take an alert on: stops the next page, not the clock. Repeating it changes nothing.

    Raises:
        NotFound, NotAllowed.
    """
    alert, incident = _alert(alert_id, Verb.ALERT_ACKNOWLEDGE, principal)
    if alert.acked_at is None and alert.state != AlertState.RESOLVED:
        acknowledge(alert, principal=principal, now=now)
        _settle(incident, principal, now)
    return alert


def acknowledge(alert: Alert, *, principal: Principal, now: datetime) -> None:
    """Take a locked alert on, in the caller's transaction."""
    alert.acked_at, alert.acked_by = now, principal.name
    fields = ["acked_at", "acked_by"]
    if alert.state == AlertState.OPEN:
        alert.state = AlertState.ACKNOWLEDGED
        fields.append("state")
    alert.save(update_fields=fields)
    alert_record("alert.acknowledged", alert, principal=principal, now=now)


@transaction.atomic
def alert_hold(
    *, alert_id: int, until: datetime, reason: str, principal: Principal, now: datetime
) -> Alert:
    """Stop an alert's clock until a time, at most twice the plan's `hold_s` from now.

    Raises:
        NotFound, NotAllowed, InvalidInput, AlertResolved, HoldTooLong.
    """
    reason = text_check(reason, pointer="/reason", needed=True)
    alert, _ = _alert(alert_id, Verb.ALERT_HOLD, principal)
    if alert.state == AlertState.RESOLVED:
        raise AlertResolved("There is no clock to stop: this alert is resolved.")
    if alert.state == AlertState.HELD and (alert.held_until, alert.held_reason) == (until, reason):
        return alert
    if until <= now:
        raise InvalidInput(
            "Hold until a time that is still to come.",
            errors=[{"pointer": "/until", "detail": "Choose a later time."}],
        )
    latest = now + timedelta(seconds=2 * alert.workflow.hold_s)
    if until > latest:
        raise HoldTooLong(
            f"Hold until {latest:%H:%M:%S} UTC at the latest, twice the plan's clock; then decide"
            " again.",
            latest=latest.isoformat(),
        )
    alert.state = AlertState.HELD
    alert.held_until, alert.held_reason = until, reason
    alert.save(update_fields=["state", "held_until", "held_reason"])
    alert_record(
        "alert.held",
        alert,
        principal=principal,
        now=now,
        reason={"note": reason},
        data={"until": until.isoformat()},
    )
    return alert


@transaction.atomic
def alert_resolve(
    *,
    alert_id: int,
    was_right: bool,
    note: str,
    principal: Principal,
    now: datetime,
    onset_at: datetime | None = None,
) -> Alert:
    """Close an alert with the answer to "was it right?"; the guard's evidence starts again.

    `onset_at` is when the damage began, where the person knows: time to detect counts from it.
    Repeating the same answer changes nothing.

    Raises:
        NotFound, NotAllowed, InvalidInput, ResolvedOtherwise.
        StillTripped: the trigger says tripped now, or the problem is still there, and the answer
            is not that it was wrong.
    """
    note = text_check(note, pointer="/note", needed=False)
    guard_id = Alert.objects.filter(pk=alert_id).values_list("guard_id", flat=True).first()
    # Guard before alert, as everywhere: a look that opens an alert holds the guard too.
    if guard_id is not None:
        locks.guards().get(pk=guard_id)
    alert, incident = _alert(alert_id, Verb.ALERT_RESOLVE, principal)
    if alert.state == AlertState.RESOLVED:
        if alert.was_right != was_right:
            answer = "right" if alert.was_right else "wrong"
            raise ResolvedOtherwise(f"{alert.resolved_by} resolved it already: it was {answer}.")
        return alert
    if was_right and alert.guard_id is not None and guard_is_tripped(guard_id=alert.guard_id):
        raise StillTripped(
            "The trigger is still tripped: contain first, or resolve it as a false alarm if that"
            " is what it is."
        )
    if was_right and alert.problem is not None and alert.problem.ended_at is None:
        raise StillTripped(
            "The problem is still there and resolves its alert when it is over. Resolve it as a"
            " false alarm if the signals can be trusted all the same."
        )
    if onset_at is not None and onset_at > alert.opened_at:
        raise InvalidInput(
            f"The damage began before the alert did: by {alert.opened_at:%d %b %Y, %H:%M:%S} UTC.",
            errors=[{"pointer": "/onset_at", "detail": "Choose a time before the alert opened."}],
        )
    alert.state = AlertState.RESOLVED
    alert.resolved_at, alert.resolved_by = now, principal.name
    alert.was_right, alert.note = was_right, note
    alert.onset_at = onset_at
    alert.due_at = alert.halfway_at = None
    alert.save(
        update_fields=[
            "state",
            "resolved_at",
            "resolved_by",
            "was_right",
            "note",
            "onset_at",
            "due_at",
            "halfway_at",
        ]
    )
    if alert.guard_id is not None:
        guard_evidence_restart(guard_id=alert.guard_id, now=now)
    elif alert.problem_id is not None and not was_right:
        problem_set_aside(problem_id=alert.problem_id, now=now)
    alert_record(
        "alert.resolved",
        alert,
        principal=principal,
        now=now,
        reason={"note": note} if note else None,
        data={
            "was_right": was_right,
            **({"onset_at": onset_at.isoformat()} if onset_at else {}),
        },
    )
    outbox.add(
        "alert.resolved",
        workflow=alert.workflow.slug,
        key=alert.pk,
        at=now,
        data={**alert_facts(alert), "was_right": was_right, "by": principal.name},
    )
    _settle(incident, principal, now)
    return alert


def clocks_stop(
    *,
    rollout_slug: str,
    path_ids: Collection[int] | None = None,
    segment_ids: Collection[int] | None = None,
    action_route: str | None = None,
    by_itself: bool = False,
) -> int:
    """Stop the clocks that a reduction makes pointless; return how many ran.

    What contains at once has no clock to stop, but for what ends the exposure altogether.

    Args:
        rollout_slug: the rollout that was reduced.
        path_ids: the paths that the reduction covers, None for all.
        segment_ids: the segments that it covers, None for all.
        action_route: only clocks that would hold this action route.
        by_itself: the console reduced, not a person: a clock that would roll back goes on.
    """
    # Before any of its alerts: who acknowledges holds them in this order, and two could deadlock.
    list(locks.incidents().filter(rollout=rollout_slug))
    alerts = Alert.objects.filter(rollout=rollout_slug, due_at__isnull=False).exclude(
        state=AlertState.RESOLVED
    )
    if path_ids is not None:
        alerts = alerts.filter(guard__path__in=path_ids).exclude(guard__response__kind="contain")
    if by_itself:
        alerts = alerts.exclude(due_action__action="rollback")
    if segment_ids is not None:
        alerts = alerts.filter(guard__segment__in=segment_ids)
    if action_route is not None:
        alerts = alerts.filter(due_action__action_route=action_route)
    return alerts.update(due_at=None, halfway_at=None)


def alerts_half_time(*, now: datetime) -> int:
    """Tell the deputy of each clock that is half over without a decision; return how many.

    A hold is a decision; to acknowledge is none.
    """
    half = (
        Alert.objects.filter(halfway_at__lte=now, due_at__isnull=False)
        .exclude(state=AlertState.RESOLVED)
        .exclude(held_until__gt=now)
    )
    done = 0
    waiting = half.select_related(
        *("workflow__owner", "workflow__deputy", "guard", "problem", "owner")
    )
    for alert in waiting.order_by("pk"):
        with transaction.atomic():
            if not half.filter(pk=alert.pk).update(halfway_at=None):
                continue
            told = [person.username for person in persons_told("deputy", alert.workflow)]
            facts = {"deputy": alert.workflow.deputy.username, "notify": told}
            alert_record("alert.half_time", alert, principal=SYSTEM, now=now, data=facts)
            outbox.add(
                "alert.half_time",
                workflow=alert.workflow.slug,
                key=alert.pk,
                at=now,
                data={**alert_facts(alert), **facts},
            )
            done += 1
    return done


def tripped_since(*, rollout_slug: str, since: datetime) -> bool:
    """Whether a trigger of a rollout says tripped now, or opened an alert after `since`.

    So does one with an unresolved alert that has gone blind: what was contained reports no more,
    and silence is no recovery.
    """
    alerts = Alert.objects.filter(rollout=rollout_slug, guard__isnull=False)
    blind = alerts.exclude(state=AlertState.RESOLVED).filter(
        guard__armed=True, guard__verdict__verdict=VerdictWord.BLIND
    )
    return (
        alerts.filter(opened_at__gt=since).exists()
        or blind.exists()
        or Guard.objects.filter(
            rollout=rollout_slug,
            armed=True,
            kind=GuardKind.TRIGGER,
            verdict__verdict=VerdictWord.TRIPPED,
        ).exists()
    )


def _open(looked: Looked, *, now: datetime) -> int:
    guard, verdict = looked.guard, looked.verdict
    # Under the guard's lock: an alert resolved, or a rollout ended, since the look began has
    # moved the evidence or disarmed the guard, and what was read no longer counts.
    current = (
        locks.guards()
        .select_related("workflow__owner", "workflow__deputy", "path", "segment")
        .filter(pk=guard.pk)
        .first()
    )
    if current is None or not current.armed or current.evidence_from != guard.evidence_from:
        return 0
    due_at, halfway_at, due_action = _due(current, now)
    # What a reduction has just covered is recorded and shown, and pages nobody.
    contained_at = contained_since(current, now=now)
    quiet = contained_at is not None
    try:
        with transaction.atomic():
            alert = Alert.objects.create(
                workflow=current.workflow,
                rollout=current.rollout,
                incident=incident_join(
                    workflow=current.workflow, rollout=current.rollout, quiet=quiet, now=now
                ),
                guard=current,
                owner=answering(current.workflow),
                contained_at=contained_at,
                quiet=quiet,
                sentence=verdict.sentence,
                value=verdict.value,
                low=verdict.low,
                high=verdict.high,
                n=verdict.n,
                opened_at=now,
                due_at=due_at,
                halfway_at=halfway_at,
                due_action=due_action,
            )
    except IntegrityError:
        # Opened by somebody else since the list of waiting ones was read.
        return 0
    alert_record(
        "alert.opened",
        alert,
        principal=SYSTEM,
        now=now,
        data={
            "sentence": alert.sentence,
            "value": alert.value,
            "low": alert.low,
            "high": alert.high,
            "n": alert.n,
            "ledger_block": verdict.ledger_block,
            "due_at": due_at.isoformat() if due_at else None,
            "due_action": due_action,
        },
    )
    outbox.add(
        "alert.opened", workflow=alert.workflow.slug, key=alert.pk, at=now, data=alert_facts(alert)
    )
    return 1


def _due(
    guard: Guard, now: datetime
) -> tuple[datetime | None, datetime | None, dict[str, Any] | None]:
    """Return when containment acts by itself, half of that time, and what it does.

    All None where a person decides. What a narrow comes to is for containment to freeze: it
    knows the stages.
    """
    response = guard.response
    if response.get("kind") not in _BY_ITSELF:
        return None, None, None
    due_action = {
        "action": response.get("action", "narrow"),
        "path": guard.path.slug,
        "segment": guard.segment.slug if guard.segment is not None else None,
        **{key: response[key] for key in ("mode", "action_route") if key in response},
    }
    if response["kind"] == "contain":
        return now, None, due_action
    hold = timedelta(seconds=guard.workflow.hold_s)
    return now + hold, now + hold / 2, due_action


def _settle(incident: Incident | None, principal: Principal, now: datetime) -> None:
    if incident is not None:
        incident_settle(incident, principal=principal, now=now)


def _alert(alert_id: int, verb: Verb, principal: Principal) -> tuple[Alert, Incident | None]:
    """Return the alert and its incident, locked, after checking that `principal` may do `verb`."""
    workflow = Workflow.objects.filter(alerts=alert_id).first()
    # Who may not read it is not told that it exists.
    if workflow is None or not (
        principal.may(Verb.READ, workflow.pk) or principal.may(verb, workflow.pk)
    ):
        raise NotFound(f"There is no alert {alert_id}.")
    require(principal, verb, workflow)
    return locks.alert_with_incident(alert_id)


def text_check(text: str, *, pointer: str, needed: bool) -> str:
    """Return a text as it is kept; InvalidInput where it is too long, or needed and not there."""
    text = text.strip()
    if "\x00" in text or len(text) > NOTE_MAX:
        raise InvalidInput(
            f"A text has at most {NOTE_MAX:,} characters and no NUL.",
            errors=[{"pointer": pointer, "detail": "Shorten the text."}],
        )
    if needed and not text:
        raise InvalidInput(
            "Say why, for those who wait for the clock.",
            errors=[{"pointer": pointer, "detail": "Write a reason."}],
        )
    return text
