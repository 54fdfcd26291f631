"""Every signal that labels feed: reported over the API, read back from verdicts and series."""

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.catalog.models import Sensitivity, WorkflowPath
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.selectors.charts import WINDOWS, chart_plans, charts
from signals.guards.models import Guard
from signals.guards.selectors import VerdictRow, verdict_rows
from signals.guards.services import guards_define, guards_look
from signals.stats.sequences import mean_sequence, rate_sequence
from tests.factories import rollout_at, token
from tests.labels import Reports, observation, work
from tests.ledger import over
from tests.plans import plan_document
from tests.story import run_item

pytestmark = pytest.mark.django_db

N = 400

# Requirement D1's six, by limit.
SIX = {
    "quality-holds": {"signal": "quality_pass_rate", "limit": 0.8},
    "no-critical": {"signal": "critical_failures", "limit": 0},
    "latency-acceptable": {"signal": "latency_p95_ms", "limit": 6000},
    "cost-inside": {"signal": "cost_per_task_usd", "limit": 0.085},
    "review-backlog": {"signal": "review_backlog", "limit": 60},
    "no-repeats": {"signal": "repeated_failures", "limit": 20},
}
MORE = {
    "age": {"signal": "review_age_s", "limit": 3600},
    "rejections": {"signal": "review_reject_rate", "limit": 0.5},
    "trust": {"signal": "trust_negative_rate", "limit": 0.2},
    "fallback": {"signal": "fallback_rate", "limit": 0.5},
    "escalation": {"signal": "escalation_rate", "limit": 0.5},
    "fallback-cost": {"signal": "fallback_cost_per_task_usd", "limit": 0.4},
    "labels": {"signal": "label_missing_rate", "limit": 0.9},
}


def criteria(**given: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"slug": slug, "path": "draft", "compare": "limit", "min_n": 20, **fields}
        for slug, fields in given.items()
    ]


def triggers(**given: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"severity": "high", "window_s": 900, "response": {"kind": "alert"}, **fields}
        for fields in criteria(**given)
    ]


def verdicts(rollout: Rollout, now: datetime | None = None) -> dict[str, VerdictRow]:
    at = now or over(timezone.now())
    guards_look(now=at, reread=True)
    return {row.guard: row for row in verdict_rows([rollout.slug], at)}


def series(reports: Reports, signal: str, **asked: Any) -> dict[str, Any]:
    """Ask for a signal over the API, as a person's or a pipeline's token does."""
    secret, _ = token(Scope.READ)
    response = Client().get(
        "/api/v1/signals/series",
        {"workflow": "support-reply", "path": "draft", "signal": signal, **asked},
        headers={"Authorization": f"Bearer {secret}"},
    )
    assert response.status_code == 200, response.content
    found: dict[str, Any] = json.loads(response.content)
    return found


class Story:
    """Four hundred tasks of the candidate with all that is said of them, kept for recounting."""

    def __init__(self, reports: Reports, *, ago_s: float = 120) -> None:
        self.rng = random.Random(11)
        self.began = datetime.now(UTC) - timedelta(seconds=ago_s)
        self.runs = [self._run(place) for place in range(N)]
        self.labels = [label for run in self.runs for label in self._labels(run)]
        # Some come before their run, some after, some twice.
        early, late = self.labels[::5], [x for i, x in enumerate(self.labels) if i % 5]
        self.rng.shuffle(late)
        reports.observations(*early)
        work()
        reports.runs(*self.runs)
        reports.observations(*late, *early[:30])
        work()

    def _run(self, place: int) -> dict[str, Any]:
        mode = self.rng.choices(
            ["normal", "human_review", "simpler_route", "manual"], [70, 15, 10, 5]
        )[0]
        outcome = {"normal": "ok", "human_review": "escalated"}.get(mode, "fallback")
        return run_item(
            occurred_at=(self.began + timedelta(milliseconds=place)).isoformat(),
            mode=mode,
            arm="candidate",
            release=None if mode == "manual" else "2026.11.2",
            outcome=outcome,
            cost_usd=round(self.rng.uniform(0.01, 0.05), 4),
            quality={"passed": self.rng.random() < 0.9} if self.rng.random() < 0.3 else None,
            review_requested=mode == "human_review",
            failure_category=self.rng.choice(["loop", "loop", "misread", None, *[None] * 30]),
        )

    def _labels(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        labels = []
        if self.rng.random() < 0.5:
            labels.append(observation(run, passed=self.rng.random() < 0.9))
        if run["review_requested"] and self.rng.random() < 0.6:
            verdict = self.rng.choices(["approved", "edited", "rejected"], [6, 2, 2])[0]
            labels.append(observation(run, "review", verdict=verdict))
        if self.rng.random() < 0.3:
            value = self.rng.choices(["up", "down", "complaint", "rerun"], [6, 2, 1, 1])[0]
            labels.append(observation(run, "feedback", value=value))
        if self.rng.random() < 0.02:
            labels.append(observation(run, "outcome", failure_category="loop"))
        return labels

    def said(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        return [
            label
            for label in self.labels
            if label["kind"] == kind and all(label.get(k) == v for k, v in fields.items())
        ]

    def normal(self) -> list[dict[str, Any]]:
        return [run for run in self.runs if run["mode"] == "normal"]

    def quality(self) -> list[bool]:
        passed = {label["run_id"]: label["passed"] for label in self.said("evaluation")}
        words = [
            run["quality"]["passed"] if run["quality"] else passed.get(run["id"])
            for run in self.normal()
        ]
        return [word for word in words if word is not None]

    def commonest(self) -> tuple[str, int]:
        of_release = [run for run in self.runs if run["release"]]
        failed = {(run["id"], run["failure_category"]) for run in of_release}
        ids = {run["id"] for run in of_release}
        for label in self.said("outcome"):
            if label["run_id"] in ids:
                failed.add((label["run_id"], label["failure_category"]))
        return Counter(category for _, category in failed if category).most_common(1)[0]

    def open(self) -> list[dict[str, Any]]:
        reviewed = {label["run_id"] for label in self.said("review")}
        return [run for run in self.runs if run["review_requested"] and run["id"] not in reviewed]

    def negative(self) -> int:
        return sum(label["value"] in ("down", "complaint") for label in self.said("feedback"))


@pytest.fixture
def live() -> Rollout:
    rollout = rollout_at(RolloutState.LIVE, criteria=criteria(**SIX, **MORE))
    Guard.objects.update(evidence_from=timezone.now() - timedelta(minutes=10))
    return rollout


@pytest.fixture
def reports(live: Rollout) -> Reports:
    return Reports()


def test_verdicts_equal_an_independent_count(live: Rollout, reports: Reports) -> None:
    story = Story(reports)
    now = timezone.now()

    found = verdicts(live, now)

    quality = story.quality()
    expect_rate(found["quality-holds"], sum(quality), len(quality))
    rejected = len(story.said("review", verdict="rejected"))
    expect_rate(found["rejections"], rejected, len(story.said("review")))
    expect_rate(found["trust"], story.negative(), N)
    expect_rate(found["fallback"], N - len(story.normal()), N)
    escalated = sum(run["outcome"] == "escalated" for run in story.runs)
    expect_rate(found["escalation"], escalated, N)
    normal = len(story.normal())
    expect_rate(found["labels"], normal - len(quality), normal)
    costs = [run["cost_usd"] for run in story.runs if run["mode"] != "normal"]
    dear = found["fallback-cost"]
    assert dear.n == len(costs)
    assert dear.value == pytest.approx(sum(costs) / len(costs))
    between = mean_sequence(len(costs), sum(costs), sum(cost * cost for cost in costs))
    assert between is not None
    assert dear.low == pytest.approx(between.low)
    assert dear.high == pytest.approx(between.high)
    assert found["review-backlog"].value == len(story.open())
    oldest = min(datetime.fromisoformat(run["occurred_at"]) for run in story.open())
    assert found["age"].value == pytest.approx((now - oldest).total_seconds())
    category, times = story.commonest()
    assert found["no-repeats"].value == times
    assert f"came {times} times: {category} (" in found["no-repeats"].sentence
    assert found["no-critical"].value == 0


def expect_rate(row: VerdictRow, part: int, n: int) -> None:
    interval = rate_sequence(part, n)
    assert interval is not None
    assert row.n == n, row.sentence
    assert row.value == pytest.approx(part / n), row.sentence
    assert row.low == pytest.approx(interval.low)
    assert row.high == pytest.approx(interval.high)


def test_series_equal_an_independent_count(live: Rollout, reports: Reports) -> None:
    story = Story(reports)
    span = {
        "from": (story.began - timedelta(minutes=5)).isoformat(),
        "to": (datetime.now(UTC) + timedelta(seconds=1)).isoformat(),
        "step": 3600,
    }

    def found(signal: str) -> tuple[float, int]:
        points = series(reports, signal, **span)["points"]
        weights = sum(point["n"] for point in points)
        return sum(p["value"] * p["n"] for p in points) / weights, weights

    quality, reviews = story.quality(), story.said("review")
    rejected = len(story.said("review", verdict="rejected"))
    normal = len(story.normal())
    costs = [run["cost_usd"] for run in story.runs if run["mode"] != "normal"]
    for signal, part, n in (
        ("quality_pass_rate", sum(quality), len(quality)),
        ("review_reject_rate", rejected, len(reviews)),
        ("trust_negative_rate", story.negative(), N),
        ("fallback_rate", N - normal, N),
        ("escalation_rate", sum(run["outcome"] == "escalated" for run in story.runs), N),
        ("label_missing_rate", normal - len(quality), normal),
        ("fallback_cost_per_task_usd", sum(costs), len(costs)),
    ):
        value, weight = found(signal)
        assert weight == n, signal
        assert value == pytest.approx(part / n), signal
    backlog = series(reports, "review_backlog", **span)["points"]
    assert backlog[-1]["value"] == len(story.open())
    assert series(reports, "review_age_s", **span)["points"][-1]["value"] > 100
    repeated = series(reports, "repeated_failures", **span)["points"]
    # The manual path's failures are those of no release, and stand in the chart all the same.
    assert sum(point["value"] for point in repeated) >= story.commonest()[1]


def test_a_chart_of_shares_stands_in_the_tasks_own_minutes(live: Rollout, reports: Reports) -> None:
    minute = (datetime.now(UTC) - timedelta(minutes=9)).replace(second=10, microsecond=0)
    runs = [run_item(occurred_at=minute.isoformat(), quality=None) for _ in range(8)]
    runs += [
        run_item(occurred_at=(minute + timedelta(minutes=3)).isoformat(), quality=None)
        for _ in range(4)
    ]
    reports.runs(*runs)
    work()
    reports.observations(
        *(observation(run, "feedback", value="undo") for run in (*runs[:2], *runs[8:11])),
        *(observation(run) for run in runs[:6]),
    )
    work()
    span = {"from": (minute - timedelta(minutes=1)).isoformat(), "step": 5}

    trust = series(reports, "trust_negative_rate", **span)
    missing = series(reports, "label_missing_rate", **span)

    assert trust["step_s"] == 60
    assert [(point["value"], point["n"]) for point in trust["points"]] == [(0.25, 8), (0.75, 4)]
    assert [(point["value"], point["n"]) for point in missing["points"]] == [(0.25, 8), (1.0, 4)]


def test_a_backlog_is_drawn_as_it_rose_and_fell(live: Rollout, reports: Reports) -> None:
    now = datetime.now(UTC)
    runs = [
        run_item(occurred_at=(now - timedelta(minutes=minutes)).isoformat(), review_requested=True)
        for minutes in (9, 8, 7)
    ]
    reports.runs(*runs)
    for run, minutes in ((runs[0], 5), (runs[1], 2)):
        said = observation(run, "review", verdict="approved")
        reports.observations(
            {**said, "occurred_at": (now - timedelta(minutes=minutes)).isoformat()}
        )
    work()
    start = now - timedelta(minutes=10)

    points = series(
        reports, "review_backlog", **{"from": start.isoformat(), "to": now.isoformat(), "step": 30}
    )["points"]

    found = {datetime.fromisoformat(point["t"]): point["value"] for point in points}
    rose_and_fell = [value for _, value in sorted(found.items())]
    steps = [
        value
        for place, value in enumerate(rose_and_fell)
        if place == 0 or value != rose_and_fell[place - 1]
    ]
    assert steps == [0, 1, 2, 3, 2, 1]


# --- The six criteria of requirement D1 ---


def test_the_six_hold_when_all_is_well(live: Rollout, reports: Reports) -> None:
    reports.runs(*(run_item() for _ in range(320)))
    work()

    found = verdicts(live)

    assert {slug: found[slug].verdict for slug in SIX} == dict.fromkeys(SIX, "holding")


def test_few_tasks_leave_them_undecided_and_say_what_they_need(
    live: Rollout, reports: Reports
) -> None:
    reports.runs(*(run_item() for _ in range(12)))
    work()
    found = verdicts(live)
    assert {slug: found[slug].verdict for slug in SIX} == dict.fromkeys(SIX, "undecided")
    assert {slug: found[slug].needs_runs for slug in SIX} == {
        **dict.fromkeys(SIX, 8),
        "no-critical": 288,
        "no-repeats": 288,
    }

    reports.runs(*(run_item() for _ in range(26)))
    work()
    critical = verdicts(live, timezone.now() + timedelta(seconds=10))["no-critical"]
    assert (critical.verdict, critical.value, critical.n) == ("undecided", 0, 38)
    assert critical.needs_runs == 262
    assert critical.sentence.endswith("needs about 262 more tasks.")


def test_silence_makes_them_blind(live: Rollout) -> None:
    found = verdicts(live, timezone.now() + timedelta(hours=2))
    assert {slug: found[slug].verdict for slug in SIX} == dict.fromkeys(SIX, "blind")


def test_they_fail_on_what_labels_say(live: Rollout, reports: Reports) -> None:
    runs = [
        run_item(quality=None, review_requested=True, latency_ms=9000, cost_usd=0.5)
        for _ in range(100)
    ]
    reports.runs(*runs)
    reports.observations(
        *(observation(run, passed=False) for run in runs),
        *(observation(run, "outcome", failure_category="loop") for run in runs[:21]),
        observation(runs[0], "outcome", critical=True),
        *(observation(run, "review", verdict="rejected") for run in runs[:39]),
    )
    work()

    found = verdicts(live)

    assert {slug: found[slug].verdict for slug in SIX} == dict.fromkeys(SIX, "failing")
    assert found["review-backlog"].value == 61
    assert found["review-backlog"].sentence.startswith("61 reviews wait (now, 100 tasks ")
    assert found["no-repeats"].sentence.startswith("The same failure came 21 times: loop (")


def test_what_waits_goes_on_waiting_in_silence(live: Rollout, reports: Reports) -> None:
    reports.runs(*(run_item(review_requested=True) for _ in range(30)))
    work()
    found = verdicts(live)
    assert (found["age"].verdict, found["review-backlog"].verdict) == ("holding", "holding")

    later = verdicts(live, timezone.now() + timedelta(hours=2))

    assert later["age"].verdict == "failing"
    assert later["age"].value == pytest.approx(7200, abs=60)
    # Nothing says that reviews are still reported, so a small backlog is no good news.
    assert later["review-backlog"].verdict == "blind"


# --- Critical failures ---


@pytest.mark.parametrize("by", ["run", "observation"])
def test_one_critical_failure_is_a_cap_on_a_sensitive_path(by: str) -> None:
    rollout = rollout_at(
        RolloutState.LIVE,
        triggers=[
            *plan_document()["rollout"]["triggers"],
            *triggers(critical={"signal": "critical_failures", "limit": 5}),
        ],
    )
    WorkflowPath.objects.update(sensitivity=Sensitivity.SENSITIVE)
    reports = Reports()
    runs = [run_item() for _ in range(5)]
    reports.runs(*runs)
    work()
    quiet = verdicts(rollout)["critical"]
    assert (quiet.verdict, quiet.reference) == ("quiet", 0.0)

    if by == "run":
        reports.runs(run_item(critical=True, risk="high"))
    else:
        reports.observations(observation(runs[0], "outcome", critical=True))
    work()

    tripped = verdicts(rollout)["critical"]
    assert (tripped.verdict, tripped.value) == ("tripped", 1)
    assert tripped.sentence.endswith("above the cap of 0.")


def test_a_sensitive_path_has_that_cap_though_its_plan_names_none() -> None:
    rollout = rollout_at(RolloutState.DRAFT, workflow="claims-intake")
    assert not Guard.objects.filter(signal="critical_failures").exists()
    document = plan_document("claims-intake")
    path = WorkflowPath.objects.get(workflow=rollout.workflow)
    path.sensitivity = Sensitivity.SENSITIVE
    path.save()
    define: dict[str, Any] = {
        "workflow": rollout.workflow,
        "rollout_slug": rollout.slug,
        "candidate": rollout.candidate,
        "paths": [path],
        "now": timezone.now(),
    }
    guards_define(document=document, **define)
    guards_define(document=document, **define)

    [guard] = Guard.objects.filter(signal="critical_failures")
    assert (guard.slug, guard.compare, guard.limit) == ("critical-draft", "hard_cap", 0)
    assert (guard.kind, guard.severity) == ("trigger", "critical")
    current = Guard.objects.filter(signal="critical_failures", retired_at=None).order_by("pk")
    mine = {"signal": "critical_failures", "limit": 0}
    answer = {"kind": "recommend", "action": "rollback"}
    for kept, fields in (
        # Neither a trigger that only tells nor one of a segment stands in its place.
        (["critical-draft", "mine"], {}),
        (["critical-draft", "mine"], {"segment": "internal-ops", "response": answer}),
        (["mine"], {"response": answer}),
    ):
        document["rollout"]["triggers"] = triggers(mine={**mine, **fields})
        guards_define(document=document, **define)
        assert [each.slug for each in current.all()] == kept


def test_on_a_normal_path_the_plans_limit_holds(live: Rollout, reports: Reports) -> None:
    Guard.objects.filter(slug="no-critical").update(limit=1)
    reports.runs(*(run_item(critical=place == 0) for place in range(310)))
    work()
    assert verdicts(live)["no-critical"].verdict == "holding"


def test_a_critical_failure_told_after_the_last_task_is_seen(
    live: Rollout, reports: Reports
) -> None:
    run = run_item()
    reports.runs(run)
    work()
    start = timezone.now()
    Guard.objects.update(evidence_from=start)
    reports.observations(observation(run, "outcome", critical=True))
    work()

    found = verdicts(live)["no-critical"]

    assert (found.verdict, found.value, found.n) == ("failing", 1, 0)


def test_a_stable_runs_label_is_not_the_candidates(live: Rollout, reports: Reports) -> None:
    mine = [run_item(quality=None) for _ in range(30)]
    theirs = [run_item(quality=None, release="2026.10.4", arm="stable") for _ in range(30)]
    reports.runs(*mine, *theirs)
    reports.observations(
        *(observation(run, passed=True) for run in mine),
        *(observation(run, passed=False) for run in theirs),
        observation(theirs[0], "outcome", critical=True),
        observation(theirs[0], "feedback", value="down"),
        observation(theirs[0], "review", verdict="rejected"),
    )
    work()

    found = verdicts(live)

    assert (found["quality-holds"].value, found["quality-holds"].n) == (1.0, 30)
    assert (found["trust"].value, found["no-critical"].value) == (0.0, 0.0)
    assert found["rejections"].n == 0


def test_charts_draw_what_labels_feed(live: Rollout, reports: Reports) -> None:
    Story(reports, ago_s=1)
    signals = [fields["signal"] for fields in MORE.values()]
    drawn: dict[str, int] = {}
    for start in range(0, len(signals), 4):
        plans = chart_plans(live, signals=[str(name) for name in signals[start : start + 4]])
        for chart in charts(live, plans, window=WINDOWS["15m"], now=timezone.now()):
            drawn[chart.signal] = len(chart.rows)
    assert set(drawn) == set(signals)
    assert all(drawn.values()), drawn
