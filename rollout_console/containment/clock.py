"""The clock: what triggers do when nobody has decided in time. Run by workers or the keeper.

An alert carries when and what; containment claims it. What a narrow comes to is frozen when the
trigger trips, and cut again to what is exposed when it is due: it never adds anybody.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction
from django.db.models import QuerySet

from approvals.authority.principals import SYSTEM
from rollout_console.containment import changes, policy
from rollout_console.containment.services import action_apply
from rollout_console.containment.targets import Press
from rollout_console.core.errors import DomainError
from rollout_console.rollouts import locks
from rollout_console.rollouts.ladder import cut
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import EXPOSING, RolloutState
from signals.alerts import locks as alert_locks
from signals.alerts.models import Alert, AlertState
from signals.guards.selectors import guard_recovered

log = structlog.get_logger()


def clocks_run(*, now: datetime) -> int:
    """Freeze what new clocks are to do, and do what is due; return how many alerts were claimed."""
    clocks_freeze()
    return alerts_contain_due(now=now)


def clocks_freeze() -> int:
    """Write down what each running clock will do, in words that stay; return how many were."""
    waiting = _running().exclude(due_action__has_key="frozen")
    done = 0
    for alert in waiting.order_by("pk"):
        with transaction.atomic():
            rollout = locks.rollouts().get(slug=alert.rollout)
            frozen = _frozen(rollout, alert.due_action or {})
            done += waiting.filter(pk=alert.pk).update(due_action=frozen)
    return done


def alerts_contain_due(*, now: datetime) -> int:
    """Apply what due alerts ask for; return how many were claimed.

    The due time is taken off in the same transaction as the action, so an alert acts once
    whoever finds it first.
    """
    due = _running().filter(due_at__lte=now).exclude(held_until__gt=now)
    done = 0
    waiting = due.select_related("guard", "workflow").order_by("due_at", "pk")
    # What ends exposure first: a milder one would stop the clocks beside it.
    for alert in sorted(waiting, key=lambda each: not _ends(each)):
        with transaction.atomic():
            # Rollout, guards, incident, alert: as presses and looks lock them, or two deadlock.
            rollout = locks.rollouts().get(slug=alert.rollout)
            list(alert_locks.guards().filter(rollout=alert.rollout, retired_at=None))
            list(alert_locks.incidents().filter(rollout=alert.rollout))
            if not due.filter(pk=alert.pk).update(due_at=None, halfway_at=None):
                continue
            done += 1
            guard = alert.about_guard
            held = guard.response.get("kind") == "contain_after_hold"
            if held and guard_recovered(guard_id=guard.pk):
                # Nothing is left to contain now. The clock runs anew while nobody has said that
                # it is over: a trigger that trips again opens no second alert.
                hold = timedelta(seconds=alert.workflow.hold_s)
                Alert.objects.filter(pk=alert.pk).update(
                    due_at=now + hold, halfway_at=now + hold / 2
                )
                continue
            if RolloutState(rollout.state) in EXPOSING:
                _contain(rollout, alert, now=now)
    return done


def _ends(alert: Alert) -> bool:
    return (alert.due_action or {}).get("action") == "rollback"


def _contain(rollout: Rollout, alert: Alert, *, now: datetime) -> None:
    asked = _frozen(rollout, alert.due_action or {})
    action = str(asked["action"])
    if action not in policy.AUTOMATIC:
        log.error("clock.action_unknown", alert=alert.pk, action=action)
        return
    try:
        with transaction.atomic():
            action_apply(
                rollout,
                action=action,
                press=_press(asked),
                reason={
                    "code": policy.reason_for_signal(alert.about_guard.signal),
                    "note": f"Automatic, by alert {alert.pk}: {alert.sentence}",
                },
                principal=SYSTEM,
                now=now,
                opened_at=alert.opened_at,
                meanwhile=[],
            )
    except DomainError as refusal:
        # What holds is safer already, so what the clock wanted is true.
        log.warning("clock.refused", alert=alert.pk, action=action, detail=refusal.detail)


def _running() -> QuerySet[Alert]:
    return Alert.objects.filter(due_at__isnull=False).exclude(state=AlertState.RESOLVED)


def _frozen(rollout: Rollout, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what a clock does to the rollout as it is; the same again for what was frozen.

    A narrow goes to the stage below, cut to what is exposed; where that takes nothing away, as on
    the lowest stage, it is a roll back.
    """
    if asked.get("action") != "narrow":
        return {**asked, "frozen": True}
    exposed = changes.exposed_set(rollout)
    if "to" in asked:
        target = cut(_shares(asked["to"]), exposed)
    elif rollout.stage > 1:
        target = cut(changes.stage_sets(rollout)[rollout.stage - 2], exposed)
    else:
        target = {}
    if not target or target == exposed:
        return {**asked, "action": "rollback", "frozen": True}
    to = {slug: str(share.normalize()) for slug, share in target.items()}
    return {**asked, "to": to, "frozen": True}


def _press(asked: dict[str, Any]) -> Press:
    action = asked["action"]
    if action == "narrow":
        return Press(to=_shares(asked["to"]))
    if action in ("pause", "rollback", "escalate"):
        return Press()
    segment = asked.get("segment")
    return Press(
        paths=(asked["path"],) if asked.get("path") else None,
        segments=(segment,) if segment else None,
        mode=asked.get("mode"),
        action_route=asked.get("action_route"),
    )


def _shares(told: dict[str, str]) -> dict[str, Decimal]:
    return {slug: Decimal(share) for slug, share in told.items()}
