"""Locked querysets. A rollout is locked before a request, an action route after it."""

from django.db.models import QuerySet

from approvals.actions.models import ActionRequest


def action_requests() -> QuerySet[ActionRequest]:
    """Action requests locked for update; evaluate it, a lazy queryset locks nothing."""
    return (
        ActionRequest.objects.select_for_update(of=("self",))
        .select_related("workflow", "path")
        .order_by("pk")
    )
