"""Notifications: who is told of what, how the deliveries go, and the forms that change it."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import DomainError, InvalidInput, NotFound
from rollout_console.notifications import services
from rollout_console.notifications.models import Channel, Subscription
from rollout_console.web.pages import ConsoleRequest, number_sent, page, page_render
from rollout_console.web.selectors.notifications import (
    form_options,
    notifications_view,
    workflow_options,
)
from rollout_console.web.words import CHANNELS


@page
def notifications(request: ConsoleRequest) -> HttpResponse:
    """List subscriptions and the newest deliveries: ?state=failing, ?before= a delivery's id."""
    now = timezone.now()
    failing = request.GET.get("state") == "failing"
    before = number_sent(request.GET.get("before", ""))
    view = notifications_view(principal=request.principal, now=now, failing=failing, before=before)
    context = {"view": view, "state": "failing" if failing else "all", "channels": CHANNELS}
    return page_render(
        request,
        "notifications/list.html",
        context,
        section="notifications",
        # An older page stands still.
        regions=() if before else ("subscriptions", "deliveries"),
        now=now,
    )


@page
def subscription_new(request: ConsoleRequest, channel: str) -> HttpResponse:
    """Show the form for a channel; a post sets the subscription up."""
    if channel not in Channel.values:
        raise NotFound(f"There is no channel “{channel}”.")
    if request.method != "POST":
        blank = {"name": "", "workflow": "", "types": [], "severity": "low", "enabled": True}
        return _form(request, typed={**blank, "recipients": "owner", "channel": channel})
    typed = _typed(request, channel)
    workflow = _workflow(request, typed["workflow"])
    services.manage_require(request.principal, workflow)
    try:
        made, secret = services.subscription_create(
            workflow=workflow,
            told=_told(typed),
            principal=request.principal,
            now=timezone.now(),
        )
    except DomainError as refusal:
        return _form(request, typed=typed, refusal=refusal)
    if secret:
        # Shown in this answer and nowhere else, so there is nothing to redirect to.
        return _form(request, typed=typed, subscription=made, secret=secret)
    messages.success(request, f"{made.name} is set up. Send a test to see it arrive.")
    return redirect("web:subscription", made.pk)


@page
def subscription(request: ConsoleRequest, subscription_id: int) -> HttpResponse:
    """Show a subscription with its deliveries; a post changes it."""
    found = services.subscription_permit(
        subscription_id=subscription_id, principal=request.principal
    )
    if request.method != "POST":
        return _form(request, typed=_stored(found), subscription=found)
    typed = _typed(request, found.channel)
    try:
        services.subscription_change(
            subscription_id=subscription_id,
            told=_told(typed),
            principal=request.principal,
            now=timezone.now(),
        )
    except DomainError as refusal:
        return _form(request, typed=typed, subscription=found, refusal=refusal)
    messages.success(request, f"{typed['name']} is saved.")
    return redirect("web:subscription", subscription_id)


@require_POST
@page
def subscription_test(request: ConsoleRequest, subscription_id: int) -> HttpResponse:
    services.subscription_permit(subscription_id=subscription_id, principal=request.principal)
    try:
        services.subscription_test(
            subscription_id=subscription_id, principal=request.principal, now=timezone.now()
        )
    except DomainError as refusal:
        messages.warning(request, refusal.detail, extra_tags="watch")
    else:
        messages.success(request, "A test is on its way. Below it says what came of it.")
    return redirect("web:subscription", subscription_id)


@require_POST
@page
def subscription_secret(request: ConsoleRequest, subscription_id: int) -> HttpResponse:
    found, secret = services.subscription_secret_renew(
        subscription_id=subscription_id, principal=request.principal, now=timezone.now()
    )
    return _form(request, typed=_stored(found), subscription=found, secret=secret)


@require_POST
@page
def subscription_remove(request: ConsoleRequest, subscription_id: int) -> HttpResponse:
    services.subscription_remove(
        subscription_id=subscription_id, principal=request.principal, now=timezone.now()
    )
    messages.success(request, "It is removed. What it was sent stays in the list below.")
    return redirect("web:notifications")


@require_POST
@page
def delivery_replay(request: ConsoleRequest, delivery_id: int) -> HttpResponse:
    try:
        services.delivery_replay(
            delivery_id=delivery_id, principal=request.principal, now=timezone.now()
        )
    except services.SubscriptionOff as refusal:
        messages.warning(request, refusal.detail, extra_tags="watch")
    else:
        messages.success(request, f"Delivery {delivery_id} is sent again, under the same id.")
    return redirect("web:notifications")


def _form(
    request: ConsoleRequest,
    *,
    typed: dict[str, Any],
    subscription: Subscription | None = None,
    secret: str = "",
    refusal: DomainError | None = None,
) -> HttpResponse:
    now = timezone.now()
    view = None
    if subscription is not None:
        view = notifications_view(
            principal=request.principal, now=now, subscription_id=subscription.pk
        )
    errors: dict[str, str] = {}
    for error in [] if refusal is None else refusal.facts.get("errors", []):
        # A member's error stands at its field, as /types/3 at the types.
        errors.setdefault(error["pointer"].split("/")[1], error["detail"])
    context = {
        "typed": typed,
        "subscription": subscription,
        "view": view,
        "secret": secret,
        "refusal": "" if refusal is None or errors else refusal.detail,
        "errors": errors,
        "channel_name": CHANNELS[typed["channel"]],
        "workflows": workflow_options(principal=request.principal),
        **form_options(),
    }
    return page_render(
        request,
        "notifications/edit.html",
        context,
        section="notifications",
        # What was typed is not to be swapped away, nor is a secret that is shown once.
        regions=("sent",) if view is not None and not secret and refusal is None else (),
        every_s=2,
        now=now,
        status=422 if refusal is not None else 200,
    )


def _typed(request: ConsoleRequest, channel: str) -> dict[str, Any]:
    def text(name: str, most: int) -> str:
        return request.POST.get(name, "").replace("\x00", "").strip()[:most]

    return {
        "workflow": text("workflow", 80),
        "name": text("name", services.NAME_MAX + 1),
        "channel": channel,
        # Every type is none by name, so that types which come later are told too.
        "types": [] if request.POST.get("which") == "all" else request.POST.getlist("types")[:50],
        "which": text("which", 10),
        "severity": text("severity", 10) or "low",
        "recipients": text("recipients", 5000),
        "address": text("address", services.ADDRESS_MAX + 1),
        "secret": text("secret", 200),
        "enabled": bool(request.POST.get("enabled")),
    }


def _told(typed: dict[str, Any]) -> services.Told:
    if typed["which"] == "some" and not typed["types"]:
        raise InvalidInput(
            "Choose at least one kind of event, or everything.",
            errors=[{"pointer": "/types", "detail": "Choose at least one, or everything."}],
        )
    names = typed["recipients"].replace("\n", ",").split(",")
    return services.Told(
        name=typed["name"],
        channel=typed["channel"],
        types=tuple(typed["types"]),
        severity=typed["severity"],
        recipients=tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
        if typed["channel"] == Channel.EMAIL
        else (),
        address=typed["address"] or None,
        secret=typed["secret"] or None,
        enabled=typed["enabled"],
    )


def _stored(found: Subscription) -> dict[str, Any]:
    return {
        "workflow": "" if found.workflow is None else found.workflow.slug,
        "name": found.name,
        "channel": found.channel,
        "types": found.types,
        "severity": found.severity,
        "recipients": ", ".join(found.recipients),
        "enabled": found.enabled,
    }


def _workflow(request: ConsoleRequest, slug: str) -> Workflow | None:
    if not slug:
        return None
    found = Workflow.objects.select_related("owner", "deputy").filter(slug=slug).first()
    if found is None:
        raise NotFound(f"There is no workflow “{slug}”.")
    return found
