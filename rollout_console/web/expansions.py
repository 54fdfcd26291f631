"""Widening: ask for the next stage, decide on what others asked, start it, review it."""

from collections.abc import Callable
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from approvals.expansions import services
from approvals.expansions.models import ExpansionRequest
from approvals.expansions.services import BreakGlass, Word
from rollout_console.core.errors import DomainError
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.cockpit import rollout_get
from rollout_console.web.selectors.expansions import approvals_list, expand_view, request_view
from rollout_console.web.selectors.mix import mix_cards

VERSION_DIGITS: Final = 16
WORDS: Final[dict[str, Word]] = {"approve": "approve", "reject": "reject"}


@page
def expand(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show what the next stage would take, and ask for it or break the glass."""
    rollout = rollout_get(slug, request.principal)
    errors: dict[str, str] = {}
    status = 200
    if request.method == "POST":
        form = "break_glass" if "break_glass" in request.POST else "ask"
        try:
            asked = _ask(request, rollout.slug, form)
        except DomainError as refusal:
            errors[form] = refusal.detail
            status = 403 if refusal.status == 403 else 422
        else:
            return redirect("web:expansion", asked.pk)
    now = timezone.now()
    view = expand_view(rollout, principal=request.principal, now=now)
    return page_render(
        request,
        "expansions/expand.html",
        {
            "view": view,
            # It stands outside the live regions, and a poll need not pay for it.
            "mixes": [] if request.headers.get("X-Live") else mix_cards(rollout, now=now),
            "errors": errors,
            "posted": request.POST if errors else {},
        },
        section="rollouts",
        regions=() if errors else ("heading", "preconditions"),
        now=now,
        status=status,
    )


def _ask(request: ConsoleRequest, slug: str, form: str) -> ExpansionRequest:
    now = timezone.now()
    version = request.POST.get("expected_version", "")
    told: dict[str, Any] = {
        "slug": slug,
        "principal": request.principal,
        "now": now,
        "expected_version": int(version)
        if version.isascii() and version.isdigit() and len(version) <= VERSION_DIGITS
        else None,
    }
    if form == "break_glass":
        asked = services.expansion_break_glass(
            **told,
            reason=request.POST.get("reason", ""),
            confirm=request.POST.get("confirm") == "yes",
        )
        messages.warning(
            request,
            f"Widened without approval, as exposure version {asked.exposure_version}. Owner,"
            " deputy and approvers are told; a review stays open until an approver has done it.",
            extra_tags="watch",
        )
        return asked
    asked, _ = services.expansion_request(**told)
    messages.success(request, "Asked for. The evidence is frozen as you see it here.")
    return asked


@page
def approvals(request: ConsoleRequest) -> HttpResponse:
    """List the requests that wait; ?show=decided lists the others."""
    show = "decided" if request.GET.get("show") == "decided" else "waiting"
    now = timezone.now()
    rows = approvals_list(principal=request.principal, show=show)
    return page_render(
        request,
        "expansions/list.html",
        {"rows": rows, "show": show},
        section="approvals",
        regions=("list",),
        now=now,
    )


@page
def expansion(request: ConsoleRequest, request_id: int) -> HttpResponse:
    """Show one request: what it would do, the evidence then and now, and who has to say what."""
    return _request_page(request, request_id)


@require_POST
@page
def decide(request: ConsoleRequest, request_id: int) -> HttpResponse:
    """Approve or reject what was shown."""
    word = WORDS.get(request.POST.get("decision", ""))
    if word is None:
        return _request_page(request, request_id, errors={"decide": "Approve it, or reject it."})
    said = {
        "approve": "Approved. Nothing is widened until its owner starts it.",
        "reject": "Rejected. What is exposed stays as it is.",
    }
    return _answer(
        request,
        request_id,
        "decide",
        lambda: services.expansion_decide(
            request_id=request_id,
            decision=word,
            reason=request.POST.get("reason", ""),
            digest=request.POST.get("digest", ""),
            principal=request.principal,
            now=timezone.now(),
        ),
        said[word],
    )


@require_POST
@page
def start(request: ConsoleRequest, request_id: int) -> HttpResponse:
    """Widen to what was approved; with its form, by break-glass."""
    glass = None
    if "break_glass" in request.POST:
        glass = BreakGlass(
            request.POST.get("reason", ""), confirm=request.POST.get("confirm") == "yes"
        )
    return _answer(
        request,
        request_id,
        "start" if glass is None else "break_glass",
        lambda: services.expansion_start(
            request_id=request_id,
            principal=request.principal,
            now=timezone.now(),
            break_glass=glass,
        ),
        "Widened. A fresh bake starts now.",
    )


@require_POST
@page
def review(request: ConsoleRequest, request_id: int) -> HttpResponse:
    """Close the review that breaking the glass left open."""
    return _answer(
        request,
        request_id,
        "review",
        lambda: services.expansion_review(
            request_id=request_id,
            note=request.POST.get("note", ""),
            principal=request.principal,
            now=timezone.now(),
        ),
        "Reviewed. The review is closed.",
    )


def _answer(
    request: ConsoleRequest,
    request_id: int,
    form: str,
    act: Callable[[], ExpansionRequest],
    said: str,
) -> HttpResponse:
    # Read first: who may not see the request is not told that it exists.
    request_view(request_id=request_id, principal=request.principal, now=timezone.now())
    try:
        act()
    except DomainError as refusal:
        status = 403 if refusal.status == 403 else 422
        return _request_page(request, request_id, errors={form: refusal.detail}, status=status)
    messages.success(request, said)
    return redirect("web:expansion", request_id)


def _request_page(
    request: ConsoleRequest,
    request_id: int,
    *,
    errors: dict[str, str] | None = None,
    status: int = 422,
) -> HttpResponse:
    now = timezone.now()
    view = request_view(request_id=request_id, principal=request.principal, now=now)
    return page_render(
        request,
        "expansions/request.html",
        {
            "view": view,
            "row": view.row,
            "errors": errors or {},
            "posted": request.POST if errors else {},
        },
        section="approvals",
        regions=() if errors else ("heading", "evidence"),
        now=now,
        status=status if errors else 200,
    )
