"""Evidence from the ledger: each row once, in recorded order, whoever looks and however often."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rollout_console.catalog.models import WorkflowPath
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.buckets.blocks import block_of, blocks_close, drains_in
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE
from signals.buckets.models import (
    ArrivalLedger,
    EvidenceBlock,
    FailureLedger,
    HourBucket,
    MinuteBucket,
)
from signals.guards.models import Guard, GuardState, Verdict
from signals.guards.services import guards_define, guards_look
from signals.ingest.ids import uuid7
from signals.ingest.models import IngestBatch
from tests.factories import rollout_at
from tests.ledger import arrive, bucket

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 24, 9, 0, 2, tzinfo=UTC)
ONE_OF_EACH: list[dict[str, Any]] = [
    {"signal": "quality_pass_rate", "compare": "stable", "margin": 0.02},
    {"signal": "quality_pass_rate", "compare": "limit", "limit": 0.9},
    {"signal": "latency_p95_ms", "compare": "limit", "limit": 3000},
    {"signal": "latency_p95_ms", "compare": "stable", "margin": 200},
    {"signal": "cost_per_task_usd", "compare": "limit", "limit": 0.05},
    {"signal": "cost_per_task_usd", "compare": "stable"},
    {"signal": "quality_score", "compare": "limit", "limit": 0.7},
    {"signal": "quality_score", "compare": "stable", "margin": 0.05},
    {"signal": "retry_rate", "compare": "stable", "margin": 0.1},
    {"signal": "repeated_failures", "compare": "stable"},
    {"signal": "quality_pass_rate", "compare": "stable"},
    {"signal": "quality_pass_rate", "compare": "history"},
    {"signal": "latency_p95_ms", "compare": "history"},
    {"signal": "cost_per_task_usd", "compare": "history"},
    {"signal": "review_arrivals_per_hour", "compare": "limit", "limit": 40},
]


@pytest.fixture
def rollout() -> Rollout:
    """A live rollout with a trigger and a criterion of every method, watching since `START`."""
    found = rollout_at(RolloutState.LIVE)
    common = {"path": "draft", "min_n": 10, "window_s": 900}
    guards_define(
        workflow=found.workflow,
        rollout_slug=found.slug,
        candidate=found.candidate,
        paths=[each.path for each in found.rollout_paths.select_related("path")],
        document={
            "rollout": {
                "triggers": [{"slug": f"t{n}", **common, **g} for n, g in enumerate(ONE_OF_EACH)],
                "criteria": [{"slug": f"c{n}", **common, **g} for n, g in enumerate(ONE_OF_EACH)],
            }
        },
        now=START,
    )
    Guard.objects.filter(retired_at=None).update(armed=True, evidence_from=START)
    usual_days(found)
    return found


def usual_days(rollout: Rollout) -> None:
    """Let the stable release have passed nine of ten tasks, in every hour of a week."""
    path = WorkflowPath.objects.get(workflow=rollout.workflow, slug="draft")
    for hour in range(7 * 24):
        made = bucket(
            path,
            START.replace(hour=0, minute=0, second=0) - timedelta(hours=hour + 1),
            release_id=rollout.stable_id,
            arm=ARM_STABLE,
            passed=36,
            failed=4,
            latencies=[200.0 + 30 * (i % 40) for i in range(40)],
            costs=[0.01 + 0.001 * (i % 40) for i in range(40)],
        )
        fields = {f.attname: getattr(made, f.attname) for f in MinuteBucket._meta.concrete_fields}
        fields.pop("id", None)
        HourBucket.objects.create(**fields)


def received(at: datetime, *, drained: bool = True, **fields: Any) -> IngestBatch:
    return IngestBatch.objects.create(
        id=uuid7(),
        received_at=at,
        token_name="test",
        n_accepted=1,
        n_rejected=0,
        body_bytes=0,
        state="drained" if drained else "pending",
        folded_at=at,
        evidence_due=True,
        **fields,
    )


def bring(rollout: Rollout, batch: IngestBatch, seed: int) -> None:
    """Let a batch bring some tasks of both arms, all of it decided by `seed`."""
    path = WorkflowPath.objects.get(workflow=rollout.workflow, slug="draft")
    for arm, release_id in ((ARM_CANDIDATE, rollout.candidate_id), (ARM_STABLE, rollout.stable_id)):
        n = 3 + (seed * 7 + arm) % 23
        failed = (seed * arm) % (n // 2 + 1)
        row = arrive(
            path,
            batch.received_at,
            release_id=release_id,
            arm=arm,
            segment_id=1 + seed % 3,
            drain=batch.seq,
            passed=n - failed,
            failed=failed,
            latencies=[200.0 + 37 * ((seed + i * arm) % 90) for i in range(n)],
            costs=[0.01 + 0.001 * ((seed * i) % 60) for i in range(n)],
            input_condition=seed % 2,
            score_n=n,
            score_sum=0.8 * n - 0.1 * failed,
            score_sq=0.7 * n,
            retries_n=n,
            retries_sum=seed % 5,
            retries_sq=seed % 5,
        )
        key = {f: getattr(row, f) for f in ("minute", "workflow_id", "path_id", "segment_id")}
        FailureLedger.objects.create(
            **key,
            **{f: getattr(row, f) for f in ("release_id", "arm", "mode", "input_condition")},
            risk=row.risk,
            drain=row.drain,
            arrived_at=row.arrived_at,
            n=failed,
            category=f"kind-{seed % 4}",
            subjects=[],
        )


def states() -> dict[str, tuple[Any, ...]]:
    rows = GuardState.objects.select_related("guard")
    return {
        row.guard.slug: (row.log_worse, row.log_fine, row.told, row.first_block, row.told_block)
        for row in rows
    }


def same(one: dict[str, tuple[Any, ...]], other: dict[str, tuple[Any, ...]]) -> None:
    assert one.keys() == other.keys()
    for slug, (worse, fine, told, *blocks) in one.items():
        assert worse == pytest.approx(other[slug][0], rel=1e-9, abs=1e-9), slug
        assert fine == (fine and pytest.approx(other[slug][1], rel=1e-9, abs=1e-9)), slug
        assert told["total"] == pytest.approx(other[slug][2]["total"]), slug
        assert {**told, "total": 0} == {**other[slug][2], "total": 0}, slug
        assert tuple(blocks) == other[slug][3:], slug


def look(after_s: float) -> None:
    guards_look(now=START + timedelta(seconds=after_s), reread=True)


@given(
    told=st.lists(
        st.tuples(st.integers(1, 900), st.integers(0, 60), st.integers(0, 10**6)),
        min_size=4,
        max_size=14,
    ),
    often=st.lists(st.integers(0, 960), max_size=8),
)
@settings(
    max_examples=8,
    deadline=None,
    # An example is a whole life on a real database: what fails is not made smaller.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_evidence_is_the_same_however_often_somebody_looks(
    rollout: Rollout, told: list[tuple[int, int, int]], often: list[int]
) -> None:
    """Batches arrive, and are drained later and in another order; looks come in between."""
    for model in (GuardState, EvidenceBlock, ArrivalLedger, FailureLedger, IngestBatch):
        model.objects.all().delete()
    batches = [
        (received(START + timedelta(seconds=at), drained=False), at + late, seed)
        for at, late, seed in sorted(told)
    ]
    # What is drained later was received all the same: nothing after it closes before.
    events: list[tuple[int, int, Any]] = [
        *((done, 0, (batch, seed)) for batch, done, seed in batches),
        *((at, 1, None) for at in often),
    ]
    for at, _, work in sorted(events, key=lambda event: event[:2]):
        if work is None:
            look(at)
            continue
        batch, seed = work
        bring(rollout, batch, seed)
        IngestBatch.objects.filter(pk=batch.pk).update(state="drained")
    look(970)
    step_by_step = states()
    blocks = list(EvidenceBlock.objects.order_by("number"))
    assert set(drains_in(blocks)) == {batch.seq for batch, *_ in batches}

    GuardState.objects.all().delete()
    look(970)
    same(states(), step_by_step)

    EvidenceBlock.objects.all().delete()
    GuardState.objects.all().delete()
    IngestBatch.objects.update(evidence_due=True)
    look(970)
    same(states(), step_by_step)
    assert [b.number for b in EvidenceBlock.objects.order_by("number")] == [
        block.number for block in blocks
    ]


def numbers(*batches: IngestBatch) -> Sequence[int | None]:
    held = drains_in(EvidenceBlock.objects.all())
    return [held.get(batch.seq) for batch in batches]


def test_a_block_closes_when_it_is_over_and_nothing_of_it_waits() -> None:
    first, second = received(START), received(START + timedelta(seconds=5))
    waiting = received(START + timedelta(seconds=6), drained=False)
    own = block_of(START)

    assert blocks_close(now=START + timedelta(seconds=2)) == 0
    assert blocks_close(now=START + timedelta(seconds=20)) == own
    assert numbers(first, second, waiting) == [own, None, None]

    IngestBatch.objects.filter(pk=waiting.pk).update(state="drained")
    assert blocks_close(now=START + timedelta(seconds=20)) == own + 1
    assert numbers(first, second, waiting) == [own, own + 1, own + 1]
    # Nothing is taken twice.
    assert blocks_close(now=START + timedelta(seconds=60)) == own + 1
    assert EvidenceBlock.objects.count() == 2


def test_what_comes_late_joins_the_next_block_and_holds_nobody_up() -> None:
    """A batch that failed once, labels that were counted later, a clock that went back."""
    failed = received(START, drained=False, attempts=1)
    later = received(START + timedelta(seconds=30))
    own = block_of(START + timedelta(seconds=30))
    assert blocks_close(now=START + timedelta(seconds=40)) == own
    assert numbers(failed, later) == [None, own]

    IngestBatch.objects.filter(pk=failed.pk).update(state="drained")
    assert blocks_close(now=START + timedelta(seconds=41)) == own + 1
    assert numbers(failed) == [own + 1]

    back = received(START - timedelta(hours=1))
    assert blocks_close(now=START - timedelta(minutes=50)) == own + 2
    assert numbers(back) == [own + 2]


def test_history_that_is_filled_in_is_no_evidence(rollout: Rollout) -> None:
    batch = received(START + timedelta(seconds=30), backfill=True)
    IngestBatch.objects.filter(pk=batch.pk).update(evidence_due=False)
    bring(rollout, batch, 5)
    ArrivalLedger.objects.update(backfill=True)
    FailureLedger.objects.update(backfill=True)
    bring(rollout, received(START + timedelta(seconds=31)), 6)

    look(60)

    held = GuardState.objects.get(guard__slug="t1")
    assert held.told["n"] == [3 + (6 * 7 + ARM_CANDIDATE) % 23, 0]


def test_a_repaired_ledger_makes_evidence_anew(rollout: Rollout) -> None:
    bring(rollout, received(START + timedelta(seconds=30)), 6)
    look(60)
    ArrivalLedger.objects.filter(arm=ARM_CANDIDATE).update(quality_n=11, quality_passed=2)
    # What counting again leaves behind, to say so.
    IngestBatch.objects.filter(pk=received(START + timedelta(seconds=61)).pk).update(n_accepted=0)

    look(70)

    held = GuardState.objects.get(guard__slug="t1")
    assert (held.told["n"][0], held.told["bad"][0]) == (11, 9)


def verdict(slug: str) -> Verdict:
    return Verdict.objects.get(guard__slug=slug, guard__retired_at=None)


def tasks(rollout: Rollout, at: datetime, *, arm: int = ARM_CANDIDATE, **told: Any) -> None:
    path = WorkflowPath.objects.get(workflow=rollout.workflow, slug="draft")
    release_id = rollout.candidate_id if arm == ARM_CANDIDATE else rollout.stable_id
    arrive(path, at, release_id=release_id, arm=arm, segment_id=1, **told)


def test_the_paths_own_past_is_a_reference(rollout: Rollout) -> None:
    """As many failures as stable had hold; three times as many trip, without a stable arm."""
    for minute in range(40):
        tasks(rollout, START + timedelta(seconds=60 * minute + 5), passed=19, failed=1)
    look(2360)
    quiet, fine = verdict("t11"), verdict("c11")
    assert (quiet.verdict, fine.verdict) == ("quiet", "holding"), (quiet.sentence, fine.sentence)
    assert quiet.evidence["method"] == "history"
    assert quiet.sentence.endswith("inside what its past makes plausible.")

    for minute in range(40, 60):
        tasks(rollout, START + timedelta(seconds=60 * minute + 5), passed=14, failed=6)
    look(3560)
    assert (verdict("t11").verdict, verdict("c11").verdict) == ("tripped", "failing")
    assert "below what its past makes plausible; by chance: less than 1 in" in (
        verdict("t11").sentence
    )


@pytest.mark.parametrize(("every_s", "word"), [(100, "quiet"), (20, "tripped")])
def test_what_comes_in_an_hour_is_held_against_the_clock(
    rollout: Rollout, every_s: int, word: str
) -> None:
    """36 an hour against 40 is quiet for hours, 180 is not; in bursts or not."""
    for n in range(3600 // every_s):
        at = START + timedelta(seconds=every_s * n + 3)
        tasks(rollout, at, passed=4, review_requested=1)

    look(3600 + 10)

    found = verdict("t14")
    assert found.verdict == word, found.sentence
    assert found.evidence["method"] == "betting"


def test_a_past_that_nobody_knows_is_said(rollout: Rollout) -> None:
    HourBucket.objects.all().delete()
    tasks(rollout, START + timedelta(seconds=5), passed=90)

    look(20)

    assert verdict("c11").verdict == "undecided"
    assert "no past of the stable release to compare with" in verdict("c11").sentence


def test_an_outage_of_both_releases_is_not_blamed_on_the_release(rollout: Rollout) -> None:
    def minutes(first: int, last: int, *, failed: int) -> None:
        for minute in range(first, last):
            at = START + timedelta(seconds=60 * minute + 5)
            for arm in (ARM_CANDIDATE, ARM_STABLE):
                tasks(rollout, at, arm=arm, passed=20 - failed, failed=failed)

    minutes(0, 60, failed=1)
    minutes(60, 75, failed=9)

    look(4460)

    found = verdict("t10")
    assert found.verdict != "tripped"
    assert "both releases got worse together; not blamed on the release" in found.sentence
