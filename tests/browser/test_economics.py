"""Mix and economics with their numbers in place: accessible, and no wider than a phone."""

from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

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
    shot,
)
from tests.economics import planned, reported
from tests.factories import ripen, rollout_at
from tests.labels import Reports, observation, work
from tests.live import Console, console

__all__ = ["console"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene() -> Rollout:
    rollout = rollout_at(RolloutState.LIVE, document=planned())
    rollout_at(RolloutState.READY, workflow="contract-summary")
    Rollout.objects.update(bake_from=timezone.now() - timedelta(minutes=10))
    reports = Reports()
    runs = reported(reports, cost_most=0.05, slowest=2900)
    work()
    asked = [run for run in runs if run["review_requested"]][::2]
    reports.observations(
        *(observation(run, "review", verdict="approved", duration_ms=90_000) for run in asked)
    )
    work()
    ripen(rollout)
    heartbeat_record(name=WORKER, now=timezone.now())
    return rollout


def test_numbers_in_place_are_accessible_and_fit(
    page: Page, console: Console, scene: Rollout
) -> None:
    page.emulate_media(reduced_motion="reduce")
    log_in(page, console)
    faults: dict[str, object] = {}
    for name, url in {
        "money": f"/rollouts/{scene.slug}/economics/",
        "mixed": f"/rollouts/{scene.slug}/mix/",
        "asking": f"/rollouts/{scene.slug}/expand/",
        "first": "/rollouts/contract-summary-2026.11.2/readiness/",
    }.items():
        page.goto(console.url + url)
        for size, theme in LOOKS:
            width, height = SIZES[size]
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=theme)
            shot(page, f"{name}-{size}-{theme}")
            if (wide := page.evaluate(TOO_WIDE)) > 0:
                faults[f"{name} {size}"] = f"{wide} px too wide"
            if (size, theme) in JUDGED:
                for fault in Axe().run(page, options={"runOnly": RULES}).response["violations"]:
                    faults[f"{name} {size} {fault['id']}"] = [
                        node["target"] for node in fault["nodes"]
                    ][:3]
    assert faults == {}
    page.goto(f"{console.url}/rollouts/{scene.slug}/economics/")
    # The text of a box stays inside it.
    for box in page.locator("svg.flow g").all():
        frame = box.locator("rect").bounding_box()
        for text in box.locator("text").all():
            inner = text.bounding_box()
            assert frame is not None
            assert inner is not None
            assert inner["x"] + inner["width"] <= frame["x"] + frame["width"] + 1
    expect(page.get_by_role("img", name="Where the tasks of Draft a reply went")).to_be_visible()
