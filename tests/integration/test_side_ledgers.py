"""The ledgers beside the arrival ledger: what each run adds, once, as live report or history."""

import json
import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.rollouts.states import RolloutState
from signals.buckets.models import MeasureLedger, MixLedger, RouteLedger
from signals.ingest.drain import batches_drain
from signals.ingest.models import Run
from signals.ingest.services import batch_store, caches_forget
from tests.factories import rollout_at, token
from tests.ledger import bucket_of
from tests.story import run_item

pytestmark = pytest.mark.django_db


def some_runs(count: int) -> list[dict[str, Any]]:
    chance = random.Random(11)
    items = []
    for number in range(count):
        fields: dict[str, Any] = {
            "latency_ms": chance.choice([0, 5.5, 900, 31_000]),
            "cost_usd": chance.choice([0.01, 0.2]),
            "outcome": chance.choice(["ok", "ok", "error", "fallback"]),
            "context": {
                "targetingKey": f"u-{number}",
                "team": chance.choice(["internal", "customer"]),
                "account": f"a-{number}",
                "role": chance.choice(["agent", 'lead "of\tone"']),
                "account_group": chance.choice([1, True, None, ["x"]]),
            },
        }
        if chance.random() < 0.7:
            fields["route"] = chance.choice(["rag-large", "simple"])
        if chance.random() < 0.6:
            fields["measures"] = {
                name: chance.choice([-3.5, 0, 2, 40.25]) for name in ("tone", "delta")
            }
        if chance.random() < 0.1:
            fields["drill"] = "d-1"
        items.append(run_item(**fields))
    return items


@pytest.mark.parametrize("backfill", [False, True])
def test_sides_hold_what_new_runs_add(backfill: bool) -> None:
    rollout_at(RolloutState.LIVE)
    caches_forget()
    _, reporter = token(Scope.INGEST)
    items = some_runs(200)
    for part in (items[:120], items[80:], items):
        batch_store(
            body=json.dumps(part).encode(),
            content_type="application/json",
            content_encoding=None,
            principal=reporter,
            now=timezone.now(),
            backfill=backfill,
        )
    batches_drain(now=timezone.now())
    batches_drain(now=timezone.now())

    counted = [item for item in items if "drill" not in item]
    routes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    measures: dict[str, list[float]] = defaultdict(list)
    mix: Counter[tuple[str, str]] = Counter()
    for item in counted:
        if "route" in item:
            routes[item["route"]].append(item)
        for name, value in item.get("measures", {}).items():
            measures[name].append(value)
        context = item["context"]
        mix["team", context["team"]] += 1
        mix["role", context["role"]] += 1
        # A list and a null are no values to count by.
        if isinstance(context["account_group"], int):
            mix["account_group", "true" if context["account_group"] is True else "1"] += 1
    for route, found in routes.items():
        rows = list(RouteLedger.objects.filter(route=route))
        assert {row.backfill for row in rows} == {backfill}
        assert sum(row.n for row in rows) == len(found)
        assert sum(row.n_error for row in rows) == sum(i["outcome"] == "error" for i in found)
        assert sum(row.fallback_n for row in rows) == sum(i["outcome"] == "fallback" for i in found)
        latencies = [item["latency_ms"] for item in found]
        assert sum(row.latency_sum for row in rows) == pytest.approx(sum(latencies))
        assert sum(row.latency_zero for row in rows) == latencies.count(0)
        assert binned(rows, "latency_") == Counter(bucket_of(v) for v in latencies if v > 0)
        assert sum(row.cost_sq for row in rows) == pytest.approx(
            sum(item["cost_usd"] ** 2 for item in found)
        )
    assert {row.route for row in RouteLedger.objects.all()} == set(routes)
    for name, values in measures.items():
        told = list(MeasureLedger.objects.filter(name=name))
        assert sum(row.n for row in told) == len(values)
        assert sum(row.total for row in told) == pytest.approx(sum(values))
        assert sum(row.squares for row in told) == pytest.approx(sum(v * v for v in values))
        assert min(row.least for row in told) == min(values)
        assert max(row.largest for row in told) == max(values)
        assert sum(row.zero for row in told) == values.count(0)
        assert binned(told, "") == Counter(bucket_of(v) for v in values if v > 0)
        assert binned(told, "negative_") == Counter(bucket_of(-v) for v in values if v < 0)
    found_mix: Counter[tuple[str, str]] = Counter()
    for row in MixLedger.objects.all():
        found_mix[row.attribute, row.value] += row.n
    assert found_mix == mix
    # Who it was is kept nowhere but in the run's own subject.
    kept = [run.context for run in Run.objects.all()]
    assert all(set(context or {}) <= {"team", "role", "account_group"} for context in kept)


def binned(rows: list[Any], name: str) -> Counter[int]:
    counts: Counter[int] = Counter()
    for row in rows:
        pairs = zip(getattr(row, f"{name}idx"), getattr(row, f"{name}cnt"), strict=True)
        for index, count in pairs:
            counts[index] += count
    return counts
