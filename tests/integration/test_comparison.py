"""Two releases beside each other: what is compared, with what, and equal over page and API."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.catalog.models import WorkflowPath
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.release_rows import release_rows
from rollout_console.rollouts.states import RolloutState
from signals.buckets.comparison import Comparison, comparison_read
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE, ARM_UNKNOWN, MODES
from signals.buckets.models import HourBucket, MinuteBucket, StaleBucket, StoredDay
from signals.stats.intervals import difference_interval, mean_interval
from tests.factories import rollout_at, token
from tests.ledger import bucket
from tests.matrix import logged_in

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


@pytest.fixture
def live() -> Rollout:
    return rollout_at(RolloutState.LIVE)


@pytest.fixture
def path(live: Rollout) -> WorkflowPath:
    return WorkflowPath.objects.get(workflow=live.workflow, slug="draft")


def minute(count: int) -> datetime:
    return START + timedelta(minutes=count)


def read(live: Rollout, path: WorkflowPath) -> Comparison:
    assert live.stable_id is not None
    return comparison_read(
        path_id=path.pk,
        candidate_id=live.candidate_id,
        stable_id=live.stable_id,
        since=minute(-600),
        until=minute(600),
    )


def segments(live: Rollout) -> tuple[int, int]:
    found = dict(live.workflow.segments.values_list("slug", "pk"))
    return found["internal-ops"], found["eu-customers"]


def asked(**query: Any) -> Any:
    secret, _ = token(Scope.READ)
    answer = Client().get(
        "/api/v1/workflows/support-reply/comparison",
        {"path": "draft", "from": minute(-600).isoformat(), "to": minute(600).isoformat(), **query},
        headers={"Authorization": f"Bearer {secret}"},
    )
    return answer


def test_concurrent_is_the_same_segments_at_the_same_time(
    live: Rollout, path: WorkflowPath
) -> None:
    team, eu = segments(live)
    candidate: dict[str, Any] = {"release_id": live.candidate_id, "segment_id": team}
    stable: dict[str, Any] = {"release_id": live.stable_id, "arm": ARM_STABLE}
    for count in range(4):
        bucket(path, minute(count), passed=9, failed=1, **candidate)
        if count != 2:
            bucket(path, minute(count), passed=1, segment_id=team, **stable)
        # Served to others, and before: neither compares.
        bucket(path, minute(count), failed=50, segment_id=eu, **stable)
    bucket(path, minute(-120), failed=70, segment_id=team, **stable)
    # A task that a fallback moved to stable is the candidate's, as its arm says.
    moved: dict[str, Any] = {
        "segment_id": team,
        "arm": ARM_CANDIDATE,
        "mode": MODES["previous_stable"],
    }
    bucket(path, minute(1), release_id=live.stable_id, failed=2, **moved)
    bucket(path, minute(1), release_id=live.candidate_id, mode=MODES["read_only"], n=3)

    found = read(live, path)

    assert found.window.basis == "concurrent"
    assert (found.window.start, found.window.end) == (minute(0), minute(4))
    assert found.window.segment_ids == frozenset({team})
    assert (found.candidate.normal.n, found.candidate.fallback.n) == (40, 2)
    assert (found.stable.normal.n, found.stable.fallback.n) == (3, 0)
    assert (found.step_s, found.steps_both, found.steps) == (60, 3, 4)
    assert found.candidate_times == (minute(0), minute(3))
    assert "Both had tasks in 3 of 4 minutes" in found.sentence
    told = asked().json()
    assert told["basis"]["kind"] == "concurrent"
    assert told["basis"]["segments"] == ["internal-ops"]
    assert (told["candidate"]["n"], told["stable"]["n"]) == (42, 3)


def test_one_after_the_other_is_observed(live: Rollout, path: WorkflowPath) -> None:
    team, _ = segments(live)
    for count in range(10):
        bucket(
            path,
            minute(count),
            release_id=live.stable_id,
            arm=ARM_STABLE,
            segment_id=team,
            passed=5,
        )
    # A straggler in the candidate's first minute makes nothing concurrent.
    for count in range(9, 20):
        bucket(path, minute(count), release_id=live.candidate_id, segment_id=team, passed=4)

    found = read(live, path)

    assert found.window.basis == "sequential"
    assert (found.stable.n, found.candidate.n) == (50, 44)
    assert "Observed, not randomised" in found.sentence


def test_who_chose_for_themselves_were_not_assigned(live: Rollout, path: WorkflowPath) -> None:
    for count in range(10):
        for release_id in (live.candidate_id, live.stable_id):
            bucket(path, minute(count), release_id=release_id, arm=ARM_UNKNOWN, passed=5)

    found = read(live, path)

    assert found.window.basis == "sequential"
    assert found.sentence == (
        "Observed, not randomised: nobody assigned them by chance at the same time."
        " Both had tasks in 10 of 10 minutes with tasks."
    )


def test_other_segments_are_said_to_be_others(live: Rollout, path: WorkflowPath) -> None:
    team, eu = segments(live)
    bucket(path, minute(0), release_id=live.candidate_id, segment_id=team, passed=5)
    bucket(path, minute(0), release_id=live.stable_id, arm=ARM_STABLE, segment_id=eu, passed=5)

    found = read(live, path)

    assert found.window.basis == "apart"
    assert (found.candidate.n, found.stable.n) == (5, 5)
    assert "different segments" in found.sentence


def test_page_and_api_equal_an_independent_computation(live: Rollout, path: WorkflowPath) -> None:
    team, _ = segments(live)
    costs = {
        live.candidate_id: [0.05, 0.07] * 40,
        live.stable_id: [0.03, 0.05] * 50,
    }
    tokens = {live.candidate_id: (9000.0, 800.0), live.stable_id: (9000.0, 400.0)}
    for release_id, arm in ((live.candidate_id, ARM_CANDIDATE), (live.stable_id, ARM_STABLE)):
        spent = costs[release_id]
        each_in, each_out = tokens[release_id]
        bucket(
            path,
            minute(1),
            release_id=release_id,
            arm=arm,
            segment_id=team,
            costs=spent,
            latencies=[1000.0] * len(spent),
            input_tokens_n=len(spent),
            input_tokens_sum=each_in * len(spent),
            output_tokens_n=len(spent),
            output_tokens_sum=each_out * len(spent),
            retries_n=len(spent),
        )

    told = asked().json()

    rows = {row["signal"]: row for row in told["signals"]}
    cost = rows["cost_per_task_usd"]
    means, ranges = [], []
    for release_id in (live.candidate_id, live.stable_id):
        spent = costs[release_id]
        means.append(sum(spent) / len(spent))
        found = mean_interval(len(spent), sum(spent), sum(each * each for each in spent))
        assert found is not None
        ranges.append(found)
    gap = difference_interval(means[0], ranges[0], means[1], ranges[1])
    assert cost["difference"] == pytest.approx(
        {"value": 0.06 - 0.04, "low": gap.low, "high": gap.high}
    )
    assert (cost["word"], cost["candidate"]["n"], cost["stable"]["n"]) == ("worse", 80, 100)
    assert rows["latency_p50_ms"]["word"] == "none_clear"
    change = told["cost_change"]
    parts = {row["part"]: row["value"] for row in change["parts"]}
    assert sum(parts.values()) == pytest.approx(0.02, abs=1e-12)
    # Two factors moved: 4 x 400 units more of 10,600, and what each unit costs.
    before, after = 0.04 / 10_600, 0.06 / 12_200
    assert parts["output_tokens"] == pytest.approx(1600 * (before + after) / 2)
    assert parts["price"] == pytest.approx((after - before) * (10_600 + 12_200) / 2)
    assert (parts["input_tokens"], parts["retries"], parts["fallback"]) == (0, 0, 0)

    page = logged_in("viewer").get("/workflows/support-reply/compare/?span=all")

    html = page.content.decode()
    assert page.status_code == 200
    assert 'data-basis="concurrent"' in html
    row = html.split('data-signal="cost_per_task_usd"')[1].split("</tr>")[0]
    assert "$0.060" in row
    assert "$0.040" in row
    assert "+$0.020" in row
    assert "Worse" in row
    assert "n 80" in row
    assert "+50 %" in html
    assert html.count('data-part="') == 7


def test_days_that_are_kept_by_the_hour_are_compared_by_the_hour(
    live: Rollout, path: WorkflowPath
) -> None:
    team, _ = segments(live)
    start = (timezone.now() - timedelta(days=90)).replace(minute=0, second=0, microsecond=0)
    for hour in range(3):
        at = start + timedelta(hours=hour)
        for release_id, arm in ((live.candidate_id, ARM_CANDIDATE), (live.stable_id, ARM_STABLE)):
            row = bucket(path, at, release_id=release_id, arm=arm, segment_id=team, passed=5)
            held = {
                field.attname: getattr(row, field.attname)
                for field in MinuteBucket._meta.concrete_fields
                if field.attname != "id"
            }
            HourBucket.objects.create(**held)
        StoredDay.objects.get_or_create(
            day=at.date(), defaults={"minutes_pruned_at": timezone.now()}
        )
    MinuteBucket.objects.all().delete()
    StaleBucket.objects.all().delete()

    told = asked(
        **{
            "from": (start + timedelta(minutes=59)).isoformat(),
            "to": (start + timedelta(hours=2, minutes=1)).isoformat(),
        }
    ).json()

    assert told["basis"]["kind"] == "concurrent"
    assert (told["basis"]["step_s"], told["basis"]["steps_both"]) == (3600, 3)
    assert "in 3 of 3 hours" in told["basis"]["sentence"]
    assert (told["candidate"]["n"], told["stable"]["n"]) == (15, 15)
    (told_row,) = release_rows(
        workflow_ids=[live.workflow_id], limit=1, version=live.candidate.version
    )
    assert told_row.task_at == start + timedelta(hours=2)


def test_an_unknown_cost_is_said_and_gives_no_difference(live: Rollout, path: WorkflowPath) -> None:
    bucket(path, minute(1), release_id=live.candidate_id, passed=40)
    bucket(path, minute(1), release_id=live.stable_id, arm=ARM_STABLE, costs=[0.1] * 40)

    told = asked().json()
    page = logged_in("owner").get("/workflows/support-reply/compare/?span=all").content.decode()

    (cost,) = [row for row in told["signals"] if row["signal"] == "cost_per_task_usd"]
    assert (cost["difference"], cost["word"]) == (None, "not_known")
    assert told["cost_change"] is None
    assert "Cost known for 0 of 40 candidate tasks." in page
    assert "What is not known is no saving." in page


def test_what_cannot_be_compared_is_said(live: Rollout, path: WorkflowPath) -> None:
    assert asked(path="nowhere").status_code == 404
    for query, pointer in (
        ({"candidate": "none"}, "/candidate"),
        ({"candidate": live.stable.version if live.stable else ""}, "/stable"),
        ({"stable": "\x00"}, "/stable"),
    ):
        answer = asked(**query)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert asked(**{"from": minute(700).isoformat()}).status_code == 400
    empty = asked().json()
    assert empty["signals"] == []
    assert "nothing to compare" in empty["basis"]["sentence"]

    client = logged_in("viewer")
    for address in ("", "?path=nowhere", "?candidate=none", "?stable=2026.11.2", "?span=x"):
        page = client.get(f"/workflows/support-reply/compare/{address}")
        assert page.status_code == 200, address
    assert (
        "no such path"
        in client.get("/workflows/support-reply/compare/?path=nowhere").content.decode()
    )
    assert logged_in("outsider").get("/workflows/support-reply/compare/").status_code == 404
