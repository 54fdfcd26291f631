"""The ledger of trips: from an answer to a guard's precision, and into the plan editor."""

from datetime import timedelta

import pytest
from django.utils import timezone

from rollout_console.catalog.models import WorkflowPath
from rollout_console.core.errors import InvalidInput
from rollout_console.rollouts.models import PlanDraft, Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.alerts.services import alert_resolve, guards_watch
from signals.alerts.trips import damage_find, guard_trips, trip_rows
from signals.guards.models import Guard
from signals.ingest.models import IngestBatch
from tests.factories import contain, principal, rollout_at
from tests.labels import Reports, work
from tests.ledger import bucket
from tests.matrix import logged_in
from tests.story import run_item

pytestmark = pytest.mark.django_db
S = timedelta(seconds=1)


def answered(rollout: Rollout, low: float, *, right: bool, at_s: float) -> Alert:
    """A trip of the latency trigger whose range began at `low`, answered."""
    now = timezone.now() - timedelta(hours=2)
    alert: Alert = Alert.objects.create(
        workflow=rollout.workflow,
        rollout=rollout.slug,
        guard=Guard.objects.get(slug="slow"),
        owner=rollout.workflow.owner,
        sentence="Too slow.",
        value=low * 1.2,
        low=low,
        high=low * 1.5,
        n=40,
        opened_at=now,
        damage_at=now - at_s * S,
        damage_sought=True,
    )
    alert_resolve(
        alert_id=alert.pk,
        was_right=right,
        note="",
        principal=principal("owner"),
        now=now + timedelta(minutes=5),
    )
    return alert


def test_a_trip_tells_when_it_was_seen_what_was_done_and_whether_it_was_right() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    now = timezone.now()
    Guard.objects.update(evidence_from=now - timedelta(minutes=1))
    bad = now - 20 * S
    # One good run before; a bad one of the stable release counts for nothing.
    Reports().runs(
        run_item(occurred_at=(now - 25 * S).isoformat()),
        run_item(
            occurred_at=(now - 24 * S).isoformat(),
            release="2026.10.4",
            arm="stable",
            quality={"passed": False},
        ),
        *(
            run_item(occurred_at=(bad + k * 0.1 * S).isoformat(), quality={"passed": False})
            for k in range(60)
        ),
    )
    # In an evidence block that is over.
    IngestBatch.objects.update(received_at=timezone.now() - 5 * S)
    work(now=timezone.now())
    opened = timezone.now()
    assert guards_watch(now=opened) == 1
    assert damage_find(now=opened) == 1
    assert damage_find(now=opened) == 0

    [row] = trip_rows()
    assert (row.guard, row.was_right, row.done, row.detect_from) == (
        "quality-low",
        None,
        [],
        "damage",
    )
    assert row.detect_s == pytest.approx((opened - bad).total_seconds(), abs=1e-3)

    contain(rollout, "rollback", now=opened)
    with pytest.raises(InvalidInput):
        alert_resolve(
            alert_id=row.alert,
            was_right=True,
            note="",
            onset_at=opened + S,
            principal=principal("owner"),
            now=now + 60 * S,
        )
    client = logged_in("owner")
    onset = (opened - timedelta(minutes=2)).replace(microsecond=0)
    said = client.post(
        f"/alerts/{row.alert}/resolve/",
        {"was_right": "yes", "note": "prompt", "onset_at": onset.strftime("%Y-%m-%dT%H:%M:%S")},
    )
    assert said.status_code == 302

    [row] = trip_rows()
    assert (row.was_right, row.detect_from, row.done) == (True, "onset", ["rolled back by owner"])
    assert row.detect_s == pytest.approx((opened - onset).total_seconds())
    [guard] = guard_trips(now=timezone.now())
    assert (guard.trips, guard.precision.right, guard.precision.answered) == (1, 1, 1)
    body = client.get("/api/v1/trips?workflow=support-reply").json()
    assert body["results"][0]["done"] == ["rolled back by owner"]
    assert client.get("/api/v1/trips?workflow=other").status_code == 404
    assert logged_in("outsider").get("/api/v1/trips").json()["results"] == []


def test_from_three_answers_a_limit_is_suggested_and_only_shown_in_the_editor() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    for low, right, at_s in ((6400, False, 10), (6900, False, 20)):
        answered(rollout, low, right=right, at_s=at_s)
    assert guard_trips(now=timezone.now())[0].suggestion is None
    answered(rollout, 8200, right=True, at_s=30)
    path = WorkflowPath.objects.get(workflow=rollout.workflow)
    hour = timezone.now().replace(minute=5, second=0, microsecond=0) - timedelta(hours=5)
    for back, latency in ((0, 1000.0), (1, 6500.0), (2, 9000.0)):
        bucket(
            path,
            hour - timedelta(hours=back),
            release_id=rollout.candidate_id,
            latencies=[latency] * 40,
        )

    [row] = guard_trips(now=timezone.now())

    assert row.suggestion is not None
    assert (row.suggestion.limit, row.suggestion.dropped, row.suggestion.kept) == (6900, 2, 1)
    # A false alarm detected nothing: the median is of the right one.
    assert (row.detect_median_s, row.detect_n) == (30.0, 1)
    assert row.history is not None
    assert (row.history.hours, row.history.beyond_now, row.history.beyond_suggested) == (3, 2, 1)

    page = logged_in("owner").get("/trips/").content.decode()
    address = "/plans/support-reply/edit/triggers/?trigger=slow&amp;limit=6900"
    assert f'href="{address}"' in page
    assert "33 % · 1 of 3" in page
    assert address not in logged_in("viewer").get("/trips/").content.decode()

    editor = logged_in("owner").get(address.replace("&amp;", "&")).content.decode()
    assert 'value="6900"' in editor
    assert not PlanDraft.objects.exists()
    assert Guard.objects.get(slug="slow").limit == 6000
