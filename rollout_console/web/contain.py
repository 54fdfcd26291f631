"""Containing a rollout: one form, as a page and as a dialog, that needs Postgres alone."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from approvals.authority.matrix import Verb
from approvals.authority.principals import NotAllowed, require, who_can
from rollout_console.containment import policy
from rollout_console.containment.selectors import BlastRadius, blast_radius
from rollout_console.containment.services import Outcome, rollout_contain
from rollout_console.core.errors import DomainError, NotFound
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import MoveNotAllowed, RolloutState
from rollout_console.web.drawing import ring_radii
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.cockpit import rollout_get
from rollout_console.web.selectors.rollouts import AlertRow, alert_rows
from rollout_console.web.words import STATES, Shown, share_text


class ContainForm(forms.Form):
    """A press: the reason, and what the person saw when the form opened."""

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
    expected_version = forms.IntegerField(min_value=1, max_value=2**53, required=False)
    key = forms.CharField(min_length=1, max_length=200)
    opened_at = forms.CharField(required=False, max_length=40)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("reason") == "other" and not cleaned.get("note"):
            self.add_error("note", "Say in the note what the reason is.")
        return cleaned


@dataclass(frozen=True, slots=True)
class Action:
    """How an action's form reads, for one rollout."""

    slug: str
    title: str
    button: str
    lead: str
    icon: str
    tint: str
    danger: bool
    then: list[tuple[str, str]]
    returning: str


@dataclass(frozen=True, slots=True)
class ContainView:
    """What the form shows. `share_text` is the measured part of the paths' tasks."""

    rollout: Rollout
    shown: Shown
    action: Action
    blast: BlastRadius
    share_text: str
    rings: list[tuple[float, str]]
    alert: AlertRow | None
    may: bool
    who: list[str]
    blocked: str
    already: bool


# The actions that have a form.
OFFERED: Final = ("pause", "rollback")


@page
def contain(request: ConsoleRequest, slug: str, action: str) -> HttpResponse:
    """Show the form, or apply it; htmx gets the form alone, and the outcome in its place."""
    if action not in OFFERED:
        raise NotFound("There is no such containment action here. Nothing is affected.")
    now = timezone.now()
    rollout = rollout_get(slug, request.principal)
    if request.method == "POST":
        return _press(request, rollout, action, now)
    view = _view(request, rollout, action, now)
    code = policy.reason_for_signal(view.alert.signal) if view.alert else "precaution"
    form = ContainForm(
        initial={
            "reason": code,
            "expected_version": rollout.version,
            "key": str(uuid.uuid4()),
            "opened_at": now.isoformat(),
        }
    )
    return _render(request, view, form, now)


def _press(request: ConsoleRequest, rollout: Rollout, action: str, now: datetime) -> HttpResponse:
    try:
        require(request.principal, Verb(action), rollout.workflow)
    except NotAllowed as refusal:
        form = ContainForm(request.POST)
        form.full_clean()
        form.add_error(None, refusal.detail)
        return _render(request, _view(request, rollout, action, now), form, now, status=403)
    form = ContainForm(request.POST)
    status = 422
    if form.is_valid():
        press = form.cleaned_data
        try:
            outcome = rollout_contain(
                slug=rollout.slug,
                action=action,
                reason_code=press["reason"],
                note=press["note"],
                principal=request.principal,
                key=press["key"],
                expected_version=press["expected_version"],
                opened_at=_opened_at(press["opened_at"], now),
                now=now,
            )
        except DomainError as refusal:
            form.add_error(None, refusal.detail)
            status = 422 if refusal.status < 500 else refusal.status
        else:
            return _done(request, rollout, action, outcome, now)
    return _render(request, _view(request, rollout, action, now), form, now, status=status)


def _done(
    request: ConsoleRequest, rollout: Rollout, action: str, outcome: Outcome, now: datetime
) -> HttpResponse:
    words = {"pause": "Expansion is paused", "rollback": "Rolled back"}[action]
    if not request.htmx:
        meanwhile = "; ".join(outcome.changed_meanwhile)
        messages.success(
            request,
            f"{words}. Committed as exposure version {outcome.exposure_version}."
            + (f" Changed meanwhile: {meanwhile}." if meanwhile else ""),
        )
        return redirect("web:rollout", rollout.slug)
    response = render(
        request,
        "contain/done.html",
        {
            "rollout": rollout,
            "action": action_for(rollout, action, exposed=""),
            "words": words,
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
    context = {"view": view, "form": form, "reasons": list(policy.REASONS.items()), "now": now}
    context["reason"] = form["reason"].value()
    if request.htmx:
        response = render(request, "contain/form.html", context, status=status)
        response.headers["Cache-Control"] = "private, no-store"
        return response
    return page_render(
        request, "contain/page.html", context, section="rollouts", now=now, status=status
    )


def _opened_at(text: str, now: datetime) -> datetime | None:
    """Return when the form was opened, as it says; nonsense and the future count as unknown."""
    try:
        moment = parse_datetime(text)
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None or moment > now:
        return None
    return moment


def _view(request: ConsoleRequest, rollout: Rollout, slug: str, now: datetime) -> ContainView:
    state = RolloutState(rollout.state)
    blocked, already = "", False
    try:
        already = policy.state_after(state, slug) is state
    except MoveNotAllowed as refusal:
        blocked = str(refusal)
    blast = blast_radius(rollout, now=now)
    exposed = " + ".join(f"{part.name} {share_text(part.share)}" for part in blast.segments)
    stages = rollout.stages.count()
    may = request.principal.may(Verb(slug), rollout.workflow_id)
    return ContainView(
        rollout=rollout,
        shown=STATES[state],
        action=action_for(rollout, slug, exposed=exposed),
        blast=blast,
        share_text=share_text(blast.exposed_share),
        rings=[
            (radius, _ring(slug, number < rollout.stage and bool(blast.segments)))
            for number, radius in enumerate(ring_radii(stages))
        ],
        alert=next(iter(alert_rows([rollout.slug])[rollout.slug]), None),
        may=may,
        who=[] if may else who_can(Verb(slug), rollout.workflow),
        blocked=blocked,
        already=already,
    )


def _ring(action: str, exposed: bool) -> str:
    if not exposed:
        return ""
    return "drop" if action == "rollback" else "keep"


def action_for(rollout: Rollout, slug: str, *, exposed: str) -> Action:
    """Return an action's words for this rollout; `exposed` names what is exposed now."""
    candidate = rollout.candidate.version
    name = rollout.workflow.name
    if slug == "pause":
        return Action(
            slug=slug,
            title=f"Pause expansion of {name}?",
            button="Pause expansion",
            lead=f"Hold at {exposed}. {candidate} goes on serving them; nothing widens."
            if exposed
            else "Nothing widens.",
            icon="s-paused",
            tint="t-pause",
            danger=False,
            then=[
                ("s-paused", "Expansion stops and exposure holds. It does not turn the AI off."),
                ("shield", "Triggers stay armed and keep watching."),
                ("chain", "It stands in the audit log, and the charts carry a mark."),
            ],
            returning="Resuming needs the owner and a second person,"
            " or the owner alone while no trigger has tripped since.",
        )
    stable = rollout.stable.version if rollout.stable else ""
    to = stable or "the way without AI"
    return Action(
        slug=slug,
        title=f"Roll back {name} to {to}?",
        button=f"Roll back to {to}",
        lead=f"{candidate} stops serving live users. Everyone returns to {stable}, the stable"
        " release."
        if stable
        else f"{candidate} stops serving live users. There is no stable release, so everyone"
        " gets the path's declared way without AI.",
        icon="s-rolled",
        tint="t-roll",
        danger=True,
        then=[
            ("s-rolled", f"{to} serves every segment from each client's next question on."),
            ("stop", f"The action routes of {candidate} turn to deny; those of stable stay."),
            ("chain", "It stands in the audit log, and the charts carry a mark."),
        ],
        returning=f"This is final for this rollout. Returning to {candidate} is a new rollout"
        " of it, through the gate.",
    )
