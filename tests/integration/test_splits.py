"""Signals by what they can be parted by, and failures by category: page and API, from reports."""

import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import plotly.graph_objects as go
import pytest
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.catalog.models import Person
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.catalogue import SIGNALS
from signals.format import MISSING
from tests.factories import rollout_at, token
from tests.labels import Reports, work
from tests.story import run_item

pytestmark = pytest.mark.django_db


@pytest.fixture
def live() -> Rollout:
    return rollout_at(RolloutState.LIVE)


def page_rows(body: str, hook: str) -> dict[str, dict[str, str]]:
    """Return a table's rows by their hook, each with its cells by label."""
    found = {}
    for part in body.split(f'<tr data-{hook}="')[1:]:
        row = part[: part.index("</tr>")]
        cells = dict(re.findall(r'data-l="([^"]+)"[^>]*>(.*?)</td>', row, re.DOTALL))
        name = row[: row.index('"')]
        found[name] = {key: re.sub(r"<[^>]+>", " ", cell).strip() for key, cell in cells.items()}
    return found


def some_runs() -> list[dict[str, Any]]:
    items = []
    for number in range(60):
        condition = ("clean", "messy", None)[number % 3]
        items.append(
            run_item(
                input_condition=condition,
                risk=("low", "high")[number % 2],
                mode=("normal", "human_review")[number % 5 == 0],
                route=("rag-large", "simple", None)[number % 3],
                latency_ms=100.0 + number,
                quality={"passed": number % 4 != 0},
                occurred_at=(timezone.now() - timedelta(minutes=3)).isoformat(),
            )
        )
    return items


def quality_by(items: list[dict[str, Any]], name: str) -> dict[str, tuple[int, int]]:
    """Return passed and all by the value of a field, of runs in mode normal."""
    found: dict[str, list[bool]] = defaultdict(list)
    for item in items:
        if item["mode"] == "normal" or name == "mode":
            found[item[name] or "not said"].append(item["quality"]["passed"])
    return {value: (sum(passed), len(passed)) for value, passed in found.items()}


def test_a_signal_is_shown_by_each_split(live: Rollout, client: Client) -> None:
    items = some_runs()
    Reports().runs(*items)
    work()
    client.force_login(Person.objects.get(username="viewer"))
    url = f"/workflows/{live.workflow.slug}/signals/"

    for split in ("input_condition", "risk", "mode"):
        body = client.get(
            url, {"path": "draft", "signal": "quality_pass_rate", "split": split, "span": "1h"}
        ).content.decode()
        rows = page_rows(body, "value")
        names = {"normal": "Normal", "human_review": "Human review"}
        expected = {
            names.get(value, value): (f"{100 * passed / n:.1f} %", str(n))
            for value, (passed, n) in quality_by(items, split).items()
        }
        assert {name: (row["Quality"], row["n"]) for name, row in rows.items()} == expected

    body = client.get(
        url, {"path": "draft", "signal": "latency_p50_ms", "split": "route", "span": "1h"}
    ).content.decode()
    rows = page_rows(body, "value")
    # What no run said of its route is no route.
    normal = [item for item in items if item["mode"] == "normal"]
    assert {name: row["n"] for name, row in rows.items()} == {
        route: str(sum(item["route"] == route for item in normal))
        for route in ("rag-large", "simple")
    }
    # Quality is not kept by route, so it is not offered.
    offered = client.get(url, {"signal": "quality_pass_rate"}).content.decode()
    assert 'value="route"' not in offered


def test_the_chart_is_a_figure_with_a_line_for_each(live: Rollout, client: Client) -> None:
    Reports().runs(*some_runs())
    work()
    client.force_login(Person.objects.get(username="viewer"))

    answer = client.get(
        f"/workflows/{live.workflow.slug}/signals/chart.json?split=risk&span=1h&path=draft"
    ).json()

    (chart,) = answer["charts"]
    go.Figure(chart["figure"])
    assert [trace["name"] for trace in chart["figure"]["data"]] == ["high", "low"]
    assert len({trace["line"]["dash"] for trace in chart["figure"]["data"]}) == 2
    assert len(chart["rows"]) == 1


def test_every_signal_that_is_offered_is_shown(live: Rollout, client: Client) -> None:
    Reports().runs(*some_runs())
    work()
    client.force_login(Person.objects.get(username="viewer"))
    body = client.get(f"/workflows/{live.workflow.slug}/signals/").content.decode()
    offered = set(re.findall(r'<option value="([a-z0-9_]+)"', body)) & set(SIGNALS)
    assert len(offered) > 15
    for slug in offered:
        shown = client.get(f"/workflows/{live.workflow.slug}/signals/?signal={slug}")
        assert f'data-signal="{slug}"' in shown.content.decode()


def test_the_series_is_read_for_one_kind_of_case(live: Rollout, client: Client) -> None:
    items = some_runs()
    Reports().runs(*items)
    work()
    secret, _ = token(Scope.READ)
    asked: dict[str, str | int] = {
        "workflow": live.workflow.slug,
        "path": "draft",
        "signal": "quality_pass_rate",
        "from": (datetime.now(UTC) - timedelta(hours=2)).isoformat(),
        "step": 86_400,
    }
    headers = {"Authorization": f"Bearer {secret}"}

    told = client.get(
        "/api/v1/signals/series",
        {**asked, "input_condition": "messy", "risk": "high"},
        headers=headers,
    ).json()

    hits = [
        item["quality"]["passed"]
        for item in items
        if (item["input_condition"], item["risk"], item["mode"]) == ("messy", "high", "normal")
    ]
    assert sum(point["n"] for point in told["points"]) == len(hits)
    assert told["points"][0]["value"] == pytest.approx(sum(hits) / len(hits))
    for wrong, pointer in (
        ({"risk": "huge"}, "/risk"),
        ({"mode": "normal", "signal": "review_backlog"}, "/mode"),
    ):
        refused = client.get("/api/v1/signals/series", {**asked, **wrong}, headers=headers)
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["pointer"] == pointer


def test_failures_say_how_many_people_met_them_and_where_they_came_from(
    live: Rollout, client: Client
) -> None:
    ago = timezone.now() - timedelta(minutes=9)
    stable = live.stable
    assert stable is not None
    Reports().runs(
        *(
            run_item(
                outcome="error",
                failure_category="wrong order",
                subject=f"u-{number % 4}",
                occurred_at=(ago + timedelta(minutes=number)).isoformat(),
            )
            for number in range(1, 7)
        ),
        run_item(outcome="error", failure_category="timeout", occurred_at=ago.isoformat()),
        run_item(
            outcome="error",
            failure_category="wrong order",
            release=stable.version,
            arm="stable",
            subject="u-9",
            occurred_at=ago.isoformat(),
        ),
    )
    work()
    client.force_login(Person.objects.get(username="viewer"))

    body = client.get(f"/workflows/{live.workflow.slug}/failures/?span=1h").content.decode()

    rows = page_rows(body, "category")
    assert set(rows) == {"wrong order", "timeout"}
    wrong = rows["wrong order"]
    assert (wrong["Tasks"], wrong["Distinct users"]) == ("7", "5")
    assert set(wrong["By release"].split(", ")) == {
        f"{live.candidate.version}: 6",
        f"{stable.version}: 1",
    }
    assert f"in {stable.version}" in wrong["First seen"]
    assert f"{ago:%H:%M}" in wrong["First seen"]
    assert rows["timeout"]["Distinct users"] == MISSING
    assert "the candidate" in rows["timeout"]["First seen"]


def test_a_stranger_finds_no_signals(live: Rollout, client: Client) -> None:
    client.force_login(Person.objects.create_user("stranger"))
    for page in ("signals/", "signals/chart.json", "failures/"):
        assert client.get(f"/workflows/{live.workflow.slug}/{page}").status_code == 404
