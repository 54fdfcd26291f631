"""A workflow's signals, one at a time, by what they can be parted by; and its failures."""

from django.http import HttpResponse, JsonResponse
from django.urls import reverse
from django.utils import timezone

from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.catalogue import catalogue_view
from rollout_console.web.selectors.signals import SPANS, SignalView, failures_view, signal_view


@page
def signal(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show one signal: ?path=, ?signal=, ?split= and ?span= choose; what is left out is chosen."""
    now = timezone.now()
    view = signal_view(slug, asked=request.GET, principal=request.principal, now=now)
    chosen = f"path={view.path.slug}&signal={view.signal.slug}&split={view.split.slug}"
    return page_render(
        request,
        "signals/signal.html",
        {
            "view": view,
            "spans": list(SPANS.values()),
            "chosen": chosen,
            "chart_url": f"{reverse('web:signal_chart', args=[slug])}"
            f"?{chosen}&span={view.span.slug}",
        },
        section="workflows",
        regions=("numbers",),
        now=now,
    )


@page
def signal_chart(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Answer the page's chart: {"as_of", "charts": [{"key", "figure": {data, layout}, "rows"}]}."""
    now = timezone.now()
    view = signal_view(slug, asked=request.GET, principal=request.principal, now=now)
    response = JsonResponse({"as_of": now.isoformat(), "charts": [_chart(view)]})
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@page
def signals(request: ConsoleRequest) -> HttpResponse:
    """List every signal of a workflow with what feeds it and its newest values; ?workflow=."""
    now = timezone.now()
    view = catalogue_view(
        workflow=request.GET.get("workflow", "").replace("\x00", ""),
        principal=request.principal,
        now=now,
    )
    return page_render(
        request,
        "signals/catalogue.html",
        {"view": view},
        section="workflows",
        regions=("values",),
        now=now,
    )


@page
def failures(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show which failures came, of which release first, and how many people met them."""
    now = timezone.now()
    view = failures_view(
        slug, span=request.GET.get("span", ""), principal=request.principal, now=now
    )
    return page_render(
        request,
        "signals/failures.html",
        {"view": view, "spans": list(SPANS.values())},
        section="workflows",
        regions=("failures",),
        now=now,
    )


def _chart(view: SignalView) -> dict[str, object]:
    return {
        "key": view.chart_key,
        "figure": view.figure,
        "rows": [[f"{step.at:%d %b %H:%M}", *step.cells] for step in view.steps],
        # Where each cell leads: to the runs behind it.
        "links": [["", *step.hrefs] for step in view.steps],
    }
