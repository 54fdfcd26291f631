"""Incidents: the list, one incident with its alerts and timeline, and what its owner does."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from rollout_console.core.errors import DomainError
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.incidents import incident_list, incident_view
from signals.alerts.incidents import incident_acknowledge, incident_reopen


@page
def incidents(request: ConsoleRequest) -> HttpResponse:
    """List incidents that are not resolved; ?state=all lists every one."""
    state = "all" if request.GET.get("state") == "all" else "open"
    rows = incident_list(principal=request.principal, state=state, now=timezone.now())
    return page_render(
        request,
        "incidents/list.html",
        {"rows": rows, "state": state},
        section="alerts",
        regions=("list",),
    )


@page
def incident(request: ConsoleRequest, incident_id: int) -> HttpResponse:
    """Show one incident: what happened, who answers, what runs, and what was done."""
    return _incident_page(request, incident_id)


def _incident_page(
    request: ConsoleRequest, incident_id: int, *, errors: dict[str, str] | None = None
) -> HttpResponse:
    now = timezone.now()
    view = incident_view(incident_id=incident_id, principal=request.principal, now=now)
    return page_render(
        request,
        "incidents/incident.html",
        {
            "view": view,
            "row": view.row,
            "errors": errors or {},
            "posted": request.POST if errors else {},
        },
        section="alerts",
        regions=("heading", "respond", "alerts", "timeline", "clock", "ladder"),
        every_s=2,
        now=now,
        status=422 if errors else 200,
    )


@require_POST
@page
def acknowledge(request: ConsoleRequest, incident_id: int) -> HttpResponse:
    """Take all of its alerts on; the next page stops, a clock does not."""
    return _answer(
        request,
        incident_id,
        "ack",
        lambda: incident_acknowledge(
            incident_id=incident_id, principal=request.principal, now=timezone.now()
        ),
        "Acknowledged. A clock that runs goes on.",
    )


@require_POST
@page
def reopen(request: ConsoleRequest, incident_id: int) -> HttpResponse:
    """Open it again, with a reason."""
    return _answer(
        request,
        incident_id,
        "reopen",
        lambda: incident_reopen(
            incident_id=incident_id,
            reason=request.POST.get("reason", "").strip(),
            principal=request.principal,
            now=timezone.now(),
        ),
        "Open again: its last trip waits for an answer.",
    )


def _answer(
    request: ConsoleRequest, incident_id: int, form: str, act: Callable[[], object], said: str
) -> HttpResponse:
    try:
        act()
    except DomainError as refusal:
        if refusal.status in (403, 404):
            raise
        return _incident_page(request, incident_id, errors={form: refusal.detail})
    messages.success(request, said)
    return redirect("web:incident", incident_id)
