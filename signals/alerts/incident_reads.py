"""Incidents as rows for pages and the API."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from signals.alerts.ladder import Rung, rung_next
from signals.alerts.models import Alert, AlertState, Incident, IncidentState
from signals.alerts.selectors import AlertRow, alert_row_of, incident_alert_rows

_SEVERITIES = ("low", "medium", "high", "critical")


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident at the time of reading, with its alerts, the oldest first.

    `lead` is the alert that it is told by: one that waits before one that is resolved, a trip
    before a problem of the signals, then the most severe, then the oldest. `next_rung` is told at
    `page_at` unless somebody acknowledges before; both None where nobody is paged any more.
    """

    id: int
    workflow: str
    workflow_id: int
    workflow_name: str
    rollout: str
    state: str
    owner: str
    owner_username: str
    opened_at: datetime
    acked_at: datetime | None
    acked_by: str
    resolved_at: datetime | None
    reopened_at: datetime | None
    reopened: int
    rung: int
    pages_from: datetime | None
    page_at: datetime | None
    next_rung: Rung | None
    alerts: list[AlertRow]
    lead: AlertRow | None

    @property
    def waiting(self) -> list[AlertRow]:
        return [alert for alert in self.alerts if alert.state != AlertState.RESOLVED]

    @property
    def due_at(self) -> datetime | None:
        """When the console acts by itself next."""
        return min((each.due_at for each in self.waiting if each.due_at is not None), default=None)

    @property
    def sentence(self) -> str:
        """What happened, in one sentence: the lead's, with how many others there are."""
        if self.lead is None:
            return "No alert is in it."
        more = len(self.alerts) - 1
        others = f" And {more} more alert{'s' * (more != 1)}." if more else ""
        return f"{self.lead.sentence}{others}"


def incident_rows(
    *,
    now: datetime,
    workflow_ids: Iterable[int] | None = None,
    rollout_slugs: Iterable[str] | None = None,
    unresolved_only: bool = False,
    before_id: int | None = None,
    limit: int = 100,
) -> list[IncidentRow]:
    """Return incidents, the newest first; `before_id` continues a list."""
    found = Incident.objects.select_related("workflow__owner", "workflow__deputy", "owner")
    if workflow_ids is not None:
        found = found.filter(workflow_id__in=list(workflow_ids))
    if rollout_slugs is not None:
        found = found.filter(rollout__in=list(rollout_slugs))
    if unresolved_only:
        found = found.exclude(state=IncidentState.RESOLVED)
    if before_id is not None:
        found = found.filter(pk__lt=before_id)
    return _rows(list(found.order_by("-pk")[:limit]), now)


def incident_row(*, incident_id: int, now: datetime) -> IncidentRow | None:
    """Return one incident, None where there is none."""
    found = Incident.objects.select_related("workflow__owner", "workflow__deputy", "owner")
    return next(iter(_rows(list(found.filter(pk=incident_id)), now)), None)


def incident_open(alerts: Iterable[Alert], *, now: datetime) -> IncidentRow | None:
    """Return the open incident of a rollout, given all of its alerts; None where there is none.

    Select workflow, guard with path and definition, problem with path, and owner with them.
    """
    rows = [alert_row_of(alert, now=now) for alert in alerts]
    waiting = [row.incident for row in rows if row.state != AlertState.RESOLVED and row.incident]
    if not waiting:
        return None
    found = Incident.objects.select_related("workflow__owner", "workflow__deputy", "owner")
    incident = found.get(pk=max(waiting))
    own = sorted((row for row in rows if row.incident == incident.pk), key=lambda row: row.id)
    return _row(incident, own)


def _rows(incidents: list[Incident], now: datetime) -> list[IncidentRow]:
    alerts: dict[int, list[AlertRow]] = defaultdict(list)
    for alert in incident_alert_rows([incident.pk for incident in incidents], now=now):
        alerts[alert.incident or 0].append(alert)
    return [_row(incident, alerts[incident.pk]) for incident in incidents]


def _row(incident: Incident, alerts: list[AlertRow]) -> IncidentRow:
    paged = incident.page_at is not None and incident.state != IncidentState.RESOLVED
    return IncidentRow(
        id=incident.pk,
        workflow=incident.workflow.slug,
        workflow_id=incident.workflow_id,
        workflow_name=incident.workflow.name,
        rollout=incident.rollout,
        state=incident.state,
        owner=incident.owner.shown_name,
        owner_username=incident.owner.username,
        opened_at=incident.opened_at,
        acked_at=incident.acked_at,
        acked_by=incident.acked_by,
        resolved_at=incident.resolved_at,
        reopened_at=incident.reopened_at,
        reopened=incident.reopened,
        rung=incident.rung,
        pages_from=incident.pages_from,
        page_at=incident.page_at if paged else None,
        next_rung=rung_next(incident.workflow, incident.rung) if paged else None,
        alerts=alerts,
        lead=min(alerts, key=_lead_order, default=None),
    )


def _lead_order(alert: AlertRow) -> tuple[bool, bool, int, int]:
    return (
        alert.state == AlertState.RESOLVED,
        alert.guard is None,
        -_SEVERITIES.index(alert.severity),
        alert.id,
    )
