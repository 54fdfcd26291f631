"""The broker is gone: runs are taken, triggers trip, the clock contains, every form works."""

from playwright.sync_api import Browser, Page, expect

from tests.plans import plan_document
from tests.stack import Stack, wait_until
from tests.story import PASSWORD, prepare, run_item

# Nothing listens here, so neither worker nor beat can do anything.
NO_BROKER = "redis://127.0.0.1:1/0"
HOLD_S = 3
MODES = {"human_review": {}, "manual": {}, "simpler_route": {"route": "simple"}}


def log_in(page: Page, stack: Stack, name: str = "owner") -> None:
    page.goto(f"{stack.url}/login/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("h1")).to_contain_text("exposed right now", timeout=15_000)


def first(stack: Stack, query: str, *given: str) -> object:
    with stack.connect() as connection:
        row = connection.execute(query.encode(), given).fetchone()
    return None if row is None else row[0]


def by_dialog(page: Page, stack: Stack, rollout: str, action: str, **chosen: str) -> None:
    """Press in the dialog that the cockpit opens."""
    page.goto(f"{stack.url}/rollouts/{rollout}/")
    link = page.locator(f"main [data-action='{action}']").first
    if not link.is_visible():
        page.locator("#menu-more summary").click()
    link.click()
    dialog = page.get_by_role("dialog")
    choose(dialog.locator("form"), chosen)
    dialog.locator("button[type=submit]").click()
    expect(dialog).to_contain_text("Committed as exposure version", timeout=15_000)


def by_page(page: Page, stack: Stack, rollout: str, action: str, **chosen: str) -> None:
    """Press on the page that the same link opens without JavaScript."""
    page.goto(f"{stack.url}/rollouts/{rollout}/contain/{action.replace('_', '-')}/")
    choose(page.locator("form.cform"), chosen)
    page.locator("form.cform button[type=submit]").click()
    expect(page.get_by_text("Committed as exposure version")).to_be_visible(timeout=15_000)


def choose(form: object, chosen: dict[str, str]) -> None:
    for name, value in chosen.items():
        form.locator(f"input[name='{name}'][value='{value}']").check(force=True)  # type: ignore[attr-defined]


def test_everything_that_contains_works_without_broker(browser: Browser) -> None:
    document = plan_document()
    overrides = {
        "workflow": {
            "paths": [{"fallbacks": MODES}],
            "action_routes": [{"default": "allow"}],
            "hold_s": HOLD_S,
        }
    }
    quality, *others = document["rollout"]["triggers"]
    clock = {"kind": "contain_after_hold", "action": "narrow"}
    triggers = [{**quality, "response": clock}, *others]
    with Stack(REDIS_URL=NO_BROKER) as stack:
        clocked = prepare(stack, overrides=overrides, triggers=triggers)
        pressed = prepare(stack, workflow="claims-intake", overrides=overrides)

        # The clock: a trigger trips, nobody decides, and the keeper rolls back on the first stage.
        bad = [run_item(quality={"passed": False}) for _ in range(60)]
        status, _ = stack.call("POST", "/api/v1/runs", token=clocked.ingest, body=bad)
        assert status == 202
        state = "select state from rollouts_rollout where slug = %s"
        wait_until(
            lambda: first(stack, "select id from alerts_alert"), within_s=30, what="the trigger"
        )
        wait_until(
            lambda: first(stack, state, clocked.rollout) == "rolled_back",
            within_s=30,
            what="the clock to contain",
        )
        assert first(stack, "select at from core_heartbeat where name = 'worker'") is None

        with_script = browser.new_page()
        plain = browser.new_context(java_script_enabled=False).new_page()
        for page in (with_script, plain):
            log_in(page, stack)
        slug = pressed.rollout
        for press, page in ((by_dialog, with_script), (by_page, plain)):
            press(page, stack, slug, "pause")
            press(page, stack, slug, "resume")
            press(page, stack, slug, "fallback", mode="simpler_route")
            press(page, stack, slug, "clear_fallback")
            press(page, stack, slug, "disable_action", action_route="send_message")
            press(page, stack, slug, "enable_action", action_route="send_message")
            press(page, stack, slug, "escalate")
        with_script.goto(f"{stack.url}/rollouts/{slug}/contain/narrow/")
        with_script.fill("#share", "40")
        with_script.locator("form.cform button[type=submit]").click()
        expect(with_script.get_by_text("Committed as exposure version")).to_be_visible()
        share = """select share from rollouts_exposedsegment e join rollouts_rollout r
            on r.id = e.rollout_id where r.slug = %s"""
        assert str(first(stack, share, slug)) == "0.40000"
        by_page(plain, stack, slug, "require_approval", action_route="send_message")
        by_page(plain, stack, slug, "rollback")
        assert first(stack, state, slug) == "rolled_back"
