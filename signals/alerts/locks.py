"""Locked querysets. Lock a guard before its alert, and a rollout before both."""

from django.db.models import QuerySet

from signals.alerts.models import Alert
from signals.guards.models import Guard


def guards() -> QuerySet[Guard]:
    """Guards locked against changes, but not against the verdicts that point at them."""
    return Guard.objects.select_for_update(of=("self",), no_key=True).order_by("pk")


def alerts() -> QuerySet[Alert]:
    """Alerts locked for update in pk order; evaluate it, a lazy queryset locks nothing."""
    return (
        Alert.objects.select_for_update(of=("self",))
        .select_related("workflow", "guard__path", "guard__definition", "owner")
        .order_by("pk")
    )
