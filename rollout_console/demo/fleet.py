"""The demo fleet: AI workflows built on unmodified OpenFeature clients that ask over OFREP.

Each workflow has a few instances. An instance asks for the decision of every task, handles the
task by what it was answered, and reports the run. It is told nothing else: after a roll-back it
serves stable because that is what OFREP answers.
"""

import random
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Any, Final

import structlog
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagEvaluationDetails

from rollout_console.demo.labels import labels_drawn
from rollout_console.demo.reporter import Reporter
from rollout_console.demo.scenarios import (
    SCENARIOS,
    DemoPath,
    Scenario,
    Timing,
    behaviour,
    task_outcome,
)

log = structlog.get_logger(__name__)

INSTANCES: Final = 2
# How many of a workflow's tasks come from the exposed team, and from how many people.
INTERNAL_SHARE: Final = 0.4
PEOPLE: Final = {"internal": 120, "customer": 900}
# After a failed question an instance goes on with what it was last told for this long.
ASK_AGAIN_S: Final = 1.0
REMEMBERED: Final = 2_000
# What the SDK hands back when it could not ask.
NO_ANSWER: Final[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Where the fleet's console is and what it plays.

    Rates are multiplied by `speed`. `timings` name the scenarios that are played; the other
    workflows stay healthy.
    """

    url: str
    token: str
    workflows: frozenset[str]
    timings: dict[str, Timing]
    speed: float = 1.0
    report_every_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """One decision as OpenFeature handed it over."""

    value: dict[str, Any]
    exposure_version: int | None


class Instance:
    """One process of a workflow, as it would be in production: an SDK, a provider, a memory."""

    def __init__(self, *, scenario: Scenario, name: str, settings: FleetSettings) -> None:
        self.scenario = scenario
        self.name = name
        self._rng = random.Random()  # noqa: S311  # draws a demo's outcomes, no secrets
        headers = {"Authorization": f"Bearer {settings.token}", "Rollout-Client": name}
        provider = OFREPProvider(settings.url, headers_factory=lambda: headers, timeout=2.0)
        api.set_provider_and_wait(provider, domain=name)
        self._client = api.get_client(domain=name)
        self._later: list[tuple[float, str, dict[str, Any]]] = []
        self._told: OrderedDict[tuple[str, str], Answer] = OrderedDict()
        self._ask_from = 0.0

    def task(self, *, now: datetime, elapsed_s: float, timing: Timing | None) -> dict[str, Any]:
        """Handle one task and return its run, or nothing when no decision is known yet."""
        path = self._rng.choices(
            self.scenario.paths, [path.weight for path in self.scenario.paths]
        )[0]
        context = self._context()
        answer = self.decision(path, context)
        if answer is None:
            # Never told anything: a person does the task, and the console hears nothing of it.
            return {}
        strength = timing.strength(elapsed_s) if timing else 0.0
        usual = behaviour(self.scenario, path, arm=_serving_arm(answer.value), strength=strength)
        run: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "occurred_at": now.isoformat(timespec="milliseconds"),
            "workflow": self.scenario.workflow,
            "path": path.slug,
            "release": answer.value.get("release"),
            "arm": answer.value.get("arm"),
            "route": answer.value.get("route") or path.route,
            "context": {"team": context["team"]},
            "subject": context["targetingKey"],
            "client": self.name,
        }
        if answer.value.get("segment"):
            run["segment"] = answer.value["segment"]
        if answer.exposure_version is not None:
            run["exposure_version"] = answer.exposure_version
        return run | task_outcome(usual, answer.value, self._rng)

    def decision(self, path: DemoPath, context: dict[str, str]) -> Answer | None:
        """Ask for the decision; while the console is away, give the last one known."""
        key = (path.slug, context["targetingKey"])
        if time.monotonic() < self._ask_from:
            return self._told.get(key)
        details = self._client.get_object_details(
            f"{self.scenario.workflow}.{path.slug}",
            NO_ANSWER,
            EvaluationContext(context["targetingKey"], {"team": context["team"]}),
        )
        answer = _answer(details)
        if answer is None:
            if details.error_code is not None:
                self._ask_from = time.monotonic() + ASK_AGAIN_S
            return self._told.get(key)
        self._told[key] = answer
        self._told.move_to_end(key)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return answer

    def labels_keep(self, run: dict[str, Any], *, now: datetime, at_s: float) -> None:
        """Draw what people will say of a run; `labels_due` hands it over in its time."""
        for after_s, label in labels_drawn(run, self._rng, now=now):
            heappush(self._later, (at_s + after_s, label["id"], label))

    def labels_due(self, *, at_s: float) -> Iterator[dict[str, Any]]:
        while self._later and self._later[0][0] <= at_s:
            yield heappop(self._later)[2]

    def pause_s(self, rate: float) -> float:
        """Draw the time to the next task at `rate` tasks a second."""
        return self._rng.expovariate(rate)

    def _context(self) -> dict[str, str]:
        team = "internal" if self._rng.random() < INTERNAL_SHARE else "customer"
        return {"targetingKey": f"{team}-{self._rng.randrange(PEOPLE[team]):04d}", "team": team}


def _answer(details: FlagEvaluationDetails[Any]) -> Answer | None:
    if details.error_code is not None or not details.value:
        return None
    version = details.flag_metadata.get("exposureVersion")
    return Answer(dict(details.value), version if isinstance(version, int) else None)


def _serving_arm(decision: dict[str, Any]) -> str:
    # In previous_stable the answer keeps the candidate's arm but names stable's release.
    if decision.get("mode") == "previous_stable":
        return "stable"
    return str(decision.get("arm") or "stable")


class Fleet:
    """All instances and their reporters, of runs and of labels, each in a thread of its own."""

    def __init__(self, settings: FleetSettings, reporter: Reporter, labels: Reporter) -> None:
        self._settings = settings
        self._reporter = reporter
        self._labels = labels
        self._started = time.monotonic()
        self.instances = [
            Instance(
                scenario=scenario,
                name=f"{scenario.workflow}-{number}",
                settings=settings,
            )
            for scenario in SCENARIOS.values()
            if scenario.workflow in settings.workflows
            for number in range(1, INSTANCES + 1)
        ]

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; returns once every thread has ended."""
        threads = [
            threading.Thread(target=self._work, args=(instance, stop), name=instance.name)
            for instance in self.instances
        ]
        for name, reporter in (("reporter", self._reporter), ("labels", self._labels)):
            threads.append(threading.Thread(target=reporter.run, args=(stop,), name=name))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, instance: Instance, stop: threading.Event) -> None:
        timing = self._settings.timings.get(instance.scenario.slug)
        rate = instance.scenario.tasks_per_s * self._settings.speed / INSTANCES
        due = time.monotonic()
        while True:
            due += instance.pause_s(rate)
            if stop.wait(max(0.0, due - time.monotonic())):
                return
            # Tasks that could not be started in time are dropped, not caught up with in a burst.
            due = max(due, time.monotonic() - 1.0)
            now, elapsed_s = datetime.now(UTC), time.monotonic() - self._started
            for label in instance.labels_due(at_s=elapsed_s):
                self._labels.add(label)
            try:
                run = instance.task(now=now, elapsed_s=elapsed_s, timing=timing)
            except Exception:
                # One odd task must not end the demo; the log says what it was.
                log.exception("demo.task_failed", instance=instance.name)
                continue
            if run:
                self._reporter.add(run)
                instance.labels_keep(run, now=now, at_s=elapsed_s)
