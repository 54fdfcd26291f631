"""What paths cost and ask of reviewers: of a rollout, and of a workflow."""

from datetime import timedelta
from typing import Final

from django.http import HttpResponse
from django.utils import timezone

from rollout_console.economics.rows import PathEconomics
from rollout_console.economics.selectors import rollout_economics
from rollout_console.economics.selectors import workflow_economics as economics_of_workflow
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.cockpit import rollout_get
from rollout_console.web.selectors.economics import cost_bars, path_views
from rollout_console.web.selectors.workflows import workflow_get

WINDOWS: Final[dict[str, tuple[str, timedelta]]] = {
    "1h": ("1 h", timedelta(hours=1)),
    "24h": ("24 h", timedelta(hours=24)),
}


@page
def economics(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show a rollout's spend, reviews and fallbacks; ?path= chooses one path, ?window= the span."""
    now = timezone.now()
    rollout = rollout_get(slug, request.principal)
    window = _window(request)
    found = rollout_economics(rollout, now=now, window=WINDOWS[window][1])
    return page_render(
        request,
        "economics/economics.html",
        {
            "rollout": rollout,
            "workflow": rollout.workflow,
            "bars": cost_bars(found),
            **_shared(request, found, window, rollout.workflow.owner.shown_name),
        },
        section="rollouts",
        now=now,
    )


@page
def workflow_economics(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show the same of a workflow's paths, whether anything is rolled out or not."""
    now = timezone.now()
    workflow = workflow_get(slug, request.principal)
    window = _window(request)
    found = economics_of_workflow(
        list(workflow.paths.order_by("slug")),
        workflow_id=workflow.pk,
        now=now,
        window=WINDOWS[window][1],
    )
    return page_render(
        request,
        "economics/economics.html",
        {
            "rollout": None,
            "workflow": workflow,
            "bars": [],
            **_shared(request, found, window, workflow.owner.shown_name),
        },
        section="workflows",
        now=now,
    )


def _window(request: ConsoleRequest) -> str:
    asked = request.GET.get("window", "")
    return asked if asked in WINDOWS else "1h"


def _shared(
    request: ConsoleRequest, found: list[PathEconomics], window: str, owner: str
) -> dict[str, object]:
    path = request.GET.get("path", "")
    if path not in {each.path for each in found}:
        path = ""
    chosen = [each for each in found if path in ("", each.path)]
    return {
        "views": path_views(chosen, escalates_to=owner),
        "paths": [(each.path, each.name) for each in found],
        "path": path,
        "window": window,
        "windows": [(key, name) for key, (name, _) in WINDOWS.items()],
    }
