"""The sources page: counts by source and window, refusals by whose they are, and who sees what."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from rollout_console.catalog.models import Workflow, WorkflowPath
from rollout_console.rollouts.states import RolloutState
from signals.ingest.drain import batches_drain
from signals.ingest.models import IngestBatch, SourceMinute, SourceName
from signals.ingest.retention import leftovers_prune
from signals.ingest.services import batch_store
from signals.ingest.source_reads import source_state
from signals.points.kinds import Gauge, MetricPoint, Series
from signals.points.services import points_store
from tests.factories import person, rollout_at, token
from tests.labels import Reports, observation, work
from tests.matrix import logged_in
from tests.story import run_item

pytestmark = pytest.mark.django_db


@pytest.fixture
def reports() -> Reports:
    rollout_at(RolloutState.LIVE)
    rollout_at(RolloutState.LIVE, workflow="claims-intake")
    return Reports()


def told(*workflows: Workflow) -> dict[str, Any]:
    secret, _ = token(Scope.READ, workflows=workflows)
    answer = Client().get("/api/v1/sources", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def of(document: dict[str, Any], workflow: str) -> dict[str, Any]:
    (found,) = [row for row in document["results"] if row["workflow"] == workflow]
    return found  # type: ignore[no-any-return]  # of the API's document


def test_counts_by_source_add_up_and_show_by_workflow(reports: Reports) -> None:
    first = [run_item(client=name) for name in ("b-1", "a-1", "a-1")]
    other = [
        run_item("claims-intake", occurred_at=(datetime.now(UTC) - timedelta(hours=2)).isoformat())
    ]
    reports.runs(*first, *other)
    reports.runs(first[0], first[1], run_item(segment="nobody-knows"))
    reports.observations(observation(first[0]), observation(run_item(id="never-came")))
    work()

    whole = told()
    here = of(whole, "support-reply")
    runs, labels = sorted(here["sources"], key=lambda row: row["kind"], reverse=True)

    assert (runs["path"], runs["kind"], runs["state"]) == ("draft", "runs", "fresh")
    counts = {"batches": 2, "accepted": 6, "duplicates": 2}
    assert runs["last_hour"] == runs["last_day"] == counts
    assert (labels["path"], labels["kind"]) == (None, "observations")
    assert labels["last_hour"] == {"batches": 1, "accepted": 2, "duplicates": 0}
    assert here["paths"] == [
        {
            "path": "draft",
            "clients": ["a-1", "b-1"],
            "unknown_segments": {"nobody-knows": 1},
        }
    ]
    assert here["observations_waiting"] == 1
    (elsewhere,) = of(whole, "claims-intake")["sources"]
    assert elsewhere["last_hour"] == {"batches": 1, "accepted": 1, "duplicates": 0}
    assert datetime.fromisoformat(elsewhere["newest_event_at"]) == datetime.fromisoformat(
        other[0]["occurred_at"]
    )
    # By a count of the rows themselves: what was stored is what was accepted but the duplicates.
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from run")
        (stored,) = cursor.fetchone()
    assert stored == 6 - 2 + 1
    assert whole["queue"]["pending"] == 0
    assert whole["queue"]["lag_of"] == 3


def test_a_source_ages_from_fresh_over_late_to_silent(reports: Reports) -> None:
    now = timezone.now()
    for minutes, state in ((4, "fresh"), (6, "late"), (59, "late"), (61, "silent")):
        at = now - timedelta(minutes=minutes)
        assert source_state(last_received_at=at, backfill=False, now=now) == state
        assert source_state(last_received_at=at, backfill=True, now=now) == "history"
    page = logged_in("viewer").get("/sources/").content.decode()
    assert page.count('data-state="never"') == 2
    reports.runs(run_item())
    work()
    page = logged_in("viewer").get("/sources/").content.decode()
    assert page.count('data-state="never"') == 1
    assert page.count('data-state="fresh"') == 1


def test_what_waits_is_behind_and_what_is_history_is_not(reports: Reports) -> None:
    now = timezone.now()
    _, reporter = token(Scope.INGEST)
    ago = now - timedelta(hours=2)
    for backfill, age in ((False, 40), (True, 4000)):
        batch_store(
            body=json.dumps([run_item(occurred_at=ago.isoformat())]).encode(),
            content_type="application/json",
            content_encoding=None,
            principal=reporter,
            now=now - timedelta(seconds=age),
            backfill=backfill,
        )

    queue = told()["queue"]

    assert (queue["pending"], queue["history"]) == (1, 1)
    assert datetime.fromisoformat(queue["oldest_at"]) == now - timedelta(seconds=40)
    assert queue["pending_bytes"] == sum(IngestBatch.objects.values_list("body_bytes", flat=True))
    batches_drain(now=now)
    document = told()
    assert (document["queue"]["pending"], document["queue"]["lag_s"]) == (0, 40.0)
    states = {row["state"] for row in of(document, "support-reply")["sources"]}
    assert states == {"fresh", "history"}


def test_refusals_are_told_to_those_whose_workflow_they_name(reports: Reports) -> None:
    mine, other = (Workflow.objects.get(slug=slug) for slug in ("support-reply", "claims-intake"))
    reports.post(
        "runs",
        [
            run_item(),
            run_item(latency_ms=-1),
            run_item(latency_ms=-2),
            run_item("claims-intake", outcome="great"),
            run_item("nobody-knows"),
            "no object",
        ],
    )
    work()

    def reasons(*workflows: Workflow) -> tuple[int, list[tuple[int, str, int]]]:
        rejected = told(*workflows)["rejected"]
        newest = [(each["index"], each["pointer"], each["of"]) for each in rejected["newest"]]
        assert rejected["last_hour"] == rejected["last_day"]
        return rejected["last_day"], newest

    assert reasons() == (
        5,
        [(1, "/latency_ms", 5), (3, "/outcome", 5), (4, "/workflow", 5), (5, "", 5)],
    )
    assert reasons(mine) == (2, [(1, "/latency_ms", 2)])
    assert reasons(other) == (1, [(3, "/outcome", 1)])


def test_what_a_limited_token_sends_amiss_concerns_its_workflow(reports: Reports) -> None:
    mine, other = (Workflow.objects.get(slug=slug) for slug in ("support-reply", "claims-intake"))
    reports.secret, _ = token(Scope.INGEST, workflows=(mine,))
    # Another workflow's name, which this token cannot reach: no concern of that other one.
    reports.post("runs", [run_item("claims-intake"), {"broken": True}])

    assert told(mine)["rejected"]["last_day"] == 2
    assert told(other)["rejected"]["last_day"] == 0


def test_readers_see_their_own_workflows_only(reports: Reports) -> None:
    reports.runs(run_item(client="secret-client"), run_item("claims-intake"))
    work()
    other = Workflow.objects.get(slug="claims-intake")
    person("elsewhere", Role.VIEWER, other)

    document = told(other)
    page = logged_in("elsewhere").get("/sources/").content.decode()
    outsider = logged_in("outsider").get("/sources/").content.decode()

    assert [row["workflow"] for row in document["results"]] == ["claims-intake"]
    assert 'data-workflow="claims-intake"' in page
    assert "secret-client" not in page
    assert 'data-workflow="support-reply"' not in page
    assert "data-workflow" not in outsider
    assert "secret-client" in logged_in("viewer").get("/sources/").content.decode()
    ingest, _ = token(Scope.INGEST)
    answer = Client().get("/api/v1/sources", headers={"Authorization": f"Bearer {ingest}"})
    assert answer.status_code == 403


def test_notes_go_with_the_batches_they_were_made_of(reports: Reports) -> None:
    reports.runs(run_item(client="c-1"))
    work()

    leftovers_prune(guarded=[], now=timezone.now() + timedelta(days=30))
    assert (SourceMinute.objects.count(), SourceName.objects.count()) == (1, 1)
    leftovers_prune(guarded=[], now=timezone.now() + timedelta(days=60))
    assert (SourceMinute.objects.count(), SourceName.objects.count()) == (0, 0)


def test_metric_points_show_by_name_and_source(reports: Reports) -> None:
    now = timezone.now()
    path = WorkflowPath.objects.get(workflow__slug="support-reply")
    series = Series(path.workflow_id, path.pk, "queue_depth", "gauge", "pull:prod", unit="{task}")
    points_store(
        points=[
            MetricPoint(series, now - timedelta(minutes=back), Gauge.of(float(back)))
            for back in (1500, 30, 3)
        ],
        now=now,
        any_age=True,
    )

    (metric,) = of(told(), "support-reply")["metrics"]
    page = logged_in("viewer").get("/sources/").content.decode()
    person("elsewhere", Role.VIEWER, Workflow.objects.get(slug="claims-intake"))
    other = logged_in("elsewhere").get("/sources/").content.decode()

    assert (metric["path"], metric["name"], metric["source"]) == (
        "draft",
        "queue_depth",
        "pull:prod",
    )
    assert (metric["value"], metric["n"], metric["state"]) == (3.0, 2, "fresh")
    assert 'data-metric="queue_depth"' in page
    assert "queue_depth" not in other
