import re
from typing import Any

import pytest
from django.utils import timezone

from approvals.authority.principals import SYSTEM
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from tests.factories import people, rollout_at
from tests.matrix import logged_in, written
from tests.plans import plan_document

pytestmark = pytest.mark.django_db


def text(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def draft_without_review() -> Rollout:
    people()
    document = plan_document()
    del document["workflow"]["paths"][0]["review"]
    plan_apply_and_publish(document=document, text="", principal=SYSTEM, now=timezone.now())
    return Rollout.objects.get()


def test_a_draft_that_misses_something_says_what_and_offers_no_button() -> None:
    rollout = draft_without_review()
    client = logged_in("owner")
    url = f"/rollouts/{rollout.slug}/"

    answer = client.get(f"{url}readiness/")

    body = answer.content.decode()
    assert dict(re.findall(r'data-item="(\w+)" data-present="(\w+)"', body)) == {
        "first_segment": "true",
        "criteria": "true",
        "fallbacks": "true",
        "triggers": "true",
        "limits": "true",
        "review": "false",
        "owner": "true",
    }
    words = text(answer)
    assert "6 of 7 are complete, so going live is blocked" in words
    assert "Blocked by item 6 of the gate." in words
    assert "“draft” names nothing that a person reviews." in words
    assert "List under “review.points” of the path what a person looks at." in words
    assert 'data-action="ready"' not in body
    cockpit = client.get(url)
    assert 'data-action="ready"' not in cockpit.content.decode()
    assert "Blocked by item 6 of the gate." in text(cockpit)

    before = written()
    refused = client.post(f"{url}ready/", {"from": "readiness"}, follow=True)

    assert refused.redirect_chain == [(f"{url}readiness/", 302)]
    assert "is not ready to be exposed: “draft” names nothing" in text(refused)
    assert written() == before


def test_what_is_missing_leads_to_where_it_is_written() -> None:
    rollout = draft_without_review()
    url = f"/rollouts/{rollout.slug}/"

    def leads(name: str) -> list[str]:
        body = logged_in(name).get(f"{url}readiness/").content.decode()
        return re.findall(r'<a class="s lnk" href="([^#"]+)"', body)

    steps = ["rollout", "criteria", "paths", "triggers", "paths", "paths", "workflow"]
    assert leads("owner") == [f"{url}plan/{step}/" for step in steps]
    answer = logged_in("owner").get(leads("owner")[5], follow=True)
    assert answer.redirect_chain == [("/plans/support-reply/edit/paths/", 302)]
    assert answer.status_code == 200
    # Who may not edit reads the file.
    assert leads("approver") == [f"{url}plan/"] * 7


def test_two_people_sign_on_the_page() -> None:
    rollout = rollout_at(RolloutState.DRAFT)
    url = f"/rollouts/{rollout.slug}/"
    owner, approver = logged_in("owner"), logged_in("approver")
    form = {"from": "readiness"}

    owner.post(f"{url}ready/", form)
    assert "Waits for its owner and an approver." in text(owner.get(f"{url}readiness/"))
    rollout.refresh_from_db()
    owner.post(f"{url}go-live/", {**form, "version": str(rollout.version)})

    shown = text(owner.get(f"{url}readiness/"))
    assert re.search(r"Confirmed owner , owner until \d\d:\d\d:\d\d UTC", shown)
    assert "Confirmed by owner. Waits for an approver. Can do it now: approver." in shown
    assert "can confirm: approver" in shown
    stale = approver.post(f"{url}go-live/", {**form, "version": "1"}, follow=True)
    assert "You saw version 1, it is 2 now" in text(stale)
    done = approver.post(f"{url}go-live/", {**form, "version": str(rollout.version)})
    assert done["Location"] == url
    rollout.refresh_from_db()
    assert rollout.state == "live"
    after = text(approver.get(f"{url}readiness/"))
    assert "The gate is shown as it would be read now." in after
    assert "Confirm go-live" not in after


def test_who_may_not_sees_who_can() -> None:
    rollout = rollout_at(RolloutState.DRAFT)

    answer = logged_in("viewer").get(f"/rollouts/{rollout.slug}/readiness/")

    assert "Can do it now: owner and deputy." in text(answer)
    assert 'data-action="ready"' not in answer.content.decode()
    assert logged_in("outsider").get(f"/rollouts/{rollout.slug}/readiness/").status_code == 404


def test_the_list_holds_what_is_not_live_yet(django_assert_max_num_queries: Any) -> None:
    draft_without_review()
    rollout_at(RolloutState.READY, workflow="claims-intake")
    rollout_at(RolloutState.LIVE, workflow="contract-summary")
    client = logged_in("owner")

    with django_assert_max_num_queries(19):
        answer = client.get("/readiness/")

    rows = re.findall(r'href="/rollouts/([^"]+)/readiness/"', answer.content.decode())
    assert rows == ["claims-intake-2026.11.2", "support-reply-2026.11.2"]
    assert "6 of 7 Human review and approval points" in text(answer)
    assert "7 of 7 nothing" in text(answer)
    nothing = text(logged_in("outsider").get("/readiness/"))
    assert "Nothing waits" in nothing
    assert "claims-intake" not in nothing
