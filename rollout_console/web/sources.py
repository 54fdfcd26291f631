from django.http import HttpResponse
from django.utils import timezone

from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.sources import sources_view


@page
def sources(request: ConsoleRequest) -> HttpResponse:
    """Show what reports to the reader's workflows, how fresh it is and what was refused."""
    now = timezone.now()
    return page_render(
        request,
        "sources/sources.html",
        {"view": sources_view(principal=request.principal, now=now)},
        section="sources",
        regions=("queue", "sources", "refused"),
        now=now,
    )
