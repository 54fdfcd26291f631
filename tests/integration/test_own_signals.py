"""Signals that a team defines itself: by each door, charted and guarded like any other."""

import json
import random
import statistics
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from rollout_console.catalog.models import WorkflowPath
from rollout_console.rollouts.models import PlanVersion, Rollout
from rollout_console.rollouts.plan_yaml import yaml_dump, yaml_load
from rollout_console.rollouts.selectors import plan_text
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.selectors.charts import WINDOWS, chart_plans, charts
from signals.alerts.models import Alert
from signals.alerts.services import guards_watch
from signals.buckets.keys import ARM_CANDIDATE
from signals.buckets.selectors import signal_series, window_measures
from signals.guards.models import Guard
from signals.guards.selectors import signal_cells, verdict_rows
from signals.guards.services import guards_define, guards_evaluate
from signals.own.models import OwnSignal
from signals.own.selectors import signals_in
from signals.stats.estimate import estimate
from signals.stats.intervals import mean_interval, rate_interval
from tests.factories import person, rollout_at, token
from tests.forms import form_of
from tests.labels import Reports, observation, work
from tests.plans import plan_document
from tests.story import run_item

pytestmark = pytest.mark.django_db

WORDS = {"slug": "answer-words", "kind": "mean", "better": "lower", "unit": "words"}
BY_MEASURE: list[dict[str, Any]] = [
    {**WORDS, "measure": "words"},
    {**WORDS, "slug": "words-p90", "kind": "quantile", "q": 0.9, "measure": "words"},
    {"slug": "long", "kind": "rate", "better": "lower", "measure": "words", "above": 12},
    {**WORDS, "slug": "words-all", "measure": "words", "per_task": True},
]
BY_LABEL: list[dict[str, Any]] = [
    {
        "slug": "bad-ends",
        "kind": "rate",
        "better": "lower",
        "outcome": ["error", "blocked"],
        "failure_category": ["timeout", "vague"],
    },
    {"slug": "grounded", "kind": "rate", "better": "higher", "evaluation": "grounded"},
    {"slug": "grounded-score", "kind": "mean", "better": "higher", "evaluation": "grounded"},
    {"slug": "unhappy", "kind": "rate", "better": "lower", "feedback": ["down", "complaint"]},
    {"slug": "undos", "kind": "count", "better": "lower", "feedback": ["undo"]},
    {"slug": "accepted", "kind": "rate", "better": "higher", "review": ["approved"]},
]


def planned(*signals: dict[str, Any], **rollout: Any) -> dict[str, Any]:
    document = plan_document(**rollout)
    document["workflow"]["signals"] = list(signals)
    return document


def bearer(*scopes: Scope) -> dict[str, str]:
    secret, _ = token(*scopes)
    return {"authorization": f"Bearer {secret}"}


def applied(document: dict[str, Any]) -> Any:
    return Client().put(
        "/api/v1/plans/support-reply",
        yaml_dump(document),
        content_type="application/yaml",
        headers=bearer(Scope.RELEASE),
    )


def defined(slug: str, **body: Any) -> Any:
    return Client().put(
        f"/api/v1/workflows/support-reply/signals/{slug}",
        json.dumps(body),
        content_type="application/json",
        headers=bearer(Scope.RELEASE),
    )


def series(signal: str, **asked: Any) -> dict[str, Any]:
    response = Client().get(
        "/api/v1/signals/series",
        {"workflow": "support-reply", "path": "draft", "signal": signal, **asked},
        headers=bearer(Scope.READ),
    )
    assert response.status_code == 200, response.content
    found: dict[str, Any] = json.loads(response.content)
    return found


@pytest.fixture
def live() -> Rollout:
    """A live rollout whose plan defines everything above."""
    rollout_at(RolloutState.LIVE)
    response = applied(planned(*BY_MEASURE, *BY_LABEL))
    assert response.status_code == 201, response.content
    return Rollout.objects.get(slug="support-reply-2026.11.2")


def over_all(slug: str) -> Any:
    """Return the estimate of one step that holds every report."""
    path = WorkflowPath.objects.get(slug="draft")
    now = timezone.now()
    points = signal_series(
        signal=signals_in(path.workflow_id)[slug],
        workflow_id=path.workflow_id,
        path_id=path.pk,
        arms=[ARM_CANDIDATE],
        segment_ids=None,
        start=now - timedelta(hours=3),
        end=now + timedelta(hours=3),
        step_s=86_400 * 7,
    )
    assert len(points) == 1, points
    return points[0]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_measure_adds_up_in_any_batching(live: Rollout, seed: int) -> None:
    chance = random.Random(seed)
    items = []
    for _ in range(chance.randint(40, 160)):
        told = {}
        if chance.random() < 0.8:
            told["words"] = chance.choice([chance.randint(-3, 30), 0, 12, 13])
        items.append(run_item(measures={"other": 99, **told}))
    reports = Reports()
    waiting = [*items, *chance.sample(items, 20)]
    chance.shuffle(waiting)
    while waiting:
        size = chance.randint(1, 50)
        reports.runs(*waiting[:size])
        del waiting[:size]
        if chance.random() < 0.5:
            work()
    work()

    values = sorted(i["measures"]["words"] for i in items if "words" in i["measures"])
    n, total, squares = len(values), sum(values), sum(v * v for v in values)
    mean = over_all("answer-words")
    range_of = mean_interval(n, total, squares)
    assert range_of is not None
    assert mean.n == n
    assert mean.value == pytest.approx(total / n)
    assert (mean.low, mean.high) == pytest.approx((range_of.low, range_of.high))

    long = over_all("long")
    above = sum(value > 12 for value in values)
    wilson = rate_interval(above, n)
    assert wilson is not None
    assert (long.n, long.value) == (n, above / n)
    assert (long.low, long.high) == pytest.approx((wilson.low, wilson.high))

    quantile = over_all("words-p90")
    exact = values[-(-9 * n // 10) - 1]
    assert quantile.value == pytest.approx(exact, rel=0.0109)
    assert quantile.low <= exact <= (quantile.high or values[-1])

    spread = over_all("words-all")
    assert spread.n == len(items)
    assert spread.value == pytest.approx(total / len(items))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_labels_count_once_however_late_double_and_out_of_order(live: Rollout, seed: int) -> None:
    chance = random.Random(seed)
    runs = []
    for _ in range(120):
        item = run_item(outcome=chance.choice(["ok", "ok", "ok", "error", "blocked"]))
        if chance.random() < 0.3:
            item["failure_category"] = chance.choice(["timeout", "vague", "rude"])
        runs.append(item)
    said: list[dict[str, Any]] = []
    for item in runs:
        for value in chance.sample(["up", "down", "complaint", "undo"], chance.randint(0, 3)):
            said.append(observation(item, "feedback", value=value))
        if chance.random() < 0.4:
            word = chance.choice(["timeout", "vague", "rude"])
            said.append(observation(item, "outcome", failure_category=word))
        if chance.random() < 0.5:
            score = round(chance.random(), 3)
            told = {"name": "grounded", "score": score, "passed": score > 0.4}
            said.append(observation(item, **told))
            # Of another name, and so of another signal.
            said.append(observation(item, name="tone", passed=True, score=1))
        if chance.random() < 0.3:
            verdict = chance.choice(["approved", "edited", "rejected"])
            said.append(observation(item, "review", verdict=verdict))
    reports = Reports()
    waiting = [("runs", item) for item in runs] + [("observations", each) for each in said]
    waiting += [chance.choice(waiting) for _ in range(60)]
    chance.shuffle(waiting)
    for start in range(0, len(waiting), 37):
        for noun in ("runs", "observations"):
            if part := [item for kind, item in waiting[start : start + 37] if kind == noun]:
                getattr(reports, noun)(*part)
        work(timezone.now() + timedelta(seconds=3 * start))
    work(timezone.now() + timedelta(hours=1))

    by_run: dict[str, list[dict[str, Any]]] = {item["id"]: [] for item in runs}
    for each in said:
        by_run[each["run_id"]].append(each)

    def told(field: str, **which: Any) -> list[Any]:
        return [s[field] for s in said if all(s.get(k) == v for k, v in which.items())]

    wrong = sum(
        item["outcome"] in ("error", "blocked")
        or item.get("failure_category") in ("timeout", "vague")
        or any(s.get("failure_category") in ("timeout", "vague") for s in by_run[item["id"]])
        for item in runs
    )
    unhappy = sum(
        any(s.get("value") in ("down", "complaint") for s in found) for found in by_run.values()
    )
    scores = told("score", name="grounded")
    verdicts = Counter(told("verdict", kind="review"))
    expected = {
        "bad-ends": (wrong / 120, 120),
        "unhappy": (unhappy / 120, 120),
        "undos": (float(len(told("id", value="undo"))), 120),
        "grounded": (statistics.mean(map(int, told("passed", name="grounded"))), len(scores)),
        "grounded-score": (statistics.mean(scores), len(scores)),
        "accepted": (verdicts["approved"] / verdicts.total(), verdicts.total()),
    }
    for slug, (value, n) in expected.items():
        point = over_all(slug)
        assert (slug, point.n) == (slug, n)
        assert point.value == pytest.approx(value), slug


def test_what_nobody_told_is_missing_and_never_zero(live: Rollout) -> None:
    reports = Reports()
    reports.runs(*(run_item(measures={"other": 1}) for _ in range(30)))
    work()
    path = WorkflowPath.objects.get(slug="draft")
    for slug in ("answer-words", "words-p90", "long", "words-all", "grounded", "accepted"):
        assert series(slug)["points"] == [], slug
        measures = window_measures(path_ids=[path.pk], since=live.created_at, until=timezone.now())
        signal = signals_in(path.workflow_id)[slug]
        assert all(estimate(signal, m, span_s=60) is None for m in measures.values())
