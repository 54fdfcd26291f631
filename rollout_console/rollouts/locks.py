"""Every locked queryset of rollouts. Lock the rollout first, then whatever hangs on it."""

from django.db.models import QuerySet

from rollout_console.rollouts.models import Rollout


def rollouts() -> QuerySet[Rollout]:
    """Rollouts locked for update in pk order; evaluate it, a lazy queryset locks nothing."""
    return (
        Rollout.objects.select_for_update(of=("self",))
        .select_related("workflow__owner", "workflow__deputy", "candidate", "stable")
        .order_by("pk")
    )
