"""Closing a rollout for good, and starting a new one of it."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from rollout_console.containment.lifecycle import (
    FINDINGS_MAX,
    rollout_abandon,
    rollout_complete,
)
from rollout_console.core.errors import DomainError
from rollout_console.rollouts.drafts import DraftWaits, draft_begin_again
from rollout_console.web.pages import ConsoleRequest, number_sent, page, page_render
from rollout_console.web.selectors.closing import abandon_view, complete_view
from rollout_console.web.selectors.cockpit import rollout_get


@page
def complete(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show what completing takes, and confirm it; owner and approver together do it."""
    now = timezone.now()
    found = rollout_get(slug, request.principal)
    refusal: DomainError | None = None
    if request.method == "POST":
        seen = request.POST.get("version", "")
        try:
            outcome = rollout_complete(
                slug=found.slug,
                principal=request.principal,
                now=now,
                expected_version=number_sent(seen),
            )
        except DomainError as error:
            refusal = error
            # A refusal is about what is there now.
            found = rollout_get(slug, request.principal)
        else:
            return _completed(request, slug, outcome.waiting_for)
    view = complete_view(found, principal=request.principal, now=now)
    return page_render(
        request,
        "closing/complete.html",
        {"view": view, "refusal": refusal},
        section="rollouts",
        now=now,
        status=_status(refusal),
    )


def _completed(request: ConsoleRequest, slug: str, waiting_for: list[str]) -> HttpResponse:
    if waiting_for:
        waits = " and ".join(f"the {role}" for role in waiting_for)
        messages.success(request, f"Your confirmation stands for 15 minutes. It waits for {waits}.")
        return redirect("web:complete", slug)
    messages.success(request, "Completed: the candidate is the stable release for everybody.")
    return redirect("web:rollout", slug)


@page
def abandon(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Close a rollout for redesign with what was found; what does not fit stays typed."""
    found = rollout_get(slug, request.principal)
    refusal: DomainError | None = None
    # Browsers send two characters for a line's end and count one.
    findings = request.POST.get("findings", "").replace("\r\n", "\n")
    if request.method == "POST":
        try:
            rollout_abandon(
                slug=found.slug,
                findings=findings,
                principal=request.principal,
                now=timezone.now(),
            )
        except DomainError as error:
            refusal = error
            found = rollout_get(slug, request.principal)
        else:
            messages.success(request, "Closed for redesign. The next plan shows what was found.")
            return redirect("web:rollout", slug)
    return page_render(
        request,
        "closing/abandon.html",
        {
            "view": abandon_view(found, principal=request.principal),
            "refusal": refusal,
            "findings": findings,
            "findings_max": FINDINGS_MAX,
            "findings_words": f"{FINDINGS_MAX:,}",
        },
        section="rollouts",
        status=_status(refusal),
    )


@require_POST
@page
def again(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Draft a new rollout of a final one, and open it in the plan editor."""
    found = rollout_get(slug, request.principal)
    try:
        draft_begin_again(rollout=found, principal=request.principal, now=timezone.now())
    except DraftWaits as refusal:
        messages.warning(request, refusal.detail, extra_tags="watch")
    return redirect("web:plan_edit", found.workflow.slug, "rollout")


def _status(refusal: DomainError | None) -> int:
    if refusal is None:
        return 200
    return 403 if refusal.status == 403 else 422
