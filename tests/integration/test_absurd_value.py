"""One absurd value among ordinary ones: its cap trips, and its chart still shows the others."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from rollout_console.catalog.models import Person
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.alerts.services import guards_watch
from tests.factories import rollout_at
from tests.labels import Reports, work
from tests.story import run_item

pytestmark = pytest.mark.django_db


def test_a_call_of_9000_dollars_trips_its_cap_and_does_not_own_the_chart(client: Client) -> None:
    live = rollout_at(RolloutState.LIVE)
    now = timezone.now()
    reports = Reports()
    for tens in range(60, 0, -1):
        at = (now - timedelta(minutes=10 * tens)).isoformat()
        reports.runs(*(run_item(cost_usd=0.04, occurred_at=at) for _ in range(3)))
    reports.runs(run_item(cost_usd=9000, occurred_at=(now - timedelta(minutes=50)).isoformat()))
    work()
    guards_watch(now=timezone.now())

    (alert,) = Alert.objects.filter(guard__signal="cost_per_task_usd", guard__compare="hard_cap")
    assert "the most that one task cost was $9,000" in alert.sentence
    client.force_login(Person.objects.get(username="owner"))
    drawn = client.get(f"/rollouts/{live.slug}/charts.json?window=12h&signal=cost_per_task_usd")
    (chart,) = [chart for chart in drawn.json()["charts"] if chart["path"] == "draft"]
    low, high = chart["figure"]["layout"]["yaxis"]["range"]
    assert (low, high) == (pytest.approx(0, abs=0.1), pytest.approx(0.1, abs=0.1))
    # It is told all the same: beside the line, and in the table.
    assert any("$" in row[1] and float(row[1][1:].replace(",", "")) > 100 for row in chart["rows"])
