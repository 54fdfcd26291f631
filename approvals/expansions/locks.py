"""Locked requests. Lock the rollout first: whatever moves it decides about its requests."""

from django.db.models import QuerySet

from approvals.expansions.models import ExpansionRequest


def requests() -> QuerySet[ExpansionRequest]:
    """Requests locked for update in pk order; evaluate it, a lazy queryset locks nothing."""
    return (
        ExpansionRequest.objects.select_for_update(of=("self",))
        .select_related("requested_by", "started_by", "reviewed_by")
        .order_by("pk")
    )
