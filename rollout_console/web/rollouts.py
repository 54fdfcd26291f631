"""The list of rollouts, the cockpit of one, its charts and its plan."""

import hashlib
import json
from dataclasses import dataclass

from django.http import HttpResponse, HttpResponseNotModified
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from approvals.authority.principals import Staff
from rollout_console.rollouts.states import FINAL, RolloutState
from rollout_console.web.pages import ConsoleRequest, page, page_render
from rollout_console.web.selectors.changes import (
    ChangeView,
    Effects,
    change_effects,
    change_views,
)
from rollout_console.web.selectors.charts import (
    WINDOWS,
    Chart,
    ChartPlan,
    chart_plans,
    charts,
    ground_of,
    plans_on,
    window_chosen,
)
from rollout_console.web.selectors.closing import ended
from rollout_console.web.selectors.cockpit import cockpit, rollout_get
from rollout_console.web.selectors.expansions import expansion_state
from rollout_console.web.selectors.limits import limits_view
from rollout_console.web.selectors.rollouts import CellRow, rollout_list, wholes_read

LIVE_S = 2


@dataclass(frozen=True, slots=True)
class Head:
    """A chart's card: its place, the guard's number on it, and, on a whole page, the drawing."""

    plan: ChartPlan
    cell: CellRow | None
    chart: Chart | None


@page
def rollouts(request: ConsoleRequest) -> HttpResponse:
    """List every rollout, or those whose names match `q`; one match is opened at once."""
    query = request.GET.get("q", "").strip()[:120]
    rows = rollout_list(principal=request.principal, query=query)
    if query and len(rows) == 1:
        return redirect("web:rollout", rows[0].slug)
    return page_render(
        request, "rollouts/list.html", {"rows": rows, "q": query}, section="rollouts"
    )


@page
def rollout(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show one rollout's cockpit: ?path= chooses one path, ?window= the charts' span."""
    now = timezone.now()
    found = rollout_get(slug, request.principal)
    (whole,) = wholes_read([found], every_alert=True)
    staff = Staff(found.workflow)
    view = cockpit(whole, staff=staff, principal=request.principal, now=now)
    path = request.GET.get("path", "")
    if path not in {each.slug for each in view.row.paths}:
        path = ""
    window = window_chosen(request.GET.get("window", ""), found, now)
    plans = plans_on(found, whole.parts.paths, whole.guards, path=path)
    cells = {f"{cell.path}.{cell.signal}": cell for cell in view.row.cells}
    drawn: dict[str, Chart] = {}
    changes: list[ChangeView] = []
    effects: list[Effects] = []
    if not request.headers.get("X-Live"):
        # Neither a release nor a day's difference changes from one second to the next.
        changes = change_views(whole.changes)
        effects = change_effects(found, changes, paths=whole.parts.paths, now=now)
        read = charts(found, plans, window=window, now=now, ground=ground_of(whole))
        drawn = {chart.key: chart for chart in read}
    heads = [Head(plan, cells.get(plan.key), drawn.get(plan.key)) for plan in plans]
    return page_render(
        request,
        "rollouts/cockpit.html",
        {
            "cockpit": view,
            "row": view.row,
            "expansion": expansion_state(
                found,
                parts=whole.parts,
                verdicts=view.verdicts,
                staff=staff,
                principal=request.principal,
                now=now,
            )
            if view.row.state == RolloutState.LIVE
            else None,
            "closes": view.row.state not in FINAL,
            "ended": ended(found, paths=whole.parts.paths, staff=staff, principal=request.principal)
            if view.row.state in FINAL
            else None,
            "heads": heads,
            "limits": limits_view([cell for cell in view.row.cells if path in {"", cell.path}]),
            "changes": changes,
            "effects": effects,
            "path": path,
            "window": window,
            "windows": list(WINDOWS.values()),
            "charts_url": f"{reverse('web:charts', args=[slug])}?path={path}&window={window.slug}",
        },
        section="rollouts",
        regions=(
            "heading",
            "banner",
            "bar",
            "strip",
            "ladder",
            "state",
            "limits",
            "numbers",
            "guards",
            "timeline",
        ),
        every_s=LIVE_S,
        now=now,
    )


@page
def charts_json(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Answer the cockpit's charts: {"as_of", "charts": [{"key", "figure": {data, layout}, …}]}."""
    now = timezone.now()
    found = rollout_get(slug, request.principal)
    window = window_chosen(request.GET.get("window", ""), found, now)
    signal = request.GET.get("signal", "")
    plans = chart_plans(found, path=request.GET.get("path", ""), signals=[signal] if signal else ())
    drawn = charts(found, plans, window=window, now=now)
    body = [_chart_body(chart) for chart in drawn]
    etag = f'"{hashlib.sha256(json.dumps(body).encode()).hexdigest()[:32]}"'
    response: HttpResponse
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponseNotModified()
    else:
        response = HttpResponse(
            json.dumps({"as_of": now.isoformat(), "window": window.slug, "charts": body}),
            content_type="application/json",
        )
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _chart_body(chart: Chart) -> dict[str, object]:
    return {
        "key": chart.key,
        "path": chart.path,
        "signal": chart.signal,
        "title": chart.title,
        "figure": chart.figure,
        "rows": [
            [f"{row.at:%d %b %H:%M:%S}", row.value, row.range, row.n, row.stable]
            for row in chart.rows
        ],
        # Where each cell leads: to the runs behind it.
        "links": [["", row.href, "", "", row.stable_href] for row in chart.rows],
    }


@page
def plan(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Show the plan that a rollout was made by, as it was applied."""
    found = rollout_get(slug, request.principal)
    return page_render(
        request,
        "plans/plan.html",
        {
            "rollout": found,
            "plan": found.plan,
            "text": plan_text(found.plan.text, found.plan.document),
        },
        section="rollouts",
    )


@page
def plan_yaml(request: ConsoleRequest, slug: str) -> HttpResponse:
    """Answer the plan's file."""
    found = rollout_get(slug, request.principal)
    return HttpResponse(
        plan_text(found.plan.text, found.plan.document),
        content_type="text/yaml; charset=utf-8",
        headers={
            "Content-Disposition": f'inline; filename="{found.slug}.yaml"',
            "Cache-Control": "private, no-store",
        },
    )


def plan_text(text: str, document: object) -> str:
    """Return the file as it came; one that came as data reads as JSON, which is YAML too."""
    return text or json.dumps(document, indent=2, ensure_ascii=False) + "\n"
