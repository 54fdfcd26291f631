"""The first run in a real Chromium, from the empty console to the runs behind a number."""

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from approvals.authority.matrix import Role, Scope
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.ingest.models import Run
from signals.ingest.services import caches_forget
from tests.browser.test_pages_look import (
    JUDGED,
    LOOKS,
    RULES,
    SIZES,
    TOO_WIDE,
    charts_drawn,
    log_in,
    reports,
    shot,
)
from tests.factories import person, rollout_at, token
from tests.labels import observation, work
from tests.live import Console, console
from tests.story import run_item

__all__ = ["console", "reports"]


def looked_at(page: Page, name: str) -> dict[str, Any]:
    """Return what is wrong with the page as it stands, through widths and themes."""
    faults: dict[str, Any] = {}
    for size, theme in LOOKS:
        width, height = SIZES[size]
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        shot(page, f"{name}-{size}-{theme}")
        if (wide := page.evaluate(TOO_WIDE)) > 0:
            faults[f"{name} {size} {theme}"] = f"{wide} px too wide"
        if (size, theme) in JUDGED:
            for fault in Axe().run(page, options={"runOnly": RULES}).response["violations"]:
                where = [node["target"] for node in fault["nodes"]][:3]
                faults[f"{name} {size} {theme} {fault['id']}"] = where
    page.set_viewport_size({"width": 1440, "height": 900})
    return faults


def test_a_newcomer_comes_to_a_first_signal(
    page: Page, console: Console, reports: list[str]
) -> None:
    caches_forget()
    person("new", Role.OWNER)
    person("new", Role.ADMINISTRATOR)
    log_in(page, console, "new")
    faults = looked_at(page, "empty")
    page.get_by_role("link", name="Begin the first run").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your first signal")
    faults |= looked_at(page, "setup")
    page.get_by_label("Workflow, as a slug").fill("parcel-help")
    page.get_by_label("Path, as a slug").fill("answer")
    page.get_by_role("button", name="Add the workflow").click()
    expect(page.get_by_role("heading", level=2, name="Waiting for the first event")).to_be_visible()
    faults |= looked_at(page, "setup-waiting")
    page.get_by_role("button", name="Make the token").click()
    secret = page.locator("#token").inner_text()
    assert secret.startswith("rc_")
    page.locator("summary", has_text="Python").click()
    expect(page.locator("#snippet-python")).to_contain_text(secret)
    expect(page.locator("#snippet-curl")).to_be_hidden()
    faults |= looked_at(page, "setup-token")

    refused = console.send("POST", "/api/v1/runs", token=secret, body={"workflow": "parcel-help"})
    assert refused.json["rejected"] == 1
    # The page finds it by itself, and the token, shown this once, is still there.
    expect(page.locator("#arrived")).to_contain_text("is required")
    sent = run_item("parcel-help", path="answer", segment=None, id="first-one")
    assert console.send("POST", "/api/v1/runs", token=secret, body=sent).status == 202
    work()
    expect(page.get_by_role("heading", level=2, name="It has arrived")).to_be_visible()
    expect(page.locator("[data-event='first-one']")).to_be_visible()
    expect(page.locator("#token")).to_have_text(secret)
    faults |= looked_at(page, "setup-arrived")
    page.get_by_role("link", name="first-one").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Run first-one")
    assert faults == {}


def test_it_is_walked_without_scripts(page: Page, console: Console) -> None:
    caches_forget()
    person("new", Role.OWNER)
    person("new", Role.ADMINISTRATOR)
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    try:
        log_in(plain, console, "new")
        plain.get_by_role("link", name="Begin the first run").click()
        plain.get_by_label("Workflow, as a slug").fill("parcel-help")
        plain.get_by_label("Path, as a slug").fill("answer")
        plain.get_by_role("button", name="Add the workflow").click()
        plain.get_by_role("button", name="Make the token").click()
        secret = plain.locator("#token").inner_text()
        plain.locator("summary", has_text="JavaScript").click()
        expect(plain.locator("#snippet-javascript")).to_contain_text(secret)
        assert plain.get_by_role("button", name="Copy the token").count() == 0
        sent = run_item("parcel-help", path="answer", segment=None)
        assert console.send("POST", "/api/v1/runs", token=secret, body=sent).status == 202
        work()
        plain.goto(f"{console.url}/setup/parcel-help/answer/")
        expect(plain.get_by_role("heading", level=2, name="It has arrived")).to_be_visible()
    finally:
        context.close()


@pytest.fixture
def scene(console: Console) -> Rollout:
    """A live rollout with some runs of all sorts, refused ones, and what came later."""
    rollout = rollout_at(RolloutState.LIVE)
    caches_forget()
    secret, _ = token(Scope.INGEST)
    items = [
        run_item(
            id=f"task-{n}",
            latency_ms=700 + 90 * n,
            cost_usd=0.02 + 0.001 * n,
            input_tokens=1200 + n,
            output_tokens=80,
            client="reply-worker-1",
            trace_id=f"{n:032x}",
            outcome="error" if n == 7 else "ok",
            failure_category="tool_timeout" if n == 7 else None,
            quality={"passed": n % 5 != 0},
            attributes={"question": "Where is my parcel?"},
            subject="user-17",
            measures={"hops": 2},
        )
        for n in range(30)
    ]
    bad = [run_item(latency_ms=-1), run_item(segment="nobody-knows")]
    labels = [observation(items[7], "review", verdict="rejected", reviewer="kim")]
    assert console.send("POST", "/api/v1/runs", token=secret, body=[*items, *bad]).status == 202
    reply = console.send("POST", "/api/v1/observations", token=secret, body=labels)
    assert reply.status == 202
    work()
    return rollout


def test_the_pages_of_runs_and_sources_are_accessible_and_fit(
    page: Page, console: Console, scene: Rollout, reports: list[str]
) -> None:
    log_in(page, console)
    run = Run.objects.get(run_id="task-7")
    at = run.occurred_at.isoformat().replace("+", "%2B")
    faults: dict[str, Any] = {}
    for name, address in {
        "sources": "/sources/",
        "runs": "/runs/?workflow=support-reply&order=worst&signal=latency_p95_ms&arm=candidate",
        "runs-none": "/runs/",
        "run": f"/runs/support-reply/task-7/?at={at}",
    }.items():
        page.goto(console.url + address)
        if name == "run":
            page.locator("#attributes summary").click()
        faults |= looked_at(page, name)
    assert faults == {}


def test_a_click_on_a_charts_point_leads_to_its_runs(
    page: Page, console: Console, scene: Rollout, reports: list[str]
) -> None:
    log_in(page, console)
    page.goto(f"{console.url}/rollouts/{scene.slug}/")
    charts_drawn(page)
    row = page.locator("#table-draft\\.latency_p95_ms")
    row.locator("summary").click()
    expect(row.locator("tbody a").first).to_have_attribute("href", re.compile("signal=latency_p95"))
    # The newest point stands at the right edge of what is drawn.
    point = page.locator("[data-chart='draft.latency_p95_ms'] .scatterlayer .trace").last
    box = point.locator("path").last.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs of Support reply")
    assert "clock=arrival" in page.url
    expect(page.locator("tr[data-run]").first).to_be_visible()
