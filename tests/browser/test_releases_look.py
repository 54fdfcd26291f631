"""The pages of releases in a real Chromium: they fit, read and work without scripts."""

import json
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

from rollout_console.catalog.models import Release, WorkflowPath
from rollout_console.core.heartbeats import WORKER, heartbeat_record
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.releases import release_register
from rollout_console.rollouts.states import RolloutState
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE, MODES
from tests.browser.test_pages_look import (
    JUDGED,
    LOOKS,
    RULES,
    SIZES,
    TOO_WIDE,
    charts_drawn,
    log_in,
    shot,
)
from tests.factories import principal, rollout_at
from tests.ledger import bucket
from tests.live import Console, console
from tests.plans import plan_document

__all__ = ["console"]

PROMPT = "\n".join(
    [
        "You answer refund requests of customers in our shop.",
        *(f"{number}. Keep rule {number} of the policy in mind." for number in range(1, 31)),
        "Quote the policy, then offer a refund.",
        "Sign as Support.",
    ]
)
CHANGES: list[dict[str, Any]] = [
    {
        "component": "prompt",
        "name": "refund-policy",
        "before": PROMPT,
        "after": PROMPT.replace("then offer a refund", "then offer an exchange")
        + "\nNever promise a date, whatever the customer asks for and however long they wait.",
        "note": "fewer refunds on orders that can be exchanged",
    },
    {"component": "model", "name": "answerer", "before": "v18", "after": "v19"},
    {
        "component": "retrieval",
        "name": "policy-index",
        "before": json.dumps({"top_k": 6, "filters": {"lang": "en", "archived": True}}),
        "after": json.dumps({"top_k": 4, "filters": {"lang": "en"}, "rerank": "cross-encoder"}),
    },
    {"component": "tools", "name": "look_up_order", "before": "", "after": "added"},
]


@pytest.fixture
def scene(console: Console) -> Rollout:
    """A live rollout of a release with four changes, and half an hour of tasks of both."""
    document = plan_document()
    document["releases"] = [{"version": "2026.11.2", "changes": CHANGES}]
    live = rollout_at(RolloutState.LIVE, document=document)
    now = timezone.now()
    Rollout.objects.filter(pk=live.pk).update(live_at=now - timedelta(hours=1))
    path = WorkflowPath.objects.get(workflow=live.workflow)
    segment = live.exposed.get().segment_id
    for back in range(1, 31):
        minute = (now - timedelta(minutes=back)).replace(second=0, microsecond=0)
        for release_id, arm, cost, size, mode in (
            (live.candidate_id, ARM_CANDIDATE, 0.042, 7000, 0),
            (live.candidate_id, ARM_CANDIDATE, 0.11, 9000, MODES["human_review"]),
            (live.stable_id, ARM_STABLE, 0.031, 6000, 0),
        ):
            n = 2 if mode else 20
            spent = [cost * (0.9 + 0.01 * (task + back % 3)) for task in range(n)]
            bucket(
                path,
                minute,
                release_id=release_id,
                arm=arm,
                segment_id=segment,
                mode=mode,
                passed=n - back % 3 if arm == ARM_CANDIDATE and n > 2 else n,
                failed=back % 3 if arm == ARM_CANDIDATE and n > 2 else 0,
                costs=spent,
                latencies=[800.0 + 40 * task for task in range(n)],
                input_tokens_n=n,
                input_tokens_sum=float(size * n),
                input_tokens_sq=1.02 * size * size * n,
                output_tokens_n=n,
                output_tokens_sum=float(size * n) / 12,
                output_tokens_sq=1.02 * size * size * n / 144,
                retries_n=n,
                retries_sum=n / 10,
                retries_sq=n / 10,
                fallback_n=n if mode else 0,
                retrieved_n=n,
                retrieved_empty=1 if n > 2 else 0,
            )
    release_register(
        workflow=live.workflow,
        version="2026.12.1",
        changes=[],
        source={
            "repository": "support",
            "commit": "8f3c" * 10,
            "url": "https://git.example/support/commit/8f3c",
        },
        principal=principal("owner"),
        now=now,
    )
    Release.objects.create(
        workflow=live.workflow, version="nightly-2026-11-24", registered=False, created_at=now
    )
    heartbeat_record(name=WORKER, now=now)
    return live


def test_pages_of_releases_are_accessible_and_fit(
    page: Page, console: Console, scene: Rollout
) -> None:
    workflow = "/workflows/support-reply"
    pages = {
        "releases": "/releases/?workflow=support-reply",
        "releases-all": "/releases/",
        "release": f"{workflow}/releases/2026.11.2/",
        "release-new": f"{workflow}/releases/new/",
        "compare": f"{workflow}/compare/?span=1h",
        "compare-nothing": f"{workflow}/compare/?candidate=2026.12.1",
        "changed": f"/rollouts/{scene.slug}/",
    }
    policy: list[str] = []
    page.on(
        "console",
        lambda line: policy.append(line.text) if "Security Policy" in line.text else None,
    )
    page.emulate_media(reduced_motion="reduce")
    log_in(page, console)
    faults: dict[str, object] = {}
    for name, url in pages.items():
        page.goto(console.url + url)
        for size, theme in LOOKS:
            width, height = SIZES[size]
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=theme)
            if name == "changed":
                # Loaded at this width, as a phone does; a chart follows a turn a moment later.
                page.goto(console.url + url)
                charts_drawn(page)
            shot(page, f"{name}-{size}-{theme}")
            if (wide := page.evaluate(TOO_WIDE)) > 0:
                faults[f"{name} {size} {theme}"] = f"{wide} px too wide"
            if (size, theme) in JUDGED:
                found = Axe().run(page, options={"runOnly": RULES})
                for fault in found.response["violations"]:
                    where = [node["target"] for node in fault["nodes"]][:3]
                    faults[f"{name} {size} {theme} {fault['id']}"] = where
    assert faults == {}
    assert policy == []


def test_a_release_is_registered_without_javascript(
    page: Page, console: Console, scene: Rollout
) -> None:
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    try:
        log_in(plain, console)
        plain.goto(f"{console.url}/workflows/support-reply/releases/new/")
        plain.get_by_label("Version").fill("2026.12.2")
        plain.get_by_label("Name").fill("refund-policy")
        plain.get_by_label("Before").fill("Be kind.\nOffer a refund at once.")
        plain.get_by_label("After").fill("Be kind.\nOffer an exchange at once.")
        plain.get_by_role("button", name="Add a change").click()
        expect(plain.get_by_label("Before").first).to_have_value(
            "Be kind.\nOffer a refund at once."
        )
        expect(plain.get_by_label("Component").last).to_be_focused()
        plain.get_by_label("Component").last.select_option("model")
        plain.get_by_label("Name").last.fill("answerer")
        # The return key registers; it does not press the first button that happens to stand there.
        plain.get_by_label("Name").last.press("Enter")

        expect(plain.get_by_role("heading", level=1)).to_have_text("Release 2026.12.2")
        expect(plain.locator("[data-form='lines'] del")).to_have_text(["a", "refund"])
        assert Release.objects.get(version="2026.12.2").changes.count() == 2
    finally:
        context.close()
