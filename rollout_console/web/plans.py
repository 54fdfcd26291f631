"""Plans in the browser: the list, one workflow's plan, its history, and changes that wait."""

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from approvals.authority.matrix import Verb
from approvals.authority.principals import NotAllowed, require, who_can
from rollout_console.containment.plan_changes import plan_change_decide_and_publish
from rollout_console.core.errors import DomainError, NotFound
from rollout_console.rollouts.changes import REASON_MAX
from rollout_console.rollouts.drafts import drafts_of
from rollout_console.rollouts.models import PlanChange
from rollout_console.rollouts.selectors import (
    change_row,
    change_rows,
    change_waiting,
    findings_of,
    plan_latest,
    plan_yaml_of,
    version_rows,
)
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.plan_show import lines_of
from rollout_console.web.plan_steps import STEPS, step_of
from rollout_console.web.selectors.cockpit import rollout_get
from rollout_console.web.selectors.plans import (
    VersionView,
    change_diff,
    diff_lines,
    lines_at,
    plan_list,
    workflow_get,
)

HISTORY: int = 20
ID_MAX: int = 2**63 - 1


class DecisionForm(forms.Form):
    """A decision on a plan change, and the digest of what the person saw."""

    decision = forms.ChoiceField(
        choices=[("approve", "Approve"), ("reject", "Reject")],
        error_messages={"required": "Approve or reject it.", "invalid_choice": "Choose one."},
    )
    reason = forms.CharField(
        max_length=REASON_MAX,
        error_messages={
            "required": "Say why, for the audit.",
            "max_length": f"Shorten the reason to {REASON_MAX:,} characters.",
            "null_characters_not_allowed": "Take the unprintable character out of the reason.",
        },
    )
    digest = forms.CharField(max_length=64)


@page
def plans(request: ConsoleRequest) -> HttpResponse:
    """List workflows with the plan that is in force."""
    rows = plan_list(principal=request.principal, person=request.user)
    return page_render(
        request,
        "plans/list.html",
        {
            "rows": rows,
            "may_new": request.principal.may(Verb.PLAN_EDIT, None),
            "new_draft_at": drafts_of(request.user).get(""),
        },
        section="plans",
    )


@page
def plan_workflow(request: ConsoleRequest, workflow: str) -> HttpResponse:
    """Show a workflow's newest plan, what it leaves open, and what waits."""
    now = timezone.now()
    found = workflow_get(workflow, request.principal)
    latest = plan_latest(workflow=found.slug)
    text = "" if latest is None else plan_yaml_of(latest)
    findings = findings_of(latest.document, workflow=found, now=now) if latest else []
    return page_render(
        request,
        "plans/workflow.html",
        {
            "workflow": found,
            "plan": latest,
            "lines": lines_of(text, at=lines_at(text), step=None, faults=[]) if text else [],
            "findings": [(step_of(finding.pointer), finding) for finding in findings],
            "gaps": sum(finding.severity == "gap" for finding in findings),
            "waiting": change_waiting(workflow_id=found.pk, now=now),
            "changes": change_rows(workflow_ids=[found.pk], now=now, limit=5),
            "versions": version_rows(workflow_id=found.pk, limit=5),
            "rollouts": found.rollouts.order_by("-pk")[:5],
            "may": request.principal.may(Verb.PLAN_EDIT, found.pk),
            "who": who_can(Verb.PLAN_EDIT, found),
            "draft_at": drafts_of(request.user).get(found.slug),
            "first_step": STEPS[0].slug,
        },
        section="plans",
        now=now,
    )


@page
def plan_file(request: ConsoleRequest, workflow: str) -> HttpResponse:
    """Answer a workflow's newest plan as its file, byte for byte as it came."""
    found = workflow_get(workflow, request.principal)
    latest = plan_latest(workflow=found.slug)
    if latest is None:
        raise NotFound(f"No plan of {found.name} was applied yet.")
    return HttpResponse(
        plan_yaml_of(latest),
        content_type="text/yaml; charset=utf-8",
        headers={
            "Content-Disposition": f'inline; filename="{found.slug}.yaml"',
            "Cache-Control": "private, no-store",
        },
    )


@page
def plan_history(request: ConsoleRequest, workflow: str) -> HttpResponse:
    """List a plan's versions with what each changed; ?before= goes on."""
    found = workflow_get(workflow, request.principal)
    given = request.GET.get("before", "")
    before = int(given[:9]) if given.isascii() and given.isdigit() else None
    rows = version_rows(workflow_id=found.pk, before=before, limit=HISTORY + 1)
    return page_render(
        request,
        "plans/history.html",
        {
            "workflow": found,
            "versions": [VersionView(row, diff_lines(row.diff)) for row in rows[:HISTORY]],
            "following": rows[HISTORY - 1].number if len(rows) > HISTORY else None,
        },
        section="plans",
    )


@page
def plan_change(request: ConsoleRequest, workflow: str, change_id: int) -> HttpResponse:
    """Show a change that loosens a live plan, and take the decision on it."""
    now = timezone.now()
    found = workflow_get(workflow, request.principal)
    change = (
        PlanChange.objects.filter(pk=min(change_id, ID_MAX), workflow=found)
        .select_related("workflow", "base", "applied_as")
        .first()
    )
    if change is None:
        raise NotFound(f"There is no plan change {change_id} of {found.name}.")
    form = DecisionForm(request.POST or None)
    status = 200
    if request.method == "POST":
        try:
            require(request.principal, Verb.PLAN_CHANGE_APPROVE, found)
        except NotAllowed as refusal:
            form.full_clean()
            form.add_error(None, refusal.detail)
            status = 403
        else:
            status = 422
            if form.is_valid():
                try:
                    decided = plan_change_decide_and_publish(
                        change_id=change.pk,
                        decision=form.cleaned_data["decision"],
                        reason=form.cleaned_data["reason"],
                        digest=form.cleaned_data["digest"],
                        principal=request.principal,
                        now=now,
                    )
                except DomainError as refusal:
                    form.add_error(None, refusal.detail)
                else:
                    messages.success(request, _decided(decided))
                    return redirect("web:plan_change", found.slug, change.pk)
        change.refresh_from_db()
    row = change_row(change, now=now)
    may = request.principal.may(Verb.PLAN_CHANGE_APPROVE, found.pk)
    return page_render(
        request,
        "plans/change.html",
        {
            "workflow": found,
            "change": row,
            "diff": change_diff(row),
            "looser": [each for each in row.effects if each["direction"] == "looser"],
            "tighter": [each for each in row.effects if each["direction"] == "tighter"],
            "form": form,
            "own": row.requester_id == request.user.pk,
            "may": may,
            "who": who_can(Verb.PLAN_CHANGE_APPROVE, found),
        },
        section="plans",
        now=now,
        status=status,
    )


def _decided(change: PlanChange) -> str:
    if change.applied_as is not None:
        return f"Approved and applied as plan {change.applied_as.number}."
    return "Rejected. The plan in force stays as it is."


@page
def rollout_plan_step(request: ConsoleRequest, slug: str, step: str) -> HttpResponse:
    """Lead from a rollout's address to the editor of its workflow's plan."""
    found = rollout_get(slug, request.principal)
    return redirect("web:plan_edit", found.workflow.slug, step)
