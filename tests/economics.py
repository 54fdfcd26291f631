"""Tasks of two arms with all that money, reviews, routes and mixes are told by."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.labels import Reports
from tests.plans import plan_document
from tests.story import run_item

Runs = list[dict[str, Any]]


def planned() -> dict[str, Any]:
    document = plan_document()
    (path,) = document["workflow"]["paths"]
    path["limits"] |= {
        "slow_path_ms": 3000,
        "fallback_cost_per_task_usd": 0.40,
        "spend_usd_per_hour": 25,
    }
    path["review"]["capacity_per_hour"] = 200
    return document


def reported(
    reports: Reports, *, count: int = 600, cost_most: float = 0.9, slowest: int = 7000
) -> Runs:
    """Report tasks of both arms: the exposed team's are clean and of low risk, others are not."""
    chance = random.Random(5)
    at = datetime.now(UTC) - timedelta(seconds=20)
    runs = []
    for number in range(count):
        exposed = number % 3 == 0
        mode = chance.choices(["normal", "human_review", "read_only"], [8, 1, 1])[0]
        outcome = chance.choices(["ok", "escalated", "fallback", "error"], [8, 1, 1, 1])[0]
        run = run_item(
            occurred_at=(at + timedelta(milliseconds=number)).isoformat(),
            release="2026.11.2" if exposed else "2026.10.4",
            arm="candidate" if exposed else "stable",
            segment="internal-ops" if exposed else "eu-customers",
            mode=mode if exposed else "normal",
            outcome=outcome,
            latency_ms=chance.choice([400, 900, 2500, slowest]),
            route=chance.choice(["rag-large", "simple"]),
            cost_usd=round(chance.uniform(0.01, cost_most), 4) if chance.random() < 0.8 else None,
            input_tokens=chance.randrange(100, 5000),
            output_tokens=chance.choice([None, 50, 300]),
            risk="low" if exposed else chance.choices(["low", "high"], [4, 1])[0],
            input_condition="clean"
            if exposed
            else chance.choices(["clean", "messy", None], [7, 3, 2])[0],
            review_requested=chance.random() < 0.1,
            context={
                "targetingKey": f"u-{number}",
                "team": "internal" if exposed else "customer",
                "customer_segment": "us" if exposed else "eu",
            },
        )
        runs.append({key: value for key, value in run.items() if value is not None})
    reports.runs(*runs)
    return runs
