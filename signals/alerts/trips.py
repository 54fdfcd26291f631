"""The ledger of trips: every alert of a trigger, its answer, and what each guard is worth.

Alerts are never deleted, so the ledger reaches as far back as the audit does.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Final, Literal

from django.db.models import QuerySet

from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Workflow
from signals.alerts.models import Alert
from signals.alerts.precision import (
    Answered,
    Precision,
    Suggestion,
    limit_suggested,
    precision,
)
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE
from signals.buckets.selectors import signal_series
from signals.catalogue import Signal
from signals.format import bare_text, limit_text, value_text
from signals.guards.evidence import is_critical, limit_of, signal_of_guard, started_at
from signals.guards.models import Compare, Guard
from signals.guards.words import beyond, ends
from signals.ingest.damage import damage_first
from signals.stats.intervals import Interval

# Containment actions, as the audit names them.
DONE: Final = {
    "rollout.paused": "paused",
    "rollout.narrowed": "narrowed",
    "rollout.fell_back": "fell back",
    "rollout.rolled_back": "rolled back",
    "rollout.action_disabled": "action disabled",
    "rollout.approval_required": "approval required",
}
HISTORY: Final = timedelta(days=30)
_HOUR_S: Final = 3600
# Runs are looked through for so long after a trip; later the day's are many, and the news is old.
TRACED_WITHIN: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class TripRow:
    """One trip. `detect_s` counts from `detect_from`: "onset" as the owner recorded it, or else
    "damage", the first run of the evidence that was bad by itself. Since a sound release has bad
    runs too, that is at most the window and an upper bound; None where neither is known."""

    alert: int
    incident: int | None
    workflow: str
    workflow_name: str
    rollout: str
    guard: str
    signal: str
    signal_title: str
    path: str
    severity: str
    state: str
    sentence: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    value_text: str
    limit_text: str
    opened_at: datetime
    acked_at: datetime | None
    acked_by: str
    resolved_at: datetime | None
    resolved_by: str
    was_right: bool | None
    note: str
    recurrences: int
    detect_s: float | None
    detect_from: Literal["onset", "damage"] | None
    done: list[str]


@dataclass(frozen=True, slots=True)
class History:
    """Hours of stored history with enough tasks, and how many lie beyond the two limits."""

    hours: int
    beyond_now: int
    beyond_suggested: int


@dataclass(frozen=True, slots=True)
class GuardTrips:
    """What the trips of one guard, over all rollouts of its workflow, come to.

    `limit` is that of its newest version. A limit is suggested by the rule of `limit_suggested`,
    for guards with a limit of their own, and never applied.
    """

    workflow: str
    workflow_id: int
    workflow_name: str
    guard: str
    path: str
    signal: str
    signal_title: str
    trips: int
    precision: Precision
    detect_median_s: float | None
    detect_n: int
    limit: float | None
    limit_text: str
    suggestion: Suggestion | None
    suggested_text: str
    history: History | None


def trip_rows(
    *,
    workflow_ids: Iterable[int] | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[TripRow]:
    """Return trips, the newest first; `before_id` continues a list."""
    found = _trips(workflow_ids)
    if before_id is not None:
        found = found.filter(pk__lt=before_id)
    alerts = list(found.order_by("-pk")[:limit])
    done = _done(alerts)
    return [_trip(alert, done[alert.rollout]) for alert in alerts]


def guard_trips(
    *, now: datetime, workflow_ids: Iterable[int] | None = None, limit: int = 2000
) -> list[GuardTrips]:
    """Return what each guard's trips come to, by workflow and guard; of the newest `limit`."""
    groups: dict[tuple[int, int, str], list[Alert]] = defaultdict(list)
    for alert in _trips(workflow_ids).order_by("-pk")[:limit]:
        guard = alert.about_guard
        groups[alert.workflow_id, guard.path_id, guard.slug].append(alert)
    newest = _newest(groups)
    rows = [_guard(alerts, newest[key], now=now) for key, alerts in groups.items()]
    return sorted(rows, key=lambda row: (row.workflow_name, row.guard, row.path))


def damage_find(*, now: datetime) -> int:
    """Note of each new trip when the first damaging run in its evidence happened; how many had one.

    A step of its own: it looks through runs, and opening an alert must not wait for that.
    """
    found = Alert.objects.filter(
        guard__isnull=False, damage_sought=False, opened_at__gt=now - TRACED_WITHIN
    )
    noted = 0
    for alert in found.select_related("guard__path", "guard__definition").order_by("pk")[:20]:
        guard = alert.about_guard
        starts = max(alert.opened_at - timedelta(seconds=guard.window_s), _began(guard, alert))
        at = damage_first(
            signal=guard.signal if guard.definition is None else "",
            limit=limit_of(guard),
            workflow_id=alert.workflow_id,
            path_id=guard.path_id,
            release_id=guard.candidate_id,
            segment_id=guard.segment_id,
            start=starts,
            end=alert.opened_at,
        )
        Alert.objects.filter(pk=alert.pk).update(damage_sought=True, damage_at=at)
        noted += at is not None
    return noted


def _began(guard: Guard, alert: Alert) -> datetime:
    """Return where the evidence of a trip began; once it is answered, the guard's starts later."""
    began = started_at(guard)
    return began if began < alert.opened_at else guard.created_at


def _trips(workflow_ids: Iterable[int] | None) -> QuerySet[Alert]:
    found = Alert.objects.filter(guard__isnull=False).select_related(
        *("workflow", "guard__path", "guard__definition")
    )
    return found if workflow_ids is None else found.filter(workflow__in=list(workflow_ids))


def _done(alerts: Sequence[Alert]) -> dict[str, list[tuple[datetime, str]]]:
    """Return by rollout what was done about it, and when."""
    found: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    if not alerts:
        return found
    entries = AuditEntry.objects.filter(
        subject_type="rollout",
        subject__in={alert.rollout for alert in alerts},
        action__in=DONE,
        at__gte=min(alert.opened_at for alert in alerts),
    )
    for slug, at, action, actor in entries.order_by("pk").values_list(
        "subject", "at", "action", "actor"
    ):
        found[slug].append((at, f"{DONE[action]} by {actor}"))
    return found


def _trip(alert: Alert, done: Sequence[tuple[datetime, str]]) -> TripRow:
    guard = alert.about_guard
    signal = signal_of_guard(guard)
    detect_s, detect_from = _detect(alert)
    return TripRow(
        alert=alert.pk,
        incident=alert.incident_id,
        workflow=alert.workflow.slug,
        workflow_name=alert.workflow.name,
        rollout=alert.rollout,
        guard=guard.slug,
        signal=guard.signal,
        signal_title=signal.title,
        path=guard.path.slug,
        severity=guard.severity,
        state=alert.state,
        sentence=alert.sentence,
        value=alert.value,
        low=alert.low,
        high=alert.high,
        n=alert.n,
        value_text=value_text(signal, alert.value),
        limit_text=limit_text(signal, limit_of(guard)),
        opened_at=alert.opened_at,
        acked_at=alert.acked_at,
        acked_by=alert.acked_by,
        resolved_at=alert.resolved_at,
        resolved_by=alert.resolved_by,
        was_right=alert.was_right,
        note=alert.note,
        recurrences=alert.recurrences,
        detect_s=detect_s,
        detect_from=detect_from,
        done=[
            text
            for at, text in done
            if alert.opened_at <= at and (alert.resolved_at is None or at <= alert.resolved_at)
        ],
    )


def _detect(alert: Alert) -> tuple[float | None, Literal["onset", "damage"] | None]:
    if alert.onset_at is not None:
        return (alert.opened_at - alert.onset_at).total_seconds(), "onset"
    if alert.damage_at is not None:
        return (alert.opened_at - alert.damage_at).total_seconds(), "damage"
    return None, None


def _newest(groups: Iterable[tuple[int, int, str]]) -> dict[tuple[int, int, str], Guard]:
    keys = set(groups)
    found = Guard.objects.filter(slug__in={slug for _, _, slug in keys}).select_related(
        "path", "definition", "workflow"
    )
    return {
        key: guard
        for guard in found.order_by("pk")
        if (key := (guard.workflow_id, guard.path_id, guard.slug)) in keys
    }


def _guard(alerts: Sequence[Alert], guard: Guard, *, now: datetime) -> GuardTrips:
    signal = signal_of_guard(guard)
    answered = [alert for alert in alerts if alert.was_right is not None]
    # A false alarm detected nothing.
    detected = [
        seconds
        for alert in alerts
        if alert.was_right is not False and (seconds := _detect(alert)[0]) is not None
    ]
    limit = limit_of(guard)
    suggestion = None
    if _has_own_limit(guard) and limit is not None:
        edges = [
            Answered(edge, bool(alert.was_right))
            for alert in answered
            if alert.about_guard.signal == guard.signal
            and (edge := _edge(signal, alert)) is not None
        ]
        suggestion = limit_suggested(edges, limit=limit, better=signal.better)
    workflow: Workflow = guard.workflow
    return GuardTrips(
        workflow=workflow.slug,
        workflow_id=workflow.pk,
        workflow_name=workflow.name,
        guard=guard.slug,
        path=guard.path.slug,
        signal=guard.signal,
        signal_title=signal.title,
        trips=len(alerts),
        precision=precision([bool(alert.was_right) for alert in answered]),
        detect_median_s=median(detected) if detected else None,
        detect_n=len(detected),
        limit=limit,
        limit_text=limit_text(signal, limit),
        suggestion=suggestion,
        suggested_text="" if suggestion is None else bare_text(signal, suggestion.limit),
        history=None
        if suggestion is None or limit is None
        else _history(guard, signal, limit, suggestion.limit, now=now),
    )


def _has_own_limit(guard: Guard) -> bool:
    """Whether a guard's limit is one that a plan may set: not that of a difference, nor none."""
    return guard.compare in (Compare.LIMIT, Compare.HARD_CAP) and not is_critical(guard)


def _edge(signal: Signal, alert: Alert) -> float | None:
    if alert.low is not None and alert.high is not None:
        best, _ = ends(signal, Interval(alert.low, alert.high))
        return best
    return alert.value


def _history(
    guard: Guard, signal: Signal, limit: float, suggested: float, *, now: datetime
) -> History:
    """Count the hours of stored history, on both arms, that lie beyond each limit."""
    points = signal_series(
        signal=signal,
        workflow_id=guard.workflow_id,
        path_id=guard.path_id,
        arms=(ARM_CANDIDATE, ARM_STABLE),
        segment_ids=None if guard.segment_id is None else [guard.segment_id],
        start=now - HISTORY,
        end=now,
        step_s=_HOUR_S,
    )
    hours = [point for point in points if point.n >= guard.min_n]
    return History(
        hours=len(hours),
        beyond_now=sum(beyond(signal, point.value, limit) for point in hours),
        beyond_suggested=sum(beyond(signal, point.value, suggested) for point in hours),
    )
