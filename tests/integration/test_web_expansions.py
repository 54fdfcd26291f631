"""The pages of widening, as people of each role meet them."""

import re
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import DjangoAssertNumQueries

from approvals.authority.matrix import Role
from approvals.authority.principals import Staff
from approvals.expansions.models import ExpansionRequest
from rollout_console.catalog.models import ActionRoute, Person
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.parts import parts_read
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.selectors.cockpit import rollout_get
from rollout_console.web.selectors.expansions import ExpansionState, expansion_state
from signals.guards.selectors import verdict_rows
from tests.factories import (
    contain,
    expansion_approved,
    expansion_asked,
    expansion_decided,
    person,
    principal,
    ripen,
    rollout_at,
)
from tests.matrix import written

pytestmark = pytest.mark.django_db


@pytest.fixture
def ripe(db: None) -> Rollout:
    rollout = rollout_at(RolloutState.LIVE)
    ripen(rollout)
    return rollout


def log_in(client: Client, name: str) -> Client:
    client.force_login(Person.objects.get(username=name))
    return client


def text(answer: object) -> str:
    body = re.sub(r"<[^>]+>", " ", answer.content.decode())  # type: ignore[attr-defined]
    return re.sub(r"\s+", " ", unescape(body))


def state(rollout: Rollout, name: str) -> ExpansionState:
    who = principal(name)
    now = timezone.now()
    verdicts = verdict_rows([rollout.slug], now)
    found = rollout_get(rollout.slug, who)
    return expansion_state(
        found,
        parts=parts_read([found.pk])[found.pk],
        verdicts=verdicts,
        staff=Staff(found.workflow),
        principal=who,
        now=now,
    )


def test_the_owner_asks_where_everything_is_there(client: Client, ripe: Rollout) -> None:
    log_in(client, "owner")
    url = f"/rollouts/{ripe.slug}/expand/"

    page = client.get(url)

    assert "Widen Support reply to stage 2?" in text(page)
    assert "all there" in text(page)
    assert 'data-met="no"' not in page.content.decode()
    assert "One approver: it reaches 9.52 % of the path's tasks (measured)" in text(page)
    answer = client.post(url, {"expected_version": ripe.version})
    request = ExpansionRequest.objects.get()
    assert (answer.status_code, answer["Location"]) == (
        302,
        f"/approvals/expansions/{request.pk}/",
    )
    assert f"Open request {request.pk}" in text(client.get(url))


def test_what_is_missing_is_listed_and_there_is_no_button(client: Client, ripe: Rollout) -> None:
    ripe.stages.filter(position=1).update(min_runs=5000)
    log_in(client, "owner")
    url = f"/rollouts/{ripe.slug}/expand/"

    body = client.get(url).content.decode()

    assert re.findall(r'data-precondition="([^"]+)" data-met="no"', body) == ["runs"]
    assert 'data-action="expand"' not in body
    assert 'data-action="break-glass"' in body
    before = written()
    answer = client.post(url, {"expected_version": ripe.version})
    assert answer.status_code == 422
    assert "400 of 5,000 came on this stage" in text(answer)
    assert written() == before


@pytest.mark.parametrize("name", ["viewer", "lead", "reviewer", "approver"])
def test_who_may_not_ask_sees_who_can(client: Client, ripe: Rollout, name: str) -> None:
    log_in(client, name)

    body = client.get(f"/rollouts/{ripe.slug}/expand/")

    assert "Can ask now: owner and deputy." in text(body)
    assert "<form" not in body.content.decode().split('id="ask-t"')[1].split("</section>")[0]


def test_an_approver_sees_it_counted_decides_and_the_owner_starts(
    client: Client, ripe: Rollout
) -> None:
    request = expansion_asked(ripe)
    url = f"/approvals/expansions/{request.pk}/"
    log_in(client, "approver")
    assert re.search(r"Approvals 1 waiting for you", text(client.get("/")))
    assert "waits for your decision" in text(client.get("/approvals/"))
    page = client.get(url)
    assert f'name="digest" value="{request.digest}"' in page.content.decode()
    assert "Widen Support reply to Internal operations + EU customers?" in text(page)

    client.post(
        f"{url}decide/", {"decision": "approve", "reason": "Good.", "digest": request.digest}
    )

    body = text(client.get(url))
    assert "approver" in body
    assert "“Good.”" in body
    assert "Can start it now: owner." in body
    assert re.search(r"Approvals 0 waiting for you", body)
    log_in(client, "owner")
    assert re.search(r"Approvals 1 waiting for you", text(client.get("/")))
    answer = client.post(f"{url}start/")
    assert answer.status_code == 302
    ripe.refresh_from_db()
    assert ripe.stage == 2
    assert "Started" in text(client.get(url))
    assert "Internal operations 100 % + EU customers 5 %" in text(
        client.get("/approvals/?show=decided")
    )
    assert "Widened" in text(client.get(f"/rollouts/{ripe.slug}/"))


def test_the_requester_has_no_form_and_is_told_who(client: Client, ripe: Rollout) -> None:
    person("owner", Role.APPROVER)
    request = expansion_asked(ripe)
    log_in(client, "owner")
    url = f"/approvals/expansions/{request.pk}/"

    assert "You asked for it, so somebody else decides: approver." in text(client.get(url))
    before = written()
    answer = client.post(f"{url}decide/", {"decision": "approve", "digest": request.digest})

    assert answer.status_code == 403
    assert "Ask a colleague" in text(answer)
    assert written() == before


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"decision": "approve", "digest": "0" * 64}, "not of the evidence that was asked on"),
        ({"decision": "reject", "digest": ""}, "Say why"),
        ({"decision": "", "digest": ""}, "Approve it, or reject it."),
    ],
)
def test_a_decision_that_does_not_fit_is_said_in_the_card(
    client: Client, ripe: Rollout, form: dict[str, str], words: str
) -> None:
    request = expansion_asked(ripe)
    log_in(client, "approver")
    before = written()

    answer = client.post(f"/approvals/expansions/{request.pk}/decide/", form)

    assert answer.status_code == 422
    assert words in text(answer)
    assert written() == before


def test_a_request_that_no_longer_stands_reads_so(client: Client, ripe: Rollout) -> None:
    request = expansion_asked(ripe)
    contain(ripe, "pause")
    log_in(client, "approver")

    body = client.get(f"/approvals/expansions/{request.pk}/")

    assert "The rollout is paused." in text(body)
    assert 'data-action="approve"' not in body.content.decode()


def test_two_places_to_sign_where_two_are_needed(client: Client, ripe: Rollout) -> None:
    ActionRoute.objects.update(risk="high")
    request = expansion_asked(ripe)
    expansion_decided(request)
    person("approver-2", Role.APPROVER)
    log_in(client, "approver-2")

    body = text(client.get(f"/approvals/expansions/{request.pk}/"))

    assert "1 of 2 approved" in body
    assert "Two approvers: the workflow has riskier action routes: send_message." in body


def test_break_glass_on_the_page_stays_on_every_page_until_reviewed(
    client: Client, ripe: Rollout
) -> None:
    ripe.stages.filter(position=1).update(min_runs=5000)
    log_in(client, "owner")
    url = f"/rollouts/{ripe.slug}/expand/"
    before = written()
    refused = client.post(url, {"break_glass": "1", "reason": "Stable is down."})
    assert (refused.status_code, written()) == (422, before)
    assert "Confirm that it starts without" in text(refused)

    client.post(url, {"break_glass": "1", "reason": "Stable is down.", "confirm": "yes"})

    request = ExpansionRequest.objects.get()
    ripe.refresh_from_db()
    assert (request.state, ripe.stage) == ("started", 2)
    said = "was widened by break-glass, and nobody has reviewed it"
    for name in ("owner", "approver", "viewer"):
        log_in(client, name)
        for address in ("/", f"/rollouts/{ripe.slug}/"):
            assert said in text(client.get(address))
    log_in(client, "outsider")
    assert said not in text(client.get("/"))
    log_in(client, "approver")
    assert "waits for your review" in text(client.get("/approvals/"))
    client.post(f"/approvals/expansions/{request.pk}/review/", {"note": "It was right."})
    assert said not in text(client.get("/"))
    assert "“It was right.”" in text(client.get(f"/approvals/expansions/{request.pk}/"))


def test_the_cockpit_can_ask_where_a_rollout_stands(ripe: Rollout) -> None:
    free = state(ripe, "owner")
    assert (free.may_request, free.blocked, free.pending) == (True, [], None)
    assert state(ripe, "viewer").who == ["owner", "deputy"]
    request = expansion_asked(ripe)
    asked = state(ripe, "owner")
    assert (asked.may_request, asked.pending, asked.approved) == (False, request.pk, None)
    expansion_decided(request)
    approved = state(ripe, "owner")
    assert (approved.pending, approved.approved, approved.may_start) == (None, request.pk, True)
    assert not state(ripe, "deputy").may_start
    contain(ripe, "pause")
    paused = state(ripe, "owner")
    assert (paused.approved, paused.pending) == (None, None)
    assert paused.blocked[0] == "The rollout is live: It is paused."


def test_another_workflows_request_is_not_found(client: Client, ripe: Rollout) -> None:
    request = expansion_approved(ripe)
    log_in(client, "outsider")

    for address in (f"/approvals/expansions/{request.pk}/", f"/rollouts/{ripe.slug}/expand/"):
        assert client.get(address).status_code == 404
    assert client.get(f"/approvals/expansions/{10**30}/").status_code == 404
    assert "No request waits." in text(client.get("/approvals/"))


def also_open(request: ExpansionRequest, n: int) -> None:
    """Let as many other rollouts have an open request like this one."""
    rollout = request.rollout
    for number in range(n):
        rollout.pk, rollout.slug, rollout._state.adding = None, f"other-{number}", True
        rollout.state = RolloutState.DRAFT
        rollout.save()
        request.pk, request.rollout, request._state.adding = None, rollout, True
        request.save()


def test_the_list_asks_as_much_of_ten_requests_as_of_one(
    client: Client, ripe: Rollout, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    request = expansion_asked(ripe)
    also_open(request, 9)
    log_in(client, "approver")
    for header in ({}, {"X-Live": "1"}):
        with django_assert_max_num_queries(13):
            body = client.get("/approvals/", headers=header)
        assert text(body).count("waits for your decision") == 10
