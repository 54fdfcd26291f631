from dataclasses import dataclass
from datetime import datetime
from typing import Final

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, who_can
from rollout_console.core.errors import NotFound
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import EXPOSING, RolloutState
from rollout_console.web.actions import LOOKS, Button
from rollout_console.web.selectors.rollouts import AlertRow, alert_row
from rollout_console.web.selectors.shell import readable_ids
from rollout_console.web.words import PROBLEMS, VERDICTS, Shown, duration_text
from signals.alerts.models import Alert, AlertState
from signals.catalogue import signal_of
from signals.format import limit_text, range_text, value_text
from signals.guards.evidence import limit_of, signal_of_guard
from signals.guards.models import Verdict
from signals.guards.proof import proof_text

LIST_MAX: Final = 100

_KIND_WORDS: Final = {
    "alert": "The plan asks for a look; it suggests no action.",
    "recommend": "The plan recommends it; nothing happens by itself.",
    "contain_after_hold": "The plan does it by itself when nobody decides in time.",
    "contain": "The plan does it by itself, at once.",
}
_PROBLEM_WORDS: Final = (
    "What watches here is blind until this is over: find out what is wrong with the reports."
    " Nothing happens by itself."
)


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
    proof: str
    suggested: str
    buttons: list[Button]
    suggestion: str
    exposing: bool
    may: dict[str, bool]
    who: list[str]
    hold_max_s: int


def alert_list(*, principal: Principal, state: str, now: datetime) -> list[ListedAlert]:
    """Return readable alerts, the open ones first, then by age; `state` is "open" or "all"."""
    alerts = Alert.objects.select_related(
        *("guard__path", "guard__definition", "problem__path", "owner", "workflow")
    )
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
            title=_title(alert),
        )
        for alert in alerts.order_by("-pk")[:LIST_MAX]
    ]


def alert_view(*, alert_id: int, principal: Principal, now: datetime) -> AlertView:
    """Return one readable alert.

    Raises:
        NotFound: there is none, or its workflow is not theirs to read.
    """
    alerts = Alert.objects.select_related(
        *("guard__path", "guard__definition", "guard__verdict", "problem__path"),
        *("owner", "workflow__owner", "workflow__deputy"),
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
    guard = alert.guard
    signal = signal_of("") if guard is None else signal_of_guard(guard)
    verdict: Verdict | None = getattr(guard, "verdict", None)
    response = alert.response
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
        title=_title(alert) if alert.path is None else f"{_title(alert)}: {alert.path.name}",
        value=value_text(signal, alert.value),
        range=range_text(signal, alert.low, alert.high),
        limit="" if guard is None else limit_text(signal, limit_of(guard)),
        window="" if guard is None else duration_text(guard.window_s),
        verdict=VERDICTS[verdict.verdict] if verdict else None,
        verdict_word=verdict.verdict if verdict else "",
        verdict_sentence=verdict.sentence if verdict else "",
        proof=proof_text(verdict.evidence) if verdict else "",
        suggested=LOOKS[action].name if action in LOOKS else "",
        buttons=contain_buttons(rollout, action, principal),
        suggestion=_KIND_WORDS.get(str(response.get("kind", "alert")), "")
        if guard is not None
        else _PROBLEM_WORDS,
        exposing=RolloutState(rollout.state) in EXPOSING,
        may=may,
        who=[] if all(may.values()) else who_can(Verb.ALERT_RESOLVE, alert.workflow),
        hold_max_s=2 * alert.workflow.hold_s,
    )


def _title(alert: Alert) -> str:
    if alert.problem is not None:
        return PROBLEMS[alert.problem.kind]
    return signal_of_guard(alert.about_guard).title


def contain_buttons(rollout: Rollout, suggested: str, principal: Principal) -> list[Button]:
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
