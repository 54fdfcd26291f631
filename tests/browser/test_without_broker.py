"""The broker is gone: runs are taken, triggers trip, and both containment doors still work."""

import json

from playwright.sync_api import Browser, Page, expect

from tests.stack import Stack, wait_until

ROLLOUT = "support-reply-2026.11.2"
# Nothing listens here, so neither worker nor beat can do anything.
NO_BROKER = "redis://127.0.0.1:1/0"


def log_in(page: Page, stack: Stack) -> None:
    logins = json.loads((stack.local / "demo-logins.json").read_text())
    (owner,) = [login for login in logins if login["role"] == "owner"]
    page.goto(f"{stack.url}/login/")
    page.get_by_label("Name").fill(owner["name"])
    page.get_by_label("Password").fill(owner["password"])
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("h1")).to_contain_text("exposed right now", timeout=15_000)


def first(stack: Stack, query: str) -> object:
    with stack.connect() as connection:
        row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def test_containment_works_without_broker_and_without_javascript(browser: Browser) -> None:
    with Stack(
        demo=True,
        REDIS_URL=NO_BROKER,
        DEMO_SCENARIO="quality",
        DEMO_ONSET_S="5",
        DEMO_FAST="1",
    ) as stack:
        wait_until(
            lambda: first(stack, "select count(*) from ingest_batch where state = 'drained'"),
            within_s=30,
            what="the keeper drains",
        )
        wait_until(
            lambda: first(stack, "select id from alerts_alert"), within_s=60, what="the trigger"
        )
        assert first(stack, "select at from core_heartbeat where name = 'worker'") is None

        with_script = browser.new_page()
        log_in(with_script, stack)
        with_script.goto(f"{stack.url}/rollouts/{ROLLOUT}/")
        with_script.locator("main [data-action='pause']:visible").first.click()
        dialog = with_script.get_by_role("dialog")
        dialog.locator("button[type=submit][data-action='pause']").click()
        expect(with_script.get_by_text("Committed as exposure version")).to_be_visible(
            timeout=15_000
        )
        assert first(stack, "select state from rollouts_rollout") == "paused"

        plain = browser.new_context(java_script_enabled=False).new_page()
        log_in(plain, stack)
        plain.goto(f"{stack.url}/rollouts/{ROLLOUT}/contain/rollback/")
        plain.locator("button[type=submit][data-action='rollback']").click()
        expect(plain.locator("main .pill").first).to_contain_text("Rolled back", timeout=15_000)
        assert first(stack, "select state from rollouts_rollout") == "rolled_back"
