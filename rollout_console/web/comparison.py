"""Two releases of a workflow beside each other."""

from django.http import HttpResponse
from django.utils import timezone

from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.comparison import compare_view
from rollout_console.web.selectors.plans import workflow_get
from rollout_console.web.selectors.workflows import SPANS


@page
def compare(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Compare ?candidate= with ?stable= on ?path= over ?span=."""
    now = timezone.now()
    asked = {key: request.GET.get(key, "")[:200] for key in ("path", "candidate", "stable")}
    span = request.GET.get("span", "")
    span = span if span in SPANS else "24h"
    view = compare_view(
        workflow_get(slug, request.principal), **asked, length=SPANS[span][1], now=now
    )
    return page_render(
        request,
        "releases/compare.html",
        {
            "view": view,
            "span": span,
            "span_name": SPANS[span][0],
            "spans": [(key, name) for key, (name, _) in SPANS.items()],
        },
        section="releases",
        regions=("comparison",),
        every_s=30,
        now=now,
    )
