"""What the pages cost that are looked at all day: how often they ask Postgres."""

import re
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import DjangoAssertNumQueries

from rollout_console.catalog.models import Person, WorkflowPath
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.guards.models import Guard, Verdict
from signals.guards.services import guards_look
from tests.expansions import alert_open
from tests.factories import expansion_asked, rollout_at
from tests.ledger import arrive
from tests.plans import plan_document

pytestmark = pytest.mark.django_db

PATHS = ("answer", "draft", "refund")


def many_paths() -> dict[str, Any]:
    """Return a plan of three paths with guards on each, and of three stages."""
    document = plan_document()
    (draft,) = document["workflow"]["paths"]
    rollout = document["rollout"]
    document["workflow"]["paths"] = [{**draft, "slug": path, "name": path} for path in PATHS]
    rollout["paths"] = list(PATHS)
    for kind in ("criteria", "triggers"):
        rollout[kind] = [
            {**guard, "slug": f"{guard['slug']}-{path}", "path": path}
            for path in PATHS
            for guard in rollout[kind]
        ]
    most = deepcopy(rollout["stages"][-1])
    most["slug"] = "most"
    most["segments"][-1]["share"] = 0.5
    rollout["stages"].append(most)
    return document


@pytest.fixture
def busy() -> Rollout:
    """A live rollout whose criteria hold, with an open request to widen it and an open alert."""
    rollout = rollout_at(RolloutState.LIVE, document=many_paths())
    now = timezone.now()
    since = now - timedelta(minutes=10)
    Rollout.objects.filter(pk=rollout.pk).update(live_at=since, stage_at=since, bake_from=since)
    Guard.objects.filter(rollout=rollout.slug).update(evidence_from=since)
    team = rollout.workflow.segments.get(slug="internal-ops")
    for path in WorkflowPath.objects.filter(rollout_paths__rollout=rollout):
        arrive(
            path,
            now - timedelta(seconds=2),
            release_id=rollout.candidate_id,
            segment_id=team.pk,
            passed=400,
            costs=[0.03, 0.033] * 200,
            latencies=[800.0] * 400,
        )
    guards_look(now=timezone.now())
    rollout.refresh_from_db()
    Guard.objects.filter(rollout=rollout.slug, slug="slow-draft").update(slug="slow")
    # An alert after it would make the request void.
    alert_open(rollout)
    expansion_asked(rollout)
    # How many more tasks a trigger needs is told of one that was not looked at yet.
    Verdict.objects.filter(guard__rollout=rollout.slug, guard__slug="slow-refund").delete()
    return rollout


@pytest.mark.parametrize(("reader", "whole", "poll"), [("owner", 29, 22), ("viewer", 30, 23)])
def test_the_cockpit_of_a_busy_rollout_asks_few_questions(
    client: Client,
    busy: Rollout,
    reader: str,
    whole: int,
    poll: int,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    client.force_login(Person.objects.get(username=reader))
    for headers, most in (({}, whole), ({"X-Live": "1"}, poll)):
        with django_assert_max_num_queries(most):
            answer = client.get(f"/rollouts/{busy.slug}/", headers=headers)
        body = answer.content.decode()
        assert "1 open alert" in body
        assert "Expansion asked for" in body
        assert re.search(r"Needs about [\d,]+ more", body)
        for path in PATHS:
            assert f'data-guard="quality-low-{path}"' in body


@pytest.mark.parametrize(
    ("state", "whole", "poll"),
    [
        (RolloutState.DRAFT, 28, 25),
        (RolloutState.READY, 30, 27),
        (RolloutState.PAUSED, 29, 22),
        (RolloutState.ROLLED_BACK, 28, 19),
    ],
)
def test_the_cockpit_asks_few_questions_in_every_state(
    client: Client,
    state: RolloutState,
    whole: int,
    poll: int,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    rollout = rollout_at(state, document=many_paths())
    client.force_login(Person.objects.get(username="owner"))
    for headers, most in (({}, whole), ({"X-Live": "1"}, poll)):
        with django_assert_max_num_queries(most):
            assert client.get(f"/rollouts/{rollout.slug}/", headers=headers).status_code == 200


def test_the_overview_asks_as_much_of_three_rollouts_as_of_one(
    client: Client, busy: Rollout, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client.force_login(Person.objects.get(username="administrator"))
    for workflow in ("", "two", "three"):
        if workflow:
            rollout_at(RolloutState.LIVE, workflow=workflow)
        for headers in ({}, {"X-Live": "1"}):
            with django_assert_max_num_queries(15):
                body = client.get("/", headers=headers).content.decode()
    for slug in Rollout.objects.values_list("slug", flat=True):
        assert f"/rollouts/{slug}/" in body
