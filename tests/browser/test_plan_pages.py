"""The pages of plans in a real Chromium, and the editor with and without scripts."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

from approvals.authority.matrix import Role
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.rollouts.models import PlanChange, PlanDraft, PlanVersion, Rollout
from rollout_console.rollouts.plan_yaml import yaml_dump, yaml_load
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.plan_steps import STEPS
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
from tests.factories import person, principal, rollout_at
from tests.live import Console, console
from tests.unit.test_plan_json_schema import whole

__all__ = ["console", "reports"]

EDIT = "/plans/support-reply/edit"


@pytest.fixture
def scene(console: Console) -> Rollout:
    """A live rollout whose plan has comments, with a change of it that waits."""
    person("planner", Role.OWNER)
    person("planner", Role.APPROVER)
    rollout = rollout_at(RolloutState.LIVE)
    document = whole()
    del document["releases"][0]["source"]
    text = "# Support reply, reviewed each quarter\n" + yaml_dump(
        {**document, "rollout": rollout.plan.document["rollout"]}
    )
    for source in (text, text.replace("default: ask", "default: allow")):
        plan_apply_and_publish(
            document=yaml_load(source).value,
            text=source,
            principal=principal("deputy"),
            now=timezone.now(),
        )
    change = PlanChange.objects.filter(state="pending").first()
    assert change is not None
    return rollout


def pages(scene: Rollout) -> dict[str, str]:
    change = PlanChange.objects.get(state="pending").pk
    return {
        "plans": "/plans/",
        "plan-workflow": "/plans/support-reply/",
        "plan-history": "/plans/support-reply/history/",
        "plan-change": f"/plans/support-reply/changes/{change}/",
        "plan-new": "/plans/new/workflow/",
        **{f"plan-edit-{step.slug}": f"{EDIT}/{step.slug}/" for step in STEPS},
        "plan-edit-file": f"{EDIT}/paths/?file=edit",
    }


def test_every_page_of_plans_is_accessible_and_fits(
    page: Page, console: Console, scene: Rollout, reports: list[str]
) -> None:
    page.emulate_media(reduced_motion="reduce")
    log_in(page, console, "planner")
    faults: dict[str, Any] = {}
    for name, url in pages(scene).items():
        page.goto(console.url + url)
        for size, theme in LOOKS:
            width, height = SIZES[size]
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=theme)
            shot(page, f"{name}-{size}-{theme}")
            if (wide := page.evaluate(TOO_WIDE)) > 0:
                faults[f"{name} {size} {theme}"] = f"{wide} px too wide"
            if (size, theme) in JUDGED:
                found = Axe().run(page, options={"runOnly": RULES})
                for fault in found.response["violations"]:
                    where = [node["target"] for node in fault["nodes"]][:3]
                    faults[f"{name} {size} {theme} {fault['id']}"] = where
    assert faults == {}


def test_the_file_follows_the_form_while_one_types(
    page: Page, console: Console, scene: Rollout, reports: list[str]
) -> None:
    log_in(page, console)
    page.goto(f"{console.url}{EDIT}/workflow/")
    clock = page.get_by_label("Clock before automatic containment")
    clock.fill("soon")
    clock.blur()
    expect(page.locator("#plan-file .bad")).to_contain_text("hold_s: soon")
    clock.fill("45")
    clock.blur()
    expect(page.locator("#plan-file")).to_contain_text("hold_s: 45")
    expect(page.locator("#plan-file .bad")).to_have_count(0)
    page.get_by_role("button", name="Next: Paths").click()
    expect(page.get_by_role("heading", level=2, name="2. Paths")).to_be_visible()
    assert "hold_s: 45\n" in PlanDraft.objects.get().text


def test_it_is_written_and_applied_without_scripts(
    page: Page, console: Console, scene: Rollout
) -> None:
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    try:
        log_in(plain, console)
        plain.goto(f"{console.url}{EDIT}/triggers/")
        plain.get_by_role("button", name="Add a trigger").click()
        row = plain.get_by_role("group", name="Trigger 4", exact=True)
        row.get_by_label("Slug").fill("errors")
        row.get_by_label("Path").select_option("draft")
        row.get_by_label("Signal").select_option("error_rate")
        plain.get_by_role("button", name="Save the draft").click()
        expect(plain.get_by_text("“compare: limit” needs a “limit”.")).to_be_visible()
        row = plain.get_by_role("group", name="Trigger 4: errors")
        expect(row.get_by_label("Slug")).to_have_value("errors")
        row.get_by_label("Limit", exact=True).fill("0.1")
        # Return saves and goes on, wherever it is pressed.
        row.get_by_label("Limit", exact=True).press("Enter")
        expect(plain.get_by_role("heading", level=2)).to_contain_text(["9. Action routes"])
        plain.get_by_role("button", name="Next: Review and apply").click()
        plain.get_by_role("button", name="Apply the plan").click()
        expect(plain.get_by_text("Applied: plan")).to_be_visible()
        latest = PlanVersion.objects.order_by("-number")[0]
        assert latest.document["rollout"]["triggers"][-1]["slug"] == "errors"
    finally:
        context.close()
