"""Pages in a real Chromium: policy, accessibility, both widths, light and dark, the keyboard."""

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

from approvals.authority.principals import SYSTEM
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import WorkflowPath
from rollout_console.containment.lifecycle import (
    plan_apply_and_publish,
    rollout_complete,
    rollout_go_live,
)
from rollout_console.core.heartbeats import WORKER, heartbeat_record
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.alerts.services import guards_watch
from signals.guards.models import Guard
from signals.points.kinds import Gauge, MetricPoint, Series
from signals.points.services import points_store
from tests.factories import PASSWORD, completable, contain, principal, rollout_at
from tests.ledger import arrive
from tests.live import Console, console
from tests.plans import plan_document

__all__ = ["console"]

LOOKS: tuple[tuple[str, Literal["light", "dark"]], ...] = (
    ("desktop", "light"),
    ("desktop", "dark"),
    ("phone", "light"),
    ("phone", "dark"),
)
# axe is the costly part: one run for each width and each theme.
JUDGED = {("desktop", "light"), ("phone", "dark")}
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}


@pytest.fixture
def scene(console: Console) -> Rollout:
    """A live rollout with ten minutes of runs whose quality has dropped, and its open alert."""
    calm = rollout_at(RolloutState.LIVE, workflow="claims-intake")
    blocked = plan_document("contract-summary")
    del blocked["workflow"]["paths"][0]["review"]
    rollout_at(RolloutState.DRAFT, workflow="contract-summary")
    plan_apply_and_publish(document=blocked, text="", principal=SYSTEM, now=timezone.now())
    signed = rollout_at(RolloutState.READY, workflow="ticket-triage")
    rollout_go_live(slug=signed.slug, principal=principal("approver"), now=timezone.now())
    rollout_at(RolloutState.ABANDONED, workflow="ticket-routing")
    hurt = rollout_at(RolloutState.LIVE)
    now = timezone.now()
    for rollout in (calm, hurt):
        Rollout.objects.filter(pk=rollout.pk).update(live_at=now - timedelta(minutes=10))
        Guard.objects.filter(rollout=rollout.slug).update(evidence_from=now - timedelta(minutes=10))
        path = WorkflowPath.objects.get(workflow=rollout.workflow)
        segment = rollout.exposed.get().segment_id
        for step in range(60):
            bad = rollout is hurt and step < 12
            at = now - timedelta(seconds=step * 10 + 1)
            arrive(
                path,
                at,
                release_id=rollout.candidate_id,
                segment_id=segment,
                passed=24 if bad else 38,
                failed=16 if bad else 2,
                latencies=[800.0 + 37 * (step % 7)] * 40,
                costs=[0.03 + 0.001 * (step % 5)] * 40,
            )
            arrive(
                path,
                at,
                release_id=rollout.stable_id,
                arm=1,
                segment_id=segment,
                passed=19,
                failed=1,
                latencies=[850.0] * 20,
                costs=[0.028] * 20,
            )
    guards_watch(now=now)
    heartbeat_record(name=WORKER, now=now)
    whole = completable("refund-check")
    rollout_complete(
        slug=whole.slug,
        principal=principal("approver"),
        now=timezone.now(),
        expected_version=whole.version,
    )
    assert Alert.objects.count() == 1
    measured = Series(hurt.workflow_id, path.pk, "queue_depth", "gauge", "otlp", unit="{task}")
    points_store(
        points=[MetricPoint(measured, now - timedelta(minutes=at), Gauge.of(at)) for at in (1, 2)],
        now=now,
    )
    return hurt


@pytest.fixture
def reports(page: Page) -> Iterator[list[str]]:
    """Whatever the page complains of; a test fails on any."""
    found: list[str] = []
    page.on("console", lambda line: found.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation',"
        " e => console.error('CSP: ' + e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample));"
    )
    yield found
    assert found == []


def log_in(page: Page, console: Console, name: str = "owner") -> None:
    page.goto(f"{console.url}/login/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What is exposed right now")
    # Scripts are deferred: a key pressed before they ran is nobody's.
    page.wait_for_load_state("load")


def shot(page: Page, name: str) -> None:
    """Keep a picture of the page, where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def charts_drawn(page: Page) -> None:
    expect(page.locator("[data-chart][data-drawn]").first).to_be_visible()


TOO_WIDE = "document.documentElement.scrollWidth - innerWidth"


def pages_of(scene: Rollout) -> dict[str, str]:
    alert = Alert.objects.get()
    slug = scene.slug
    draft = Rollout.objects.get(state="draft").slug
    then = urlencode({"path": "support-reply.draft", "targetingKey": "u-1", "team": "internal"})
    return {
        "login": "/login/",
        "overview": "/",
        "rollout": f"/rollouts/{slug}/",
        "draft": f"/rollouts/{draft}/",
        "mix": f"/rollouts/{slug}/mix/",
        "economics": f"/rollouts/{slug}/economics/?window=24h",
        "workflow-economics": f"/workflows/{scene.workflow.slug}/economics/",
        "contain-rollback": f"/rollouts/{slug}/contain/rollback/",
        "contain-pause": f"/rollouts/{slug}/contain/pause/",
        "contain-narrow": f"/rollouts/{slug}/contain/narrow/",
        "contain-fallback": f"/rollouts/{slug}/contain/fallback/",
        "contain-disable": f"/rollouts/{slug}/contain/disable-action/",
        "contain-enable": f"/rollouts/{slug}/contain/enable-action/",
        "contain-clear": f"/rollouts/{slug}/contain/clear-fallback/",
        "contain-escalate": f"/rollouts/{slug}/contain/escalate/",
        "complete": f"/rollouts/{slug}/complete/",
        "complete-signed": "/rollouts/refund-check-2026.11.2/complete/",
        "abandon": f"/rollouts/{slug}/abandon/",
        "abandoned": "/rollouts/ticket-routing-2026.11.2/",
        "lesson": "/plans/ticket-routing/edit/rollout/",
        "alert": f"/alerts/{alert.pk}/",
        "alerts": "/alerts/",
        "incident": f"/incidents/{alert.incident_id}/",
        "incidents": "/incidents/",
        "trips": "/trips/",
        "rollouts": "/rollouts/",
        "audit": "/audit/",
        "workflows": "/workflows/",
        "workflow": f"/workflows/{scene.workflow.slug}/?span=all",
        "readiness-list": "/readiness/",
        "readiness": f"/rollouts/{draft}/readiness/",
        "readiness-signed": "/rollouts/ticket-triage-2026.11.2/readiness/",
        "exposure": "/exposure/",
        "exposure-version": "/exposure/3/",
        "exposure-at": f"/exposure/at/?{then}",
        "plan": f"/rollouts/{slug}/plan/",
        "missing": "/rollouts/nothing-here/",
    }


def test_every_page_is_accessible_and_fits(page: Page, console: Console, scene: Rollout) -> None:
    """Each page once, turned through both widths and themes: loading it is the costly part."""
    policy: list[str] = []
    page.on(
        "console",
        lambda line: policy.append(line.text) if "Security Policy" in line.text else None,
    )
    # A colour on its way from one theme to the other is nobody's contrast.
    page.emulate_media(reduced_motion="reduce")
    faults: dict[str, object] = {}
    pages = pages_of(scene)
    for name, url in pages.items():
        if name == "overview":
            log_in(page, console)
        page.goto(console.url + url)
        if name in {"rollout", "alert"}:
            charts_drawn(page)
        for size, theme in LOOKS:
            width, height = SIZES[size]
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=theme)
            if name in {"rollout", "draft", "abandoned", "alert"}:
                # Loaded at this width, as a phone does; a chart follows a turn a moment later.
                page.goto(console.url + url)
                if name not in {"draft", "abandoned"}:
                    charts_drawn(page)
            shot(page, f"{name}-{size}-{theme}")
            wide = page.evaluate(TOO_WIDE)
            if wide > 0:
                faults[f"{name} {size} {theme}"] = f"{wide} px too wide"
            if (size, theme) in JUDGED:
                found = Axe().run(page, options={"runOnly": RULES})
                for fault in found.response["violations"]:
                    where = [node["target"] for node in fault["nodes"]][:3]
                    faults[f"{name} {size} {theme} {fault['id']}"] = where
    assert faults == {}
    assert policy == []


def test_the_charts_draw_without_a_policy_report(
    page: Page, console: Console, scene: Rollout, reports: list[str]
) -> None:
    log_in(page, console)
    page.goto(f"{console.url}/rollouts/{scene.slug}/")
    charts_drawn(page)
    assert page.locator("[data-chart][data-drawn]").count() == 3
    line = page.locator("[data-chart='draft.quality_pass_rate'] .scatterlayer .trace")
    assert line.count() >= 3
    page.locator("[data-chart='draft.quality_pass_rate'] .nsewdrag").hover()
    expect(page.locator(".hoverlayer .hovertext, .hoverlayer .legend").first).to_be_visible()
    page.get_by_role("button", name="Switch light and dark theme").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_two_clicks_roll_back_from_the_overview(
    page: Page, console: Console, scene: Rollout, reports: list[str]
) -> None:
    log_in(page, console)
    row = page.locator(f"#ro-{scene.slug}".replace(".", "\\."))
    row.locator(".ro-why [data-action='rollback']").click()
    dialog = page.get_by_role("dialog")
    heading = dialog.get_by_role("heading", level=2)
    expect(heading).to_have_text("Roll back Support reply to 2026.10.4?")
    expect(heading).to_be_focused()
    expect(dialog.locator("input[name=reason]:checked")).to_have_value("quality")
    shot(page, "dialog-rollback")

    dialog.get_by_role("button", name="Roll back to 2026.10.4").click()

    expect(dialog.get_by_text("Committed as exposure version")).to_be_visible()
    shot(page, "dialog-committed")
    assert Rollout.objects.get(pk=scene.pk).state == "rolled_back"
    entry = AuditEntry.objects.get(action="rollout.rolled_back")
    assert entry.data["opened_at"] is not None
    dialog.get_by_role("link", name="See the rollout").click()
    expect(page.locator(f"[id='ro-{scene.slug}']")).to_have_attribute("data-state", "rolled_back")


def test_escape_closes_the_dialog_without_change_and_returns_the_focus(
    page: Page, console: Console, scene: Rollout, reports: list[str]
) -> None:
    log_in(page, console)
    page.goto(f"{console.url}/rollouts/{scene.slug}/")
    page.keyboard.press("r")
    expect(page.get_by_role("dialog")).to_be_visible()
    for _ in range(30):
        page.keyboard.press("Tab")
    inside = (
        "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
    )
    assert page.evaluate(inside)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    focused = page.evaluate("document.activeElement.dataset.action")
    assert focused == "rollback"
    assert Rollout.objects.get(pk=scene.pk).state == "live"


def test_the_page_follows_what_others_do(
    page: Page, console: Console, scene: Rollout, reports: list[str]
) -> None:
    log_in(page, console)
    page.goto(f"{console.url}/rollouts/{scene.slug}/")
    contain(scene, "pause")
    expect(page.locator("#heading .pill")).to_have_text("Paused", timeout=8000)
    expect(page.locator("#timeline")).to_contain_text("Expansion paused")


def test_it_works_without_javascript(
    page: Page, console: Console, scene: Rollout, browser_name: str
) -> None:
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    try:
        log_in(plain, console)
        plain.locator(".ro-why [data-action='rollback']").click()
        expect(plain.locator("input[name=reason]:checked")).to_have_value("quality")
        plain.get_by_role("button", name="Roll back to 2026.10.4").click()
        expect(plain.get_by_text(re.compile("Committed as exposure version"))).to_be_visible()
        assert Rollout.objects.get(pk=scene.pk).state == "rolled_back"
    finally:
        context.close()


def test_an_old_reading_is_said_to_be_old(page: Page, console: Console, scene: Rollout) -> None:
    heartbeat_record(name=WORKER, now=timezone.now() - timedelta(seconds=60))
    log_in(page, console)
    expect(page.locator("#fresh")).to_have_attribute("data-s", "stale")
    expect(page.locator("#notice")).to_contain_text("Containment still works")
    shot(page, "degraded")


def test_letters_open_and_never_commit_and_can_be_switched_off(
    page: Page, console: Console, scene: Rollout
) -> None:
    log_in(page, console)
    page.keyboard.press("j")
    expect(page.locator("[data-row-link]").first).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Jump to a rollout, alert or page")).to_be_focused()
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.get_by_label("Single-key shortcuts are on in this browser").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("a")
    # A key that went somewhere would have left this page before the next answer.
    page.request.get(f"{console.url}/healthz")
    assert page.url == f"{console.url}/"
