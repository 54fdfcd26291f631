"""Real traces replayed with one command equal what a few lines of Python read off the files."""

import csv
import gzip
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from approvals.authority.matrix import Role, Scope
from rollout_console.catalog.models import Person, WorkflowPath
from signals.buckets.measures import total
from signals.buckets.selectors import series_measures
from signals.format import MISSING
from signals.ingest.models import Run
from tests.factories import people, person, token
from tests.servers import ROOT

pytestmark = pytest.mark.django_db

DATA = ROOT.parent / "shared" / "data"
# The sketch's stated error at scale 5.
SKETCH = 0.011
ARMS = (0, 1, 2)
# Steps start at multiples of their length since the epoch: this is one of 31 days.
STEP = timedelta(days=31)
FIRST_STEP = datetime(2025, 1, 31, tzinfo=UTC)


def data(folder: str) -> Path:
    found = DATA / folder
    if not found.is_dir():
        pytest.skip(f"{folder} is not in ../shared/data; test_replay replays our own sample of it")
    return found


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    people()
    person("owner", Role.OWNER)
    monkeypatch.chdir(tmp_path)

    def run(*words: Any) -> dict[str, Any]:
        out = io.StringIO()
        call_command("replay", *words, stdout=out, stderr=io.StringIO())
        (line,) = out.getvalue().splitlines()
        return dict(json.loads(line))

    return run


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[ceil(q * len(values)) - 1]


def series(workflow: str, path: str, signal: str, start: datetime, **more: Any) -> Any:
    """Ask the API for one signal over 31 days in one step of that length."""
    secret, _ = token(Scope.READ)
    end = start + STEP
    answer = Client().get(
        "/api/v1/signals/series",
        {
            "workflow": workflow,
            "path": path,
            "signal": signal,
            "from": start.isoformat(),
            "to": end.isoformat(),
            "step": 31 * 86400,
            **more,
        },
        headers={"Authorization": f"Bearer {secret}"},
    )
    assert answer.status_code == 200, answer.content
    return answer.json()


def path_totals(workflow: str, path: str, start: datetime, end: datetime) -> Any:
    found = WorkflowPath.objects.get(workflow__slug=workflow, slug=path)
    steps = series_measures(
        workflow_id=found.workflow_id,
        path_id=found.pk,
        arms=ARMS,
        segment_ids=None,
        start=start,
        end=end,
        step_s=60,
        reach="arm",
    )
    return total(measures for _, measures in steps)


def test_azure_equals_the_file(replay: Callable[..., dict[str, Any]]) -> None:
    folder = data("azure-llm-2023")
    files = [folder / f"AzureLLMInferenceTrace_{name}.csv.gz" for name in ("code", "conv")]

    counts = replay(*files, "--mapping", "azure-llm-2023")

    read = 0
    start = datetime(2023, 11, 16, 18, tzinfo=UTC)
    for path, file in zip(("code", "conversation"), files, strict=True):
        with gzip.open(file, "rt") as lines:
            rows = list(csv.DictReader(lines))
        read += len(rows)
        tokens_in = [int(row["ContextTokens"]) for row in rows]
        tokens_out = [int(row["GeneratedTokens"]) for row in rows]
        found = path_totals("azure-llm-2023", path, start, start + timedelta(hours=2))
        assert (found.n, found.input_tokens_sum, found.output_tokens_sum) == (
            len(rows),
            sum(tokens_in),
            sum(tokens_out),
        )
        # What the trace does not hold stays unknown.
        assert (found.latency_n, found.cost_n, found.quality_n) == (0, 0, 0)
        by_minute = Counter(row["TIMESTAMP"][:16] for row in rows)
        told = series(
            "azure-llm-2023",
            path,
            "input_tokens_per_task",
            start,
            step=60,
            to=(start + timedelta(hours=2)).isoformat(),
        )
        assert {point["t"][:16].replace("T", " "): point["n"] for point in told["points"]} == (
            by_minute
        )
        assert series("azure-llm-2023", path, "latency_p95_ms", start)["points"] == []
        assert Run.objects.filter(run_id=f"{file.name[:-3]}:1").exists()
    assert counts == {
        "read": read,
        "accepted": read,
        "rejected": 0,
        "skipped": 0,
        "duplicates": 0,
    }

    again = replay(*files, "--mapping", "azure-llm-2023")

    assert again == {**counts, "duplicates": read}
    assert Run.objects.count() == read


def test_aider_equals_the_file(replay: Callable[..., dict[str, Any]]) -> None:
    file = data("aider-telemetry") / "events.jsonl.gz"

    counts = replay(file, "--mapping", "aider-telemetry")

    with gzip.open(file, "rt") as lines:
        events = [json.loads(line) for line in lines]
    started: dict[str, float] = {}
    called: set[str] = set()
    latencies: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    by_path: dict[str, list[dict[str, Any]]] = defaultdict(list)
    undos = nobodys = 0
    for event in events:
        user, told = event["user_id"], event["properties"]
        if event["event"] == "message_send_starting":
            started[user] = event["time"]
        elif event["event"] == "message_send":
            by_path[told.get("edit_format") or "unknown"].append(told)
            called.add(user)
            if user in started:
                model = told["main_model"].rpartition("/")[2]
                took_ms = 1000 * (event["time"] - started.pop(user))
                latencies[told["edit_format"], model].append((event["time"], took_ms))
        elif event["event"] == "message_send_exception":
            started.pop(user, None)
        elif event["event"] == "command_undo":
            undos += 1
            nobodys += user is None or user not in called
    sends = sum(map(len, by_path.values()))
    kinds = Counter(event["event"] for event in events)
    errors = kinds["message_send_exception"]
    assert counts == {
        "read": len(events),
        "accepted": sends + errors + undos - nobodys,
        # An undo of nobody's call has no run to be about.
        "rejected": nobodys,
        "skipped": len(events) - sends - errors - undos,
        "duplicates": 0,
    }
    start, end = datetime(2024, 8, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC)
    cost = 0.0
    for path, calls in by_path.items():
        found = path_totals("aider", path, start, end)
        costs = [call["cost"] for call in calls if call["cost"] > 0]
        assert found.n_ok == len(calls)
        assert found.input_tokens_sum == sum(call["prompt_tokens"] for call in calls)
        assert found.output_tokens_sum == sum(call["completion_tokens"] for call in calls)
        assert found.cost_n == len(costs)
        assert found.cost_sum == pytest.approx(sum(costs))
        cost += found.cost_sum
    assert cost == pytest.approx(112.786968)
    failures = Run.objects.exclude(failure_category=None)
    assert failures.count() == errors
    assert max(len(run.failure_category or "") for run in failures) < 20
    for since, model in (
        (FIRST_STEP, "claude-3-5-sonnet-20241022"),
        (FIRST_STEP + STEP, "claude-3-7-sonnet-20250219"),
    ):
        expected = [
            latency
            for at, latency in latencies["diff", model]
            if since <= datetime.fromtimestamp(at, UTC) < since + STEP
        ]
        assert len(expected) > 50
        for signal, q in (("latency_p50_ms", 0.5), ("latency_p95_ms", 0.95)):
            (point,) = series("aider", "diff", signal, since, release=model)["points"]
            assert point["n"] == len(expected)
            assert point["value"] == pytest.approx(quantile(expected, q), rel=SKETCH)


def test_tau2_equals_the_files(replay: Callable[..., dict[str, Any]]) -> None:
    files = sorted(data("tau2-support").glob("*.json.gz"))

    counts = replay(*files, "--mapping", "tau2-support")

    assert counts == {
        "read": 120,
        "accepted": 120,
        "rejected": 0,
        "skipped": 0,
        "duplicates": 0,
    }
    start = datetime(2025, 7, 25, tzinfo=UTC)
    for file in files:
        told = json.loads(gzip.decompress(file.read_bytes()))
        tasks = told["simulations"]
        path = told["info"]["environment_info"]["domain_name"]
        tuned = told["info"]["agent_info"]["llm"].startswith("ft:")
        ask = {"arm": "candidate" if tuned else "stable"}
        spoken = [
            [message for message in task["messages"] if message["role"] == "assistant"]
            for task in tasks
        ]
        used = [
            [message["usage"] for message in messages if message["usage"]] for messages in spoken
        ]
        handed_over = sum(
            any(
                call["name"] == "transfer_to_human_agents"
                for message in messages
                for call in message["tool_calls"] or []
            )
            for messages in spoken
        )
        (quality,) = series("tau2-support", path, "quality_pass_rate", start, **ask)["points"]
        passed = sum(task["reward_info"]["reward"] == 1 for task in tasks)
        assert (quality["n"], quality["value"]) == (len(tasks), passed / len(tasks))
        for signal, key in (
            ("input_tokens_per_task", "prompt_tokens"),
            ("output_tokens_per_task", "completion_tokens"),
        ):
            (point,) = series("tau2-support", path, signal, start, **ask)["points"]
            expected = sum(each[key] for usage in used for each in usage) / len(tasks)
            assert point["value"] == pytest.approx(expected)
        (escalated,) = series("tau2-support", path, "escalation_rate", start, **ask)["points"]
        assert escalated["value"] == handed_over / len(tasks)
        durations = [1000 * task["duration"] for task in tasks]
        for signal, q in (("latency_p50_ms", 0.5), ("latency_p95_ms", 0.95)):
            (point,) = series("tau2-support", path, signal, start, **ask)["points"]
            assert point["value"] == pytest.approx(quantile(durations, q), rel=SKETCH)
        costs = series("tau2-support", path, "cost_per_task_usd", start, **ask)["points"]
        if tuned:
            assert costs == []
        else:
            spent = sum(task["agent_cost"] for task in tasks) / len(tasks)
            assert costs[0]["value"] == pytest.approx(spent)


def compared(workflow: str, path: str, candidate: str, stable: str) -> Any:
    """Ask the API to compare two releases over all that was replayed."""
    secret, _ = token(Scope.READ)
    answer = Client().get(
        f"/api/v1/workflows/{workflow}/comparison",
        {
            "path": path,
            "candidate": candidate,
            "stable": stable,
            "from": "2023-01-01T00:00:00Z",
        },
        headers={"Authorization": f"Bearer {secret}"},
    )
    assert answer.status_code == 200, answer.content
    told = answer.json()
    return told, {row["signal"]: row for row in told["signals"]}


def test_aider_s_update_costs_more_and_answers_slower(
    replay: Callable[..., dict[str, Any]],
) -> None:
    file = data("aider-telemetry") / "events.jsonl.gz"
    replay(file, "--mapping", "aider-telemetry")
    with gzip.open(file, "rt") as lines:
        events = [json.loads(line) for line in lines]
    calls: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        told = event["properties"]
        if event["event"] == "message_send" and told.get("edit_format") == "diff":
            calls[told["main_model"].rpartition("/")[2]].append(told)
    new, old = "claude-3-7-sonnet-20250219", "claude-3-5-sonnet-20241022"

    told, rows = compared("aider", "diff", new, old)

    assert told["basis"]["kind"] == "sequential"
    assert told["basis"]["sentence"].startswith("Observed, not randomised")

    def mean(model: str, key: str) -> float:
        return float(sum(call[key] for call in calls[model])) / len(calls[model])

    assert all(call["cost"] > 0 for model in (new, old) for call in calls[model])
    for signal, key in (
        ("cost_per_task_usd", "cost"),
        ("input_tokens_per_task", "prompt_tokens"),
        ("output_tokens_per_task", "completion_tokens"),
    ):
        gap = rows[signal]["difference"]
        assert gap["value"] == pytest.approx(mean(new, key) - mean(old, key))
        assert gap["low"] < gap["value"] < gap["high"]
        assert rows[signal]["candidate"]["n"] == len(calls[new])
        assert rows[signal]["stable"]["n"] == len(calls[old])
    assert rows["cost_per_task_usd"]["word"] == "worse"
    assert rows["output_tokens_per_task"]["word"] == "worse"
    assert rows["latency_p95_ms"]["word"] == "worse"
    change = told["cost_change"]
    parts = {row["part"]: row["value"] for row in change["parts"]}
    assert sum(parts.values()) == pytest.approx(mean(new, "cost") - mean(old, "cost"), abs=1e-12)
    # Retries were not told, and nothing fell back; three factors in closed form are left.
    assert set(parts) == {"input_tokens", "output_tokens", "price", "fallback"}
    assert parts["fallback"] == 0
    amounts = {
        model: (mean(model, "prompt_tokens"), 4 * mean(model, "completion_tokens"))
        for model in (new, old)
    }
    price = {model: mean(model, "cost") / sum(amounts[model]) for model in (new, old)}
    middle = (price[new] + price[old]) / 2
    assert parts["input_tokens"] == pytest.approx((amounts[new][0] - amounts[old][0]) * middle)
    assert parts["output_tokens"] == pytest.approx((amounts[new][1] - amounts[old][1]) * middle)
    both = (sum(amounts[new]) + sum(amounts[old])) / 2
    assert parts["price"] == pytest.approx((price[new] - price[old]) * both)


def test_tau2_s_tuned_model_is_no_saving_and_no_win(
    replay: Callable[..., dict[str, Any]],
) -> None:
    files = sorted(data("tau2-support").glob("*.json.gz"))
    replay(*files, "--mapping", "tau2-support")

    for path, n, passed, least in (("airline", 20, (13, 10), 20), ("retail", 40, (34, 34), 40)):
        told, rows = compared("tau2-support", path, "ft-gpt-4.1", "gpt-4.1")

        quality = rows["quality_pass_rate"]
        values = quality["candidate"]["value"], quality["stable"]["value"]
        assert values == (passed[0] / n, passed[1] / n)
        assert quality["word"] == ("too_few" if least < 30 else "none_clear")
        assert quality["difference"]["low"] < 0 < quality["difference"]["high"]
        cost = rows["cost_per_task_usd"]
        assert (cost["candidate"], cost["difference"], cost["word"]) == (None, None, "not_known")
        assert cost["note"] == f"Cost known for 0 of {n} candidate tasks."
        assert told["cost_change"] is None


def shown(client: Client, workflow: str) -> dict[tuple[str, str], dict[str, str]]:
    """Return by path and release what the workflow's page says, as text."""
    client.force_login(Person.objects.get(username="owner"))
    page = client.get(f"/workflows/{workflow}/?span=all").content.decode()
    found = {}
    for part in page.split('data-path="')[1:]:
        path = part[: part.index('"')]
        for row in part.split('data-release="')[1:]:
            cells = re.findall(
                r'data-l="([^"]+)"[^>]*>(.*?)(?:<br|</td>)', row[: row.index("</tr>")]
            )
            found[path, row[: row.index('"')]] = {
                name: re.sub(r"<[^>]+>", "", cell) for name, cell in cells
            }
    return found


def test_each_set_appears_with_its_totals_on_the_workflows_page(
    replay: Callable[..., dict[str, Any]], client: Client
) -> None:
    azure = data("azure-llm-2023")
    replay(azure / "AzureLLMInferenceTrace_code.csv.gz", "--mapping", "azure-llm-2023")
    with gzip.open(azure / "AzureLLMInferenceTrace_code.csv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines))
    (cells,) = (row for (path, _), row in shown(client, "azure-llm-2023").items() if path == "code")
    assert cells["Tasks"] == str(len(rows))
    assert cells["Input tokens"] == f"{sum(int(row['ContextTokens']) for row in rows):,}"
    assert cells["Output tokens"] == f"{sum(int(row['GeneratedTokens']) for row in rows):,}"
    # Nothing is known of it, and nothing is what stands there.
    assert {cells["Cost"], cells["Latency p95"], cells["Quality"]} == {MISSING}

    aider = data("aider-telemetry") / "events.jsonl.gz"
    replay(aider, "--mapping", "aider-telemetry")
    with gzip.open(aider, "rt") as lines:
        events = [json.loads(line) for line in lines]
    sends = [each["properties"] for each in events if each["event"] == "message_send"]
    told = shown(client, "aider")
    totals = told.values()
    assert sum(int(row["Tasks"]) - int(row["Errors"]) for row in totals) == len(sends)
    known = [row["Input tokens"].replace(",", "") for row in totals]
    tokens = sum(int(each) for each in known if each != MISSING)
    assert tokens == sum(send["prompt_tokens"] for send in sends)
    mine = [
        send
        for send in sends
        if send.get("edit_format") == "diff"
        and send["main_model"].rpartition("/")[2] == "claude-3-7-sonnet-20250219"
    ]
    row = told["diff", "claude-3-7-sonnet-20250219"]
    assert row["Tasks"] == str(len(mine))
    assert row["Cost"] == f"${sum(send['cost'] for send in mine):,.2f}"

    tau = sorted(data("tau2-support").glob("*.json.gz"))
    replay(*tau, "--mapping", "tau2-support")
    told = shown(client, "tau2-support")
    for file in tau:
        with gzip.open(file, "rt") as lines:
            document = json.load(lines)
        simulations = document["simulations"]
        domain = document["info"]["environment_info"]["domain_name"]
        tuned = document["info"]["agent_info"]["llm"].startswith("ft:")
        row = told[domain, "ft-gpt-4.1" if tuned else "gpt-4.1"]
        passed = sum(each["reward_info"]["reward"] >= 1 for each in simulations)
        assert row["Tasks"] == str(len(simulations))
        assert row["Quality"] == f"{100 * passed / len(simulations):.1f} %"
        cost = sum(each["agent_cost"] for each in simulations)
        assert row["Cost"] == (MISSING if tuned else f"${cost:,.2f}")
