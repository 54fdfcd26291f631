from django.http import HttpResponse
from django.utils import timezone

from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.overview import overview


@page
def exposed_now(request: ConsoleRequest) -> HttpResponse:
    """Show what is exposed right now, the rollouts that need a decision first."""
    now = timezone.now()
    rows = overview(principal=request.principal, show=request.GET.get("show", "all"), now=now)
    return page_render(
        request,
        "overview/overview.html",
        {"overview": rows},
        section="overview",
        regions=("heading", "summary", "filters", "rows"),
        now=now,
    )
