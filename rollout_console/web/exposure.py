"""Exposure history: every version with what it changed, and who saw what at a time."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.http import HttpResponse, QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from rollout_console.core.errors import DomainError, InvalidInput
from rollout_console.core.strict_json import JsonRefused, json_load
from rollout_console.exposure.records import ContextThen, context_at
from rollout_console.web.pages import ConsoleRequest, number_sent, page, page_render
from rollout_console.web.selectors.exposure import (
    ThenView,
    context_sentence,
    path_choices,
    readable_slugs,
    then_view,
    version_view,
    versions_page,
)

# The context keys that every workflow may send (api.md), with their labels.
CONTEXT_KEYS: Final = {
    "targetingKey": "User or account (targetingKey)",
    "team": "Team",
    "customer_segment": "Customer segment",
    "account": "Account",
    "account_group": "Account group",
    "role": "Role",
}
VALUE_MAX: Final = 200
OTHER_MAX: Final = 4000
NUMBER_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form was sent with, as typed, and what is wrong with it."""

    time: str
    path: str
    fields: list[tuple[str, str, str]]
    other: str
    errors: dict[str, str] = field(default_factory=dict)


@page
def versions(request: ConsoleRequest) -> HttpResponse:
    """List versions, the newest first: ?workflow=, ?time= the latest one by then, ?before=."""
    workflow = _text(request.GET, "workflow", 80)
    typed = _text(request.GET, "time", 40)
    until, error = _time_read(typed)
    before = request.GET.get("before", "")
    rows = versions_page(
        principal=request.principal,
        workflow=workflow,
        until=until,
        before=number_sent(before),
    )
    return page_render(
        request,
        "exposure/list.html",
        {"page": rows, "filters": {"workflow": workflow, "time": typed}, "error": error},
        section="exposure",
        status=422 if error else 200,
    )


@page
def version(request: ConsoleRequest, number: int) -> HttpResponse:
    """Show all that one version changed, and what each path served from then on."""
    now = timezone.now()
    view = version_view(principal=request.principal, number=min(number, NUMBER_MAX))
    return page_render(
        request, "exposure/version.html", {"view": view}, section="exposure", now=now
    )


@page
def at(request: ConsoleRequest) -> HttpResponse:
    """Answer who saw what at ?time=, and with ?path= and a context what that context got."""
    now = timezone.now()
    asked = _asked(request.GET, now)
    time, error = _time_read(asked.time)
    then: ThenView | None = None
    answer: ContextThen | None = None
    if error:
        asked.errors["time"] = error
    if time is not None:
        try:
            then = then_view(principal=request.principal, time=time, now=now)
            if asked.path:
                answer = _answer(request, asked, time, now)
        except InvalidInput as refusal:
            asked.errors["time" if then is None else "context"] = refusal.detail
        except DomainError as refusal:
            asked.errors["time" if then is None else "path"] = refusal.detail
    return page_render(
        request,
        "exposure/at.html",
        {
            "asked": asked,
            "time": time,
            "then": then,
            "answer": answer,
            "sentence": answer and context_sentence(answer, principal=request.principal),
            "value": "" if answer is None else json.dumps(answer.value, indent=2, sort_keys=True),
            "paths": path_choices(request.principal),
        },
        section="exposure",
        now=now,
        status=422 if asked.errors else 200,
    )


def _answer(request: ConsoleRequest, asked: Asked, time: datetime, now: datetime) -> ContextThen:
    context: dict[str, Any] = {}
    if asked.other:
        try:
            found = json_load(asked.other.encode())
        except JsonRefused as refusal:
            raise InvalidInput(f"“Other fields” is no JSON: {refusal}") from refusal
        if not isinstance(found, dict):
            raise InvalidInput('“Other fields” must be a JSON object, as {"country": "de"}.')
        context |= found
    context |= {key: value for key, _, value in asked.fields if value}
    workflow, _, path = asked.path.partition(".")
    return context_at(
        time=time,
        workflow=workflow,
        path=path,
        context=context,
        workflows=readable_slugs(request.principal),
        now=now,
    )


def _asked(query: QueryDict, now: datetime) -> Asked:
    typed = _text(query, "time", 40) or (now - timedelta(seconds=1)).astimezone(UTC).strftime(
        "%Y-%m-%dT%H:%M:%S"
    )
    return Asked(
        time=typed,
        path=_text(query, "path", 161),
        fields=[(key, label, _text(query, key, VALUE_MAX)) for key, label in CONTEXT_KEYS.items()],
        other=_text(query, "other", OTHER_MAX),
    )


def _text(query: QueryDict, key: str, most: int) -> str:
    return query.get(key, "").replace("\x00", "").strip()[:most]


def _time_read(typed: str) -> tuple[datetime | None, str]:
    """Return a typed time and what is wrong with it; one without an offset is UTC."""
    if not typed:
        return None, ""
    try:
        # An unescaped + arrives as a space.
        found = parse_datetime(typed.replace(" ", "+") if "T" in typed else typed)
    except ValueError:
        found = None
    if found is None:
        return None, "Write a time as 2026-11-24T14:05 (UTC), or with an offset."
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found, ""
