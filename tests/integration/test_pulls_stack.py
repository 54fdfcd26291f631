"""Pulls by the job of a whole stack, and by the keeper once the broker is gone."""

from pathlib import Path
from typing import Any

import pytest

from tests.prometheus import Prometheus, prometheus_needed
from tests.stack import Stack, wait_until
from tests.story import prepare

# Nothing listens here, so neither worker nor beat can do anything.
NO_BROKER = "redis://127.0.0.1:1/0"


def pulled(stack: Stack, token: str) -> Any:
    _, told = stack.call("GET", "/api/v1/workflows/support-reply/pulls/scrapes", token=token)
    return told


def steps(stack: Stack) -> int:
    with stack.connect() as connection:
        row = connection.execute("select count(*) from metric_point").fetchone()
    assert row is not None
    return int(row[0])


def story(stack: Stack, server: Prometheus) -> None:
    """Set up a pull of a figure that changes as the server scrapes itself, and see it come."""
    prepare(stack)
    secret = stack.manage("token", "create", "pipeline", "--scope", "release", "--scope", "read")
    status, told = stack.call(
        "PUT",
        "/api/v1/workflows/support-reply/pulls/scrapes",
        token=secret,
        body={
            "path": "draft",
            "base_url": server.url,
            "query": "sum(prometheus_http_requests_total)",
            "step_s": 1,
            "backfill_s": 60,
        },
    )
    assert status == 201, told
    wait_until(lambda: steps(stack) >= 5, within_s=60, what="points pulled")
    before = steps(stack)
    wait_until(lambda: steps(stack) > before, within_s=60, what="points go on")
    told = pulled(stack, secret)
    assert (told["state"], told["error"], told["failures"]) == ("ok", "", 0)
    with stack.connect() as connection:
        doubled = connection.execute(
            "select count(*) - count(distinct (series_id, at)) from metric_point"
        ).fetchone()
    assert doubled == (0,)


@pytest.mark.parametrize("broker", [None, NO_BROKER], ids=["job", "keeper"])
def test_a_stack_pulls(tmp_path: Path, broker: str | None) -> None:
    prometheus_needed()
    server = Prometheus(tmp_path, scrapes_itself=True)
    server.start()
    try:
        with Stack() if broker is None else Stack(REDIS_URL=broker) as stack:
            story(stack, server)
    finally:
        server.stop()
