"""Signals that a team defines itself: by each door, charted and guarded like any other."""

import json
import random
import statistics
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
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
from signals.guards.services import guards_evaluate
from signals.own.models import OwnSignal
from signals.own.selectors import signals_in
from signals.stats.estimate import estimate
from signals.stats.sequences import mean_sequence, rate_sequence
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


def defined(address: str, **body: Any) -> Any:
    return Client().put(
        f"/api/v1/workflows/support-reply/signals/{address}",
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
    range_of = mean_sequence(n, total, squares)
    assert range_of is not None
    assert mean.n == n
    assert mean.value == pytest.approx(total / n)
    assert (mean.low, mean.high) == pytest.approx((range_of.low, range_of.high))

    long = over_all("long")
    above = sum(value > 12 for value in values)
    range_of_share = rate_sequence(above, n)
    assert range_of_share is not None
    assert (long.n, long.value) == (n, above / n)
    assert (long.low, long.high) == pytest.approx((range_of_share.low, range_of_share.high))

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
            said.append(observation(item, name="grounded", score=score, passed=score > 0.4))
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
    verdicts: Counter[str] = Counter(told("verdict", kind="review"))
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


# --- The three doors, guards and charts ---

TRIGGER = {
    "slug": "wordy",
    "path": "draft",
    "signal": "answer-words",
    "compare": "limit",
    "limit": 20,
    "window_s": 900,
    "min_n": 20,
    "severity": "high",
    "response": {"kind": "recommend", "action": "rollback"},
}


def triggers(*more: dict[str, Any]) -> list[dict[str, Any]]:
    return [*plan_document()["rollout"]["triggers"], *more]


def by_plan() -> None:
    assert applied(planned({**WORDS, "measure": "words"})).status_code == 201


def by_api() -> None:
    response = defined(
        "answer-words", **{k: v for k, v in WORDS.items() if k != "slug"}, measure="words"
    )
    assert response.status_code == 201, response.content
    body = response.json()
    assert (body["own"], body["unit"], body["version"]) == (True, "words", 1)
    assert body["fed_by"] == "“measures.words” of runs: mean"
    assert defined("answer-words", **WORDS, measure="words").status_code == 200


def by_form() -> None:
    client = Client()
    client.force_login(person("owner"))
    url = reverse("web:plan_edit", args=["support-reply", "signals"])
    form = form_of(client.get(url).content.decode(), "plan-form")
    client.post(url, {**form, "do": "add:/workflow/signals"})
    form = form_of(client.get(url).content.decode(), "plan-form")
    row = "/workflow/signals/0"
    typed = {f"{row}/{key}": value for key, value in {**WORDS, "measure": "words"}.items()}
    client.post(url, {**form, **typed, "do": "save"})
    review = reverse("web:plan_edit", args=["support-reply", "review"])
    form = form_of(client.get(review).content.decode(), "plan-form")
    response = client.post(review, {**form, "do": "apply"})
    assert response.status_code == 302, response.content.decode()


@pytest.mark.parametrize("door", [by_plan, by_api, by_form])
def test_a_signal_of_any_door_charts_and_trips_a_guard(door: Callable[[], None]) -> None:
    rollout_at(RolloutState.LIVE)
    door()
    document = yaml_load(plan_text(workflow="support-reply") or "").value
    assert document["workflow"]["signals"] == [{**WORDS, "measure": "words"}]
    told = Client().get("/api/v1/workflows/support-reply/signals", headers=bearer(Scope.READ))
    rows = {row["slug"]: row for row in told.json()["results"]}
    assert rows["answer-words"]["own"]
    assert rows["latency_p95_ms"]["own"] is False
    assert all(row["fed_by"] and row["too_little"] for row in rows.values())

    document["rollout"]["triggers"].append(TRIGGER)
    assert applied(document).status_code == 201
    rollout = Rollout.objects.get()
    reports = Reports()
    reports.runs(*(run_item(measures={"words": 30 + n % 3}) for n in range(60)))
    work()
    guards_watch(now=timezone.now())

    row = next(row for row in verdict_rows([rollout.slug], timezone.now()) if row.guard == "wordy")
    assert (row.verdict, row.n, row.unit, row.value) == ("tripped", 60, "words", 31.0)
    assert row.sentence.startswith("Answer-words was 31 words (")
    assert "above the agreed 20 words." in row.sentence
    alert = Alert.objects.get(guard__slug="wordy")
    assert alert.value == 31.0
    found = series("answer-words")
    assert (found["unit"], found["limit"]) == ("words", 20.0)
    assert [(point["value"], point["n"]) for point in found["points"]] == [(31.0, 60)]
    cells = signal_cells([rollout.slug], timezone.now())[rollout.slug]
    cell = next(cell for cell in cells if cell.signal == "answer-words")
    assert (cell.state, cell.value_text, cell.limit_text) == ("over", "31 words", "≤ 20 words")
    plans = chart_plans(rollout, signals=["answer-words"])
    drawn = charts(rollout, plans, window=WINDOWS["15m"], now=timezone.now())
    assert [step.value for step in drawn[0].rows] == ["31 words"]

    client = Client()
    client.force_login(person("owner"))
    for page in (
        reverse("web:rollout", args=[rollout.slug]),
        reverse("web:alert", args=[alert.pk]),
        reverse("web:signal", args=["support-reply"]) + "?signal=answer-words&split=segment",
        reverse("web:signals") + "?workflow=support-reply",
    ):
        text = client.get(page).content.decode()
        assert "31 words" in text, page


def test_a_cap_on_a_measure_looks_at_its_single_greatest_task() -> None:
    rollout_at(RolloutState.LIVE)
    cap = {**TRIGGER, "slug": "endless", "compare": "hard_cap", "limit": 500}
    del cap["min_n"], cap["window_s"]
    document = planned({**WORDS, "measure": "words"}, triggers=triggers(cap))
    assert applied(document).status_code == 201
    reports = Reports()
    reports.runs(*(run_item(measures={"words": n}) for n in (3, 501, -9000)))
    work()
    guards_watch(now=timezone.now())
    alert = Alert.objects.get(guard__slug="endless")
    assert alert.value == 501
    assert "the most that one task reported was 501 words" in alert.sentence


def test_a_guard_on_a_silent_signal_is_blind() -> None:
    rollout_at(RolloutState.LIVE)
    document = planned({**WORDS, "measure": "words"}, triggers=triggers(TRIGGER))
    assert applied(document).status_code == 201
    reports = Reports()
    reports.runs(*(run_item() for _ in range(40)))
    work()
    later = timezone.now() + timedelta(seconds=1000)
    guards_evaluate(now=later)
    rows = {row.guard: row for row in verdict_rows(["support-reply-2026.11.2"], later)}
    assert (rows["wordy"].verdict, rows["wordy"].value, rows["wordy"].n) == ("blind", None, 0)


# --- Refusals ---


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"slug": "Bad Name"}, "/slug", "does not fit"),
        ({"slug": "error_rate"}, "/slug", "console's own catalogue"),
        ({"kind": "sum"}, "/kind", "is not known"),
        ({"kind": "count"}, "/kind", "Of “measure” only mean or quantile or rate"),
        ({"kind": "quantile"}, "/q", "A quantile needs “q”"),
        ({"kind": "rate", "unit": None}, "/above", "needs “above”"),
        ({"kind": "rate", "above": 3}, "/unit", "leave “unit” out"),
        ({"q": 0.5}, "/q", "Only a quantile"),
        ({"measure": None}, "/measure", "needs one thing that feeds it"),
        ({"evaluation": "tone"}, "/evaluation", "“measure” does already"),
        ({"phrase": "no place"}, "/phrase", "holds {} once"),
        ({"phrase": "{} of {name}"}, "/phrase", "holds {} once"),
        ({"unit": "<b>"}, "/unit", "holds no"),
        ({"worse": "lower"}, "/worse", "has no “worse”"),
        ({"measure": None, "feedback": ["meh"], "kind": "rate"}, "/feedback/0", "is not known"),
        ({"measure": None, "review": [], "kind": "rate"}, "/review", "names at least one"),
        (
            {"measure": None, "review": ["approved", "edited", "rejected"], "kind": "rate"},
            "/review",
            "always 100 %",
        ),
    ],
)
def test_a_definition_that_does_not_fit_is_told_where(
    changes: dict[str, Any], pointer: str, words: str
) -> None:
    rollout_at(RolloutState.LIVE)
    body = {k: v for k, v in {**WORDS, "measure": "words", **changes}.items() if v is not None}
    before = PlanVersion.objects.count()
    slug = body["slug"] if " " not in body["slug"] else "Bad%20Name"
    response = defined(slug, **body)
    assert response.status_code in (400, 422), response.content
    errors = response.json()["errors"]
    told = [error["detail"] for error in errors if error["pointer"] == pointer]
    assert told, errors
    assert words in told[0]
    response = applied(planned(body))
    pointers = {error["pointer"] for error in response.json()["errors"]}
    assert f"/workflow/signals/0{pointer}" in pointers
    assert (PlanVersion.objects.count(), OwnSignal.objects.count()) == (before, 0)


def test_a_guard_on_an_unknown_signal_is_told_the_close_names() -> None:
    rollout_at(RolloutState.LIVE)
    guard = {**TRIGGER, "signal": "answer-word"}
    response = applied(planned({**WORDS, "measure": "words"}, triggers=triggers(guard)))
    assert "did you mean “answer-words”" in response.json()["detail"]


def test_who_may_not_plan_defines_nothing() -> None:
    rollout_at(RolloutState.LIVE)
    url = "/api/v1/workflows/support-reply/signals/answer-words"
    body = json.dumps({**WORDS, "measure": "words"})
    for scope in (Scope.READ, Scope.INGEST, Scope.CONTROL):
        response = Client().put(url, body, content_type="application/json", headers=bearer(scope))
        assert response.status_code in (403, 404), scope
    client = Client()
    client.force_login(person("outsider", Role.VIEWER))
    page = reverse("web:plan_edit", args=["support-reply", "signals"])
    assert client.get(page).status_code == 403
    assert not OwnSignal.objects.exists()


def test_what_guards_read_keeps_its_meaning_and_may_change_its_words() -> None:
    rollout_at(RolloutState.LIVE)
    document = planned({**WORDS, "measure": "words"}, triggers=triggers(TRIGGER))
    assert applied(document).status_code == 201
    guard = Guard.objects.get(slug="wordy", retired_at=None)
    for change in ({"unit": "letters"}, {"better": "higher"}, {"measure": "letters"}):
        response = defined("answer-words", **{**WORDS, "measure": "words", **change})
        assert response.status_code == 409, response.content
        assert "takes a slug of its own" in response.json()["detail"]
        assert response.json()["type"] == "/problems/plan-in-force"
    response = applied(planned(triggers=triggers(TRIGGER)))
    assert response.status_code == 400
    assert "There is no signal “answer-words”" in response.json()["detail"]
    gone = applied(planned())
    assert gone.status_code == 409, gone.content
    assert OwnSignal.objects.get().retired_at is None

    response = defined("answer-words", **WORDS, measure="words", title="Length of answers")
    assert response.status_code == 200, response.content
    guard.refresh_from_db()
    assert guard.retired_at is None
    row = next(r for r in verdict_rows([guard.rollout], timezone.now()) if r.guard == "wordy")
    assert row.title == "Length of answers"
    assert response.json()["version"] == 2
    # Not guarded, so free.
    assert defined("long", kind="rate", better="lower", measure="words", above=3).status_code == 201
    assert defined("long", kind="rate", better="lower", measure="words", above=9).status_code == 200
    text = plan_text(workflow="support-reply") or ""
    assert [row["slug"] for row in yaml_load(text).value["workflow"]["signals"]] == [
        "answer-words",
        "long",
    ]


def test_the_file_keeps_its_comments_when_the_api_adds_a_signal() -> None:
    rollout_at(RolloutState.LIVE)
    text = "# Ours.\n" + yaml_dump(plan_document())
    response = Client().put(
        "/api/v1/plans/support-reply",
        text,
        content_type="application/yaml",
        headers=bearer(Scope.RELEASE),
    )
    assert response.status_code == 201
    by_api()
    kept = plan_text(workflow="support-reply") or ""
    assert kept.startswith("# Ours.\n")
    assert yaml_load(kept).value["workflow"]["signals"][0]["measure"] == "words"
