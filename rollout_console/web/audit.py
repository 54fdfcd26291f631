from django.http import HttpResponse

from rollout_console.web.pages import ConsoleRequest, number_sent, page, page_render
from rollout_console.web.selectors.audit import audit_page


@page
def audit(request: ConsoleRequest) -> HttpResponse:
    """List audit entries, newest first: ?workflow=, ?actor=, ?action=, ?before= an entry's id."""
    filters = {
        name: request.GET.get(name, "").replace("\x00", "").strip()[:150]
        for name in ("workflow", "actor", "action")
    }
    before = request.GET.get("before", "")
    rows = audit_page(
        principal=request.principal,
        before=number_sent(before),
        **filters,
    )
    return page_render(
        request, "audit/audit.html", {"audit": rows, "filters": filters}, section="audit"
    )
