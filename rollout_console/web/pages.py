"""What every page shares: log-in, refusals, the shell around it, and its live regions."""

import functools
import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from approvals.authority.principals import Principal, person_principal
from rollout_console.catalog.models import Person
from rollout_console.core.errors import DomainError
from rollout_console.web.selectors.shell import Shell, shell

P = ParamSpec("P")


class ConsoleRequest(HttpRequest):
    """A request of somebody who is logged in."""

    user: Person
    principal: Principal
    htmx: HtmxDetails


View = Callable[Concatenate[ConsoleRequest, P], HttpResponse]


def page(view: View[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Ask for a log-in first, put the person's principal on the request, show a refusal as a page.

    A script that asks without a session is told so instead of being given the log-in page.
    """

    @functools.wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        asked = cast(ConsoleRequest, request)
        if not isinstance(asked.user, Person):
            target = f"{settings.LOGIN_URL}?{urlencode({'next': _back(asked)})}"
            if asked.headers.get("X-Live"):
                return HttpResponse(status=401)
            if asked.htmx:
                return HttpResponseClientRedirect(target)
            return redirect(target)
        try:
            asked.principal = person_principal(asked.user)
            return view(asked, *args, **kwargs)
        except DomainError as refusal:
            return refusal_page(request, refusal)

    return wrapped


def _back(request: ConsoleRequest) -> str:
    """Return where to go on after logging in: a form's answer cannot be asked for again."""
    return request.get_full_path() if request.method == "GET" and not request.htmx else "/"


def number_sent(text: str) -> int | None:
    """Return the number that a form or an address carries; None for what no row's number can be."""
    return int(text) if text.isdecimal() and len(text) < 19 else None


def refusal_page(request: HttpRequest, refusal: DomainError) -> HttpResponse:
    return render(
        request, "errors/refusal.html", {"refusal": refusal, "bare": True}, status=refusal.status
    )


def page_render(
    request: ConsoleRequest,
    template: str,
    context: dict[str, Any],
    *,
    section: str,
    regions: tuple[str, ...] = (),
    every_s: int = 5,
    now: datetime | None = None,
    status: int = 200,
) -> HttpResponse:
    """Render a page, or, when its own script polls, only its live regions under an ETag.

    `regions` are partials of `template`; what they show is the same on the first load and on
    every poll, so an unchanged page costs a 304.
    """
    now = now or timezone.now()
    frame = shell(principal=request.principal, now=now)
    context = {
        "shell": frame,
        "section": section,
        "now": now,
        "every_s": every_s,
        "live": bool(regions),
        **context,
    }
    if regions and request.headers.get("X-Live"):
        return _live(request, template, regions, context, frame, now)
    response = render(request, template, context, status=status)
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _live(
    request: ConsoleRequest,
    template: str,
    regions: tuple[str, ...],
    context: dict[str, Any],
    frame: Shell,
    now: datetime,
) -> HttpResponse:
    names = ["shared/shell.html#nav", "shared/shell.html#notice"]
    names += [f"{template}#{region}" for region in regions]
    body = "".join(render_to_string(name, context, request) for name in names)
    etag = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    response: HttpResponse
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponseNotModified()
    else:
        response = HttpResponse(body)
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "private, no-cache"
    # What changes with every second stands in headers, so that it does not move the ETag.
    response.headers["X-Now"] = now.isoformat()
    if frame.watched_at is not None:
        response.headers["X-Watched-At"] = frame.watched_at.isoformat()
    return response
