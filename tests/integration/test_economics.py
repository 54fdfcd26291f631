"""Mix and economics, from runs reported over the API to page and JSON, counted again here."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.catalog.models import Person
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.guards.models import Guard
from signals.guards.services import guards_evaluate
from signals.stats.intervals import count_interval, mean_interval, rate_interval
from tests.economics import Runs, planned, reported
from tests.factories import expansion_asked, ripen, rollout_at, token
from tests.labels import Reports, observation, work
from tests.ledger import over
from tests.story import run_item

pytestmark = pytest.mark.django_db

SLUG = "support-reply-2026.11.2"


def answer(address: str) -> Any:
    secret, _ = token(Scope.READ)
    found = Client().get(f"/api/v1/{address}", headers={"Authorization": f"Bearer {secret}"})
    assert found.status_code == 200, found.content
    return found.json()


def shown(address: str, name: str = "owner") -> str:
    client = Client()
    client.force_login(Person.objects.get(username=name))
    found = client.get(address)
    assert found.status_code == 200
    plain = re.sub(r"<[^>]+>", " ", found.content.decode())
    return re.sub(r"\s+", " ", plain.replace("&#x27;", "'"))


@pytest.fixture
def story() -> tuple[Rollout, Runs, list[dict[str, Any]]]:
    rollout = rollout_at(RolloutState.LIVE, document=planned())
    Rollout.objects.update(bake_from=timezone.now() - timedelta(minutes=10))
    reports = Reports()
    runs = reported(reports)
    asked = [run for run in runs if run["review_requested"]][::2]
    labels = [
        observation(
            run,
            "review",
            verdict="rejected" if number % 5 == 0 else "approved",
            duration_ms=60_000 + 1000 * number,
        )
        for number, run in enumerate(asked)
    ]
    work()
    reports.observations(*labels)
    work()
    return rollout, runs, labels


def exposed(run: dict[str, Any]) -> bool:
    return bool(run["arm"] == "candidate")


def split(runs: Runs, key: Callable[[dict[str, Any]], Any]) -> tuple[Counter[Any], Counter[Any]]:
    sides: tuple[Counter[Any], Counter[Any]] = (Counter(), Counter())
    for run in runs:
        if (value := key(run)) is not None:
            sides[not exposed(run)][value] += 1
    return sides


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-6)


def test_the_mix_is_that_of_what_was_reported(
    story: tuple[Rollout, Runs, list[dict[str, Any]]],
) -> None:
    _, runs, _ = story
    (path,) = answer(f"rollouts/{SLUG}/mix")["paths"]

    assert (path["exposed"], path["others"], path["planned"]) == (200, 400, False)
    assert path["too_protected"] is True
    keys: dict[str, Callable[[dict[str, Any]], Any]] = {
        "risk": lambda run: run.get("risk"),
        "input_condition": lambda run: run.get("input_condition"),
        "team": lambda run: run["context"]["team"],
        "customer_segment": lambda run: run["context"]["customer_segment"],
    }
    told = {row["attribute"]: row for row in path["attributes"]}
    assert set(told) >= {*keys, "account_group", "role"}
    assert told["role"]["values"] == []
    for name, key in keys.items():
        here, elsewhere = split(runs, key)
        found = {row["value"]: row for row in told[name]["values"]}
        assert set(found) == {*here, *elsewhere}
        for value, row in found.items():
            for side, counts in (("exposed", here), ("others", elsewhere)):
                n, of = counts[value], sum(counts.values())
                span = rate_interval(n, of)
                assert span is not None
                assert (row[side]["n"], row[side]["of"]) == (n, of)
                assert row[side]["share"] == near(n / of)
                assert (row[side]["low"], row[side]["high"]) == (near(span.low), near(span.high))
        gap = sum(
            abs(here[v] / sum(here.values()) - elsewhere[v] / sum(elsewhere.values()))
            for v in found
        )
        assert told[name]["distance"] == near(gap / 2)

    # High risk first, then messy input, then whom the segment leaves out.
    assert [(gap["attribute"], gap["value"]) for gap in path["gaps"]] == [
        ("risk", "high"),
        ("input_condition", "messy"),
        ("customer_segment", "eu"),
        ("team", "customer"),
    ]
    risky = split(runs, keys["risk"])[1]["high"]
    most = rate_interval(0, 200)
    assert most is not None
    sentence = (
        f"0 of 200 exposed tasks were high-risk (at most {most.high * 100:.2g} % may be, 95 %);"
        f" {risky / 4:.0f} % of 400 other tasks are."
    )
    assert path["gaps"][0]["sentence"] == sentence
    assert path["gaps"][0]["sure"] is True
    page = shown(f"/rollouts/{SLUG}/mix/")
    assert sentence in page
    assert "Too protected" in page
    assert "the mixes differ by 100 of 100 tasks" in page
    assert sentence in shown(f"/rollouts/{SLUG}/expand/")


def test_before_it_is_live_the_first_stage_stands_for_it() -> None:
    rollout_at(RolloutState.READY, document=planned())
    # Nothing yet: not known, and said so.
    assert "No first-stage task came in this span" in shown(f"/rollouts/{SLUG}/readiness/")
    reports = Reports()
    runs = reported(reports, count=300)
    for run in runs:
        run |= {"id": f"again-{run['id']}", "release": "2026.10.4", "arm": "stable"}
    reports.runs(*runs)
    work()

    (path,) = answer(f"rollouts/{SLUG}/mix")["paths"]

    assert (path["planned"], path["exposed"], path["others"]) == (True, 200, 400)
    page = shown(f"/rollouts/{SLUG}/readiness/")
    # Nine tenths of the segment's tasks are to be exposed, of those in no fallback that count.
    found = re.search(
        r"Quality: .*? Needs about 20 more tasks, .*? at today's ([\d,]+) tasks/h", page
    )
    assert found is not None
    first = min(datetime.fromisoformat(run["occurred_at"]) for run in runs)
    span_s = (timezone.now() - first.replace(second=0, microsecond=0)).total_seconds()
    normal = 2 * sum(run["segment"] == "internal-ops" and run["mode"] == "normal" for run in runs)
    assert int(found[1].replace(",", "")) == pytest.approx(
        0.9 * normal * 3600 / max(60, span_s), rel=0.1
    )
    assert "Too protected" in page
    assert "0 of 200 first-stage tasks were high-risk" in page
    assert (
        "On “draft” 4 things common elsewhere are missing or rare in the first-stage set." in page
    )


def test_an_expansion_request_freezes_what_cannot_be_shown() -> None:
    rollout = rollout_at(RolloutState.LIVE, document=planned())
    reported(Reports(), cost_most=0.05, slowest=2900)
    work()
    ripen(rollout)
    request = expansion_asked(rollout)

    (mix,) = request.evidence["mix"]
    assert mix["gaps"][0]["value"] == "high"
    page = shown(f"/approvals/expansions/{request.pk}/")
    assert "Exposed mix when asked" in page
    assert mix["gaps"][0]["sentence"] in page
    # Frozen: what is reported later changes nothing of what was asked on.
    reports = Reports()
    reports.runs(*(run_item(risk="high", arm="candidate") for _ in range(50)))
    work()
    request.refresh_from_db()
    assert request.evidence["mix"] == [mix]
    assert mix["gaps"][0]["sentence"] in shown(f"/approvals/expansions/{request.pk}/")


def moments(values: Iterable[float]) -> tuple[int, float, float]:
    found = list(values)
    return len(found), sum(found), sum(value * value for value in found)


def same(row: Any, n: int, total: float, squares: float) -> None:
    """Whether a mean reads as Student's range of these values has it."""
    span = mean_interval(n, total, squares)
    assert span is not None
    assert (row["n"], row["value"]) == (n, near(total / n))
    assert (row["low"], row["high"]) == (near(max(0.0, span.low)), near(span.high))


def test_money_is_that_of_what_was_reported(
    story: tuple[Rollout, Runs, list[dict[str, Any]]],
) -> None:
    _, runs, _ = story
    (path,) = answer(f"rollouts/{SLUG}/economics")["paths"]

    costs = [run["cost_usd"] for run in runs if "cost_usd" in run]
    assert len(costs) < len(runs)
    n, total, squares = moments(costs)
    assert (path["tasks"], path["cost"]["of"]) == (600, 600)
    assert path["cost"]["total"] == near(total)
    same(path["cost"]["per_task"], n, total, squares)
    for side, arm in (("candidate_cost", "candidate"), ("stable_cost", "stable")):
        mine = [run for run in runs if run["arm"] == arm and run["mode"] == "normal"]
        same(path[side]["per_task"], *moments(r["cost_usd"] for r in mine if "cost_usd" in r))
        assert path[side]["of"] == len(mine)

    # Rates are over the span that it says, which began with the path's first task.
    scale = 3600 / path["span_s"]
    span = count_interval(total, squares)
    assert path["spend"]["value"] == near(total * scale)
    assert path["spend"]["high"] == near(span.high * scale)
    assert path["spend_all"]["value"] == near(total * scale * 600 / n)
    assert path["tasks_per_hour"]["value"] == near(600 * scale)
    assert path["exposed_share"] == near(1 / 3)
    hour, day = path["periods"]
    assert (hour["name"], day["name"]) == ("hour", "day")
    assert (day["burn"]["budget"], day["known"], day["of"]) == (600, n, 600)
    if datetime.fromisoformat(hour["since"]) < datetime.fromisoformat(runs[0]["occurred_at"]):
        assert hour["burn"]["used_share"] == near(total / 25)

    page = shown(f"/rollouts/{SLUG}/economics/")
    assert f"cost known for {n} of 600 tasks" in page
    assert "the rest as if it cost the same" in page
    assert "at least" in page


def test_widening_is_projected_from_todays_traffic_and_costs(
    story: tuple[Rollout, Runs, list[dict[str, Any]]],
) -> None:
    _, runs, _ = story
    (path,) = answer(f"rollouts/{SLUG}/economics")["paths"]

    upcoming, full = path["projections"]
    # Stage 2 exposes the whole team and a twentieth of the customers: by measured traffic.
    share = (200 + 0.05 * 400) / 600
    assert (upcoming["stage"], upcoming["share"]) == (2, near(share))
    assert upcoming["basis"] == "measured"
    assert (full["stage"], full["share"]) == (None, 1.0)

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    here = mean([r["cost_usd"] for r in runs if exposed(r) and "cost_usd" in r])
    there = mean([r["cost_usd"] for r in runs if not exposed(r) and "cost_usd" in r])
    per_hour = path["tasks_per_hour"]["value"]
    assert upcoming["spend"]["value"] == near(per_hour * (share * here + (1 - share) * there))
    assert full["spend"]["value"] == near(per_hour * here)
    asked = mean([float(r["review_requested"]) for r in runs if exposed(r)])
    asked_there = mean([float(r["review_requested"]) for r in runs if not exposed(r)])
    assert upcoming["reviews"]["value"] == near(
        per_hour * (share * asked + (1 - share) * asked_there)
    )
    for step in (upcoming, full):
        for what in ("spend", "reviews"):
            assert step[what]["low"] < step[what]["value"] < step[what]["high"]


def test_fallbacks_tokens_routes_and_reviews_add_up(
    story: tuple[Rollout, Runs, list[dict[str, Any]]],
) -> None:
    _, runs, labels = story
    (path,) = answer(f"rollouts/{SLUG}/economics")["paths"]
    mine = [run for run in runs if exposed(run)]

    flow = path["flow"]
    normal = [run for run in mine if run["mode"] == "normal"]
    own = sum(run["outcome"] == "fallback" for run in normal)
    assert (flow["n"], flow["answered"]) == (200, len(normal) - own)
    assert flow["answered_escalated"] == sum(run["outcome"] == "escalated" for run in normal)
    for use in flow["modes"][:-1]:
        used = [run for run in mine if run["mode"] == use["mode"]]
        assert (use["n"], use["of"], use["cap"]) == (len(used), 200, 0.4)
        assert use["escalated"] == sum(run["outcome"] == "escalated" for run in used)
        assert use["share"]["value"] == near(len(used) / 200)
        same(use["cost"]["per_task"], *moments(r["cost_usd"] for r in used if "cost_usd" in r))
    assert [use["mode"] for use in flow["modes"]] == ["human_review", "read_only", "own"]
    assert flow["modes"][-1]["n"] == own
    assert flow["answered"] + sum(use["n"] for use in flow["modes"]) == 200
    # Only one segment is exposed, so its fallbacks are all of them.
    assert [{**use, "segment": None} for use in flow["by_segment"]] == flow["modes"]
    assert {use["segment"] for use in flow["by_segment"]} == {"internal-ops"}

    tokens = {row["segment"]: row for row in path["tokens"]}
    for segment in ("internal-ops", "eu-customers"):
        here = [run for run in runs if run["segment"] == segment]
        same(tokens[segment]["input"], *moments(run["input_tokens"] for run in here))
        outs = [run["output_tokens"] for run in here if "output_tokens" in run]
        same(tokens[segment]["output"], *moments(outs))
        assert tokens[segment]["output_total"] == sum(outs)

    assert path["slow_limit_ms"] == 3000
    for row in path["routes"]:
        took = sorted(run["latency_ms"] for run in runs if run["route"] == row["route"])
        assert row["n"] == len(took)
        assert row["slow"]["value"] == near(sum(ms > 3000 for ms in took) / len(took))
        for q, found in ((0.5, row["p50"]), (0.95, row["p95"]), (0.99, row["p99"])):
            true = took[-(-int(q * 100) * len(took) // 100) - 1]
            assert found["value"] == pytest.approx(true, rel=0.011)
        assert row["cost"]["total"] == near(
            sum(r.get("cost_usd", 0.0) for r in runs if r["route"] == row["route"])
        )

    reviews = path["reviews"]
    asked = sum(run["review_requested"] for run in runs)
    scale = 3600 / path["span_s"]
    assert reviews["arrivals"]["n"] == asked
    assert reviews["arrivals"]["value"] == near(asked * scale)
    assert reviews["load"]["value"] == near(asked * scale / 200)
    assert reviews["backlog"] == asked - len(labels)
    rejected = sum(label["verdict"] == "rejected" for label in labels)
    assert reviews["rejected"]["value"] == near(rejected / len(labels))
    same(reviews["took_ms"], *moments(label["duration_ms"] for label in labels))
    if reviews["arrivals"]["value"] >= 200:
        assert reviews["hours_to_clear"] is None
    page = shown(f"/rollouts/{SLUG}/economics/")
    assert f"exposed tasks · {200 - flow['answered']} of 200 tasks used a fallback" in page
    assert "rag-large" in shown("/workflows/support-reply/economics/")
    assert "Draft a reply: latency by route" in shown("/workflows/support-reply/?span=1h")


def test_what_nobody_told_the_cost_of_is_not_free() -> None:
    rollout_at(RolloutState.LIVE, document=planned())
    reports = Reports()
    free: dict[str, Any] = {"cost_usd": 0, "cost_known": True}
    reports.runs(*(run_item(arm="candidate", **free) for _ in range(4)))
    reports.runs(*(run_item(release="2026.10.4", arm="stable", cost_usd=0) for _ in range(8)))
    work()

    (path,) = answer(f"rollouts/{SLUG}/economics")["paths"]

    assert path["candidate_cost"]["per_task"]["value"] == 0
    assert path["stable_cost"] == {"per_task": None, "total": 0, "of": 8}
    # What is left on stable costs something that nobody knows; at full exposure nothing is.
    upcoming, full = path["projections"]
    assert upcoming["spend"] is None
    assert full["spend"]["value"] == 0
    page = shown(f"/rollouts/{SLUG}/economics/")
    assert "cost known for 4 of 12 tasks" in page
    assert "2026.10.4 not known" in page


def test_without_a_task_every_figure_is_said_to_be_missing() -> None:
    rollout_at(RolloutState.LIVE, document=planned())
    (path,) = answer(f"rollouts/{SLUG}/economics?window=600")["paths"]
    assert (path["tasks"], path["spend"], path["last_at"], path["age_s"]) == (0, None, None, None)
    assert (path["routes"], path["tokens"], path["flow"]["modes"]) == ([], [], [])
    page = shown(f"/rollouts/{SLUG}/economics/")
    assert path["reviews"]["arrivals"] is None
    assert "No exposed task came in this span." in page
    assert "No task of this span named the route it took." in page


def test_an_open_criterion_says_how_long_it_needs_at_todays_traffic() -> None:
    rollout = rollout_at(RolloutState.LIVE, document=planned())
    now = timezone.now()
    Guard.objects.filter(rollout=rollout.slug).update(evidence_from=now - timedelta(minutes=30))
    reports = Reports()
    # One of them has a label of quality, and each a cost.
    reports.runs(
        *(run_item(arm="candidate", quality=None if n else {"passed": True}) for n in range(10))
    )
    work()
    guards_evaluate(now=over(timezone.now()))

    rows = answer(f"rollouts/{SLUG}/verdicts")["results"]
    needs = {row["guard"]: row["needs"] for row in rows if row["kind"] == "criterion"}
    for guard, counted in (("cost-inside", 10), ("quality-holds", 1)):
        assert needs[guard]["runs"] == 20 - counted
        # In half an hour, so twice as many an hour.
        assert needs[guard]["per_hour"] == pytest.approx(2 * counted, rel=0.01)
        assert needs[guard]["seconds"] == pytest.approx(
            (20 - counted) / (2 * counted) * 3600, rel=0.01
        )
    page = shown(f"/rollouts/{SLUG}/")
    assert (
        "Needs about 10 more tasks, 30.1 min" in page or "Needs about 10 more tasks, 30 min" in page
    )
    assert "at today's 20 tasks/h" in page
    Guard.objects.filter(rollout=rollout.slug, slug="quality-holds").update(
        evidence_from=timezone.now()
    )
    assert "never at today's 0 tasks/h" in shown(f"/rollouts/{SLUG}/expand/")


@pytest.mark.parametrize("query", ["window=59", "window=x", "window=604801"])
def test_a_window_out_of_range_is_refused(query: str) -> None:
    rollout_at(RolloutState.LIVE)
    secret, _ = token(Scope.READ)
    found = Client().get(
        f"/api/v1/rollouts/{SLUG}/economics?{query}", headers={"Authorization": f"Bearer {secret}"}
    )
    assert found.status_code == 400
    assert found.json()["errors"][0]["pointer"] == "/window"


@pytest.mark.parametrize("noun", ["mix", "economics"])
def test_who_may_not_read_a_rollout_is_not_told_of_it(noun: str) -> None:
    rollout_at(RolloutState.LIVE)
    client = Client()
    client.force_login(Person.objects.get(username="outsider"))
    assert client.get(f"/rollouts/{SLUG}/{noun}/").status_code == 404
    assert client.get("/workflows/support-reply/economics/").status_code == 404
