"""Which bare handler answers what. Everything else is Django's."""

from typing import Final

from rollout_console.api.bare import flagd, health, ofrep, otlp, runs
from rollout_console.api.bare.front import Route

ROUTES: Final = (
    Route(
        "POST",
        "/api/v1/runs",
        runs.post_runs,
        limited=True,
        # Reading them back is the drill-down's.
        behind=frozenset({"GET", "HEAD"}),
    ),
    Route("POST", "/api/v1/observations", runs.post_observations, limited=True),
    Route("GET", "/api/v1/ingest/batches/{batch_id}", runs.get_batch),
    Route(
        "POST",
        "/v1/traces",
        otlp.post_traces,
        limited=True,
        refuse=otlp.refuse,
        fail=otlp.fail,
    ),
    Route(
        "POST",
        "/v1/metrics",
        otlp.post_metrics,
        limited=True,
        refuse=otlp.refuse,
        fail=otlp.fail,
    ),
    Route("POST", "/v1/logs", otlp.post_logs, limited=True, refuse=otlp.refuse, fail=otlp.fail),
    Route(
        "POST",
        "/ofrep/v1/evaluate/flags/{key}",
        ofrep.evaluate_one,
        refuse=ofrep.refuse,
        fail=ofrep.fail,
    ),
    Route(
        "POST",
        "/ofrep/v1/evaluate/flags",
        ofrep.evaluate_all,
        refuse=ofrep.refuse,
        fail=ofrep.fail,
    ),
    Route("GET", "/flagd/v1/flags", flagd.get_flags),
    Route("GET", "/healthz", health.healthz),
    Route("GET", "/readyz", health.readyz),
    Route("GET", "/metrics", health.metrics),
)
