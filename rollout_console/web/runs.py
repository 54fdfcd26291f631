"""The raw runs behind a number: a list by filters, and one run with everything kept of it."""

from django.http import HttpResponse
from django.utils import timezone
from django.utils.http import urlencode

from rollout_console.core.errors import InvalidInput
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.runs import run_list, run_view
from signals.ingest.drill import KEYS


@page
def runs(request: ConsoleRequest) -> HttpResponse:
    """List raw runs; the query string is that of `GET /api/v1/runs`, times without offset UTC."""
    now = timezone.now()
    asked = {
        key: [each.strip() for each in request.GET.getlist(key) if each.strip()]
        for key in (*KEYS, "cursor")
    }
    asked = {key: values for key, values in asked.items() if values}
    for key in ("from", "to"):
        if key in asked:
            asked[key] = [_with_offset(asked[key][-1])]
    try:
        view = run_list(asked, principal=request.principal, now=now)
    except InvalidInput as refusal:
        # The form that asked stays, with what was wrong in it.
        view = run_list({}, principal=request.principal, now=now)
        context = {"view": view, "asked": _shown(asked), "refusal": refusal.detail}
        return page_render(
            request, "runs/list.html", context, section="workflows", now=now, status=400
        )
    older = urlencode({**asked, "cursor": view.next}, doseq=True) if view.next else ""
    context = {"view": view, "asked": _shown(asked), "older": older, "refusal": ""}
    return page_render(request, "runs/list.html", context, section="workflows", now=now)


@page
def run(request: ConsoleRequest, workflow: str, run_id: str) -> HttpResponse:
    """Show one run; ?at= is when it occurred."""
    now = timezone.now()
    view = run_view(
        workflow=workflow,
        run_id=run_id,
        at=_with_offset(request.GET.get("at", "")),
        principal=request.principal,
        now=now,
    )
    return page_render(request, "runs/run.html", {"view": view}, section="workflows", now=now)


def _with_offset(text: str) -> str:
    """Return a time as typed on a page, where UTC goes without saying."""
    text = text.strip().replace(" ", "T", 1) if len(text) <= 19 else text
    _, _, clock = text.partition("T")
    return f"{text}Z" if clock and not set(clock) & set("zZ+-") else text


def _shown(asked: dict[str, list[str]]) -> dict[str, str]:
    return {key.replace("from", "start"): ", ".join(values) for key, values in asked.items()}
