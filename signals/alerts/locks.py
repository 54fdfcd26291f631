"""Locked querysets. Lock a rollout first, then guards, then the incident, then its alerts."""

from django.db.models import QuerySet

from signals.alerts.models import Alert, Incident
from signals.guards.models import Guard


def guards() -> QuerySet[Guard]:
    """Guards locked against changes, but not against the verdicts that point at them."""
    return Guard.objects.select_for_update(of=("self",), no_key=True).order_by("pk")


def incidents() -> QuerySet[Incident]:
    """Incidents locked in pk order, but not against the alerts that point at them."""
    return (
        Incident.objects.select_for_update(of=("self",), no_key=True)
        .select_related("workflow__owner", "workflow__deputy", "owner")
        .order_by("pk")
    )


def alerts() -> QuerySet[Alert]:
    """Alerts locked for update in pk order; evaluate it, a lazy queryset locks nothing."""
    return (
        Alert.objects.select_for_update(of=("self",))
        .select_related(*("workflow", "guard__path", "guard__definition", "problem__path", "owner"))
        .order_by("pk")
    )


def alert_with_incident(alert_id: int) -> tuple[Alert, Incident | None]:
    """Return an alert and the incident that it is in, both locked, the incident first."""
    incident = incidents().filter(alerts=alert_id).first()
    return alerts().get(pk=alert_id), incident
