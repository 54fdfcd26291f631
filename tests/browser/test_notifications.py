"""The notifications pages in a real Chromium, over a receiver that fails and one that answers."""

from datetime import timedelta

from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

from approvals.authority.principals import SYSTEM
from rollout_console.core import outbox
from rollout_console.notifications.deliver import deliveries_send
from rollout_console.notifications.fan_out import outbox_fan_out
from rollout_console.notifications.models import Delivery
from rollout_console.rollouts.states import RolloutState
from signals.outside.services import Told, outside_alert_put
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
from tests.factories import rollout_at
from tests.live import Console, console
from tests.receivers import Receiver

__all__ = ["console", "reports"]


def send() -> None:
    outbox_fan_out(now=timezone.now())
    deliveries_send(now=timezone.now() + timedelta(seconds=10))


def test_a_webhook_is_set_up_tried_and_seen_to_fail(
    page: Page, console: Console, reports: list[str]
) -> None:
    rollout = rollout_at(RolloutState.LIVE)
    page.emulate_media(reduced_motion="reduce")
    log_in(page, console)
    answers = iter([204, 503, 503, 503, 503])
    with Receiver(lambda: next(answers)) as receiver:
        page.goto(f"{console.url}/notifications/")
        page.get_by_role("main").get_by_role("link", name="Webhook").click()
        page.get_by_label("Name").fill("Pager")
        page.get_by_label("Address").fill(receiver.url)
        page.get_by_role("button", name="Set it up").click()
        expect(page.locator("#secret")).to_contain_text("whsec_")
        judge(page, "notifications-secret")
        page.get_by_role("link", name="Go on").click()

        page.get_by_role("button", name="Send a test").click()
        expect(page.get_by_role("status").first).to_contain_text("A test is on its way")
        send()
        # Seen without a reload.
        expect(page.locator("[data-delivery]").first).to_have_attribute("data-state", "delivered")
        expect(page.get_by_role("main")).not_to_contain_text("hooks/console")
        judge(page, "notifications-edit")

        outbox.add(
            "alert.opened",
            workflow=rollout.workflow.slug,
            key=1,
            at=timezone.now(),
            data={"workflow": rollout.workflow.slug, "rollout": rollout.slug, "sentence": "Slow."},
        )
        send()
        page.goto(f"{console.url}/notifications/?state=failing")
        expect(page.locator("[data-subscription]")).to_contain_text("Failing")
        row = page.locator("[data-delivery]")
        expect(row).to_have_count(1)
        expect(row).to_contain_text("The receiver answers 503.")
        judge(page, "notifications-failing")
        row.get_by_role("button", name="Send again").click()
        expect(page.get_by_role("status").first).to_contain_text("sent again, under the same id")
        assert Delivery.objects.get(state="waiting").attempts == 0
    for channel in ("email", "service"):
        page.goto(f"{console.url}/notifications/new/{channel}/")
        judge(page, f"notifications-{channel}")


def test_an_alert_from_outside_is_shown_and_ended(
    page: Page, console: Console, reports: list[str]
) -> None:
    rollout = rollout_at(RolloutState.LIVE)
    now = timezone.now()
    outside_alert_put(
        told=Told(
            source="alertmanager",
            fingerprint="1a30ba71cca2921f",
            name="ReplySlow",
            summary="p95 of replies above 6 s for 5 minutes",
            labels={},
            link="https://prometheus.example/graph?g0.expr=up",
            started_at=now,
            is_firing=True,
            is_silent=False,
        ),
        workflow=rollout.workflow,
        path=rollout.workflow.paths.get(),
        trigger="slow",
        principal=SYSTEM,
        now=now,
    )
    page.emulate_media(reduced_motion="reduce")
    log_in(page, console)
    page.goto(f"{console.url}/rollouts/{rollout.slug}/")
    card = page.locator("#outside")
    expect(card).to_contain_text("Alertmanager says that ReplySlow fires since")
    card.get_by_text("End it by hand").click()
    judge(page, "outside")
    card.get_by_label("Why ReplySlow is over").fill("Its Alertmanager is gone.")
    card.get_by_role("button", name="End it").click()
    expect(page.get_by_role("status").first).to_contain_text("It is ended here.")
    expect(card).to_have_count(0)


def judge(page: Page, name: str) -> None:
    faults: dict[str, object] = {}
    for size, theme in LOOKS:
        width, height = SIZES[size]
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=theme)
        if name == "outside":
            # Loaded at this width, as a phone does; a chart follows a turn a moment later.
            page.reload()
            page.locator("#outside").get_by_text("End it by hand").click()
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
    page.set_viewport_size({"width": 1440, "height": 900})
