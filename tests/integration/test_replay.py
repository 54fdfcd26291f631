"""`manage.py replay`: what it makes, stores, refuses and prints; history trips nothing."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Person, Workflow, WorkflowPath
from rollout_console.replay.services import REPLAY
from rollout_console.rollouts.models import PlanVersion
from rollout_console.rollouts.states import RolloutState
from signals.alerts.services import guards_watch
from signals.buckets.counts import candidate_runs
from signals.buckets.models import ArrivalLedger, MinuteBucket
from signals.buckets.selectors import SegmentTasks, segment_tasks, traffic
from signals.guards.models import Guard
from signals.guards.services import guards_look
from signals.ingest.drain import backfill_drain, batches_drain
from signals.ingest.models import IngestBatch, Observation, Run
from signals.ingest.selectors import queue_state
from signals.ingest.services import batch_store, caches_forget
from tests.factories import people, person, rollout_at, token
from tests.ledger import arrive, bucket, over
from tests.servers import ROOT
from tests.story import run_item

pytestmark = pytest.mark.django_db

SAMPLES = ROOT / "tests" / "samples"
OWN = """
version: 1
source: {format: jsonl}
workflow: {slug: support-reply, paths: [{slug: draft, name: Draft}, {slug: other}]}
runs:
  id: id
  occurred_at: at
  path: {const: draft}
  release: {const: "2026.11.2"}
  arm: {const: candidate}
  segment: {const: internal-ops}
  outcome: {const: ok}
  latency_ms: ms
"""

Replay = Callable[..., dict[str, Any]]


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replay:
    people()
    person("olga", Role.OWNER)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(OWN)

    def run(*words: Any) -> dict[str, Any]:
        out = io.StringIO()
        call_command("replay", *words, stdout=out, stderr=io.StringIO())
        (line,) = out.getvalue().splitlines()
        return dict(json.loads(line))

    return run


def lines_of(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def slow_trace(n: int = 60) -> Path:
    """Write a trace of slow runs whose newest lies now."""
    path = Path("slow.jsonl")
    with path.open("w") as file:
        for number in range(n):
            at = timezone.now() - timedelta(seconds=(n - number) / 4)
            file.write(json.dumps({"id": f"r{number}", "at": at.isoformat(), "ms": 9000}) + "\n")
    return path


def test_it_makes_the_workflow_and_counts_each_row_once(replay: Replay) -> None:
    files = [SAMPLES / "azure_code.csv", SAMPLES / "azure_conv.csv"]

    counts = replay(*files, "--mapping", "azure-llm-2023")

    assert counts == {"read": 4, "accepted": 4, "rejected": 0, "skipped": 0, "duplicates": 0}
    workflow = Workflow.objects.get()
    assert (workflow.slug, workflow.owner.username) == ("azure-llm-2023", "olga")
    assert set(workflow.paths.values_list("slug", flat=True)) == {"code", "conversation"}
    assert PlanVersion.objects.get().applied_by == "replay"
    code = MinuteBucket.objects.filter(path_id=workflow.paths.get(slug="code").pk)
    assert list(code.order_by("minute").values_list("minute", "n", "input_tokens_sum")) == [
        (datetime(2026, 3, 1, 9, 0, tzinfo=UTC), 2, 2000.0),
        (datetime(2026, 3, 1, 9, 1, tzinfo=UTC), 1, 15.0),
    ]
    entry = AuditEntry.objects.get(action="trace.replayed")
    assert (entry.actor, entry.data["accepted"], entry.data["live"]) == ("replay", 4, False)

    assert replay(*files, "--mapping", "azure-llm-2023") == {**counts, "duplicates": 4}
    assert Run.objects.count() == 4
    assert sum(MinuteBucket.objects.values_list("n", flat=True)) == 4
    # Packed they are the same rows.
    packed = Path("azure_code.csv.gz")
    packed.write_bytes(gzip.compress(files[0].read_bytes()))
    assert replay(packed, "--mapping", "azure-llm-2023")["duplicates"] == 3


def test_history_arrives_when_it_happened(replay: Replay) -> None:
    replay(SAMPLES / "azure_code.csv", "--mapping", "azure-llm-2023")

    rows = ArrivalLedger.objects.order_by("arrived_at").values_list("arrived_at", "block", "n")
    assert list(rows) == [
        (at, int(at.timestamp()) // 5, 1)
        for at in (
            datetime(2026, 3, 1, 9, 0, 0, 123456, tzinfo=UTC),
            datetime(2026, 3, 1, 9, 0, 59, 999999, tzinfo=UTC),
            datetime(2026, 3, 1, 9, 1, tzinfo=UTC),
        )
    ]
    assert set(ArrivalLedger.objects.values_list("backfill", flat=True)) == {True}


def test_the_series_api_shows_what_was_replayed(replay: Replay) -> None:
    replay(SAMPLES / "tau2.json", "--mapping", "tau2-support")
    replay(SAMPLES / "aider.jsonl", "--mapping", "aider-telemetry")
    secret, _ = token(Scope.READ)

    def points(**asked: str) -> list[tuple[float, int]]:
        span = {"from": "2024-11-30T18:00:00Z", "to": "2024-11-30T18:30:00Z", "step": "1800"}
        answer = Client().get(
            "/api/v1/signals/series",
            {**span, **asked},
            headers={"Authorization": f"Bearer {secret}"},
        )
        assert answer.status_code == 200, answer.content
        return [(point["value"], point["n"]) for point in answer.json()["points"]]

    # Neither path has a candidate: all runs, or those of any release that was reported.
    diff = {"workflow": "aider", "path": "diff", "signal": "input_tokens_per_task"}
    assert points(**diff) == [(900, 1)]
    assert points(**diff, release="claude-x") == [(900, 1)]
    assert points(**diff, release="openrouter-REDACTED") == []
    assert points(**diff, arm="candidate") == []
    march = {"from": "2026-03-01T08:00:00Z", "to": "2026-03-01T10:00:00Z", "step": "7200"}
    retail = {"workflow": "tau2-support", "path": "retail", "signal": "escalation_rate", **march}
    assert points(**retail, arm="candidate") == points(**retail) == [(0.5, 2)]
    assert points(**retail, arm="stable") == []
    answer = Client().get(
        "/api/v1/signals/series",
        {**diff, "release": "nobody's"},
        headers={"Authorization": f"Bearer {secret}"},
    )
    assert (answer.status_code, "Known: " in answer.json()["errors"][0]["detail"]) == (400, True)


def test_undos_are_told_apart_and_listed(replay: Replay) -> None:
    counts = replay(SAMPLES / "aider.jsonl", "--mapping", "aider-telemetry", "--workflow", "code")

    assert counts == {"read": 9, "accepted": 5, "rejected": 1, "skipped": 3, "duplicates": 0}
    assert set(Run.objects.values_list("run_id", flat=True)) == {
        f"aider.jsonl:{row}" for row in (3, 4, 7, 8)
    }
    paths = WorkflowPath.objects.filter(workflow__slug="code")
    assert set(paths.values_list("slug", flat=True)) == {
        *("diff", "whole", "ask", "architect", "unknown"),
    }
    listed = lines_of("aider.jsonl.rejects.jsonl")
    assert [(each["row"], each["reason"]) for each in listed] == [
        (9, "`run_id`: no run is known that this is about."),
    ]
    # The undo stands beside the run it took back, as history: charts read it, guards do not.
    (row,) = ArrivalLedger.objects.filter(feedback_negative__gt=0)
    assert (row.feedback_negative, row.backfill) == (1, True)
    folded = MinuteBucket.objects.filter(path_id=row.path_id, minute=row.minute)
    assert sum(bucket.feedback_negative for bucket in folded) == 1


def test_what_does_not_fit_is_listed_and_the_rest_kept(replay: Replay) -> None:
    now = timezone.now()
    trace = Path("mine.jsonl")
    rows: list[Any] = [
        {"id": "good", "at": "2001-02-03T04:05:06Z", "ms": 5},
        {"id": "when", "at": "yesterday", "ms": 5},
        {"id": "ms", "at": "2001-02-03T04:05:06Z", "ms": -5},
        {"id": "ahead", "at": (now + timedelta(days=1)).isoformat(), "ms": 5},
        {"id": "early", "at": "1960-01-01T00:00:00Z", "ms": 5},
        {"id": "text", "at": "2001-02-03T04:05:06Z", "ms": "soon"},
        {"ms": 1},
        {"id": "large", "at": "2001-02-03T04:05:06Z", "ms": 10**30},
    ]
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows) + "garbage\n")

    counts = replay(trace, "--mapping", "own.yaml", "--rejects", "why.jsonl")

    assert counts == {"read": 9, "accepted": 1, "rejected": 8, "skipped": 0, "duplicates": 0}
    assert Run.objects.get().run_id == "good"
    told = {}
    for each in lines_of("why.jsonl"):
        assert each["file"] == "mine.jsonl"
        told[each["row"]] = (each["pointer"], each["reason"])
    assert told[2][1].startswith("`occurred_at`: “yesterday” is no time such as 2026-")
    assert told[3][0] == "/latency_ms"
    assert "more than 5 minutes ahead" in told[4][1]
    assert "lies before 1970" in told[5][1]
    assert told[6] == ("/latency_ms", "`latency_ms`: “soon” is no number.")
    assert told[7] == ("/occurred_at", "`occurred_at`: the record does not say when.")
    assert told[8] == ("/latency_ms", "`latency_ms`: the number is too large.")
    assert told[9][1].startswith("Not JSON")


def test_a_truncated_file_keeps_what_came_before_and_fails(replay: Replay) -> None:
    path = Path("cut.jsonl.gz")
    lines = "".join(
        json.dumps({"id": f"{n}-{os.urandom(20).hex()}", "at": "2001-02-03T04:05:06Z"}) + "\n"
        for n in range(500)
    )
    path.write_bytes(gzip.compress(lines.encode())[:-3000])
    out = io.StringIO()

    with pytest.raises(CommandError, match=r"cut.jsonl.gz: The gzip data end too early"):
        call_command("replay", path, "--mapping", "own.yaml", stdout=out, stderr=io.StringIO())

    counts = json.loads(out.getvalue())
    assert counts["accepted"] == Run.objects.count() > 50
    assert counts["rejected"] == 1


def test_a_wrong_start_says_what_is_wrong_and_writes_nothing(replay: Replay) -> None:
    trace = slow_trace(2)
    wrong = Path("wrong.csv")
    wrong.write_text("TIMESTAMPS,ContextTokens,GeneratedTokens\n2026-03-01 09:00:00,1,1\n")
    for words, told in (
        ((trace, "--mapping", "azure-llm-2032"), "did you mean “azure-llm-2023”"),
        (
            (wrong, "--mapping", "azure-llm-2023"),
            "no column “TIMESTAMP”; did you mean “TIMESTAMPS”",
        ),
        ((Path(), "--mapping", "own.yaml"), "is a folder"),
        (("nowhere.jsonl", "--mapping", "own.yaml"), "No such file"),
        ((trace, trace, "--mapping", "own.yaml"), "Two files are called slow.jsonl"),
        ((trace, "--mapping", "own.yaml", "--speed", "5"), "needs --shift-to-now too"),
        ((trace, "--mapping", "own.yaml", "--speed", "0", "--shift-to-now"), "a number above 0"),
        ((trace, "--mapping", "own.yaml", "--workflow", "A b"), "--workflow is a slug"),
        ((trace, "--mapping", "own.yaml", "--owner", "nobody"), "no person “nobody”"),
    ):
        with pytest.raises(CommandError, match=told):
            replay(*words)
    Person.objects.get(username="olga").memberships.all().delete()
    with pytest.raises(CommandError, match=r"needs an owner.*--owner NAME"):
        replay(trace, "--mapping", "own.yaml")
    assert not Workflow.objects.exists()
    assert not IngestBatch.objects.exists()


def test_history_trips_nothing_and_is_no_traffic(replay: Replay) -> None:
    live = rollout_at(RolloutState.LIVE)
    before = PlanVersion.objects.count()
    path = WorkflowPath.objects.get(workflow=live.workflow, slug="draft")
    Guard.objects.update(evidence_from=timezone.now() - timedelta(hours=1))
    arrived_at = timezone.now() - timedelta(seconds=1)
    latencies = [900.0] * 40
    arrive(path, arrived_at, release_id=live.candidate_id, drain=10**6, latencies=latencies)
    trace = slow_trace()

    counts = replay(trace, "--mapping", "own.yaml")

    now = timezone.now()
    assert (counts["accepted"], Run.objects.count()) == (60, 60)
    looked = guards_look(now=now, reread=True)
    assert looked
    slow = next(each for each in looked if each.guard.slug == "slow").verdict
    assert (slow.verdict, slow.n, slow.data_at) == ("quiet", 40, arrived_at)
    found = traffic(workflow_ids=[live.workflow_id], now=now)[path.pk]
    assert (found.last_arrival_at, found.exposed_share) == (arrived_at, 1.0)
    assert found.tasks_per_min == pytest.approx(480)
    assert sum(MinuteBucket.objects.values_list("n", flat=True)) == 60
    # The plan in force stands; the path it lacks is there, exposed to nobody.
    assert PlanVersion.objects.count() == before
    assert live.workflow.paths.filter(slug="other").exists()
    assert AuditEntry.objects.get(action="paths.added").data == {"paths": ["other"]}


def test_history_is_no_evidence_for_widening_and_no_measured_traffic(replay: Replay) -> None:
    live = rollout_at(RolloutState.LIVE)
    path = WorkflowPath.objects.get(workflow=live.workflow, slug="draft")
    segment = live.workflow.segments.get(slug="internal-ops").pk
    now = timezone.now()
    minute = (now - timedelta(hours=1)).replace(second=0, microsecond=0)
    bucket(path, minute, release_id=live.candidate_id, segment_id=segment, passed=40)
    times = [minute, minute + timedelta(seconds=59.9), minute - timedelta(minutes=30)] * 20
    trace = Path("hour.jsonl")
    trace.write_text(
        "".join(
            json.dumps({"id": f"r{n}", "at": at.isoformat(), "ms": 9}) + "\n"
            for n, at in enumerate(times)
        )
    )

    replay(trace, "--mapping", "own.yaml")
    # Drained and not yet in the minutes: nothing is taken off for it.
    batch_store(
        body=json.dumps([run_item(occurred_at=minute.isoformat())]).encode(),
        content_type=None,
        content_encoding=None,
        principal=REPLAY,
        now=now,
        backfill=True,
    )
    backfill_drain(now=now)

    folded = MinuteBucket.objects.filter(path_id=path.pk).values_list("minute", "n")
    assert dict(folded) == {minute: 80, minute - timedelta(minutes=30): 20}
    span: dict[str, Any] = {"path_ids": [path.pk], "since": now - timedelta(hours=2), "until": now}
    assert candidate_runs(release_id=live.candidate_id, **span) == 40
    found = segment_tasks(**span)
    assert found == {path.pk: SegmentTasks({segment: 40}, minute)}


def test_shifted_to_now_it_goes_through_the_live_door(replay: Replay) -> None:
    live = rollout_at(RolloutState.LIVE)
    trace = Path("old.jsonl")
    start = datetime(2019, 1, 1, tzinfo=UTC)
    trace.write_text(
        "".join(
            json.dumps({"id": f"r{n}", "at": (start + timedelta(days=n)).isoformat(), "ms": 9000})
            + "\n"
            for n in range(60)
        )
    )
    began = timezone.now()

    counts = replay(trace, "--mapping", "own.yaml", "--shift-to-now")

    assert counts["accepted"] == 60
    newest, oldest = Run.objects.latest("occurred_at"), Run.objects.earliest("occurred_at")
    assert began <= newest.occurred_at <= timezone.now()
    assert newest.occurred_at - oldest.occurred_at == timedelta(days=59)
    guards_watch(now=over(timezone.now()))
    slow = Guard.objects.get(slug="slow", rollout=live.slug)
    assert (slow.verdict.verdict, slow.verdict.n) == ("tripped", 60)


def test_shifted_a_second_time_its_observations_count_again_too(replay: Replay) -> None:
    words = (SAMPLES / "aider.jsonl", "--mapping", "aider-telemetry", "--workflow", "code")

    for times in (1, 2):
        counts = replay(*words, "--shift-to-now")

        assert (counts["accepted"], counts["duplicates"]) == (5, 0)
        assert Run.objects.count() == 4 * times
        assert sum(MinuteBucket.objects.values_list("feedback_negative", flat=True)) == times
    ids = set(Observation.objects.values_list("observation_id", flat=True))
    assert {each.partition("@")[0] for each in ids} == {"aider.jsonl:5"}


def test_played_at_a_speed_it_lasts_as_long_as_it_should(replay: Replay) -> None:
    trace = Path("played.jsonl")
    start = datetime(2019, 1, 1, tzinfo=UTC)
    trace.write_text(
        "".join(
            json.dumps({"id": f"r{n}", "at": (start + timedelta(minutes=n)).isoformat(), "ms": 9})
            + "\n"
            for n in range(4)
        )
    )
    began = timezone.now()

    counts = replay(trace, "--mapping", "own.yaml", "--shift-to-now", "--speed", "600")

    assert counts["accepted"] == 4
    times = list(Run.objects.order_by("occurred_at").values_list("occurred_at", flat=True))
    assert [(later - times[0]).total_seconds() for later in times] == pytest.approx(
        [0, 0.1, 0.2, 0.3], abs=1e-3
    )
    assert began <= times[0]
    assert IngestBatch.objects.count() > 1


def test_live_batches_are_drained_before_history_and_one_group_a_round() -> None:
    rollout_at(RolloutState.LIVE)
    caches_forget()
    now = timezone.now()
    for backfill in (True, True, False):
        for _ in range(2):
            batch_store(
                body=json.dumps([run_item() for _ in range(8_000 if backfill else 2)]).encode(),
                content_type=None,
                content_encoding=None,
                principal=REPLAY,
                now=now - timedelta(minutes=4),
                backfill=backfill,
            )
    # What is live and waits makes guards blind; history does not.
    assert queue_state(now=now).oldest_age_s == pytest.approx(240)

    assert batches_drain(now=now) == 3

    left = IngestBatch.objects.filter(state="pending")
    assert set(left.values_list("backfill", flat=True)) == {True}
    assert left.count() == 3
    state = queue_state(now=now)
    assert (state.pending, state.oldest_age_s) == (3, None)
    assert [backfill_drain(now=now) for _ in range(4)] == [1, 1, 1, 0]


@pytest.mark.django_db(transaction=True)
def test_ctrl_c_ends_a_played_trace_with_its_line(
    stack_env: dict[str, str], tmp_path: Path
) -> None:
    people()
    person("olga", Role.OWNER)
    (tmp_path / "own.yaml").write_text(OWN)
    trace = tmp_path / "long.jsonl"
    start = datetime(2019, 1, 1, tzinfo=UTC)
    trace.write_text(
        "".join(
            json.dumps({"id": f"r{n}", "at": (start + timedelta(hours=n)).isoformat()}) + "\n"
            for n in range(5)
        )
    )
    words = ["replay", "long.jsonl", "--mapping", "own.yaml", "--shift-to-now", "--speed", "1"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), *words],
        cwd=tmp_path,
        env=stack_env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The first run is stored at once, the second an hour later.
    until = time.monotonic() + 60
    while not IngestBatch.objects.exists() and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    assert json.loads(out) == {
        "read": 1,
        "accepted": 1,
        "rejected": 0,
        "skipped": 0,
        "duplicates": 0,
    }
    assert Run.objects.count() == 1
