"""The first run: name a workflow, make a token, send an event and see it arrive."""

import re
from datetime import datetime
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from approvals.authority.matrix import Scope, Verb
from approvals.authority.people import token_create
from approvals.authority.principals import NotAllowed, require
from rollout_console.catalog.models import Person, WorkflowPath
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.core.errors import DomainError
from rollout_console.rollouts.drafts import draft_permit
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.setup import (
    deputy_for,
    path_get,
    snippets,
    started,
    token_makers,
    waiting_paths,
)

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
# What a workflow needs to ask what to serve and to report what happened, and no more.
SCOPES: Final = (Scope.INGEST, Scope.EVALUATE)


@page
def setup(request: ConsoleRequest) -> HttpResponse:
    """Name a workflow and its first path; makes the smallest plan there is."""
    now = timezone.now()
    if request.method == "POST":
        return _begin(request, now)
    return _start_page(request, now)


def _start_page(
    request: ConsoleRequest,
    now: datetime,
    *,
    fields: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:
    may = request.principal.may(Verb.PLAN_EDIT, None)
    context = {
        "fields": fields or {},
        "errors": errors or {},
        "may_name": may,
        "begun": waiting_paths(principal=request.principal),
        "step": 1,
    }
    return page_render(
        request, "setup/start.html", context, section="overview", now=now, status=status
    )


def _begin(request: ConsoleRequest, now: datetime) -> HttpResponse:
    draft_permit(request.principal, None)
    fields = {
        name: request.POST.get(name, "").replace("\x00", "").strip()[:200]
        for name in ("workflow", "workflow_name", "path", "path_name")
    }
    errors = {
        name: "A slug: small letters, digits, - and _, starting with a letter or digit."
        for name in ("workflow", "path")
        if not _SLUG.fullmatch(fields[name])
    }
    if errors:
        return _start_page(request, now, fields=fields, errors=errors, status=422)
    there = WorkflowPath.objects.filter(
        workflow__slug=fields["workflow"], slug=fields["path"]
    ).first()
    if there is not None and request.principal.may(Verb.READ, there.workflow_id):
        # Pressed twice, or named by somebody else meanwhile: nothing is to be made.
        return redirect("web:setup_path", fields["workflow"], fields["path"])
    if WorkflowPath.objects.filter(workflow__slug=fields["workflow"]).exists():
        errors["workflow"] = "This workflow has a plan already: add the path in its plan."
        return _start_page(request, now, fields=fields, errors=errors, status=422)
    try:
        plan_apply_and_publish(
            document=_first_plan(fields, request.user),
            text="",
            principal=request.principal,
            now=now,
        )
    except DomainError as refusal:
        errors["form"] = refusal.detail
        return _start_page(request, now, fields=fields, errors=errors, status=422)
    messages.success(request, f"{fields['workflow']} is known now. It is exposed to nobody.")
    return redirect("web:setup_path", fields["workflow"], fields["path"])


def _first_plan(fields: dict[str, str], owner: Person) -> dict[str, Any]:
    """Return the smallest plan: who owns it, and a path whose way without AI is manual."""
    return {
        "version": 1,
        "workflow": {
            "slug": fields["workflow"],
            "name": fields["workflow_name"] or fields["workflow"],
            "owner": owner.username,
            "deputy": deputy_for(owner),
            "paths": [
                {
                    "slug": fields["path"],
                    "name": fields["path_name"] or fields["path"],
                    "sensitivity": "normal",
                    "no_ai_mode": "manual",
                }
            ],
        },
    }


@page
def setup_path(request: ConsoleRequest, workflow: str, path: str) -> HttpResponse:
    """Show how to report to a path and wait for what arrives; a post makes the token."""
    now = timezone.now()
    found = path_get(workflow, path, principal=request.principal)
    name = request.POST.get("name", "").replace("\x00", "").strip()
    secret = refusal = ""
    status = 200
    if request.method == "POST":
        require(request.principal, Verb.TOKENS_MANAGE, found.workflow)
        try:
            secret = token_create(
                name=name,
                scopes=SCOPES,
                workflows=[found.workflow.slug],
                person=None,
                principal=request.principal,
                now=now,
            )
        except NotAllowed:
            raise
        except DomainError as error:
            refusal, status = error.detail, 422
    view = started(found, principal=request.principal, now=now)
    context = {
        "view": view,
        "name": name or view.token_name,
        "secret": secret,
        "refusal": refusal,
        "may_token": request.principal.may(Verb.TOKENS_MANAGE, found.workflow_id),
        "makers": token_makers(found.workflow),
        "snippets": snippets(found, url=request.build_absolute_uri("/").rstrip("/"), secret=secret),
        "step": view.step(bool(secret)),
    }
    return page_render(
        request,
        "setup/path.html",
        context,
        section="overview",
        regions=("progress", "arrived"),
        every_s=2,
        now=now,
        status=status,
    )
