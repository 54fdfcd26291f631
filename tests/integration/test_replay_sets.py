"""The recorded sets of several items a record, and of gauges, replayed in full equal their files.

Also a replay that is killed: it goes on where it was, and its totals are those of one that was not.
"""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Sum

from approvals.authority.matrix import Role
from rollout_console.catalog.models import Release, Segment, WorkflowPath
from rollout_console.replay.models import ReplayCheckpoint
from signals.buckets.models import MinuteBucket
from signals.ingest.models import Observation, Run
from signals.points.models import MetricPointRow
from signals.points.selectors import point_names, point_steps
from tests.factories import people, person
from tests.integration.test_replay_data import data, replay
from tests.servers import ROOT

__all__ = ["replay"]

pytestmark = pytest.mark.django_db

Replay = Callable[..., dict[str, Any]]
DEADLINE_S = 60.0


def read(path: Path) -> Any:
    with gzip.open(path, "rt") as file:
        return json.load(file)


def sums(workflow: str, *names: str, **where: Any) -> list[int]:
    """Return the sums of minute-bucket columns over a whole workflow."""
    ids = list(
        WorkflowPath.objects.filter(workflow__slug=workflow).values_list("workflow_id", flat=True)
    )
    found = MinuteBucket.objects.filter(workflow_id=ids[0], **where).aggregate(
        **{name: Sum(name) for name in names}
    )
    return [found[name] or 0 for name in names]


def test_tau_airline_equals_the_file(replay: Replay) -> None:
    file = data("tau-airline-gpt-4o") / "gpt-4o-airline.json.gz"

    counts = replay(file, "--mapping", "tau-airline-gpt-4o")

    records = read(file)
    calls = [
        [
            call["function"]["name"]
            for message in record["traj"]
            if message["role"] == "assistant"
            for call in message.get("tool_calls") or []
        ]
        for record in records
    ]
    assert counts["accepted"] == counts["read"] == len(records) == 200
    assert sums("tau-airline-gpt-4o", "n", "quality_n", "quality_passed", "retries_sum") == [
        200,
        200,
        84,
        sum(record["trial"] for record in records),
    ]
    assert sums("tau-airline-gpt-4o", "n_escalated", "latency_n", "cost_n") == [
        sum("transfer_to_human_agents" in names for names in calls),
        0,
        0,
    ]
    assert Run.objects.aggregate(n=Sum("tool_calls"))["n"] == sum(map(len, calls)) == 1164
    by_trial = Counter(Run.objects.filter(quality_passed=True).values_list("retries", flat=True))
    assert by_trial == {0: 21, 1: 22, 2: 20, 3: 21}
    again = replay(file, "--mapping", "tau-airline-gpt-4o")
    assert again["duplicates"] == 200
    assert sums("tau-airline-gpt-4o", "n") == [200]


def test_mtrag_equals_the_file(replay: Replay) -> None:
    file = data("mtrag-human") / "reference_subset_with_human_evaluations.json.gz"

    counts = replay(file, "--mapping", "mtrag-human")

    document = read(file)
    answers = document["evaluations"]
    reviews = [
        (answer["model_id"], reviewer, review)
        for answer in answers
        for reviewer, review in answer["annotations"]["faithfulness"].items()
    ]
    assert (len(answers), len(reviews)) == (477, 1419)
    assert counts == {
        "read": 477 + 1419,
        "accepted": 477 + 1419,
        "rejected": 0,
        "skipped": 0,
        "duplicates": 0,
    }
    verdicts = {"4": "approved", "3": "edited", "2": "rejected", "1": "rejected"}
    told = Counter(verdicts[review["value"]] for *_, review in reviews)
    columns = ("n", "reviews_n", "reviews_edited", "reviews_rejected")
    assert sums("mtrag-human", *columns) == [477, 1419, told["edited"], told["rejected"]]
    rejected = {
        release.version: sums("mtrag-human", "reviews_n", "reviews_rejected", release_id=release.pk)
        for release in Release.objects.all()
    }
    assert rejected == {
        "reference": [472, 45],
        "gpt-4o": [474, 109],
        "llama-3.1-405b-instruct": [473, 114],
    }
    assert Observation.objects.aggregate(ms=Sum("duration_ms"))["ms"] == pytest.approx(
        sum(1000 * review["duration"] for *_, review in reviews)
    )
    assert set(Observation.objects.values_list("reviewer", flat=True)) == {
        reviewer for _, reviewer, _ in reviews
    }
    task = {each["task_id"]: each for each in document["tasks"]}
    by_segment = Counter(
        task[answer["task_id"]]["Collection"].split("-")[2].replace("ibmcloud", "cloud")
        for answer in answers
    )
    segments = dict(Segment.objects.values_list("pk", "slug"))
    found = Counter(segments[pk] for pk in Run.objects.values_list("segment_id", flat=True))
    assert found == by_segment
    assert sums("mtrag-human", "n", input_condition=1) == [
        sum(task[answer["task_id"]]["Answerability"] == ["ANSWERABLE"] for answer in answers)
    ]


def test_arena_is_a_run_and_a_feedback_for_each_side(replay: Replay) -> None:
    names = ("model", "tool", "framework")
    files = [data("arena-votes") / f"{name}ratings_V0.json.gz" for name in names]

    counts = replay(*files, "--mapping", "arena-votes")

    votes = {name: read(file) for name, file in zip(names, files, strict=True)}
    assert [len(votes[name]) for name in names] == [2058, 2318, 2117]
    # A run and an observation for either side.
    assert counts["accepted"] == counts["read"] == 4 * (2058 + 2318 + 2117)
    assert counts["rejected"] == 0
    up = {"A is better": (1, 0), "B is better": (0, 1), "Tie": (1, 1), "Both are bad": (0, 0)}
    for name in names:
        path = WorkflowPath.objects.get(workflow__slug="arena-votes", slug=name)
        ups: dict[str, int] = defaultdict(int)
        runs: dict[str, int] = defaultdict(int)
        for vote in votes[name]:
            sides = (vote["leftSubcomponent"], vote["rightSubcomponent"])
            for component, is_up in zip(sides, up[vote["rating"]], strict=True):
                ups[component] += is_up
                runs[component] += 1
        columns = ("n", "feedback_positive", "feedback_negative")
        n, positive, negative = sums("arena-votes", *columns, path_id=path.pk)
        assert (n, positive) == (2 * len(votes[name]), sum(ups.values()))
        assert positive + negative == n
        for component, count in runs.items():
            release = Release.objects.get(version=component.replace(" ", "-"))
            assert sums("arena-votes", *columns, path_id=path.pk, release_id=release.pk) == [
                count,
                ups[component],
                count - ups[component],
            ]


def test_nab_is_kept_as_gauges(replay: Replay) -> None:
    files = sorted(data("nab-series").glob("*.csv"))
    assert len(files) == 9

    counts = replay(*files, "--mapping", "nab-series")

    rows = {file.stem: list(csv.DictReader(file.open())) for file in files}
    n = sum(map(len, rows.values()))
    assert counts == {"read": n, "accepted": n, "rejected": 0, "skipped": 0, "duplicates": 0}
    assert MetricPointRow.objects.count() == n
    assert Run.objects.count() == 0
    path = WorkflowPath.objects.get(workflow__slug="nab-series")
    start, end = datetime(2010, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)
    told = {
        each.name: each
        for each in point_names(workflow_ids=[path.workflow_id], since=start, until=end)
    }
    assert set(told) == set(rows)
    for name, records in rows.items():
        values = [float(record["value"]) for record in records]
        found = point_steps(
            workflow_id=path.workflow_id,
            path_id=path.pk,
            name=name,
            start=start,
            end=end,
            step_s=86_400,
        )
        assert found is not None
        by_day = Counter(record["timestamp"][:10] for record in records)
        assert {f"{step.t:%Y-%m-%d}": step.n for step in found.steps} == by_day
        assert sum(step.total or 0 for step in found.steps) == pytest.approx(sum(values))
        assert min(step.low or 0 for step in found.steps) == min(values)
        assert max(step.high or 0 for step in found.steps) == max(values)
        newest = max(record["timestamp"] for record in records)
        assert f"{told[name].at:%Y-%m-%d %H:%M:%S}" == newest
        assert told[name].n == len(values)
        assert told[name].unit
    again = replay(*files, "--mapping", "nab-series")
    assert again["duplicates"] == n
    assert MetricPointRow.objects.count() == n


MAPPING = """
version: 1
source: {format: jsonl}
workflow: {slug: killed, name: Killed, paths: [{slug: only, name: Only}]}
runs:
  when: skip != true
  occurred_at: {time: at, format: unix}
  path: {const: only}
  outcome: outcome
  release: null
  input_tokens: tokens
"""


@pytest.mark.django_db(transaction=True)
def test_a_killed_replay_goes_on_where_it_was(stack_env: dict[str, str], tmp_path: Path) -> None:
    people()
    person("owner", Role.OWNER)
    (tmp_path / "map.yaml").write_text(MAPPING)
    records: list[dict[str, Any]] = [
        {
            "at": 1_700_000_000 + row,
            # One in a thousand is refused where it is stored, one in a hundred is of no use.
            "outcome": "nonsense" if row % 1000 == 7 else "ok",
            "tokens": row % 50,
            "skip": row % 100 == 3,
        }
        for row in range(60_000)
    ]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(record) + "\n" for record in records))
    command = [sys.executable, str(ROOT / "manage.py"), "replay", "trace.jsonl"]
    command += ["--mapping", "map.yaml"]

    first = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=stack_env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + DEADLINE_S
    while not ReplayCheckpoint.objects.filter(row__gte=10_000).exists():
        assert first.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(timeout=DEADLINE_S)
    reached = ReplayCheckpoint.objects.get()
    assert 10_000 <= reached.row < 60_000

    second = subprocess.run(
        command, cwd=tmp_path, env=stack_env, capture_output=True, text=True, check=False
    )

    assert second.returncode == 0, second.stderr
    assert f"Goes on after row {reached.row:,} of trace.jsonl" in second.stderr
    useful = [record for record in records if not record["skip"]]
    good = [record for record in useful if record["outcome"] == "ok"]
    counts = json.loads(second.stdout)
    assert {name: counts[name] for name in ("read", "accepted", "rejected", "skipped")} == {
        "read": 60_000,
        "accepted": len(good),
        "rejected": len(useful) - len(good),
        "skipped": 600,
    }
    # What the killed one stored beyond its last note is met again, and no more than that.
    assert counts["duplicates"] <= 10_000
    assert sums("killed", "n", "input_tokens_sum") == [
        len(good),
        sum(record["tokens"] for record in good),
    ]
    refused: list[int] = [
        json.loads(line)["row"]
        for line in (tmp_path / "trace.jsonl.rejects.jsonl").read_text().splitlines()
    ]
    assert sorted(refused) == [
        row
        for row, record in enumerate(records, start=1)
        if record["outcome"] != "ok" and not record["skip"]
    ]
    assert not ReplayCheckpoint.objects.exists()


def test_a_record_can_be_several_items(replay: Replay, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(
        "version: 1\nsource: {format: jsonl}\n"
        "workflow: {slug: many, name: Many, paths: [{slug: only, name: Only}]}\n"
        "gauges:\n  each: readings\n  occurred_at: {time: at, format: unix}\n"
        "  path: {const: only}\n  name: $each.key\n  value: $each.value\n"
    )
    (tmp_path / "t.jsonl").write_text(
        '{"at": 1700000000, "readings": {"cpu": 5, "disk": 7}}\n'
        '{"at": 1700000060, "readings": {"cpu": "x"}}\n{"at": 1700000120}\n'
    )

    counts = replay("t.jsonl", "--mapping", "map.yaml")

    assert counts == {"read": 4, "accepted": 2, "rejected": 1, "skipped": 1, "duplicates": 0}
    (line,) = (tmp_path / "t.jsonl.rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 2
    path = WorkflowPath.objects.get(workflow__slug="many")
    found = point_names(
        workflow_ids=[path.workflow_id],
        since=datetime(2023, 1, 1, tzinfo=UTC),
        until=datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=365),
    )
    assert [(each.name, each.value, each.source) for each in found] == [
        ("cpu", 5.0, "replay:map"),
        ("disk", 7.0, "replay:map"),
    ]


def test_gauges_shifted_to_now_are_live(replay: Replay, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(
        "version: 1\nsource: {format: csv}\n"
        "workflow: {slug: now, name: Now, paths: [{slug: only, name: Only}]}\n"
        "gauges:\n  occurred_at: {time: at, format: unix}\n"
        "  path: {const: only}\n  name: {const: cpu}\n  value: value\n"
    )
    (tmp_path / "t.csv").write_text("at,value\n1700000000,1\n1700000060,2.5\n")

    for _ in range(2):
        counts = replay("t.csv", "--mapping", "map.yaml", "--shift-to-now")
        assert (counts["accepted"], counts["duplicates"]) == (2, 0)

    points = MetricPointRow.objects.order_by("at")
    assert [point.backfill for point in points] == [False] * 4
    assert {point.last for point in points} == {1.0, 2.5}
    assert all(datetime.now(tz=UTC) - point.at < timedelta(minutes=5) for point in points)
