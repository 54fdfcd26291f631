"""Alerts: the list, one alert with its evidence, and what its owner answers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from rollout_console.core.errors import DomainError, InvalidInput
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.alerts import alert_list, alert_view
from rollout_console.web.selectors.charts import chart_plans, charts, window_chosen
from signals.alerts.services import alert_acknowledge, alert_hold, alert_resolve
from signals.outside.services import outside_alert_end


@page
def alerts(request: ConsoleRequest) -> HttpResponse:
    """List alerts that are not resolved; ?state=all lists every one."""
    state = "all" if request.GET.get("state") == "all" else "open"
    rows = alert_list(principal=request.principal, state=state, now=timezone.now())
    return page_render(
        request,
        "alerts/list.html",
        {"rows": rows, "state": state},
        section="alerts",
        regions=("list",),
    )


@page
def alert(request: ConsoleRequest, alert_id: int) -> HttpResponse:
    """Show one alert: the suggested response, the evidence, and the forms to answer."""
    return _alert_page(request, alert_id)


def _alert_page(
    request: ConsoleRequest, alert_id: int, *, errors: dict[str, str] | None = None
) -> HttpResponse:
    now = timezone.now()
    view = alert_view(alert_id=alert_id, principal=request.principal, now=now)
    guard = view.alert.guard
    path = "" if view.alert.path is None else view.alert.path.slug
    signal = "" if guard is None else guard.signal
    plans = [] if guard is None else chart_plans(view.rollout, path=path, signals=[signal])
    window = window_chosen(request.GET.get("window", ""), view.rollout, now)
    drawn = []
    if not request.headers.get("X-Live"):
        drawn = charts(view.rollout, plans, window=window, now=now)
    query = f"path={path}&signal={signal}&window={window.slug}"
    return page_render(
        request,
        "alerts/alert.html",
        {
            "view": view,
            "row": view.row,
            "plan": plans[0] if plans else None,
            "chart": drawn[0] if drawn else None,
            "charts_url": f"{reverse('web:charts', args=[view.rollout.slug])}?{query}",
            "errors": errors or {},
            "posted": request.POST if errors else {},
        },
        section="alerts",
        regions=("heading", "respond", "clock", "facts"),
        every_s=2,
        now=now,
        status=422 if errors else 200,
    )


@require_POST
@page
def acknowledge(request: ConsoleRequest, alert_id: int) -> HttpResponse:
    """Say that somebody looks at it; the next page stops, the clock does not."""
    return _answer(
        request,
        alert_id,
        "ack",
        lambda: alert_acknowledge(
            alert_id=alert_id, principal=request.principal, now=timezone.now()
        ),
        "Acknowledged. A clock that runs goes on.",
    )


@require_POST
@page
def hold(request: ConsoleRequest, alert_id: int) -> HttpResponse:
    """Stop the clock for `seconds`, with a reason."""
    now = timezone.now()
    seconds = request.POST.get("seconds", "")
    if not (seconds.isdecimal() and 0 < int(seconds[:9]) <= 86_400):
        return _alert_page(request, alert_id, errors={"hold": "Choose how long to hold."})
    until = now + timedelta(seconds=int(seconds[:9]))
    return _answer(
        request,
        alert_id,
        "hold",
        lambda: alert_hold(
            alert_id=alert_id,
            until=until,
            reason=request.POST.get("reason", "").strip(),
            principal=request.principal,
            now=now,
        ),
        f"Held until {until:%H:%M:%S} UTC.",
    )


@require_POST
@page
def resolve(request: ConsoleRequest, alert_id: int) -> HttpResponse:
    """Close it: was the trigger right, and what was done."""
    answer = request.POST.get("was_right", "")
    if answer not in {"yes", "no"}:
        return _alert_page(
            request, alert_id, errors={"resolve": "Say whether the trigger was right."}
        )
    onset_at, given = None, request.POST.get("onset_at", "").strip()
    if given:
        parsed = _utc(given)
        if parsed is None:
            return _alert_page(
                request, alert_id, errors={"resolve": "Write the time as 2026-11-24T03:09, in UTC."}
            )
        onset_at = parsed
    return _answer(
        request,
        alert_id,
        "resolve",
        lambda: alert_resolve(
            alert_id=alert_id,
            was_right=answer == "yes",
            note=request.POST.get("note", "").strip(),
            onset_at=onset_at,
            principal=request.principal,
            now=timezone.now(),
        ),
        "Resolved. The guard opens a new alert only on new evidence.",
    )


@require_POST
@page
def outside_end(request: ConsoleRequest, alert_id: int, slug: str) -> HttpResponse:
    """End an alert from outside by hand, and go back to the rollout that showed it."""
    try:
        outside_alert_end(
            alert_id=alert_id,
            reason=request.POST.get("reason", ""),
            principal=request.principal,
            now=timezone.now(),
        )
    except InvalidInput as refusal:
        messages.warning(request, f"{refusal.detail} Nothing was ended.", extra_tags="watch")
    else:
        messages.success(request, "It is ended here. Its sender may begin it anew.")
    return redirect("web:rollout", slug)


def _utc(given: str) -> datetime | None:
    """Return the moment that a form's field names, which knows no offset."""
    try:
        return datetime.fromisoformat(given[:40]).replace(tzinfo=UTC)
    except ValueError:
        return None


def _answer(
    request: ConsoleRequest, alert_id: int, form: str, act: Callable[[], object], said: str
) -> HttpResponse:
    # Read first: who may not see the alert is not told that it exists.
    alert_view(alert_id=alert_id, principal=request.principal, now=timezone.now())
    try:
        act()
    except DomainError as refusal:
        if refusal.status == 403:
            raise
        return _alert_page(request, alert_id, errors={form: refusal.detail})
    messages.success(request, said)
    return redirect("web:alert", alert_id)
