"""Containing a rollout: one form, as a page and as a dialog, that needs Postgres alone."""

import uuid
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from approvals.authority.principals import NotAllowed
from rollout_console.containment import policy
from rollout_console.containment.services import Outcome, contain_permit, rollout_contain
from rollout_console.containment.targets import Press
from rollout_console.core.errors import DomainError, NotFound
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.actions import DONE_WORDS, OFFERED, action_for
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.cockpit import rollout_get
from rollout_console.web.selectors.containing import (
    EVERYWHERE,
    ContainView,
    Group,
    contain_view,
)
from rollout_console.web.words import STATES

_WHICH: Final = {
    "segments": "Choose segments from the list.",
    "paths": "Choose paths from the list.",
    "place": "Choose where to clear it.",
    "mode": "Choose a fallback mode.",
    "action_route": "Choose an action route.",
}


class ContainForm(forms.Form):
    """A press: the reason, what the person saw when the form opened, and what was chosen."""

    reason = forms.ChoiceField(
        choices=list(policy.REASONS.items()),
        error_messages={"required": "Choose a reason.", "invalid_choice": "Choose a reason."},
    )
    note = forms.CharField(
        required=False,
        max_length=policy.NOTE_MAX,
        error_messages={
            "max_length": f"Shorten the note to {policy.NOTE_MAX:,} characters.",
            "null_characters_not_allowed": "Take the unprintable character out of the note.",
        },
    )
    share = forms.DecimalField(
        required=False,
        min_value=Decimal("0.001"),
        max_value=Decimal(100),
        decimal_places=3,
        error_messages=dict.fromkeys(
            (
                "invalid",
                "min_value",
                "max_value",
                "max_decimal_places",
                "max_digits",
                "max_whole_digits",
            ),
            "The share is a percentage from 0.001 to 100, with at most three decimals.",
        ),
    )
    expected_version = forms.IntegerField(min_value=1, max_value=2**53, required=False)
    key = forms.CharField(min_length=1, max_length=200)
    opened_at = forms.CharField(required=False, max_length=40)

    def __init__(self, *args: Any, groups: list[Group], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for group in groups:
            choices = [(choice.value, choice.title) for choice in group.choices]
            said = _WHICH[group.name]
            kinds = {"radio": forms.ChoiceField, "checkbox": forms.MultipleChoiceField}
            self.fields[group.name] = kinds[group.kind](
                choices=choices,
                required=group.kind == "radio",
                error_messages={"required": said, "invalid_choice": said, "invalid_list": said},
            )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("reason") == "other" and not cleaned.get("note"):
            self.add_error("note", "Say in the note what the reason is.")
        return cleaned


@page
def contain(request: ConsoleRequest, slug: str, action: str) -> HttpResponse:
    """Show the form, or apply it; htmx gets the form alone, and the outcome in its place."""
    name = action.replace("-", "_")
    if name not in OFFERED or "_" in action:
        raise NotFound("There is no such containment action here. Nothing is affected.")
    now = timezone.now()
    rollout = rollout_get(slug, request.principal)
    view = contain_view(rollout, name, principal=request.principal, now=now)
    if request.method == "POST":
        return _press(request, view, name, now)
    form = ContainForm(
        groups=view.groups,
        initial={
            "reason": view.reason,
            "expected_version": rollout.version,
            "key": str(uuid.uuid4()),
            "opened_at": now.isoformat(),
        },
    )
    return _render(request, view, form, now)


def _press(request: ConsoleRequest, view: ContainView, action: str, now: datetime) -> HttpResponse:
    rollout = view.rollout
    form = ContainForm(request.POST, groups=view.groups)
    try:
        contain_permit(request.principal, action, rollout.workflow)
    except NotAllowed as refusal:
        form.full_clean()
        form.add_error(None, refusal.detail)
        return _render(request, view, form, now, status=403)
    status = 422
    if form.is_valid():
        said = form.cleaned_data
        try:
            outcome = rollout_contain(
                slug=rollout.slug,
                action=action,
                reason_code=said["reason"],
                note=said["note"],
                principal=request.principal,
                key=said["key"],
                expected_version=said["expected_version"],
                opened_at=_opened_at(said["opened_at"], now),
                press=_press_of(action, said),
                now=now,
            )
        except DomainError as refusal:
            form.add_error(None, refusal.detail)
            status = 422 if refusal.status < 500 else refusal.status
        else:
            return _done(request, rollout, action, outcome, now)
    # Read again: a refusal is about what is there now.
    fresh = contain_view(
        rollout_get(rollout.slug, request.principal), action, principal=request.principal, now=now
    )
    return _render(request, fresh, form, now, status=status)


def _press_of(action: str, said: dict[str, Any]) -> Press:
    """Return what was chosen; nothing chosen among paths or segments means all of them."""
    if action == "clear_fallback":
        path, _, segment = said["place"].partition(" ")
        if path == EVERYWHERE:
            return Press()
        return Press(paths=(path,), segments=(segment,) if segment else None)
    segments = tuple(said.get("segments") or ())
    share = said.get("share") if action == "narrow" else None
    return Press(
        # Narrowing to no segment at all is refused, and not read as all of them.
        segments=segments if segments or action == "narrow" else None,
        share=None if share is None else share / 100,
        paths=tuple(said.get("paths") or ()) or None,
        mode=said.get("mode"),
        action_route=said.get("action_route"),
    )


def _done(
    request: ConsoleRequest, rollout: Rollout, action: str, outcome: Outcome, now: datetime
) -> HttpResponse:
    words = DONE_WORDS[action]
    waiting = " or ".join(outcome.waiting_for)
    if waiting:
        words = "Your half is confirmed"
    if not request.htmx:
        meanwhile = "; ".join(outcome.changed_meanwhile)
        committed = (
            f"It stands for 15 minutes and waits for the {waiting}."
            if waiting
            else f"Committed as exposure version {outcome.exposure_version}."
        )
        messages.success(
            request,
            f"{words}. {committed}" + (f" Changed meanwhile: {meanwhile}." if meanwhile else ""),
        )
        return redirect("web:rollout", rollout.slug)
    response = render(
        request,
        "contain/done.html",
        {
            "rollout": rollout,
            "action": action_for(rollout, action, exposed=""),
            "words": words,
            "waiting": waiting,
            "outcome": outcome,
            "shown": STATES[RolloutState(outcome.state)],
            "now": now,
        },
    )
    response.headers["HX-Trigger"] = "console:contained"
    return response


def _render(
    request: ConsoleRequest,
    view: ContainView,
    form: ContainForm,
    now: datetime,
    status: int = 200,
) -> HttpResponse:
    groups = [_as_typed(group, form) for group in view.groups] if form.is_bound else view.groups
    context = {
        "view": view,
        "form": form,
        "groups": groups,
        "reasons": list(policy.REASONS.items()),
        "reason": form["reason"].value(),
        "now": now,
    }
    if request.htmx:
        response = render(request, "contain/form.html", context, status=status)
        response.headers["Cache-Control"] = "private, no-store"
        return response
    return page_render(
        request, "contain/page.html", context, section="rollouts", now=now, status=status
    )


def _as_typed(group: Group, form: ContainForm) -> Group:
    """Return a group with the choices that were posted."""
    posted = set(form.data.getlist(group.name)) if hasattr(form.data, "getlist") else set()
    choices = [replace(choice, chosen=choice.value in posted) for choice in group.choices]
    return replace(group, choices=choices)


def _opened_at(text: str, now: datetime) -> datetime | None:
    """Return when the form was opened, as it says; nonsense and the future count as unknown."""
    try:
        moment = parse_datetime(text)
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None or moment > now:
        return None
    return moment
