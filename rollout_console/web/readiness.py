"""The readiness gate: what it asks, and the steps that it guards."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from rollout_console.containment.lifecycle import rollout_go_live
from rollout_console.core.errors import DomainError
from rollout_console.rollouts.services import rollout_ready
from rollout_console.web.pages import ConsoleRequest, number_sent, page, page_render
from rollout_console.web.selectors.cockpit import rollout_get
from rollout_console.web.selectors.mix import mix_cards, mix_findings
from rollout_console.web.selectors.readiness import readiness_view, waiting_rows


@page
def waiting(request: ConsoleRequest) -> HttpResponse:
    """List the rollouts that are not live yet, each with what the gate has of it."""
    now = timezone.now()
    rows = waiting_rows(principal=request.principal, now=now)
    return page_render(request, "readiness/list.html", {"rows": rows}, section="readiness", now=now)


@page
def readiness(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show the seven items of one rollout, and who signs."""
    now = timezone.now()
    found = rollout_get(slug, request.principal)
    view = readiness_view(found, principal=request.principal, now=now)
    cards = mix_cards(found, now=now)
    return page_render(
        request,
        "readiness/gate.html",
        {"view": view, "mixes": cards, "findings": [*mix_findings(cards), *view.findings]},
        section="readiness",
        now=now,
    )


@require_POST
@page
def ready(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Mark a draft ready."""
    found = rollout_get(slug, request.principal)
    try:
        rollout_ready(slug=found.slug, principal=request.principal, now=timezone.now())
    except DomainError as refusal:
        messages.warning(request, refusal.detail, extra_tags="watch")
    else:
        messages.success(request, "Marked ready. Its owner and an approver go live together.")
    return _back(request, slug)


@require_POST
@page
def go_live(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Confirm going live; the owner's and an approver's confirmation together do it."""
    found = rollout_get(slug, request.principal)
    seen = request.POST.get("version", "")
    try:
        outcome = rollout_go_live(
            slug=found.slug,
            principal=request.principal,
            now=timezone.now(),
            expected_version=number_sent(seen),
        )
    except DomainError as refusal:
        messages.warning(request, refusal.detail, extra_tags="watch")
        return _back(request, slug)
    if outcome.waiting_for:
        waits = " and ".join(f"the {role}" for role in outcome.waiting_for)
        messages.success(request, f"Your confirmation stands for 15 minutes. It waits for {waits}.")
        return _back(request, slug)
    messages.success(request, f"Live as exposure version {outcome.exposure_version}.")
    return redirect("web:rollout", slug)


def _back(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Return to the page whose form was sent."""
    asked = request.POST.get("from", "")
    return redirect("web:readiness" if asked == "readiness" else "web:rollout", slug)
