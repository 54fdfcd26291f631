"""Widening in a real Chromium: the owner asks, an approver approves, the owner starts."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from approvals.authority.matrix import Role
from rollout_console.catalog.models import ActionRoute
from rollout_console.core.heartbeats import WORKER, heartbeat_record
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from tests.browser.test_pages_look import (
    JUDGED,
    LOOKS,
    RULES,
    SIZES,
    TOO_WIDE,
    log_in,
    reports,
    shot,
)
from tests.factories import expansion_asked, expansion_decided, person, ripen, rollout_at
from tests.live import Console, console

__all__ = ["console", "reports"]


@pytest.fixture
def ripe(console: Console) -> Rollout:
    """A live rollout that has everything an expansion needs."""
    rollout = rollout_at(RolloutState.LIVE)
    ripen(rollout)
    heartbeat_record(name=WORKER, now=timezone.now())
    return rollout


@pytest.fixture
def approver_page(browser: Browser, console: Console) -> Iterator[Page]:
    """The approver's own browser, without JavaScript: it has to work there too."""
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def test_the_owner_asks_an_approver_approves_the_owner_starts(
    page: Page, console: Console, ripe: Rollout, approver_page: Page, reports: list[str]
) -> None:
    log_in(page, console)
    page.goto(f"{console.url}/rollouts/{ripe.slug}/expand/")
    expect(page.locator("[data-met='no']")).to_have_count(0)
    page.locator("[data-action='expand']").click()
    expect(page.locator("#heading")).to_have_attribute("data-state", "pending")
    expect(page.get_by_text("You asked for it, so somebody else decides")).to_be_visible()

    log_in(approver_page, console, "approver")
    approver_page.get_by_role("link", name="Approvals 1 waiting for you").click()
    approver_page.get_by_role("link", name="Support reply, stage 1 → 2").click()
    approver_page.get_by_label("Reason").fill("Citations check out in 20 of 20.")
    approver_page.locator("[data-action='approve']").click()
    expect(approver_page.get_by_text("Approved. Nothing is widened until")).to_be_visible()
    assert Rollout.objects.get(pk=ripe.pk).stage == 1

    # The owner's page has followed by itself; the button comes with the next load.
    expect(page.locator("#heading")).to_have_attribute("data-state", "approved", timeout=15_000)
    page.reload()
    page.locator("[data-action='start-expansion']").click()

    expect(page.locator("#heading")).to_have_attribute("data-state", "started")
    assert Rollout.objects.get(pk=ripe.pk).stage == 2
    page.keyboard.press("g")
    page.keyboard.press("p")
    expect(page.get_by_role("heading", level=1)).to_have_text("Approvals")


def test_the_pages_are_accessible_and_fit(page: Page, console: Console, ripe: Rollout) -> None:
    """What an approver sees of a two-person request, and what the owner sees of what is missing."""
    ActionRoute.objects.update(risk="medium")
    request = expansion_asked(ripe)
    person("approver-2", Role.APPROVER)
    expansion_decided(request, by="approver-2", reason="Citations check out in 20 of 20.")
    early = rollout_at(RolloutState.LIVE, workflow="claims-intake")
    page.emulate_media(reduced_motion="reduce")
    seen = {
        ("approver", "approval"): f"/approvals/expansions/{request.pk}/",
        ("approver", "approvals"): "/approvals/",
        ("owner", "expand-early"): f"/rollouts/{early.slug}/expand/",
        ("owner", "expand-waiting"): f"/rollouts/{ripe.slug}/expand/",
    }
    faults: dict[str, object] = {}
    reader = ""
    for (name, what), url in seen.items():
        if name != reader:
            page.context.clear_cookies()
            log_in(page, console, name)
            reader = name
        page.goto(console.url + url)
        for size, theme in LOOKS:
            width, height = SIZES[size]
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=theme)
            shot(page, f"{what}-{size}-{theme}")
            wide = page.evaluate(TOO_WIDE)
            if wide > 0:
                faults[f"{what} {size} {theme}"] = f"{wide} px too wide"
            if (size, theme) in JUDGED:
                found = Axe().run(page, options={"runOnly": RULES})
                for fault in found.response["violations"]:
                    where = [node["target"] for node in fault["nodes"]][:3]
                    faults[f"{what} {size} {theme} {fault['id']}"] = where
    assert faults == {}


def test_breaking_the_glass_takes_unfolding_a_reason_and_a_tick(
    page: Page, console: Console, ripe: Rollout, reports: list[str]
) -> None:
    ripe.stages.filter(position=1).update(min_runs=5000)
    log_in(page, console)
    page.goto(f"{console.url}/rollouts/{ripe.slug}/expand/")
    expect(page.locator("[data-action='break-glass']")).to_be_hidden()
    page.get_by_text("Break glass: start alone").click()
    page.get_by_label("Why nobody else can be waited for").fill("Stable is down for everybody.")
    page.locator("[data-action='break-glass']").click()
    assert Rollout.objects.get(pk=ripe.pk).stage == 1
    page.get_by_label("I start this alone").check()
    shot(page, "break-glass")
    page.locator("[data-action='break-glass']").click()

    expect(page.locator("#notice")).to_contain_text("nobody has reviewed it")
    shot(page, "break-glass-review")
    assert Rollout.objects.get(pk=ripe.pk).stage == 2
