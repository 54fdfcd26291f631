"""Health of the signals: problems found, guards made blind, alerts of the console's own."""

import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.containment.health import signals_check
from rollout_console.containment.targets import Press
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.alerts.services import StillTripped, alert_resolve, guards_watch
from signals.guards.selectors import VerdictRow, verdict_rows
from signals.guards.services import guards_evaluate, guards_look
from signals.health.models import AssignmentEpoch, AssignmentSubject, Feed, Problem
from signals.health.services import subjects_prune
from signals.ingest.models import IngestBatch
from signals.stats.assignment import assignment
from tests.factories import contain, principal, rollout_at, token
from tests.labels import Reports, observation, work
from tests.ledger import over
from tests.matrix import logged_in
from tests.story import run_item

pytestmark = pytest.mark.django_db


def live(share: float = 0.5, **rollout: Any) -> Rollout:
    """Return a live rollout with a share of its only segment, and an epoch for it."""
    found = rollout_at(
        RolloutState.LIVE,
        stages=[
            {
                "slug": "first",
                "segments": [{"segment": "internal-ops", "share": share}],
                "bake_s": 60,
                "min_runs": 50,
            }
        ],
        **rollout,
    )
    # The epoch begins with the look that first sees the share.
    signals_check(now=timezone.now() - timedelta(seconds=30))
    return found


def person_run(name: str, *, candidate: bool, **fields: Any) -> dict[str, Any]:
    return run_item(
        **{
            "subject": name,
            "arm": "candidate" if candidate else "stable",
            "release": "2026.11.2" if candidate else "2026.10.4",
            **fields,
        }
    )


def crowd(n: int, *, on_candidate: int, **fields: Any) -> list[dict[str, Any]]:
    return [person_run(f"p{i}", candidate=i < on_candidate, **fields) for i in range(n)]


def look(now: datetime | None = None) -> None:
    work(now)
    signals_check(now=now or timezone.now())


def verdicts(rollout: Rollout, now: datetime | None = None) -> dict[str, VerdictRow]:
    at = now or over(timezone.now())
    guards_look(now=at, reread=True)
    return {row.guard: row for row in verdict_rows([rollout.slug], at)}


def health(workflow: str = "support-reply") -> dict[str, Any]:
    secret, _ = token(Scope.READ)
    response = Client().get(
        f"/api/v1/workflows/{workflow}/health", headers={"Authorization": f"Bearer {secret}"}
    )
    assert response.status_code == 200, response.content
    found: dict[str, Any] = json.loads(response.content)
    return found


def kinds() -> list[str]:
    return sorted(Problem.objects.filter(ended_at=None).values_list("kind", flat=True))


def test_people_are_counted_once_however_many_tasks_and_batches_they_send() -> None:
    live()
    reports = Reports()
    reports.runs(*crowd(40, on_candidate=22))
    look()
    # The same people again, some on the other arm, some tasks of nobody, one by another release.
    reports.runs(*crowd(40, on_candidate=20), *[run_item(arm="candidate") for _ in range(3)])
    reports.runs(person_run("new", candidate=True, release="2026.10.4"))
    look()
    look()

    epoch = AssignmentEpoch.objects.get()
    assert (epoch.n_candidate, epoch.n_stable) == (23, 18)
    assert (epoch.n_tasks, epoch.n_without_subject) == (84, 3)
    assert (epoch.n_crossed, epoch.n_wrong) == (2, 1)
    (told,) = health()["assignments"]
    expected = assignment(23, 41, 0.5)
    assert expected is not None
    assert (told["n"], told["observed_share"], told["value"]) == (
        *(41, 23 / 41),
        pytest.approx(abs(23 / 41 - 0.5)),
    )
    assert told["e_value"] == pytest.approx(expected.e_value)


def test_a_share_that_is_not_the_planned_one_makes_guards_blind_and_tells_the_owner() -> None:
    rollout = live()
    reports = Reports()
    reports.runs(*crowd(300, on_candidate=100))
    look()

    (problem,) = Problem.objects.all()
    assert (problem.kind, problem.segment and problem.segment.slug) == (
        "assignment_mismatch",
        "internal-ops",
    )
    said = verdicts(rollout)
    for row in said.values():
        assert row.verdict == "blind", row
        assert problem.sentence in row.sentence
        assert "33.3 % of the people of “Internal operations” are on the candidate" in row.sentence
    alert = Alert.objects.get()
    assert (alert.guard, alert.problem, alert.owner.username) == (None, problem, "owner")
    assert (alert.due_at, alert.due_action) == (None, None)

    look()

    assert Alert.objects.count() == 1


def test_a_share_near_the_planned_one_is_no_problem() -> None:
    rollout = live()
    Reports().runs(*crowd(300, on_candidate=140))
    look()

    assert kinds() == []
    assert verdicts(rollout)["cost-inside"].verdict == "holding"


def test_a_change_of_share_starts_a_new_epoch_and_ends_the_problem() -> None:
    rollout = live()
    reports = Reports()
    reports.runs(*crowd(300, on_candidate=100))
    look()

    contain(rollout, "pause")
    contain(rollout, "narrow", press=Press(share=Decimal("0.3")))
    look()

    assert AssignmentEpoch.objects.filter(ended_at=None).count() == 1
    assert AssignmentEpoch.objects.get(ended_at=None).share == Decimal("0.3")
    assert kinds() == []
    alert = Alert.objects.get()
    assert (alert.state, alert.resolved_by, alert.was_right) == ("resolved", "console", True)
    # What was answered before the change says nothing of the new share.
    before = AssignmentEpoch.objects.get(ended_at=None).exposure_version - 1
    reports.runs(person_run("late", candidate=True, exposure_version=before))
    look()
    assert AssignmentEpoch.objects.get(ended_at=None).n_tasks == 0


def test_the_owner_sets_a_problem_aside_and_guards_see_again() -> None:
    rollout = live()
    Reports().runs(*crowd(300, on_candidate=100))
    look()
    alert = Alert.objects.get()
    fields: dict[str, Any] = {"alert_id": alert.pk, "note": "", "principal": principal("owner")}

    with pytest.raises(StillTripped):
        alert_resolve(was_right=True, now=timezone.now(), **fields)
    alert_resolve(was_right=False, now=timezone.now(), **fields)
    look()

    assert kinds() == ["assignment_mismatch"]
    assert verdicts(rollout)["cost-inside"].verdict == "holding"
    assert Alert.objects.exclude(state="resolved").count() == 0
    assert Alert.objects.count() == 1


def test_what_is_beyond_a_cap_stays_tripped_while_the_rest_is_blind() -> None:
    rollout = live()
    runs = crowd(300, on_candidate=100)
    runs[0]["cost_usd"] = 9000
    Reports().runs(*runs)
    look()

    said = verdicts(rollout)

    assert said["spend-cap"].verdict == "tripped"
    assert said["quality-low"].verdict == "blind"
    assert guards_watch(now=timezone.now()) == 1


def test_ids_used_again_are_found_across_batches_and_are_over_after_a_while() -> None:
    rollout = live(1.0)
    reports = Reports()
    first = [run_item() for _ in range(20)]
    reports.runs(*first)
    look()
    assert kinds() == []
    # A retry as it should be, and one that makes up a new time.
    again = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    reports.runs(*first[:10])
    look()
    assert kinds() == []
    reports.runs(*[{**run, "occurred_at": again} for run in first[:4]])
    look()

    (problem,) = Problem.objects.all()
    assert (problem.kind, problem.count) == ("ids_reused", 4)
    assert problem.example in {run["id"] for run in first[:4]}
    assert problem.source.startswith("token-")
    assert verdicts(rollout)["cost-inside"].verdict == "blind"

    look(timezone.now() + timedelta(seconds=901))

    assert "ids_reused" not in kinds()


def test_a_clock_that_is_ahead_is_named_with_its_source() -> None:
    live(1.0)
    ahead = (datetime.now(UTC) + timedelta(seconds=200)).isoformat()
    reports = Reports()
    reports.runs(*[run_item(occurred_at=ahead) for _ in range(10)], *[run_item() for _ in range(9)])
    look()

    (problem,) = Problem.objects.all()
    assert problem.kind == "clock_skew"
    assert "is ahead of our clock, by up to 3.3 min, in 10 of its last 19 tasks" in problem.sentence

    reports.runs(*[run_item() for _ in range(30)])
    look()

    assert kinds() == []


def test_a_silent_path_and_a_silent_source_are_told_apart() -> None:
    live(1.0)
    one, other = Reports(), Reports()
    began = timezone.now()
    for reports in (one, other):
        reports.runs(run_item())
    look()
    # As if reports came each ten seconds until now.
    Feed.objects.update(gap_s=10, newest_at=began)
    names = sorted(Feed.objects.exclude(source="").values_list("source", flat=True))

    signals_check(now=began + timedelta(seconds=99))
    assert kinds() == []
    signals_check(now=began + timedelta(seconds=101))
    assert kinds() == ["path_silent"]
    assert Alert.objects.get().sentence.startswith("No task of “Draft a reply” has come since")

    Feed.objects.exclude(source=names[0]).update(newest_at=began + timedelta(seconds=100))
    signals_check(now=began + timedelta(seconds=102))

    assert kinds() == ["source_silent"]
    assert Problem.objects.get(ended_at=None).source == names[0]
    # After a day it has retired.
    Feed.objects.exclude(source=names[0]).update(newest_at=began + timedelta(days=1))
    signals_check(now=began + timedelta(days=1, seconds=1))
    assert kinds() == []


def test_missing_labels_blind_what_stands_on_labels_and_nothing_else() -> None:
    rollout = live(1.0)
    reports = Reports()
    runs = [run_item(quality=None) for _ in range(60)]
    reports.runs(*runs)
    look()

    assert kinds() == ["labels_missing"]
    said = verdicts(rollout)
    assert said["quality-low"].verdict == "blind"
    assert "No quality label of “Draft a reply” has come at all" in said["quality-low"].sentence
    assert said["cost-inside"].verdict == "holding"

    reports.observations(*[observation(run) for run in runs[:40]])
    look()

    assert kinds() == []
    assert verdicts(rollout)["quality-holds"].verdict == "holding"


def test_problems_end_with_the_rollout_that_was_watched() -> None:
    rollout = live()
    Reports().runs(*crowd(300, on_candidate=100))
    look()
    contain(rollout, "rollback")

    signals_check(now=timezone.now())

    assert kinds() == []
    assert Alert.objects.filter(problem__isnull=False).exclude(state="resolved").count() == 0


def test_the_pages_and_the_api_say_what_is_wrong() -> None:
    rollout = live()
    Reports().runs(*crowd(300, on_candidate=100))
    look()
    guards_evaluate(now=timezone.now())
    sentence = Problem.objects.get().sentence
    client = logged_in("owner")

    for url in (
        f"/rollouts/{rollout.slug}/",
        "/workflows/support-reply/",
        "/alerts/",
        f"/alerts/{Alert.objects.get().pk}/",
    ):
        page = client.get(url)
        assert page.status_code == 200, url
        assert sentence in page.content.decode(), url
    told = health()
    assert [(row["kind"], row["blinds"]) for row in told["problems"]] == [
        ("assignment_mismatch", True)
    ]
    assert Counter(row["source"] is None for row in told["feeds"]) == {True: 1, False: 1}
    assert all(row["n"] == 300 for row in told["feeds"])
    secret, _ = token(Scope.READ)
    (alert,) = client.get("/api/v1/alerts", headers={"Authorization": f"Bearer {secret}"}).json()[
        "results"
    ]
    assert (alert["guard"], alert["problem"]) == (None, "assignment_mismatch")
    assert logged_in("outsider").get("/api/v1/workflows/support-reply/health").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_count_a_person_twice() -> None:
    live()
    reports = Reports()
    for start in range(0, 400, 20):
        reports.runs(*crowd(start + 20, on_candidate=200)[start:])
    work()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(5):
                signals_check(now=timezone.now())
        except BaseException as error:  # noqa: BLE001  # told below
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    epoch = AssignmentEpoch.objects.get()
    assert (epoch.n_candidate, epoch.n_stable, epoch.n_tasks) == (200, 200, 400)
    assert AssignmentSubject.objects.count() == 400
    assert not IngestBatch.objects.filter(health_due=True, state="drained").exists()


def test_people_of_a_share_long_gone_are_forgotten() -> None:
    live()
    Reports().runs(*crowd(40, on_candidate=20))
    look()
    assert AssignmentSubject.objects.count() == 40
    now = timezone.now()
    AssignmentEpoch.objects.update(ended_at=now - timedelta(days=30))
    assert subjects_prune(now=now) == 0
    assert subjects_prune(now=now + timedelta(days=2)) == 40
    # How many they were stays.
    assert AssignmentEpoch.objects.get().n_candidate == 20
