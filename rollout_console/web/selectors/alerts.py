from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, who_can
from rollout_console.core.errors import NotFound
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import EXPOSING, RolloutState
from rollout_console.web.actions import LOOKS, Button
from rollout_console.web.selectors.rollouts import AlertRow, alert_row
from rollout_console.web.selectors.shell import readable_ids
from rollout_console.web.words import VERDICTS, Shown, duration_text
from signals.alerts.models import Alert, AlertState
from signals.format import limit_text, range_text, value_text
from signals.guards.evidence import limit_of, signal_of_guard
from signals.guards.models import Verdict

LIST_MAX: Final = 100

_KIND_WORDS: Final = {
    "alert": "The plan asks for a look; it suggests no action.",
    "recommend": "The plan recommends it; nothing happens by itself.",
    "contain_after_hold": "The plan does it by itself when nobody decides in time.",
    "contain": "The plan does it by itself, at once.",
}


@dataclass(frozen=True, slots=True)
class ListedAlert:
    row: AlertRow
    rollout: str
    workflow: str
    title: str


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert. The numbers are those at the trip; the verdict is what the guard says now."""

    row: AlertRow
    alert: Alert
    rollout: Rollout
    title: str
    value: str
    range: str
    limit: str
    window: str
    verdict: Shown | None
    verdict_word: str
    verdict_sentence: str
    suggested: str
    buttons: list[Button]
    suggestion: str
    exposing: bool
    may: dict[str, bool]
    who: list[str]
    hold_max_s: int


def alert_list(*, principal: Principal, state: str, now: datetime) -> list[ListedAlert]:
    """Return readable alerts, the open ones first, then by age; `state` is "open" or "all"."""
    alerts = Alert.objects.select_related("guard__path", "guard__definition", "owner", "workflow")
    ids = readable_ids(principal)
    if ids is not None:
        alerts = alerts.filter(workflow__in=ids)
    if state != "all":
        alerts = alerts.exclude(state=AlertState.RESOLVED)
    return [
        ListedAlert(
            row=alert_row(alert, now=now),
            rollout=alert.rollout,
            workflow=alert.workflow.name,
            title=signal_of_guard(alert.guard).title,
        )
        for alert in alerts.order_by("-pk")[:LIST_MAX]
    ]


def alert_view(*, alert_id: int, principal: Principal, now: datetime) -> AlertView:
    """Return one readable alert.

    Raises:
        NotFound: there is none, or its workflow is not theirs to read.
    """
    alerts = Alert.objects.select_related(
        "guard__path",
        "guard__definition",
        "guard__verdict",
        "owner",
        "workflow__owner",
        "workflow__deputy",
    )
    ids = readable_ids(principal)
    if ids is not None:
        alerts = alerts.filter(workflow__in=ids)
    alert = alerts.filter(pk=alert_id).first()
    if alert is None:
        raise NotFound(f"There is no alert {alert_id} in your workflows. Nothing is affected.")
    rollout = Rollout.objects.select_related("candidate", "stable", "workflow").get(
        slug=alert.rollout
    )
    signal = signal_of_guard(alert.guard)
    verdict: Verdict | None = getattr(alert.guard, "verdict", None)
    response: dict[str, Any] = alert.guard.response or {}
    action = str(response.get("action", ""))
    verbs = {
        "ack": Verb.ALERT_ACKNOWLEDGE,
        "hold": Verb.ALERT_HOLD,
        "resolve": Verb.ALERT_RESOLVE,
        "pause": Verb.PAUSE,
        "rollback": Verb.ROLLBACK,
    }
    may = {name: principal.may(verb, alert.workflow_id) for name, verb in verbs.items()}
    return AlertView(
        row=alert_row(alert, now=now),
        alert=alert,
        rollout=rollout,
        title=f"{signal.title}: {alert.guard.path.name}",
        value=value_text(signal, alert.value),
        range=range_text(signal, alert.low, alert.high),
        limit=limit_text(signal, limit_of(alert.guard)),
        window=duration_text(alert.guard.window_s),
        verdict=VERDICTS[verdict.verdict] if verdict else None,
        verdict_word=verdict.verdict if verdict else "",
        verdict_sentence=verdict.sentence if verdict else "",
        suggested=LOOKS[action].name if action in LOOKS else "",
        buttons=_buttons(rollout, action, principal),
        suggestion=_KIND_WORDS.get(str(response.get("kind", "alert")), ""),
        exposing=RolloutState(rollout.state) in EXPOSING,
        may=may,
        who=[] if all(may.values()) else who_can(Verb.ALERT_RESOLVE, alert.workflow),
        hold_max_s=2 * alert.workflow.hold_s,
    )


def _buttons(rollout: Rollout, suggested: str, principal: Principal) -> list[Button]:
    """Return what the reader may do about it here, the suggested action first."""
    if RolloutState(rollout.state) not in EXPOSING:
        return []
    wanted = [suggested, "rollback", "narrow", "fallback"]
    if rollout.state == RolloutState.LIVE:
        wanted.append("pause")
    return [
        Button(action, "", suggested=action == suggested)
        for action in dict.fromkeys(wanted)
        if action in LOOKS and principal.may(Verb(action), rollout.workflow_id)
    ]
