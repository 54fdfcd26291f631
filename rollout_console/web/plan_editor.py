"""The plan editor: steps over one draft, its file beside, and applying it.

Every button is a plain form post that saves what the page holds first; htmx only saves in
between and refreshes the file.
"""

import secrets
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from rollout_console.catalog.models import Workflow
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.core.errors import DomainError, NotFound
from rollout_console.core.strict_json import JsonRefused, json_load
from rollout_console.rollouts.drafts import (
    Draft,
    DraftMoved,
    draft_discard,
    draft_get,
    draft_permit,
    draft_rebase,
    draft_save,
    draft_text_save,
)
from rollout_console.rollouts.plan_check import Fault, Faults
from rollout_console.rollouts.plan_diff import plan_diff
from rollout_console.rollouts.plan_edit import comments
from rollout_console.rollouts.plan_rules import rule_check
from rollout_console.rollouts.plan_yaml import PlanUnreadable, yaml_load
from rollout_console.rollouts.segment_match import rule_match
from rollout_console.rollouts.selectors import findings_of, lesson_of, plan_latest
from rollout_console.rollouts.services import PlanResult
from rollout_console.web import plan_form
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.plan_rule import HOWS, OPERATORS
from rollout_console.web.plan_show import Words, lines_of, step_view, tabs
from rollout_console.web.plan_steps import BY_SLUG, STEPS, Step
from rollout_console.web.selectors.plans import (
    diff_lines,
    draft_faults,
    fault_links,
    lines_at,
    people_names,
    refusal_faults,
    workflow_get,
)

CONTEXT_MAX: Final = 20_000
_EXAMPLE: Final = '{"targetingKey": "user-1", "team": "internal"}'


@dataclass(frozen=True, slots=True)
class Tried:
    """A context that a segment's rule was tried on: the answer, or why there is none."""

    index: int
    context: str
    sentences: list[str]
    matches: bool | None


@page
def plan_new(request: ConsoleRequest, step: str = "") -> HttpResponse:
    """Write the first plan of a workflow."""
    draft_permit(request.principal, None)
    return _step(request, None, step)


@page
def plan_edit(request: ConsoleRequest, workflow: str, step: str = "") -> HttpResponse:
    """Change a workflow's plan."""
    found = workflow_get(workflow, request.principal)
    draft_permit(request.principal, found)
    return _step(request, found, step)


def _step(request: ConsoleRequest, workflow: Workflow | None, slug: str) -> HttpResponse:
    if not slug:
        return redirect(_url(workflow, STEPS[0]))
    step = BY_SLUG.get(slug)
    if step is None:
        raise NotFound("The plan editor has no such step. Nothing is affected.")
    now = timezone.now()
    if request.method == "POST":
        return _posted(request, workflow, step, now)
    draft = _suggested(request, draft_get(workflow=workflow, principal=request.principal))
    return _page(request, workflow, step, draft, now=now)


def _suggested(request: ConsoleRequest, draft: Draft) -> Draft:
    """Show the draft with the limit that the ledger of trips suggests; nothing is kept of it."""
    slug, given = request.GET.get("trigger", ""), request.GET.get("limit", "")
    try:
        limit = float(given[:40])
    except ValueError:
        return draft
    document = deepcopy(draft.document)
    rollout = document.get("rollout") if isinstance(document, dict) else None
    triggers = rollout.get("triggers") if isinstance(rollout, dict) else None
    for trigger in triggers if isinstance(triggers, list) else []:
        if isinstance(trigger, dict) and trigger.get("slug") == slug and isfinite(limit):
            trigger["limit"] = int(limit) if limit == int(limit) else limit
            messages.info(
                request,
                f"The limit of “{slug}” below is the one suggested by its trips. Save to keep it.",
            )
            return replace(draft, document=document)
    return draft


def _posted(
    request: ConsoleRequest, workflow: Workflow | None, step: Step, now: datetime
) -> HttpResponse:
    """Save what the page holds, then do what the button says."""
    todo, _, what = request.POST.get("do", "save").partition(":")
    principal = request.principal
    if todo == "discard":
        draft_discard(workflow=workflow, principal=principal)
        messages.success(request, "The draft is gone. The plan in force stays as it was.")
        return redirect(_plan_url(workflow))
    saving: dict[str, Any] = {
        "workflow": workflow,
        "principal": principal,
        "revision": _revision(request.POST),
        "page": request.POST.get("page", "")[:40],
        "now": now,
    }
    start = draft_get(workflow=workflow, principal=principal)
    document = plan_form.form_read(start.document, step, dict(request.POST.lists()))
    try:
        if todo == "drop":
            draft = draft_text_save(text=start.text, **saving)
        elif todo == "text":
            text = request.POST.get("text", "").replace("\r\n", "\n")
            if text == start.text.replace("\r\n", "\n"):
                # A browser sends its own line ends; the file keeps those it came with.
                text = start.text
            draft = draft_text_save(text=text, **saving)
        else:
            document = _rows_changed(document, step, todo, what)
            draft = draft_save(document=document, **saving)
    except DomainError as refusal:
        held = start if todo == "text" else replace(start, document=document)
        if request.htmx:
            return _side(request, workflow, step, start, now=now, refusal=refusal.detail)
        return _page(
            request,
            workflow,
            step,
            held,
            now=now,
            refusal=refusal.detail,
            typed=request.POST.get("text") if todo == "text" else None,
            status=409 if isinstance(refusal, DraftMoved) else refusal.status,
        )
    if request.htmx:
        return _side(request, workflow, step, draft, now=now)
    return _after(request, workflow, step, draft, todo, what, now)


def _rows_changed(document: Any, step: Step, todo: str, what: str) -> Any:
    change = {
        "add": plan_form.row_add,
        "remove": plan_form.row_remove,
        "up": plan_form.row_raise,
    }.get(todo)
    return document if change is None else change(document, step, what)


def _after(
    request: ConsoleRequest,
    workflow: Workflow | None,
    step: Step,
    draft: Draft,
    todo: str,
    what: str,
    now: datetime,
) -> HttpResponse:
    """Go where the pressed button leads, once the draft is kept."""
    if todo == "apply":
        return _apply(request, workflow, step, draft, now)
    if todo == "rebase" and workflow is not None:
        base = int(what) if what.isascii() and what.isdigit() and len(what) < 9 else 0
        draft_rebase(workflow=workflow, principal=request.principal, base=base, now=now)
        return redirect(_url(workflow, step))
    if todo == "match":
        return _page(
            request,
            workflow,
            step,
            draft,
            now=now,
            tried=_tried(request, draft, what, workflow, now),
        )
    if draft.lost:
        messages.warning(
            request,
            "Comments that could not be kept where the plan changed: " + "  ".join(draft.lost[:5]),
            extra_tags="watch",
        )
    if todo == "file" or (todo == "text" and draft.typed):
        return redirect(f"{_url(workflow, step)}?file=edit#plan-file")
    if todo in ("add", "remove", "up"):
        anchor = _anchor(draft.document, todo, what)
        return redirect(f"{_url(workflow, step)}#{anchor}")
    if todo == "next":
        return redirect(_url(workflow, _beside(step, 1)))
    if todo == "back":
        return redirect(_url(workflow, _beside(step, -1)))
    if todo == "go" and what in BY_SLUG:
        return redirect(_url(workflow, BY_SLUG[what]))
    return redirect(_url(workflow, step))


def _apply(
    request: ConsoleRequest,
    workflow: Workflow | None,
    step: Step,
    draft: Draft,
    now: datetime,
) -> HttpResponse:
    faults = draft_faults(draft, workflow)
    latest = plan_latest(workflow=workflow.slug) if workflow else None
    if faults or draft.typed or (latest is not None and latest.number != draft.base):
        # The page says which, and offers no button then.
        return _page(request, workflow, step, draft, now=now, status=422)
    try:
        result = plan_apply_and_publish(
            document=draft.document, text=draft.text, principal=request.principal, now=now
        )
    except DomainError as refusal:
        return _page(
            request,
            workflow,
            step,
            draft,
            now=now,
            refusal=refusal.detail,
            status=422 if refusal.status < 500 else refusal.status,
        )
    draft_discard(workflow=workflow, principal=request.principal)
    if result.change is not None:
        messages.success(
            request,
            "It loosens what a rollout in force stands on, so it waits for an approver. "
            "Nothing has changed yet.",
            extra_tags="watch",
        )
        return redirect("web:plan_change", result.workflow, result.change)
    said = "Applied" if result.created else "It said the same already"
    messages.success(request, f"{said}: plan {result.number} of {result.workflow}.")
    return redirect("web:plan_workflow", result.workflow)


def _page(
    request: ConsoleRequest,
    workflow: Workflow | None,
    step: Step,
    draft: Draft,
    *,
    now: datetime,
    refusal: str = "",
    typed: str | None = None,
    tried: Tried | None = None,
    status: int = 200,
) -> HttpResponse:
    faults = draft_faults(draft, workflow)
    latest = plan_latest(workflow=workflow.slug) if workflow else None
    result: PlanResult | None = None
    if not faults and draft.revision:
        # Conflicts with what is stored show only when it is tried.
        result, faults = _try(draft, request, now)
    context = _side_context(workflow, step, draft, faults, now=now)
    untouched = workflow is None and draft.revision == 0
    findings = context["findings"]
    before = latest.document if latest else {}
    index = STEPS.index(step)
    people = people_names()
    context |= {
        "people": people,
        "view": step_view(
            draft.document,
            step,
            # A form that nobody has touched is not yet at fault.
            faults=[] if untouched else faults,
            findings=findings,
            words=Words(people=people),
        ),
        "faults": [] if untouched else faults,
        "links": fault_links(faults, draft.text) if not untouched else [],
        "diff": diff_lines(plan_diff(before, draft.document)) if step.slug == "review" else [],
        "result": result,
        "latest": latest,
        "outdated": latest is not None and draft.revision > 0 and latest.number != draft.base,
        "number": index + 1,
        "lesson": lesson_of(draft.document, workflow=workflow),
        "previous": STEPS[index - 1] if index else None,
        "following": STEPS[index + 1] if index + 1 < len(STEPS) else None,
        "page": secrets.token_urlsafe(12),
        "refusal": refusal,
        "typed": draft.typed if typed is None else typed,
        "editing": bool(request.GET.get("file") or draft.typed or typed is not None),
        "tried": tried,
        "example": _EXAMPLE,
        "hows": HOWS,
        "operators": OPERATORS,
        "commented": bool(comments(draft.text)),
    }
    return page_render(request, "plans/edit.html", context, section="plans", now=now, status=status)


def _side(
    request: ConsoleRequest,
    workflow: Workflow | None,
    step: Step,
    draft: Draft,
    *,
    now: datetime,
    refusal: str = "",
) -> HttpResponse:
    """Answer a save in between: the file and how the steps stand, the form untouched."""
    context = _side_context(workflow, step, draft, draft_faults(draft, workflow), now=now)
    context |= {"typed": draft.typed, "refusal": refusal}
    response = render(request, "plans/edit.html#side", {**context, "now": now})
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _side_context(
    workflow: Workflow | None, step: Step, draft: Draft, faults: list[Fault], *, now: datetime
) -> dict[str, Any]:
    at = lines_at(draft.text)
    links = fault_links(faults, draft.text)
    findings = findings_of(draft.document, workflow=workflow, now=now)
    bad = [link.line for link in links if link.line is not None]
    return {
        "workflow": workflow,
        "step": step,
        "draft": draft,
        "action": _url(workflow, step),
        "tabs": tabs(draft.document, faults=faults, findings=findings),
        "lines": lines_of(draft.text, at=at, step=step, faults=bad),
        "wrong": len(faults),
        "findings": findings,
        "gaps": sum(finding.severity == "gap" for finding in findings),
        "unreadable": _unreadable(draft.typed),
    }


def _try(
    draft: Draft, request: ConsoleRequest, now: datetime
) -> tuple[PlanResult | None, list[Fault]]:
    try:
        result = plan_apply_and_publish(
            document=draft.document,
            text=draft.text,
            principal=request.principal,
            now=now,
            dry_run=True,
        )
    except DomainError as refusal:
        return None, refusal_faults(refusal)
    return result, []


def _tried(
    request: ConsoleRequest, draft: Draft, what: str, workflow: Workflow | None, now: datetime
) -> Tried | None:
    """Try a segment's rule on the context that was typed beside it."""
    if not what.isascii() or not what.isdigit() or len(what) > 4:
        return None
    index = int(what)
    pointer = f"/workflow/segments/{index}"
    given = request.POST.get(f"context:{pointer}", "")[:CONTEXT_MAX]
    rule = plan_form.value_at(draft.document, f"{pointer}/rule")
    faults = Faults()
    rule_check(rule, "", faults)
    if faults.found:
        return Tried(index, given, [f"The rule does not fit yet: {faults.found[0].detail}"], None)
    try:
        context = json_load(given)
    except JsonRefused as error:
        return Tried(index, given, [f"The context cannot be read. {error}"], None)
    if not isinstance(context, dict):
        return Tried(index, given, ["A context is a map, as in " + _EXAMPLE], None)
    slug = plan_form.value_at(draft.document, f"{pointer}/slug")
    match = rule_match(
        workflow=workflow,
        rule=rule,
        context=context,
        segment=slug if isinstance(slug, str) else None,
        now=now,
    )
    return Tried(index, given, match.sentences, match.matches)


def _unreadable(typed: str) -> str:
    """Return why a file cannot be read, with its line."""
    if not typed:
        return ""
    try:
        yaml_load(typed)
    except PlanUnreadable as error:
        return f"Line {error.line}: {error.detail}" if error.line else error.detail
    return ""


def _revision(posted: QueryDict) -> int:
    given = posted.get("revision", "")
    return int(given[:9]) if given.isascii() and given.isdigit() else 0


def _anchor(document: Any, todo: str, what: str) -> str:
    """Return where the page goes on after rows changed: the new row, or the list."""
    if todo == "add":
        held = plan_form.value_at(document, what)
        if isinstance(held, list) and held:
            return "r" + f"{what}/{len(held) - 1}".replace("/", "-")
    owner = what.rpartition("/")[0] if todo != "add" else what
    return urlencode({"": "r" + owner.replace("/", "-")})[1:]


def _beside(step: Step, way: int) -> Step:
    return STEPS[max(0, min(len(STEPS) - 1, STEPS.index(step) + way))]


def _url(workflow: Workflow | None, step: Step) -> str:
    if workflow is None:
        return reverse("web:plan_new", args=[step.slug])
    return reverse("web:plan_edit", args=[workflow.slug, step.slug])


def _plan_url(workflow: Workflow | None) -> str:
    if workflow is None:
        return reverse("web:plans")
    return reverse("web:plan_workflow", args=[workflow.slug])
