"""Logging in and out, with a brake on guessing."""

from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth import authenticate, login, logout
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from approvals.authority.matrix import MATRIX, Role, Verb
from approvals.authority.principals import person_principal
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Person
from rollout_console.web.models import LoginFailure

FAILURES_MAX: Final = 10
FAILURES_WITHIN: Final = timedelta(minutes=5)
REFUSED_FOR: Final = timedelta(minutes=1)

_WRONG: Final = "Name and password do not match. Nothing is affected; try again."
_SLOW: Final = "Too many failed log-ins for this name or address. Wait a minute, then try again."

# What each role may change, in the words of the pages; the matrix is the judge.
ROLE_WORDS: Final[dict[Role, str]] = {
    Role.VIEWER: "Nothing. Reads all, and may escalate",
    Role.LEAD: "Nothing. Reads impact summaries, and may escalate",
    Role.REVIEWER: "Approve or reject single actions",
    Role.APPROVER: "Approve exposure and going live",
    Role.OWNER: "Pause, roll back, go live with an approver",
    Role.DEPUTY: "Pause and roll back",
    Role.ADMINISTRATOR: "People, tokens, settings. No containment",
}


@require_http_methods(["GET", "POST"])
def log_in(request: HttpRequest) -> HttpResponse:
    """Show the form, or log in with `username` and `password`."""
    target = _target(request)
    if request.user.is_authenticated:
        return redirect(target)
    if request.method == "GET":
        return _form(request, {"next": target})
    username = request.POST.get("username", "").strip()[:150]
    password = request.POST.get("password", "")[:4096]
    now = timezone.now()
    address = request.META.get("REMOTE_ADDR", "")
    if "\x00" in username or "\x00" in password:
        return _form(request, {"next": target, "error": _WRONG}, status=422)
    if failures_over(username=username, address=address, now=now):
        return _form(request, {"next": target, "username": username, "error": _SLOW}, status=429)
    person = authenticate(request, username=username, password=password)
    if not isinstance(person, Person):
        LoginFailure.objects.create(username=username, address=address, at=now)
        return _form(request, {"next": target, "username": username, "error": _WRONG}, status=422)
    with transaction.atomic():
        login(request, person)
        LoginFailure.objects.filter(username=username).delete()
        LoginFailure.objects.filter(at__lt=now - FAILURES_WITHIN - REFUSED_FOR).delete()
        audit.append(
            "session.logged_in",
            actor=person_principal(person),
            at=now,
            workflow="",
            subject_type="person",
            subject=person.username,
        )
    return HttpResponseRedirect(target)


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    if isinstance(request.user, Person):
        audit.append(
            "session.logged_out",
            actor=person_principal(request.user),
            at=timezone.now(),
            workflow="",
            subject_type="person",
            subject=request.user.username,
        )
    logout(request)
    return redirect("web:login")


def failures_over(*, username: str, address: str, now: datetime) -> bool:
    """Return whether a name or an address failed ten times in five minutes, the last a minute ago.

    Refused tries do not count as failures, so that waiting a minute always helps.
    """
    for field, value in (("username", username), ("address", address)):
        recent = LoginFailure.objects.filter(**{field: value}, at__gt=now - FAILURES_WITHIN)
        times = list(recent.order_by("-at").values_list("at", flat=True)[:FAILURES_MAX])
        if len(times) == FAILURES_MAX and times[0] > now - REFUSED_FOR:
            return True
    return False


def _form(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    roles = [
        (role.value.capitalize(), ROLE_WORDS[role]) for role in Role if role in MATRIX[Verb.READ]
    ]
    return render(request, "login/login.html", {"roles": roles, **context}, status=status)


def _target(request: HttpRequest) -> str:
    wanted = request.POST.get("next") or request.GET.get("next") or "/"
    if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure()):
        return wanted
    return "/"
