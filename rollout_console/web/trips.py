"""The ledger of trips: each with its answer, and what each guard has been worth."""

from django.http import HttpResponse
from django.utils import timezone

from rollout_console.web.pages import ConsoleRequest, number_sent, page, page_render
from rollout_console.web.selectors.trips import trips_view


@page
def trips(request: ConsoleRequest) -> HttpResponse:
    """List trips, newest first, of one workflow or of all that the reader may see."""
    view = trips_view(
        principal=request.principal,
        workflow=request.GET.get("workflow", ""),
        before=number_sent(request.GET.get("before", "")),
        now=timezone.now(),
    )
    return page_render(request, "trips/trips.html", {"view": view}, section="trips")
