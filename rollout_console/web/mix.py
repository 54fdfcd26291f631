"""The exposed mix, whole: each attribute among the exposed tasks and among all others."""

from django.http import HttpResponse
from django.utils import timezone

from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.cockpit import rollout_get
from rollout_console.web.selectors.mix import mix_cards


@page
def mix(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show what a rollout's exposed set can and cannot show of the rest."""
    now = timezone.now()
    rollout = rollout_get(slug, request.principal)
    return page_render(
        request,
        "mix/mix.html",
        {"rollout": rollout, "cards": mix_cards(rollout, now=now)},
        section="rollouts",
        now=now,
    )
