"""What the demo's workflows do, and how a candidate comes to hurt. Pure: no Django, no clock.

Each scenario is one workflow with a plan of its own under `plans/`. Its two arms behave alike,
but for a small gain of the candidate, until the onset; then the scenario's harm sets in over a
short ramp. In `outage` it is the world that fails, so both arms suffer, and it passes.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one release handles tasks of one path: the parameters that outcomes are drawn from.

    Rates and scores are 0-1; latency is log-normal around its median, and so is cost.
    """

    pass_rate: float
    latency_ms: float
    cost_usd: float
    input_tokens: int
    output_tokens: int
    latency_sigma: float = 0.36
    cost_sigma: float = 0.30
    error_rate: float = 0.006
    retry_rate: float = 0.03
    empty_rate: float = 0.03
    retrieval_score: float = 0.82
    confidence: float = 0.84
    failure: str = "wrong_answer"

    def latency_p95_ms(self) -> float:
        return self.latency_ms * math.exp(1.645 * self.latency_sigma)

    def cost_mean_usd(self) -> float:
        return self.cost_usd * math.exp(self.cost_sigma**2 / 2)


@dataclass(frozen=True, slots=True)
class DemoPath:
    """One path's ordinary behaviour under either release, and its share of the tasks."""

    slug: str
    stable: Behaviour
    candidate: Behaviour
    route: str = "standard"
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A workflow of the demo, and what goes wrong there."""

    slug: str
    workflow: str
    paths: tuple[DemoPath, ...]
    harm: Callable[[Behaviour], Behaviour]
    both_arms: bool = False
    lasts_s: float | None = None
    tasks_per_s: float = 6.0


def mixed(whole: Behaviour, harmed: Behaviour, strength: float) -> Behaviour:
    """Return the behaviour at `strength` (0-1) of the way from `whole` to `harmed`."""
    if strength <= 0:
        return whole

    def between(a: float, b: float) -> float:
        return a + (b - a) * min(strength, 1.0)

    return replace(
        harmed,
        pass_rate=between(whole.pass_rate, harmed.pass_rate),
        latency_ms=between(whole.latency_ms, harmed.latency_ms),
        cost_usd=between(whole.cost_usd, harmed.cost_usd),
        input_tokens=round(between(whole.input_tokens, harmed.input_tokens)),
        output_tokens=round(between(whole.output_tokens, harmed.output_tokens)),
        error_rate=between(whole.error_rate, harmed.error_rate),
        retry_rate=between(whole.retry_rate, harmed.retry_rate),
        empty_rate=between(whole.empty_rate, harmed.empty_rate),
        retrieval_score=between(whole.retrieval_score, harmed.retrieval_score),
    )


def _quality(usual: Behaviour) -> Behaviour:
    return replace(usual, pass_rate=0.58, failure="refund_policy_misread")


def _latency(usual: Behaviour) -> Behaviour:
    return replace(usual, latency_ms=usual.latency_ms * 2.8, retry_rate=0.08)


def _cost(usual: Behaviour) -> Behaviour:
    return replace(
        usual,
        cost_usd=usual.cost_usd * 3.4,
        input_tokens=usual.input_tokens * 4,
        latency_ms=usual.latency_ms * 1.15,
    )


def _repeats(usual: Behaviour) -> Behaviour:
    return replace(usual, pass_rate=0.62, retry_rate=0.34, failure="reassignment_loop")


def _retrieval(usual: Behaviour) -> Behaviour:
    return replace(
        usual, pass_rate=0.64, empty_rate=0.38, retrieval_score=0.52, failure="unsupported_claim"
    )


def _outage(usual: Behaviour) -> Behaviour:
    return replace(
        usual,
        pass_rate=0.7,
        error_rate=0.42,
        latency_ms=usual.latency_ms * 3.2,
        retry_rate=0.5,
        failure="model_unavailable",
    )


def _none(usual: Behaviour) -> Behaviour:
    return usual


def _path(
    slug: str, stable: Behaviour, *, route: str = "standard", weight: float = 1.0, **gain: Any
) -> DemoPath:
    return DemoPath(slug, stable, replace(stable, **gain), route, weight)


# In the order in which the whole demo staggers them.
SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.slug: scenario
    for scenario in (
        Scenario(
            "quality",
            "support-reply",
            (
                _path(
                    "draft",
                    Behaviour(0.935, 2100, 0.043, 3200, 420),
                    route="rag-large",
                    pass_rate=0.945,
                    cost_usd=0.046,
                ),
            ),
            _quality,
        ),
        Scenario(
            "latency",
            "claims-intake",
            (
                _path(
                    "extract",
                    Behaviour(0.955, 3400, 0.09, 6100, 700, latency_sigma=0.33),
                    route="vision-large",
                    pass_rate=0.965,
                    latency_ms=3250,
                ),
            ),
            _latency,
        ),
        Scenario(
            "cost",
            "invoice-coding",
            (
                _path(
                    "code-lines",
                    Behaviour(0.97, 1300, 0.018, 1900, 160, latency_sigma=0.3),
                    route="table-small",
                    cost_usd=0.017,
                ),
            ),
            _cost,
        ),
        Scenario(
            "repeats",
            "ticket-triage",
            (
                _path(
                    "assign",
                    Behaviour(0.94, 900, 0.007, 1100, 90),
                    route="classifier",
                    latency_ms=820,
                ),
            ),
            _repeats,
        ),
        Scenario(
            "retrieval",
            "knowledge-answers",
            (
                _path(
                    "answer",
                    Behaviour(0.925, 1800, 0.031, 4200, 380),
                    route="rag-large",
                    retrieval_score=0.85,
                    pass_rate=0.935,
                ),
            ),
            _retrieval,
        ),
        Scenario(
            "outage",
            "contract-summary",
            (
                _path(
                    "summarise",
                    Behaviour(0.95, 5200, 0.12, 11_000, 900, latency_sigma=0.32),
                    route="long-context",
                    cost_usd=0.112,
                ),
            ),
            _outage,
            both_arms=True,
            lasts_s=180,
        ),
        Scenario(
            "healthy",
            "order-status",
            (
                _path(
                    "reply",
                    Behaviour(0.96, 700, 0.006, 800, 120, latency_sigma=0.3),
                    route="tool-calling",
                    pass_rate=0.97,
                ),
            ),
            _none,
        ),
    )
}

# Between the onsets of two scenarios when the whole demo runs, in multiples of the onset.
STAGGER: Final = 0.5


@dataclass(frozen=True, slots=True)
class Timing:
    """When a scenario's harm sets in, seconds after the fleet's start, and how fast it grows."""

    onset_s: float
    ramp_s: float
    lasts_s: float | None

    def strength(self, elapsed_s: float) -> float:
        """Return how much of the harm is there, 0-1."""
        since = elapsed_s - self.onset_s
        if since < 0 or (self.lasts_s is not None and since >= self.lasts_s):
            return 0.0
        return min(1.0, since / self.ramp_s) if self.ramp_s > 0 else 1.0


def scenarios_played(chosen: str) -> list[Scenario]:
    """Return the scenario of that name; all of them, in order, for the empty name.

    Raises:
        ValueError: no scenario has that name; the text lists those there are.
    """
    if not chosen:
        return list(SCENARIOS.values())
    if chosen not in SCENARIOS:
        raise ValueError(f"DEMO_SCENARIO is one of {', '.join(SCENARIOS)}, not {chosen!r}.")
    return [SCENARIOS[chosen]]


def timings(chosen: str, *, onset_s: float) -> dict[str, Timing]:
    """Return the timing of each scenario that is played, by slug, staggered.

    A scenario without one is not played: its workflow stays healthy.

    Raises:
        ValueError: no scenario has that name.
    """
    return {
        scenario.slug: Timing(
            onset_s=onset_s * (1 + STAGGER * position),
            ramp_s=min(20.0, onset_s * 0.15),
            lasts_s=scenario.lasts_s,
        )
        for position, scenario in enumerate(scenarios_played(chosen))
    }


def behaviour(scenario: Scenario, path: DemoPath, *, arm: str, strength: float) -> Behaviour:
    """Return how an arm behaves at `strength` (0-1) of the scenario's harm."""
    usual = path.candidate if arm == "candidate" else path.stable
    if arm != "candidate" and not scenario.both_arms:
        return usual
    return mixed(usual, scenario.harm(usual), strength)


def in_mode(usual: Behaviour, mode: str) -> Behaviour:
    """Return what a fallback mode makes of a behaviour (modes as api.md has them)."""
    if mode == "simpler_route":
        return replace(
            usual,
            latency_ms=usual.latency_ms * 0.45,
            cost_usd=usual.cost_usd * 0.4,
            pass_rate=usual.pass_rate * 0.97,
        )
    if mode == "reduced_context":
        return replace(
            usual,
            cost_usd=usual.cost_usd * 0.55,
            input_tokens=round(usual.input_tokens * 0.5),
            pass_rate=usual.pass_rate * 0.985,
        )
    if mode == "manual":
        # A person does it: well, slowly, and at a person's price.
        return replace(
            usual,
            pass_rate=0.985,
            latency_ms=240_000,
            cost_usd=0.38,
            input_tokens=0,
            output_tokens=0,
            error_rate=0.0,
        )
    return usual


def task_outcome(usual: Behaviour, decision: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Draw what one task came to, as the measured fields of a reported run.

    `decision` is the answered exposure; its `rules` are applied here, where the output is known.
    A task that a rule moves has had its run: latency and cost are those of the run, not of the
    person who takes over.
    """
    answered = str(decision.get("mode") or "normal")
    usual = in_mode(usual, answered)
    condition = rng.choices(("clean", "messy", "ambiguous"), (0.80, 0.13, 0.07))[0]
    risk = "high" if rng.random() < 0.04 else "low"
    confidence = _clamped(rng.gauss(usual.confidence, 0.09))
    mode = rule_mode(decision, confidence=confidence, input_condition=condition, risk=risk)
    failed = rng.random() < usual.error_rate
    # Messy input is harder; the drawn rates still average out to `pass_rate` closely enough.
    ease = {"clean": 1.01, "messy": 0.97, "ambiguous": 0.95}[condition]
    passed = not failed and rng.random() < min(usual.pass_rate * ease, 0.995)
    retries = 0
    while retries < 4 and rng.random() < usual.retry_rate:
        retries += 1
    run: dict[str, Any] = {
        "mode": mode,
        "outcome": _outcome_word(mode, failed=failed),
        "input_condition": condition,
        "risk": risk,
        "latency_ms": round(rng.lognormvariate(math.log(usual.latency_ms), usual.latency_sigma), 1),
        "cost_usd": round(rng.lognormvariate(math.log(usual.cost_usd), usual.cost_sigma), 6),
        "retries": retries,
        "steps": 1 + retries,
        "quality": {
            "passed": passed,
            "score": round(_clamped(rng.gauss(0.88 if passed else 0.42, 0.08)), 3),
        },
    }
    if not passed:
        run["failure_category"] = usual.failure
    if mode == "human_review":
        run["review_requested"] = True
    if answered != "manual":
        run |= _model_facts(usual, confidence, rng)
    return run


def rule_mode(
    decision: dict[str, Any], *, confidence: float, input_condition: str, risk: str
) -> str:
    """Return the mode that the first matching rule of the answer sets, else the answered one."""
    answered = str(decision.get("mode") or "normal")
    for rule in decision.get("rules") or []:
        when = rule.get("when", {})
        if "confidence_below" in when and confidence >= when["confidence_below"]:
            continue
        if "input_condition" in when and input_condition != when["input_condition"]:
            continue
        if "risk" in when and risk != when["risk"]:
            continue
        return str(rule["mode"])
    return answered


def _outcome_word(mode: str, *, failed: bool) -> str:
    if mode == "human_review":
        return "escalated"
    if mode != "normal":
        return "fallback"
    return "error" if failed else "ok"


def _model_facts(usual: Behaviour, confidence: float, rng: random.Random) -> dict[str, Any]:
    tokens = max(1, round(usual.input_tokens * rng.lognormvariate(0, 0.25)))
    empty = rng.random() < usual.empty_rate
    return {
        "input_tokens": tokens,
        "output_tokens": max(1, round(usual.output_tokens * rng.lognormvariate(0, 0.3))),
        "context_tokens": round(tokens * 0.8),
        "confidence": round(confidence, 3),
        "retrieved": 0 if empty else rng.randint(3, 8),
        "retrieval_score": 0.0
        if empty
        else round(_clamped(rng.gauss(usual.retrieval_score, 0.07)), 3),
    }


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, value))
