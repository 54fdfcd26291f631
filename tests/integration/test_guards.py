"""Guards on the real ledger: defined, armed, looked at."""

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import DjangoAssertNumQueries

from rollout_console.catalog.models import Release, WorkflowPath
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.buckets.models import ArrivalLedger
from signals.guards.models import Guard, Verdict, VerdictChange
from signals.guards.selectors import signal_cells, verdict_rows
from signals.guards.services import (
    guards_arm,
    guards_define,
    guards_disarm,
    guards_evaluate,
    guards_look,
)
from signals.ingest.ids import uuid7
from signals.ingest.models import IngestBatch
from tests.factories import rollout_at
from tests.ledger import arrive

pytestmark = pytest.mark.django_db


@pytest.fixture
def live() -> Rollout:
    """A live rollout whose guards started to watch ten minutes ago."""
    rollout = rollout_at(RolloutState.LIVE)
    Guard.objects.filter(rollout=rollout.slug).update(
        evidence_from=timezone.now() - timedelta(minutes=10)
    )
    return rollout


@pytest.fixture
def path(live: Rollout) -> WorkflowPath:
    return WorkflowPath.objects.get(workflow=live.workflow, slug="draft")


def verdict(guard: str) -> Verdict:
    return Verdict.objects.get(guard__slug=guard, guard__retired_at=None)


def define(rollout: Rollout, **plan: Any) -> list[Guard]:
    return guards_define(
        workflow=rollout.workflow,
        rollout_slug=rollout.slug,
        candidate=rollout.candidate,
        paths=[each.path for each in rollout.rollout_paths.select_related("path")],
        document={"rollout": plan},
        now=timezone.now(),
    )


def trigger(slug: str = "one", **fields: Any) -> dict[str, Any]:
    return {
        "slug": slug,
        "path": "draft",
        "signal": "quality_pass_rate",
        "compare": "limit",
        "limit": 0.85,
        "window_s": 30,
        "min_n": 20,
        **fields,
    }


def test_a_bad_minute_trips_and_the_verdict_carries_its_numbers(
    live: Rollout, path: WorkflowPath
) -> None:
    now = timezone.now()
    arrive(path, now - timedelta(seconds=3), release_id=live.candidate_id, passed=30, failed=30)
    arrive(
        path,
        now - timedelta(seconds=1),
        release_id=live.candidate_id,
        passed=30,
        failed=10,
    )
    newest = ArrivalLedger.objects.latest("pk").drain

    changed = guards_evaluate(now=now)

    assert "quality-low" in {each.guard.slug for each in changed}
    found = verdict("quality-low")
    assert (found.verdict, found.n, found.value) == ("tripped", 100, 0.6)
    assert (round(found.low or 0, 4), round(found.high or 0, 4)) == (0.4343, 0.7514)
    assert found.data_at == now - timedelta(seconds=1)
    assert found.ledger_block == newest
    assert found.sentence == (
        "Quality: 60.0 % of tasks passed (95 % range 43.4–75.1 %, last 30 s, n 100),"  # noqa: RUF001
        " below the agreed 85 %; by chance: less than 1 in 1,000,000."
    )
    assert found.evidence["e_value_mean"] >= found.evidence["threshold"] == 20
    assert (found.evidence["method"], found.evidence["shared_by"]) == ("limit", 2)
    assert found.evidence["candidate"] == {"n": 100, "bad": 40, "sum": 0.0}
    change = VerdictChange.objects.get(guard=found.guard)
    assert (change.verdict, change.n, change.at) == ("tripped", 100, now)


def test_only_the_candidate_in_mode_normal_and_in_time_counts(
    live: Rollout, path: WorkflowPath
) -> None:
    now = timezone.now()
    at = now - timedelta(seconds=1)
    arrive(path, at, release_id=live.candidate_id, passed=100)
    arrive(path, at, release_id=live.stable_id, arm=1, failed=500)
    arrive(path, at, release_id=live.candidate_id, mode=3, failed=500)
    arrive(path, now - timedelta(minutes=11), release_id=live.candidate_id, failed=500)
    other = Release.objects.create(workflow=live.workflow, version="old", created_at=now)
    arrive(path, at, release_id=other.pk, failed=500)

    guards_evaluate(now=now)

    found = verdict("quality-low")
    assert (found.verdict, found.n, found.value) == ("quiet", 100, 1.0)


def test_evidence_starts_when_the_guard_was_armed(live: Rollout, path: WorkflowPath) -> None:
    now = timezone.now()
    Guard.objects.update(evidence_from=now - timedelta(seconds=5))
    arrive(path, now - timedelta(seconds=6), release_id=live.candidate_id, failed=500)
    arrive(path, now - timedelta(seconds=1), release_id=live.candidate_id, passed=40)

    guards_evaluate(now=now)

    assert (verdict("quality-low").verdict, verdict("quality-low").n) == ("quiet", 40)


def test_a_batch_drained_late_is_judged_as_on_time(live: Rollout, path: WorkflowPath) -> None:
    """The window ends at the newest arrival: a slow drain must not hide what a short one saw."""
    now = timezone.now()
    define(live, triggers=[trigger(window_s=2)])
    Guard.objects.filter(slug="one").update(armed=True, evidence_from=now - timedelta(minutes=10))
    arrive(path, now - timedelta(seconds=9), release_id=live.candidate_id, failed=60)

    guards_evaluate(now=now)

    assert verdict("one").verdict == "tripped"


def test_silence_is_blind_and_keeps_the_last_numbers(live: Rollout, path: WorkflowPath) -> None:
    now = timezone.now()
    arrive(path, now, release_id=live.candidate_id, passed=60)
    guards_evaluate(now=now)
    assert verdict("quality-low").verdict == "quiet"

    guards_evaluate(now=now + timedelta(seconds=31))

    found = verdict("quality-low")
    assert (found.verdict, found.n, found.value) == ("blind", 60, 1.0)
    [row] = [
        r
        for r in verdict_rows([live.slug], now + timedelta(seconds=31))
        if r.guard == "quality-low"
    ]
    assert (row.verdict, row.age_s) == ("blind", 31.0)
    [quality, *_] = signal_cells([live.slug], now + timedelta(seconds=31))[live.slug]
    assert (quality.signal, quality.state) == ("quality_pass_rate", "stale")


def test_a_signal_that_stops_while_tasks_go_on_is_blind(live: Rollout, path: WorkflowPath) -> None:
    now = timezone.now()
    arrive(path, now, release_id=live.candidate_id, passed=60)
    guards_evaluate(now=now)
    for second in range(1, 40):
        arrive(
            path,
            now + timedelta(seconds=second),
            release_id=live.candidate_id,
            latencies=[900.0],
        )

    guards_evaluate(now=now + timedelta(seconds=40))

    assert verdict("quality-low").verdict == "blind"


def test_nothing_ever_reported_is_open_then_blind(live: Rollout) -> None:
    now = timezone.now()
    Guard.objects.update(evidence_from=now)
    guards_evaluate(now=now + timedelta(seconds=5))
    assert verdict("quality-low").verdict == "watching"
    assert verdict("cost-inside").verdict == "undecided"
    guards_evaluate(now=now + timedelta(seconds=31))
    assert verdict("quality-low").verdict == "blind"


def test_waiting_reports_make_every_guard_blind(live: Rollout, path: WorkflowPath) -> None:
    now = timezone.now()
    arrive(path, now, release_id=live.candidate_id, passed=60)
    IngestBatch.objects.create(
        id=uuid7(),
        received_at=now - timedelta(seconds=61),
        token_name="t",
        n_accepted=1,
        n_rejected=0,
        body=b"x",
        body_bytes=1,
    )

    guards_evaluate(now=now)

    assert set(Verdict.objects.values_list("verdict", flat=True)) == {"blind"}


def test_a_hard_cap_sees_every_arrival_however_short_its_window(
    live: Rollout, path: WorkflowPath
) -> None:
    now = timezone.now()
    define(
        live,
        triggers=[
            trigger(
                "cap",
                signal="cost_per_task_usd",
                compare="hard_cap",
                limit=2.0,
                window_s=1,
                min_n=None,
            )
        ],
    )
    Guard.objects.filter(slug="cap").update(armed=True, evidence_from=now - timedelta(minutes=1))
    arrive(path, now, release_id=live.candidate_id, costs=[0.05])
    guards_evaluate(now=now)
    assert verdict("cap").verdict == "quiet"
    # One look later two batches came; the costly one is no longer in the last second.
    arrive(path, now + timedelta(seconds=3), release_id=live.candidate_id, costs=[2.4])
    arrive(path, now + timedelta(seconds=6), release_id=live.candidate_id, costs=[0.05])

    guards_evaluate(now=now + timedelta(seconds=6))

    assert (verdict("cap").verdict, verdict("cap").value) == ("tripped", 2.4)


def test_stable_is_compared_where_the_candidate_ran(live: Rollout, path: WorkflowPath) -> None:
    now = timezone.now()
    define(live, triggers=[trigger(compare="stable", limit=None, margin=0.02)])
    Guard.objects.filter(slug="one").update(armed=True, evidence_from=now - timedelta(minutes=1))
    arrive(path, now, release_id=live.candidate_id, segment_id=5, passed=140, failed=60)
    arrive(path, now, release_id=live.stable_id, arm=1, segment_id=5, passed=190, failed=10)
    # Another segment's stable tasks are other people's, and would hide the harm.
    arrive(path, now, release_id=live.stable_id, arm=1, segment_id=6, failed=5000)

    guards_evaluate(now=now)

    found = verdict("one")
    assert (found.verdict, found.n) == ("tripped", 200)
    assert found.sentence == (
        "Quality, worse than stable by more than the 2 points allowed: 70.0 % against 95.0 %"
        " (n 200 and 200, last 30 s); a difference like this by chance: less than 1 in 1,000,000."
    )


def test_a_guard_of_a_segment_counts_that_segment_only(live: Rollout, path: WorkflowPath) -> None:
    now = timezone.now()
    [guard] = define(live, triggers=[trigger(segment="internal-ops")])
    Guard.objects.filter(slug="one").update(armed=True, evidence_from=now - timedelta(minutes=1))
    arrive(path, now, release_id=live.candidate_id, segment_id=guard.segment_id, passed=50)
    arrive(path, now, release_id=live.candidate_id, segment_id=0, failed=50)

    guards_evaluate(now=now)

    assert (verdict("one").verdict, verdict("one").n) == ("quiet", 50)


def test_the_same_definition_keeps_its_row_and_a_changed_one_is_a_new_version(
    live: Rollout,
) -> None:
    before = define(live, triggers=[trigger(), trigger("two", limit=0.9)])
    again = define(live, triggers=[trigger(), trigger("two", limit=0.8)])

    assert again[0].pk == before[0].pk
    assert (again[1].version, again[1].limit) == (2, 0.8)
    old = Guard.objects.get(pk=before[1].pk)
    assert old.retired_at is not None
    assert not old.armed
    define(live)
    assert not Guard.objects.filter(rollout=live.slug, retired_at=None).exists()
    [third] = define(live, triggers=[trigger("two", limit=0.8)])
    assert third.version == 3


def test_arming_forgets_what_an_earlier_arming_said(live: Rollout, path: WorkflowPath) -> None:
    now = timezone.now()
    arrive(path, now, release_id=live.candidate_id, failed=60)
    guards_evaluate(now=now)
    assert verdict("quality-low").verdict == "tripped"
    guards_disarm(rollout_slug=live.slug, now=now)
    assert guards_evaluate(now=now + timedelta(seconds=1)) == []
    assert verdict("quality-low").verdict == "tripped"

    guards_arm(rollout_slug=live.slug, now=now + timedelta(seconds=2))

    assert not Verdict.objects.exists()
    guards_evaluate(now=now + timedelta(seconds=3))
    assert verdict("quality-low").verdict == "watching"
    # Arming again moves nothing.
    assert guards_arm(rollout_slug=live.slug, now=now + timedelta(seconds=9)) == 0


def test_disarming_locks_guards_in_the_order_of_everybody_else(live: Rollout) -> None:
    with CaptureQueriesContext(connection) as asked:
        assert guards_disarm(rollout_slug=live.slug, now=timezone.now()) == 5

    (lock,) = [each["sql"] for each in asked if "FOR NO KEY UPDATE" in each["sql"]]
    assert lock.endswith("ORDER BY 1 ASC FOR NO KEY UPDATE")
    assert not Guard.objects.filter(armed=True).exists()


def test_rows_and_cells_before_anything_is_known() -> None:
    rollout = rollout_at(RolloutState.READY)
    rows = verdict_rows([rollout.slug], timezone.now())
    assert {row.sentence for row in rows} == {"Starts to watch when the rollout goes live."}
    assert {row.verdict for row in rows if row.kind == "trigger"} == {"watching"}
    cells = signal_cells([rollout.slug], timezone.now())[rollout.slug]
    assert [cell.signal for cell in cells] == [
        "quality_pass_rate",
        "latency_p95_ms",
        "cost_per_task_usd",
    ]
    assert {cell.state for cell in cells} == {"too_few"}


def test_cells_show_value_limit_and_share_used(live: Rollout, path: WorkflowPath) -> None:
    now = timezone.now()
    arrive(
        path,
        now,
        release_id=live.candidate_id,
        passed=190,
        failed=10,
        latencies=[3000.0] * 200,
        costs=[0.05] * 200,
    )
    guards_evaluate(now=now)

    cells = {cell.signal: cell for cell in signal_cells([live.slug], now)[live.slug]}

    quality = cells["quality_pass_rate"]
    assert (quality.value_text, quality.limit_text, quality.state) == ("95.0 %", "≥ 85 %", "inside")
    assert quality.used_share == pytest.approx(0.05 / 0.15)
    used = [quality.low_used, quality.used_share, quality.high_used]
    assert used == sorted(share or 0.0 for share in used)
    assert (quality.n, quality.age_s, quality.path_slug) == (200, 0.0, "draft")
    assert cells["latency_p95_ms"].value == pytest.approx(3000, rel=0.011)


def test_reading_costs_the_same_however_many_guards(
    live: Rollout, path: WorkflowPath, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    define(live, triggers=[trigger(f"g{place}") for place in range(12)])
    Guard.objects.filter(retired_at=None).update(
        armed=True, evidence_from=timezone.now() - timedelta(minutes=1)
    )
    arrive(path, timezone.now(), release_id=live.candidate_id, passed=60)
    # Savepoints, lock, guards; the block that closed; states, their drains and rows; drain, queue,
    # arrivals, sums, verdicts, changes.
    with django_assert_num_queries(23):
        guards_evaluate(now=timezone.now())
    with django_assert_num_queries(1):
        verdict_rows([live.slug], timezone.now())
    with django_assert_num_queries(1):
        signal_cells([live.slug], timezone.now())


def test_an_unchanged_verdict_is_not_written_again_at_once(
    live: Rollout, path: WorkflowPath
) -> None:
    now = timezone.now()
    arrive(path, now, release_id=live.candidate_id, passed=60)
    guards_evaluate(now=now)
    guards_evaluate(now=now + timedelta(seconds=1))
    assert verdict("quality-low").evaluated_at == now
    guards_evaluate(now=now + timedelta(seconds=5))
    assert verdict("quality-low").evaluated_at == now + timedelta(seconds=5)
    assert verdict("quality-low").since == now
    assert VerdictChange.objects.filter(guard__slug="quality-low").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_second_look_at_the_same_time_steps_aside() -> None:
    rollout_at(RolloutState.LIVE)
    seen: list[Any] = []

    def second(now: datetime) -> None:
        try:
            seen.append(guards_look(now=now))
        finally:
            connection.close()

    with transaction.atomic():
        assert guards_look(now=timezone.now()) != []
        thread = threading.Thread(target=second, args=[timezone.now()])
        thread.start()
        thread.join(timeout=20)
    assert seen == [None]
