"""Decision serving: OFREP over HTTP beside a bare WSGI route, and the evaluator by itself."""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext

from approvals.authority.matrix import Scope
from rollout_console.exposure.models import ExposureVersion
from rollout_console.exposure.selectors import snapshot_current
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from tests.benchmark.load import Load, alternate, closed_loop, post
from tests.benchmark.rows import Row, beside
from tests.factories import rollout_at, token
from tests.live import granian

ROUNDS = 5
SECONDS = 3.0
CONNECTIONS = 16
FLAGS = 24
CONTEXTS = [
    {"targetingKey": f"user-{n}", "team": "internal" if n % 2 else "customer", "role": "agent"}
    for n in range(1_000)
]


def rows() -> list[Row]:
    """Measure on a database of which nothing is asked but the first look at each token."""
    rollouts = [
        rollout_at(RolloutState.LIVE, workflow=f"serving-{n:02}", slug=f"serving-{n:02}-2")
        for n in range(FLAGS)
    ]
    return [*_over_http(rollouts), _in_process(_key(rollouts[0]))]


def _key(rollout: Rollout) -> str:
    return f"{rollout.workflow.slug}.draft"


def _over_http(rollouts: list[Rollout]) -> list[Row]:
    secret, _ = token(Scope.EVALUATE, workflows=tuple(each.workflow for each in rollouts))
    bodies = [json.dumps({"context": context}).encode() for context in CONTEXTS]
    path = f"/ofrep/v1/evaluate/flags/{_key(rollouts[0])}"
    single = [post(path, body, token=secret) for body in bodies]
    bulk = [post("/ofrep/v1/evaluate/flags", body, token=secret) for body in bodies]
    with _pair(workers=2) as (console, bare):
        two = alternate(
            ROUNDS,
            ours=lambda: console(single, CONNECTIONS),
            bare=lambda: bare(single, CONNECTIONS),
            half=lambda: console(single, 2),
        )
    with _pair(workers=1) as (console, bare):
        one = alternate(
            ROUNDS, ours=lambda: console(bulk, CONNECTIONS), bare=lambda: bare(bulk, CONNECTIONS)
        )
    p99_ms = statistics.median(load.p99_ms for load in two["ours"])
    lighter = two["half"]
    return [
        beside(
            "OFREP single decisions, 2 processes, token check and metadata",
            [load.per_s for load in two["ours"]],
            [load.per_s for load in two["bare"]],
            unit="decisions/s",
            note=(
                f"ceiling: a bare WSGI route of the same answer size under the same load; "
                f"p99 {p99_ms:.1f} ms at {CONNECTIONS} connections; with 2 connections "
                f"{statistics.median(load.per_s for load in lighter):,.0f}/s at p99 "
                f"{statistics.median(load.p99_ms for load in lighter):.1f} ms. The load generator "
                f"runs on the same two cores. The peer (unleash-server) was not run here"
            ),
        ),
        beside(
            f"OFREP bulk, {FLAGS} flags, 1 process",
            [load.per_s for load in one["ours"]],
            [load.per_s for load in one["bare"]],
            unit="answers/s",
            note="ceiling: one bare WSGI process with a single flag's answer size",
        ),
    ]


@contextmanager
def _pair(*, workers: int) -> Iterator[tuple[Callable[..., Load], Callable[..., Load]]]:
    """Serve the console and the bare application, and return a way to load each."""
    with (
        granian(os.environ, "rollout_console.wsgi:application", workers=workers) as console,
        granian(os.environ, "tests.benchmark.bare_app:application", workers=workers) as bare,
    ):
        yield _loader(console.port), _loader(bare.port)


def _loader(port: int) -> Callable[..., Load]:
    def load(requests: list[bytes], connections: int) -> Load:
        found = closed_loop(port, requests, connections=connections, seconds=SECONDS)
        if found.other_statuses:
            raise RuntimeError(f"{found.other_statuses} answers were not 200")
        return found

    return load


def _in_process(key: str) -> Row:
    """Compare our decision, body included, with the evaluator's bare call."""
    snapshot = snapshot_current()
    assert snapshot is not None
    core = FlagdCore()
    core.set_flags(json.dumps(ExposureVersion.objects.latest("number").document))
    split = [
        (context["targetingKey"], {k: v for k, v in context.items() if k != "targetingKey"})
        for context in CONTEXTS
    ]

    def ours() -> float:
        began = time.perf_counter()
        for targeting_key, attributes in split:
            snapshot.decide(key, targeting_key=targeting_key, attributes=attributes)
        return len(split) / (time.perf_counter() - began)

    def evaluator() -> float:
        began = time.perf_counter()
        for targeting_key, attributes in split:
            core.resolve_object_value(key, {}, EvaluationContext(targeting_key, attributes))
        return len(split) / (time.perf_counter() - began)

    found = alternate(9, ours=ours, evaluator=evaluator)
    return beside(
        "evaluation in process, one core",
        found["ours"],
        found["evaluator"],
        unit="evaluations/s",
        note="ceiling: openfeature-flagd-core called directly, without an answer to send",
    )
