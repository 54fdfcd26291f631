"""The story: a candidate hurts, the console shows it, the owner rolls back, the fleet obeys."""

import json
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from playwright.sync_api import Page, expect

from tests.stack import Stack, wait_until

ONSET_S = 12
# A page may take long on a busy machine; what has to be quick says so with its own bound.
expect.set_options(timeout=15_000)
STABLE, CANDIDATE = 1, 2
STORIES = {
    "quality": {
        "rollout": "support-reply-2026.11.2",
        "flag": "support-reply.draft",
        "signal": "quality_pass_rate",
        "drawn_limit": 85,
        "lower_is_better": False,
        "reason": "quality",
    },
    "latency": {
        "rollout": "claims-intake-2026.11.1",
        "flag": "claims-intake.extract",
        "signal": "latency_p95_ms",
        "drawn_limit": 9,
        "lower_is_better": True,
        "reason": "latency",
    },
}


class Client:
    """A workflow of somebody else's: the OpenFeature SDK, asking again and again for one user."""

    def __init__(self, stack: Stack, flag: str) -> None:
        token = json.loads((stack.local / "demo-tokens.json").read_text())["fleet"]
        headers = {"Authorization": f"Bearer {token}", "Rollout-Client": "story"}
        api.set_provider_and_wait(
            OFREPProvider(stack.url, headers_factory=lambda: headers, timeout=2), domain="story"
        )
        self._client = api.get_client(domain="story")
        self._flag = flag
        self._stop = threading.Event()
        self.user = next(user for user in map(str, range(200)) if self.ask(user) == "candidate")
        self.answers: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._ask_on)
        self._thread.start()

    def ask(self, user: str) -> str:
        value: Any = self._client.get_object_value(
            self._flag, {}, EvaluationContext(user, {"team": "internal"})
        )
        return str(value.get("arm", "no answer"))

    def first_at(self, arm: str, *, since: float) -> float | None:
        return next((at for at, told in list(self.answers) if told == arm and at >= since), None)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _ask_on(self) -> None:
        while not self._stop.wait(0.05):
            arm = self.ask(self.user)
            self.answers.append((time.monotonic(), arm))


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with Stack(
        demo=True, DEMO_SCENARIO=request.param, DEMO_ONSET_S=str(ONSET_S), DEMO_FAST="1"
    ) as found:
        yield found


def shot(page: Page, name: str) -> None:
    """Keep a picture of the page, where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def served(stack: Stack, arm: int, *, since: datetime) -> int:
    """Count the exposed segment's runs on an arm that happened since then, from the raw rows."""
    with stack.connect() as connection:
        row = connection.execute(
            "select count(*) from run where arm = %s and segment_id <> 0 and occurred_at >= %s",
            [arm, since],
        ).fetchone()
    assert row is not None
    return int(row[0])


def exposed_line(page: Page, stack: Stack, story: dict[str, Any]) -> list[tuple[datetime, float]]:
    """Return what the cockpit draws of what the exposed people got: candidate, later stable."""
    charts = page.request.get(f"{stack.url}/rollouts/{story['rollout']}/charts.json").json()
    (figure,) = [
        chart["figure"] for chart in charts["charts"] if chart["key"].endswith(story["signal"])
    ]
    return [
        (datetime.fromisoformat(x).replace(tzinfo=UTC), y)
        for trace in figure["data"]
        if trace.get("meta", {}).get("role") == "line" and "x" in trace
        for x, y in zip(trace["x"], trace["y"], strict=True)
        if y is not None
    ]


@pytest.mark.parametrize(
    ("stack", "scenario"), [("quality", "quality"), ("latency", "latency")], indirect=["stack"]
)
def test_the_owner_rolls_back_and_the_fleet_obeys(stack: Stack, scenario: str, page: Page) -> None:
    story: dict[str, Any] = STORIES[scenario]
    client = Client(stack, story["flag"])
    try:
        _play(stack, scenario, story, page, client)
    finally:
        client.close()


def _play(stack: Stack, scenario: str, story: dict[str, Any], page: Page, client: Client) -> None:
    page.goto(stack.url)
    logins = json.loads((stack.local / "demo-logins.json").read_text())
    (owner,) = [login for login in logins if login["role"] == "owner"]
    page.get_by_label("Name").fill(owner["name"])
    page.get_by_label("Password").fill(owner["password"])
    page.get_by_role("button", name="Log in").click()
    row = page.locator(f"[data-rollout='{story['rollout']}'][data-live-row]")
    expect(row).to_contain_text("Olivia Ortiz")
    shot(page, f"{scenario}-1-overview")
    assert client.ask(client.user) == "candidate"

    # Nobody reloads: the alert comes to the page by itself.
    expect(row.locator(".ro-why")).to_be_visible(timeout=40_000)
    expect(row).to_contain_text("open alert")
    shot(page, f"{scenario}-2-alert")
    assert client.first_at("stable", since=0) is None

    row.locator("[data-row-link]").click()
    tripped = page.locator(f"[data-verdict='tripped'][data-signal='{story['signal']}']")
    expect(tripped.first).to_be_visible(timeout=10_000)
    shot(page, f"{scenario}-3-cockpit")

    # Before its scripts have run the same link opens the form as a page, which has its own test.
    page.wait_for_load_state("load")
    page.locator("main [data-action='rollback']:visible").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("input[name=reason]:checked")).to_have_value(story["reason"])
    shot(page, f"{scenario}-4-dialog")
    pressed_at = time.monotonic()
    dialog.locator("button[type=submit][data-action='rollback']").click()
    wait_until(
        lambda: client.first_at("stable", since=pressed_at), within_s=2, what="stable after press"
    )
    expect(page.get_by_text("Committed as exposure version")).to_be_visible()
    shot(page, f"{scenario}-5-committed")
    _recovers(stack, story, page, since=datetime.now(UTC) + timedelta(seconds=2))
    page.goto(f"{stack.url}/rollouts/{story['rollout']}/")
    expect(page.locator("main .pill").first).to_contain_text("Rolled back")
    shot(page, f"{scenario}-6-recovered")
    told = {arm for at, arm in client.answers if at > pressed_at + 2}
    assert told == {"stable"}


def _recovers(stack: Stack, story: dict[str, Any], page: Page, *, since: datetime) -> None:
    """The charts carry the mark and recover, and the fleet has run no candidate since."""
    charts = page.request.get(f"{stack.url}/rollouts/{story['rollout']}/charts.json")
    assert charts.status == 200
    assert "rolled back" in charts.text()
    wait_until(lambda: served(stack, STABLE, since=since) >= 60, within_s=30, what="runs on stable")
    assert served(stack, CANDIDATE, since=since) == 0

    def recovered() -> bool:
        drawn = [y for at, y in exposed_line(page, stack, story) if at > since]
        return bool(drawn) and (drawn[-1] < story["drawn_limit"]) == story["lower_is_better"]

    wait_until(recovered, within_s=20, what="the chart recovered")
