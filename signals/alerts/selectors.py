"""Alerts as rows for pages and the API."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from signals.alerts.models import Alert, AlertState
from signals.catalogue import signal_of
from signals.format import limit_text, value_text
from signals.guards.evidence import limit_of, signal_of_guard
from signals.ingest.worst import WORST


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert at the time of reading; its numbers are those at the trip.

    One about a problem of the signals has no guard, no signal and no numbers. `state` is `held`
    only while the hold lasts. `due_at` is when containment acts by itself,
    after a hold where there is one; None where a person decides.
    """

    id: int
    workflow: str
    workflow_name: str
    rollout: str
    guard: str | None
    problem: str | None
    guard_id: int | None
    signal: str
    signal_title: str
    incident: int | None
    path: str | None
    path_id: int | None
    severity: str
    # Whether one run is worse than another by its signal.
    worst: bool
    response: dict[str, Any]
    state: str
    opened_at: datetime
    acked_at: datetime | None
    acked_by: str
    owner: str
    owner_username: str
    sentence: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    limit: float | None
    value_text: str
    limit_text: str
    window_s: int
    due_at: datetime | None
    due_action: dict[str, Any] | None
    held_until: datetime | None
    held_reason: str
    resolved_at: datetime | None
    resolved_by: str
    was_right: bool | None
    note: str
    recurrences: int
    recurred_at: datetime | None
    contained_at: datetime | None
    quiet: bool
    onset_at: datetime | None
    damage_at: datetime | None


def alert_rows(
    *,
    now: datetime,
    workflow_ids: Iterable[int] | None = None,
    rollout_slugs: Iterable[str] | None = None,
    unresolved_only: bool = False,
    before_id: int | None = None,
    limit: int = 100,
) -> list[AlertRow]:
    """Return alerts, the newest first; `before_id` continues a list."""
    found = _alerts()
    if workflow_ids is not None:
        found = found.filter(workflow_id__in=list(workflow_ids))
    if rollout_slugs is not None:
        found = found.filter(rollout__in=list(rollout_slugs))
    if unresolved_only:
        found = found.exclude(state=AlertState.RESOLVED)
    if before_id is not None:
        found = found.filter(pk__lt=before_id)
    return [alert_row_of(alert, now=now) for alert in found.order_by("-pk")[:limit]]


def alert_row(*, alert_id: int, now: datetime) -> AlertRow | None:
    """Return one alert, None where there is none."""
    alert = _alerts().filter(pk=alert_id).first()
    return None if alert is None else alert_row_of(alert, now=now)


def incident_alert_rows(incident_ids: Iterable[int], *, now: datetime) -> list[AlertRow]:
    """Return the alerts of incidents, the oldest first."""
    found = _alerts().filter(incident__in=list(incident_ids))
    return [alert_row_of(alert, now=now) for alert in found.order_by("pk")]


def _alerts() -> QuerySet[Alert]:
    return Alert.objects.select_related(
        *("workflow", "guard__path", "guard__definition", "problem__path", "owner")
    )


def alert_now(alert: Alert, *, now: datetime) -> tuple[str, datetime | None]:
    """Return an alert's state and due time at `now`: a hold that is over holds no more."""
    state, due_at = alert.state, alert.due_at
    if alert.held_until is not None and alert.state == AlertState.HELD:
        if alert.held_until <= now:
            state = (
                AlertState.ACKNOWLEDGED.value
                if alert.acked_at is not None
                else AlertState.OPEN.value
            )
        if due_at is not None:
            due_at = max(due_at, alert.held_until)
    return state, due_at


def alert_row_of(alert: Alert, *, now: datetime) -> AlertRow:
    """Return an alert as a row; select with it what `_alerts` does."""
    guard = alert.guard
    slug = "" if guard is None else guard.signal
    signal = signal_of("") if guard is None else signal_of_guard(guard)
    state, due_at = alert_now(alert, now=now)
    limit = None if guard is None else limit_of(guard)
    return AlertRow(
        id=alert.pk,
        workflow=alert.workflow.slug,
        workflow_name=alert.workflow.name,
        rollout=alert.rollout,
        guard=None if guard is None else guard.slug,
        problem=None if alert.problem is None else alert.problem.kind,
        guard_id=alert.guard_id,
        signal=slug,
        signal_title=signal.title,
        incident=alert.incident_id,
        path=None if alert.path is None else alert.path.slug,
        path_id=None if alert.path is None else alert.path.pk,
        severity=alert.severity,
        worst=slug in WORST,
        response=alert.response,
        state=state,
        opened_at=alert.opened_at,
        acked_at=alert.acked_at,
        acked_by=alert.acked_by,
        owner=alert.owner.shown_name,
        owner_username=alert.owner.username,
        sentence=alert.sentence,
        value=alert.value,
        low=alert.low,
        high=alert.high,
        n=alert.n,
        limit=limit,
        value_text=value_text(signal, alert.value),
        limit_text=limit_text(signal, limit),
        window_s=0 if guard is None else guard.window_s,
        due_at=due_at,
        due_action=alert.due_action,
        held_until=alert.held_until,
        held_reason=alert.held_reason,
        resolved_at=alert.resolved_at,
        resolved_by=alert.resolved_by,
        was_right=alert.was_right,
        note=alert.note,
        recurrences=alert.recurrences,
        recurred_at=alert.recurred_at,
        contained_at=alert.contained_at,
        quiet=alert.quiet,
        onset_at=alert.onset_at,
        damage_at=alert.damage_at,
    )
