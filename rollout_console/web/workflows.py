"""Workflows, and what was counted of each: by path and release, whether it is rolled out or not."""

from django.http import HttpResponse
from django.utils import timezone

from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.workflows import SPANS, workflow_list, workflow_view


@page
def workflows(request: ConsoleRequest) -> HttpResponse:
    """List every workflow that the reader may see."""
    now = timezone.now()
    return page_render(
        request,
        "workflows/list.html",
        {"rows": workflow_list(principal=request.principal, now=now)},
        section="workflows",
        regions=("list",),
        now=now,
    )


@page
def workflow(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show one workflow's totals by path and release; ?span= chooses how far back."""
    now = timezone.now()
    span = request.GET.get("span", "")
    view = workflow_view(
        slug, span=span if span in SPANS else "24h", principal=request.principal, now=now
    )
    return page_render(
        request,
        "workflows/workflow.html",
        {"view": view, "spans": [(key, name) for key, (name, _) in SPANS.items()]},
        section="workflows",
        regions=("health", "totals"),
        now=now,
    )
