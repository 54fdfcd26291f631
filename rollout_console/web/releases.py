"""Releases in the browser: the list, one with its changes, and the form that registers one."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from approvals.authority.matrix import Verb
from approvals.authority.principals import who_can
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import DomainError
from rollout_console.rollouts.releases import release_register
from rollout_console.web.pages import ConsoleRequest, number_sent, page, page_render
from rollout_console.web.release_form import (
    ReleaseForm,
    body_of,
    form_read,
    rows_changed,
    with_errors,
)
from rollout_console.web.selectors.plans import workflow_get
from rollout_console.web.selectors.releases import release_view, releases_view


@page
def releases(request: ConsoleRequest) -> HttpResponse:
    """List releases: ?workflow= those of one, ?before= goes on."""
    view = releases_view(
        principal=request.principal,
        workflow=request.GET.get("workflow", ""),
        before=number_sent(request.GET.get("before", "")),
    )
    return page_render(request, "releases/list.html", {"view": view}, section="releases")


@page
def release(request: ConsoleRequest, slug: str, version: str) -> HttpResponse:
    """Show one release: what it changed, where it serves and who rolls it out."""
    workflow = workflow_get(slug, request.principal)
    view = release_view(workflow, version, principal=request.principal)
    return page_render(request, "releases/release.html", {"view": view}, section="releases")


@page
def release_new(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Register a release by form; rows are added and taken away without losing a word."""
    workflow = workflow_get(slug, request.principal)
    if request.method != "POST":
        return _form(request, workflow, ReleaseForm(version=request.GET.get("version", "")[:100]))
    form = form_read(request.POST.dict())
    todo = request.POST.get("do", "register")
    if todo != "register":
        return _form(request, workflow, rows_changed(form, todo))
    try:
        made, created = release_register(
            workflow=workflow,
            version=form.version,
            principal=request.principal,
            now=timezone.now(),
            **body_of(form),
        )
    except DomainError as refusal:
        form = with_errors(form, refusal.facts.get("errors") or [])
        return _form(request, workflow, form, refusal=refusal)
    said = "Registered" if created else "It was registered with the same content already"
    messages.success(request, f"{said}: release {made.version} of {workflow.name}.")
    return redirect("web:release", workflow.slug, made.version)


def _form(
    request: ConsoleRequest,
    workflow: Workflow,
    form: ReleaseForm,
    *,
    refusal: DomainError | None = None,
) -> HttpResponse:
    may = request.principal.may(Verb.RELEASE_REGISTER, workflow.pk)
    return page_render(
        request,
        "releases/new.html",
        {
            "workflow": workflow,
            "form": form,
            "refusal": refusal.detail if refusal else "",
            "may": may,
            "who": [] if may else who_can(Verb.RELEASE_REGISTER, workflow),
        },
        section="releases",
        # A form that cannot be read is shown again with what is wrong, as other forms are.
        status=200 if refusal is None else 422 if refusal.status == 400 else refusal.status,
    )
