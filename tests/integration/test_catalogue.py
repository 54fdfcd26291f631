"""Every signal of the catalogue, fed over the public API, read back from series and pages.

What is expected is counted here, from what was sent, by nothing but arithmetic. Time stands still,
so that all of it arrives in one step of a chart and in one window.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

import pytest
import time_machine
from django.test import Client

from approvals.authority.matrix import Scope
from rollout_console.containment.health import signals_check
from rollout_console.exposure.store import store
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.catalogue import SIGNALS
from signals.format import value_text
from signals.guards.models import Guard
from signals.guards.services import guards_evaluate
from tests.factories import rollout_at, token
from tests.labels import Reports, observation, work
from tests.matrix import logged_in
from tests.plans import plan_document
from tests.story import run_item

pytestmark = pytest.mark.django_db

# Within a half hour, so that one step of 1,800 s holds everything.
NOW = datetime.now(UTC).replace(hour=12, minute=10, second=20, microsecond=0)
FROM, TO, STEP_S = NOW.replace(minute=0, second=0), NOW.replace(minute=30, second=0), 1800
# Guards look at what came since then, and a little after it came.
EVIDENCE_S, LATER_S = 600, 7
SLOW_MS = 6000
# A quantile lies within the sketch's error of the value of that rank.
SKETCH = 0.011


@pytest.fixture(autouse=True)
def still() -> Iterator[None]:
    store.stop()
    with time_machine.travel(NOW, tick=False):
        yield
    store.stop()


def live(*, min_n: int) -> Rollout:
    """Return a live rollout, half of its segment exposed, with a criterion for every signal."""
    document = plan_document(
        criteria=[
            {
                "slug": slug.replace("_", "-"),
                "path": "draft",
                "signal": slug,
                "compare": "limit",
                "limit": 0.01
                if signal.better == "higher"
                else 1e6
                if signal.unit != "share"
                else 1,
                "min_n": min_n,
            }
            for slug, signal in SIGNALS.items()
        ]
    )
    document["workflow"]["action_routes"][0]["default"] = "allow"
    document["workflow"]["paths"][0]["limits"]["slow_path_ms"] = SLOW_MS
    first = document["rollout"]["stages"][0]
    first["segments"] = [{"segment": "internal-ops", "share": 0.5}]
    rollout = rollout_at(RolloutState.LIVE, document=document)
    Guard.objects.update(evidence_from=NOW - timedelta(seconds=EVIDENCE_S))
    signals_check(now=NOW - timedelta(seconds=300))
    return rollout


class Story:
    """Four hundred tasks of both arms, what is said of them, and actions, kept for counting."""

    def __init__(self, tasks: int = 400, actions: int = 60) -> None:
        self.rng = random.Random(23)
        self.reports = Reports()
        self.runs = [self._run(place) for place in range(tasks)]
        self.labels = [label for run in self.runs for label in self._labels(run)]
        self.batch = self.reports.runs(*self.runs)
        self.reports.observations(*self.labels)
        self.actions = [found for place in range(actions) if (found := self._action(place))]
        work()
        signals_check(now=NOW)

    def _run(self, place: int) -> dict[str, Any]:
        rng = self.rng
        candidate = rng.random() < 0.5
        mode = rng.choices(["normal", "human_review", "simpler_route"], [80, 10, 10])[0]
        says: dict[str, Any] = {
            "quality": {"passed": rng.random() < 0.9, "score": round(rng.random(), 3)},
            "retrieved": rng.choice([0, 1, 2, 5]),
            "retrieval_score": round(rng.random(), 3),
            "confidence": round(rng.random(), 3),
            "input_tokens": rng.randrange(100, 9000),
            "output_tokens": rng.randrange(10, 900),
            "retries": rng.choice([0, 0, 0, 1, 3]),
            "latency_ms": round(rng.choice([rng.uniform(300, 4000), rng.uniform(9000, 60_000)])),
            "cost_usd": round(rng.uniform(0.01, 0.2), 4),
        }
        # Not every workflow reports everything.
        told = {name: value for name, value in says.items() if rng.random() < 0.9}
        return run_item(
            **{
                "latency_ms": None,
                "cost_usd": None,
                "quality": None,
                **told,
                "occurred_at": (NOW - timedelta(milliseconds=1 + 50 * place)).isoformat(),
                "arm": "candidate" if candidate else "stable",
                "release": "2026.11.2" if candidate else "2026.10.4",
                "mode": mode if candidate else "normal",
                "subject": f"{'c' if candidate else 's'}{rng.randrange(150)}",
                "outcome": rng.choices(["ok", "error", "fallback", "escalated"], [80, 8, 6, 6])[0],
                "critical": rng.random() < 0.05,
                "failure_category": rng.choice(["loop", "loop", "misread", *[None] * 9]),
                "review_requested": rng.random() < 0.2,
            }
        )

    def _labels(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        labels = []
        if run["quality"] is None and not run["review_requested"] and self.rng.random() < 0.5:
            labels.append(observation(run, passed=self.rng.random() < 0.5))
        if run["review_requested"] and self.rng.random() < 0.6:
            verdict = self.rng.choice(["approved", "edited", "rejected"])
            labels.append(observation(run, "review", verdict=verdict))
        if self.rng.random() < 0.3:
            value = self.rng.choice(["up", "up", "down", "complaint"])
            labels.append(observation(run, "feedback", value=value))
        return labels

    def _action(self, place: int) -> str | None:
        """Ask for an action and report its end; return it for the candidate's people."""
        context = {"team": "internal", "targetingKey": f"u{place}"}
        evaluate, _ = token(Scope.EVALUATE)
        store.refresh()
        answer = self.reports.caller.send(
            "POST",
            "/ofrep/v1/evaluate/flags/support-reply.draft",
            body={"context": context},
            token=evaluate,
        )
        act, _ = token(Scope.ACT)
        asked = {
            "id": f"a-{place}",
            "workflow": "support-reply",
            "path": "draft",
            "action": "send_message",
            "target": f"case {place}",
            "summary": "answer",
            "context": context,
        }
        assert post(act, "/api/v1/action-requests", asked)["decision"] == "allow"
        ended = self.rng.choice(["done", "done", "failed", "undone"])
        for status in ["done", "undone"] if ended == "undone" else [ended]:
            post(act, f"/api/v1/action-requests/a-{place}/result", {"status": status})
        return ended if json.loads(answer)["value"]["arm"] == "candidate" else None

    # --- What was sent, parted as the catalogue does ---

    @property
    def mine(self) -> list[dict[str, Any]]:
        return [run for run in self.runs if run["arm"] == "candidate"]

    @property
    def normal(self) -> list[dict[str, Any]]:
        return [run for run in self.mine if run["mode"] == "normal"]

    @property
    def moved(self) -> list[dict[str, Any]]:
        return [run for run in self.mine if run["mode"] != "normal"]

    def told(self, name: str, runs: list[dict[str, Any]] | None = None) -> list[Any]:
        found = self.normal if runs is None else runs
        return [run[name] for run in found if run.get(name) is not None]

    def said(self, kind: str) -> dict[str, dict[str, Any]]:
        ids = {run["id"] for run in self.mine}
        return {
            label["run_id"]: label
            for label in self.labels
            if label["kind"] == kind and label["run_id"] in ids
        }

    def passed(self) -> list[bool]:
        # A reviewer's word is a label too, where there is no other.
        verdicts = self.said("review")
        reviewed = {
            id: {"passed": each["verdict"] == "approved"}
            for id, each in verdicts.items()
            if each["verdict"] != "edited"
        }
        later = {**reviewed, **self.said("evaluation")}
        found = []
        for run in self.normal:
            if run["quality"] is not None:
                found.append(run["quality"]["passed"])
            elif run["id"] in later:
                found.append(later[run["id"]]["passed"])
        return found

    def waiting(self) -> list[dict[str, Any]]:
        reviewed = self.said("review")
        return [run for run in self.mine if run["review_requested"] and run["id"] not in reviewed]

    def people(self) -> tuple[int, int]:
        names = {run["subject"] for run in self.runs}
        return sum(name.startswith("c") for name in names), len(names)


class Expected:
    """A value in the signal's unit and what it is counted from.

    `page` is the value where a page's window makes another one of the same data; `off` is the
    relative error that the contract allows.
    """

    def __init__(
        self, value: float, n: int, *, page: float | None = None, off: float = 1e-9
    ) -> None:
        self.value, self.n, self.off = value, n, off
        self.page = value if page is None else page


def rate(part: int, n: int) -> Expected:
    return Expected(part / n, n)


def mean(values: list[float]) -> Expected:
    return Expected(sum(values) / len(values), len(values))


def quantile(values: list[float], q: float) -> Expected:
    ranked = sorted(values)
    return Expected(ranked[ceil(q * len(ranked)) - 1], len(ranked), off=SKETCH)


def hourly(total: float, n: int) -> Expected:
    return Expected(total * 3600 / STEP_S, n, page=total * 3600 / EVIDENCE_S)


def share_with(runs: list[dict[str, Any]], outcome: str) -> Expected:
    return rate(sum(run["outcome"] == outcome for run in runs), len(runs))


def commonest(story: Story) -> Expected:
    failed = Counter(story.told("failure_category", story.mine))
    return Expected(failed.most_common(1)[0][1], len(story.mine))


def oldest_review(story: Story) -> Expected:
    asked = min(datetime.fromisoformat(run["occurred_at"]) for run in story.waiting())
    later = NOW + timedelta(seconds=LATER_S)
    return Expected(
        (TO - asked).total_seconds(), len(story.waiting()), page=(later - asked).total_seconds()
    )


def data_age(story: Story) -> Expected:
    received = datetime.fromisoformat(story.reports.batch(story.batch)["received_at"])
    later = NOW + timedelta(seconds=LATER_S)
    return Expected(
        (TO - received).total_seconds(), len(story.normal), page=(later - received).total_seconds()
    )


def mismatch(story: Story) -> Expected:
    exposed, n = story.people()
    return Expected(abs(exposed / n - 0.5), n)


def negative(story: Story) -> Expected:
    found = story.said("feedback").values()
    return rate(sum(label["value"] in ("down", "complaint") for label in found), len(story.mine))


CASES: dict[str, Callable[[Story], Expected]] = {
    "quality_pass_rate": lambda s: rate(sum(s.passed()), len(s.passed())),
    "quality_score": lambda s: mean([q["score"] for q in s.told("quality")]),
    "critical_failures": lambda s: Expected(sum(s.told("critical", s.mine)), len(s.mine)),
    "retrieval_empty_rate": lambda s: rate(s.told("retrieved").count(0), len(s.told("retrieved"))),
    "retrieval_score": lambda s: mean(s.told("retrieval_score")),
    "latency_p50_ms": lambda s: quantile(s.told("latency_ms"), 0.5),
    "latency_p95_ms": lambda s: quantile(s.told("latency_ms"), 0.95),
    "latency_p99_ms": lambda s: quantile(s.told("latency_ms"), 0.99),
    "slow_path_rate": lambda s: rate(
        sum(ms > SLOW_MS for ms in s.told("latency_ms")), len(s.told("latency_ms"))
    ),
    "cost_per_task_usd": lambda s: mean(s.told("cost_usd")),
    "spend_usd_per_hour": lambda s: hourly(sum(s.told("cost_usd")), len(s.told("cost_usd"))),
    "input_tokens_per_task": lambda s: mean(s.told("input_tokens")),
    "output_tokens_per_task": lambda s: mean(s.told("output_tokens")),
    "retry_rate": lambda s: mean(s.told("retries")),
    "error_rate": lambda s: share_with(s.normal, "error"),
    "fallback_rate": lambda s: rate(
        sum(run["mode"] != "normal" or run["outcome"] == "fallback" for run in s.mine), len(s.mine)
    ),
    "fallback_cost_per_task_usd": lambda s: mean(s.told("cost_usd", s.moved)),
    "escalation_rate": lambda s: share_with(s.mine, "escalated"),
    "review_arrivals_per_hour": lambda s: hourly(
        sum(run["review_requested"] for run in s.mine), len(s.mine)
    ),
    "review_backlog": lambda s: Expected(len(s.waiting()), len(s.waiting())),
    "review_age_s": oldest_review,
    "review_reject_rate": lambda s: rate(
        sum(label["verdict"] == "rejected" for label in s.said("review").values()),
        len(s.said("review")),
    ),
    "trust_negative_rate": negative,
    "repeated_failures": commonest,
    "confidence_mean": lambda s: mean(s.told("confidence")),
    "action_undo_rate": lambda s: rate(
        s.actions.count("undone"), s.actions.count("undone") + s.actions.count("done")
    ),
    "action_failure_rate": lambda s: rate(s.actions.count("failed"), len(s.actions)),
    "data_age_s": data_age,
    "label_missing_rate": lambda s: rate(len(s.normal) - len(s.passed()), len(s.normal)),
    "assignment_mismatch": mismatch,
}


def post(secret: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
    response = Client().post(
        url, body, content_type="application/json", headers={"Authorization": f"Bearer {secret}"}
    )
    assert response.status_code == 200, response.content
    found: dict[str, Any] = json.loads(response.content)
    return found


def read(secret: str, url: str, **asked: Any) -> dict[str, Any]:
    response = Client().get(url, asked, headers={"Authorization": f"Bearer {secret}"})
    assert response.status_code == 200, response.content
    found: dict[str, Any] = json.loads(response.content)
    return found


def test_every_signal_has_a_case() -> None:
    assert set(CASES) == set(SIGNALS)


def test_the_series_of_every_signal_is_what_was_sent() -> None:
    live(min_n=20)
    story = Story()
    secret, _ = token(Scope.READ)

    for slug, count in CASES.items():
        expected = count(story)
        found = read(
            secret,
            "/api/v1/signals/series",
            workflow="support-reply",
            path="draft",
            signal=slug,
            **{"from": FROM.isoformat(), "to": TO.isoformat(), "step": STEP_S},
        )
        (point,) = found["points"]
        assert point["n"] == expected.n, slug
        assert point["value"] == pytest.approx(expected.value, rel=expected.off, abs=1e-9), slug
        if point["low"] is not None and point["high"] is not None:
            assert point["low"] - 1e-9 <= point["value"] <= point["high"] + 1e-9, slug
        assert expected.n > 10, f"{slug}: the story says too little"


def test_the_cockpit_shows_every_signal_as_it_was_sent() -> None:
    rollout = live(min_n=20)
    story = Story()
    with time_machine.travel(NOW + timedelta(seconds=LATER_S), tick=False):
        guards_evaluate(now=NOW + timedelta(seconds=LATER_S))
        page = logged_in("owner").get(f"/rollouts/{rollout.slug}/").content.decode()
        secret, _ = token(Scope.READ)
        verdicts = {
            row["guard"].replace("-", "_"): row
            for row in read(secret, f"/api/v1/rollouts/{rollout.slug}/verdicts")["results"]
        }

    for slug, count in CASES.items():
        expected, verdict = count(story), verdicts[slug]
        assert verdict["value"] == pytest.approx(expected.page, rel=expected.off, abs=1e-9), slug
        assert verdict["verdict"] in {"holding", "undecided"}, verdict["sentence"]
        cell = re.search(rf'data-signal="{slug}" data-path="draft".*?class="bul"', page, re.S)
        assert cell is not None, slug
        # Of a quantile the page shows what the API says, which is within the sketch's error.
        told = verdict["value"] if expected.off == SKETCH else expected.page
        assert f"<b>{value_text(SIGNALS[slug], told)}</b>" in cell[0], (slug, cell[0])


def test_a_signal_with_too_little_data_says_so_and_never_holds() -> None:
    rollout = live(min_n=400)
    Story(tasks=12, actions=6)
    guards_evaluate(now=NOW)
    secret, _ = token(Scope.READ)
    (told,) = read(secret, "/api/v1/overview")["rollouts"]
    states = {cell["signal"]: cell["state"] for cell in told["signals"]}
    verdicts = {
        row["guard"].replace("-", "_"): row
        for row in read(secret, f"/api/v1/rollouts/{rollout.slug}/verdicts")["results"]
    }

    for slug, signal in SIGNALS.items():
        said = verdicts[slug]
        assert states[slug] == "too_few", slug
        if signal.source == "age":
            # How old the newest task is, one task tells.
            assert said["verdict"] == "holding"
            continue
        assert said["verdict"] == "undecided", (slug, said["sentence"])
        if signal.kind in {"rate", "mean", "quantile"} and said["n"] == 0:
            assert "no task has reported it yet" in said["sentence"], said["sentence"]
        elif signal.kind in {"rate", "mean", "quantile"}:
            assert f"of 400 {signal.counted} needed" in said["sentence"], said["sentence"]
        else:
            assert re.search(r"needs about \d+ more tasks", said["sentence"]), said["sentence"]


def test_a_signal_without_any_data_never_holds() -> None:
    rollout = live(min_n=20)
    guards_evaluate(now=NOW)
    secret, _ = token(Scope.READ)

    for row in read(secret, f"/api/v1/rollouts/{rollout.slug}/verdicts")["results"]:
        open_words = {"criterion": "undecided", "trigger": "watching"}
        assert row["verdict"] in {open_words[row["kind"]], "blind"}, row["sentence"]
    for slug in SIGNALS:
        found = read(
            secret,
            "/api/v1/signals/series",
            workflow="support-reply",
            path="draft",
            signal=slug,
            **{"from": FROM.isoformat(), "to": TO.isoformat(), "step": STEP_S},
        )
        assert found["points"] == [], slug
