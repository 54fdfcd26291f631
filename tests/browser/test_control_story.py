"""Control from the first word of a plan to the roll back, by three people in their own browsers."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.test_without_broker import by_dialog, first, log_in
from tests.client import Workflow
from tests.stack import Stack, wait_until
from tests.story import PASSWORD, run_item

WORKFLOW = "returns-desk"
ROLLOUT = "returns-desk-2026.11.2"
# Long enough for a person to read the alert's clock, on a busy machine too.
HOLD_S = 8
POINTS = "ambiguous outputs\nrefunds above 50 dollars"

# What is typed, step by step. A row is added, then filled in by the words of its labels.
Said = dict[str, str]
WORKFLOW_FIELDS: Said = {
    "Slug": WORKFLOW,
    "Name": "Returns desk",
    "Containment owner": "owner",
    "Deputy": "deputy",
    "Clock before automatic containment s": str(HOLD_S),
}
PATH: Said = {
    "Slug": "draft",
    "Name": "Draft a reply",
    "Sensitivity": "normal",
    "Without any release": "manual",
    "When nothing can be reached": "previous_stable",
    "Slowest 5 % take ms": "6000",
    "A task costs $": "0.085",
    "Reviews an hour": "12",
    "Declare read-only": "on",
}
SEGMENTS: list[Said] = [
    {
        "Slug": "internal-ops",
        "Name": "Internal operations",
        "Kind": "internal_team",
        "Owner": "owner",
        "Tasks a day": "400",
        "Member": "team",
        "Operator": "==",
        "Value": "internal",
    },
    {
        "Slug": "eu-customers",
        "Name": "EU customers",
        "Kind": "customer_segment",
        "Owner": "owner",
        "Tasks a day": "9000",
        "Member": "customer_segment",
        "Operator": "in",
        "Value": "eu, uk",
    },
]
CHANGE: Said = {
    "Component": "prompt",
    "Name": "refund-policy",
    "Before": "offer a refund",
    "After": "offer an exchange first",
}
STAGES: list[tuple[Said, list[Said]]] = [
    (
        {"Slug": "first", "Bake s": "2", "Least number of tasks": "50"},
        [{"Segment": "internal-ops", "Share of it 0 to 1": "0.9"}],
    ),
    (
        {"Slug": "eu", "Bake s": "3", "Least number of tasks": "50"},
        [
            {"Segment": "internal-ops", "Share of it 0 to 1": "1"},
            {"Segment": "eu-customers", "Share of it 0 to 1": "0.2"},
        ],
    ),
]
LIMITS = {"quality_pass_rate": "0.85", "latency_p95_ms": "6000", "cost_per_task_usd": "0.085"}
NAMES = {"quality_pass_rate": "quality", "latency_p95_ms": "latency", "cost_per_task_usd": "cost"}
CRITERIA: list[Said] = [
    {
        "Slug": f"{NAMES[signal]}-holds",
        "Path": "draft",
        "Signal": signal,
        "Compare with": "limit",
        "Limit": limit,
        "Least number of tasks": "20",
    }
    for signal, limit in LIMITS.items()
]
TRIGGERS: list[Said] = [
    {
        "Slug": f"{NAMES[signal]}-breaks",
        "Path": "draft",
        "Signal": signal,
        "Compare with": "limit",
        "Limit": limit,
        "Window s": "30",
        "Least number of tasks": "20",
        "Severity": "high",
        **(
            {"Response": "contain_after_hold", "Action": "narrow"}
            if signal == "quality_pass_rate"
            else {"Response": "recommend", "Action": "rollback"}
        ),
    }
    for signal, limit in LIMITS.items()
]
ROUTE: Said = {
    "Slug": "send_message",
    "Effect": "write",
    "Risk": "low",
    "Reversibility": "reversible",
    "Role that decides": "reviewer",
    "Unless contained": "ask",
    "Objects": "email",
    "An hour": "40",
}


@pytest.fixture
def stack() -> Iterator[Stack]:
    with Stack() as found:
        for name in ("owner", "deputy", "approver"):
            found.manage(
                *("user", "create", name, "--role", name, "--password-stdin"), given=PASSWORD
            )
        yield found


@pytest.fixture
def pages(browser: Browser, stack: Stack) -> Iterator[dict[str, Page]]:
    """Each person's own browser, logged in."""
    contexts = {name: browser.new_context() for name in ("owner", "deputy", "approver")}
    found = {name: context.new_page() for name, context in contexts.items()}
    for name, page in found.items():
        page.set_default_timeout(15_000)
        log_in(page, stack, name)
    yield found
    for context in contexts.values():
        context.close()


def write(part: Page | Locator, said: Said) -> None:
    """Type, choose or tick each field of a form by the words of its label."""
    for label, value in said.items():
        field = part.get_by_label(label, exact=True)
        kind = field.evaluate("field => field.type")
        if kind == "checkbox":
            field.check()
        elif kind == "select-one":
            field.select_option(value)
        else:
            field.fill(value)


def row(part: Page | Locator, noun: str, number: int) -> Locator:
    """Return a row of a form: "Stage 2", or "Stage 2: eu" once it has a name."""
    return part.get_by_role("group", name=re.compile(rf"^{noun} {number}(:|$)"))


def add(part: Page | Locator, noun: str, number: int) -> Locator:
    part.get_by_role("button", name=re.compile(f"^Add an? {noun.lower()}$")).click()
    added = row(part, noun, number)
    expect(added).to_be_visible()
    return added


def next_step(page: Page, title: str) -> None:
    page.get_by_role("button", name=f"Next: {title}").click()
    expect(page.locator("#step-t")).to_contain_text(title)


def write_the_plan(page: Page, stack: Stack) -> None:
    """Fill in every step of the wizard, all but what people review."""
    page.goto(f"{stack.url}/plans/")
    page.get_by_role("link", name="New plan").click()
    write(page, WORKFLOW_FIELDS)
    write(add(page, "Escalation step", 1), {"After s": "300", "Tell": "deputy"})
    next_step(page, "Paths")
    write(add(page, "Path", 1), PATH)
    next_step(page, "Segments")
    for number, segment in enumerate(SEGMENTS, start=1):
        write(add(page, "Segment", number), segment)
    next_step(page, "Own signals")
    next_step(page, "Releases and changes")
    release = add(page, "Release", 1)
    write(release, {"Version": "2026.11.2"})
    write(row(release, "Change", 1), CHANGE)
    next_step(page, "Rollout and stages")
    page.get_by_label("Plan a rollout now").check()
    write(page, {"Candidate": "2026.11.2", "Stable": "2026.10.4"})
    write(page.get_by_role("group", name="Rollout", exact=True), {"Slug": ROLLOUT})
    for number, (stage, exposed) in enumerate(STAGES, start=1):
        write(add(page, "Stage", number), stage)
        for place, part in enumerate(exposed, start=1):
            if place > 1:
                add(row(page, "Stage", number), "Segment", place)
            write(row(row(page, "Stage", number), "Segment", place), part)
    next_step(page, "Expansion criteria")
    for number, criterion in enumerate(CRITERIA, start=1):
        write(add(page, "Criterion", number), criterion)
    next_step(page, "Rollback triggers")
    for number, trigger in enumerate(TRIGGERS, start=1):
        write(add(page, "Trigger", number), trigger)
    next_step(page, "Action routes")
    write(add(page, "Action route", 1), ROUTE)
    next_step(page, "Review and apply")
    page.get_by_role("button", name="Apply the plan").click()
    expect(page.get_by_text(f"Applied: plan 1 of {WORKFLOW}.")).to_be_visible()


def report(stack: Stack, token: str, segments: list[str], *, good: bool) -> None:
    """Report 120 runs of the candidate, as the workflow does."""
    runs = [
        run_item(
            WORKFLOW,
            segment=segments[number % len(segments)],
            quality={"passed": good},
        )
        for number in range(120)
    ]
    status, body = stack.call("POST", "/api/v1/runs", token=token, body=runs)
    assert (status, body["accepted"], body["errors"]) == (202, 120, [])


@contextmanager
def hurting(stack: Stack, token: str) -> Iterator[None]:
    """Let the workflow go on reporting bad runs, as one that is not repaired does."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.5):
            report(stack, token, ["internal-ops"], good=False)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(15)


def exposed(stack: Stack) -> list[str]:
    with stack.connect() as connection:
        rows = connection.execute(
            """select s.slug, e.share::float from rollouts_exposedsegment e
            join rollouts_rollout r on r.id = e.rollout_id
            join catalog_segment s on s.id = e.segment_id where r.slug = %s order by e.id""",
            [ROLLOUT],
        ).fetchall()
    return [f"{slug} {share:g}" for slug, share in rows]


def test_three_people_keep_control_from_plan_to_roll_back(
    stack: Stack, pages: dict[str, Page]
) -> None:
    owner, deputy, approver = pages["owner"], pages["deputy"], pages["approver"]
    tokens = {
        scope: stack.manage("token", "create", scope, "--scope", scope)
        for scope in ("ingest", "evaluate")
    }
    workflow = Workflow(stack.url, tokens["evaluate"], domain="control-story")

    def arm(user: str, **context: str) -> Any:
        return workflow.ask(WORKFLOW, user, **context).get("arm")

    def candidate_user(**context: str) -> str:
        """Return somebody who gets the candidate."""
        return wait_until(
            lambda: next((u for u in map(str, range(100)) if arm(u, **context) == "candidate"), ""),
            within_s=10,
            what=f"the candidate for somebody of {context}",
        )

    def served(wanted: str, user: str, **context: str) -> None:
        wait_until(
            lambda: arm(user, **context) == wanted, within_s=10, what=f"{wanted} for {context}"
        )

    write_the_plan(owner, stack)
    _pass_the_gate(owner, approver, stack)
    colleague = candidate_user(team="internal")
    assert {arm(str(user), customer_segment="eu") for user in range(100)} == {"stable"}

    # The first stage is watched until every criterion holds, and is widened by three presses.
    report(stack, tokens["ingest"], ["internal-ops"], good=True)
    _expand(owner, approver, stack)
    assert exposed(stack) == ["internal-ops 1", "eu-customers 0.2"]
    customer = candidate_user(customer_segment="eu")

    # It hurts, and nobody decides.
    owner.goto(f"{stack.url}/rollouts/{ROLLOUT}/")
    report(stack, tokens["ingest"], ["internal-ops", "eu-customers"], good=False)
    _clock_runs_out(owner, deputy, stack)
    assert exposed(stack) == ["internal-ops 0.9"]
    served("stable", customer, customer_segment="eu")
    assert arm(colleague, team="internal") == "candidate"

    # The owner falls back; since it still hurts, clearing takes a second person.
    by_dialog(owner, stack, ROLLOUT, "fallback", mode="human_review")
    wait_until(
        lambda: workflow.ask(WORKFLOW, colleague, team="internal").get("mode") == "human_review",
        within_s=10,
        what="human review served",
    )
    with hurting(stack, tokens["ingest"]):
        _clear(owner, deputy, stack)
    assert workflow.ask(WORKFLOW, colleague, team="internal").get("arm") == "candidate"

    by_dialog(owner, stack, ROLLOUT, "rollback")
    served("stable", colleague, team="internal")
    owner.goto(f"{stack.url}/rollouts/{ROLLOUT}/")
    expect(owner.locator("#heading")).to_have_attribute("data-state", "rolled_back")
    assert exposed(stack) == []
    value = workflow.ask(WORKFLOW, colleague, team="internal")
    assert (value["release"], value["mode"]) == ("2026.10.4", "normal")


def _pass_the_gate(owner: Page, approver: Page, stack: Stack) -> None:
    gate = f"{stack.url}/rollouts/{ROLLOUT}/readiness/"
    owner.goto(gate)
    missing = owner.locator("[data-item][data-present='false']")
    expect(missing).to_have_count(1)
    expect(missing).to_have_attribute("data-item", "review")
    expect(missing).to_contain_text("“draft” names nothing that a person reviews.")
    expect(missing).to_contain_text("List under “review.points” of the path")
    expect(owner.locator("main [data-action='ready']")).to_have_count(0)

    missing.get_by_role("link", name="Fix in plan").click()
    expect(owner.locator("#step-t")).to_have_text("2. Paths")
    write(row(owner, "Path", 1), {"What people review or approve": POINTS})
    owner.get_by_role("navigation", name="Plan steps").get_by_role(
        "button", name="Review and apply"
    ).click()
    owner.get_by_role("button", name="Apply the plan").click()
    expect(owner.get_by_text(f"Applied: plan 2 of {WORKFLOW}.")).to_be_visible()

    owner.goto(gate)
    expect(missing).to_have_count(0)
    owner.locator("main [data-action='ready']").click()
    owner.locator("main [data-action='go-live']").click()
    expect(owner.get_by_text("It waits for the approver.")).to_be_visible()
    assert exposed(stack) == []
    approver.goto(gate)
    approver.locator("main [data-action='go-live']").click()
    expect(approver.locator("#heading")).to_have_attribute("data-state", "live")
    assert exposed(stack) == ["internal-ops 0.9"]


def _expand(owner: Page, approver: Page, stack: Stack) -> None:
    owner.goto(f"{stack.url}/rollouts/{ROLLOUT}/")
    criteria = owner.locator("section[aria-labelledby='criteria-t']")
    expect(criteria.locator("[data-verdict='holding']")).to_have_count(3, timeout=15_000)
    owner.goto(f"{stack.url}/rollouts/{ROLLOUT}/expand/")
    # The bake is short: what is missing goes from the list by itself.
    expect(owner.locator("[data-met='no']")).to_have_count(0, timeout=15_000)
    owner.reload()
    owner.locator("main [data-action='expand']").click()
    expect(owner.locator("#heading")).to_have_attribute("data-state", "pending")
    expect(owner.get_by_text("You asked for it, so somebody else decides")).to_be_visible()
    expect(owner.locator("[data-action='approve']")).to_have_count(0)
    request = owner.url

    approver.goto(f"{stack.url}/approvals/")
    approver.get_by_role("link", name="Returns desk, stage 1 → 2").click()
    digest = approver.locator("form input[name=digest]").input_value()
    assert re.fullmatch("[0-9a-f]{64}", digest)
    expect(approver.get_by_text(f"Digest of what is shown: {digest}")).to_be_visible()
    approver.get_by_label("Reason").fill("120 of 120 passed.")
    approver.locator("[data-action='approve']").click()
    expect(approver.get_by_text("Approved. Nothing is widened until")).to_be_visible()
    assert exposed(stack) == ["internal-ops 0.9"]

    owner.goto(request)
    owner.locator("[data-action='start-expansion']").click()
    expect(owner.locator("#heading")).to_have_attribute("data-state", "started")


def _clock_runs_out(owner: Page, deputy: Page, stack: Stack) -> None:
    """The alert says whose it is and when it acts, and exposure narrows by itself."""
    alert = wait_until(
        lambda: first(stack, "select id from alerts_alert"), within_s=20, what="the trigger"
    )
    deputy.goto(f"{stack.url}/alerts/{alert}/")
    expect(deputy.locator("#heading")).to_contain_text("Owner: owner.")
    expect(deputy.get_by_role("timer")).to_be_visible()
    expect(deputy.locator("#clock")).to_contain_text("narrows to")
    # Nobody reloads the cockpit.
    expect(owner.locator("#heading")).to_contain_text("Narrowed", timeout=15_000 + HOLD_S * 1000)
    expect(owner.locator("#timeline")).to_contain_text("Automatic, by alert")
    expect(deputy.locator("#clock")).to_contain_text("No clock runs", timeout=15_000)
    decided = "select acked_at is null and held_until is null from alerts_alert"
    assert first(stack, decided) is True


def _clear(owner: Page, second: Page, stack: Stack) -> None:
    tripped = "[data-guard='quality-breaks'][data-verdict='tripped']"
    owner.goto(f"{stack.url}/rollouts/{ROLLOUT}/")
    expect(owner.locator(tripped)).to_be_visible(timeout=15_000)
    clear = f"{stack.url}/rollouts/{ROLLOUT}/contain/clear-fallback/"
    owner.goto(clear)
    owner.locator("form.cform button[type=submit]").click()
    expect(owner.get_by_role("heading", name="Your half is confirmed")).to_be_visible()
    mode = "select mode from rollouts_pathmode"
    assert first(stack, mode) == "human_review"
    second.goto(clear)
    second.locator("form.cform button[type=submit]").click()
    expect(second.get_by_text("Committed as exposure version")).to_be_visible()
    assert first(stack, mode) is None
