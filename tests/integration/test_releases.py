"""Releases by form and API: registered once, kept as typed, read by whoever may."""

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from approvals.authority.matrix import Scope
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Release, Workflow
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from tests.factories import rollout_at, token
from tests.forms import form_of
from tests.ledger import bucket
from tests.matrix import logged_in

pytestmark = pytest.mark.django_db

NEW = "/workflows/support-reply/releases/new/"


@pytest.fixture
def live() -> Rollout:
    return rollout_at(RolloutState.LIVE)


def text(response: Any) -> str:
    return re.sub(r"\s+", " ", response.content.decode())


def typed(page: Any, **more: str) -> dict[str, Any]:
    """Return what a browser would post of the form on a page, with more typed into it."""
    return {**form_of(page.content.decode(), "release-form"), **more}


def test_the_form_registers_what_was_typed_without_a_script(live: Rollout) -> None:
    client = logged_in("owner")
    first = client.get(NEW)
    row = {
        "0:component": "prompt",
        "0:name": "refund-policy",
        "0:before": "Be kind.\nOffer a refund.",
        "0:after": "Be kind.\nOffer an <exchange>.",
        "0:note": "fewer refunds",
        "source:url": "https://git.example/support/commit/8f3c",
        "version": "2026.12.1",
    }

    second = client.post(NEW, typed(first, **row, do="add"))
    held = typed(second)
    assert (second.status_code, held["rows"]) == (200, ["2"])
    assert held["0:after"] == ["Be kind.\r\nOffer an <exchange>."]
    assert not Release.objects.filter(version="2026.12.1").exists()
    more = {"1:component": "model", "1:name": "answerer", "1:before": "v18", "1:after": "v19"}
    raised = typed(client.post(NEW, {**held, **more, "do": "up:1"}))
    assert (raised["0:name"], raised["1:name"]) == (["answerer"], ["refund-policy"])
    whole = typed(client.post(NEW, {**raised, "do": "add"}))
    third = typed(client.post(NEW, {**whole, "do": "remove:2"}))
    assert third["rows"] == ["2"]
    done = client.post(NEW, {**third, "do": "register"}, follow=True)

    assert done.redirect_chain[0][0] == reverse("web:release", args=["support-reply", "2026.12.1"])
    page = text(done)
    assert "Registered: release 2026.12.1" in page
    assert "<del>v18</del>" in page
    assert "<ins>v19</ins>" in page
    assert '<span class="tx">Offer an &lt;exchange&gt;.</span>' in page
    assert 'href="https://git.example/support/commit/8f3c"' in page
    # The very content that a pipeline would have sent is the same release.
    secret, _ = token(Scope.RELEASE)
    sent = client.put(
        "/api/v1/workflows/support-reply/releases/2026.12.1",
        {
            "changes": [
                {"component": "model", "name": "answerer", "before": "v18", "after": "v19"},
                {
                    "component": "prompt",
                    "name": "refund-policy",
                    "before": "Be kind.\nOffer a refund.",
                    "after": "Be kind.\nOffer an <exchange>.",
                    "note": "fewer refunds",
                },
            ],
            "source": {"url": "https://git.example/support/commit/8f3c"},
        },
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )
    assert sent.status_code == 200
    again = client.post(NEW, {**third, "do": "register"}, follow=True)
    assert "registered with the same content already" in text(again)
    assert AuditEntry.objects.filter(action="release.registered", subject="2026.12.1").count() == 1


def test_other_content_and_bad_input_keep_what_was_typed(live: Rollout) -> None:
    client = logged_in("deputy")
    row = {"rows": "2", "0:component": "prompt", "1:component": "tools"}
    differs = client.post(NEW, {**row, "version": "2026.11.2", "0:name": "other"})
    empty = client.post(
        NEW, {**row, "version": "2026.12.2", "1:before": "a", "1:after": "b", "1:note": "why"}
    )
    named = client.post(NEW, {**row, "version": "no spaces!", "0:name": "x"})
    odd = client.post(NEW, {"rows": "1", "0:component": "colour", "0:name": "x", "version": "1"})

    assert differs.status_code == 409
    assert "A release never changes" in text(differs)
    assert typed(differs)["0:name"] == ["other"]
    assert empty.status_code == 422
    assert typed(empty)["1:note"] == ["why"]
    # The error stands at the row that it is about, though the blank one before was not sent.
    place = empty.content.decode().index("A change needs “name”.</p>")
    assert empty.content.decode().rfind('id="r1"', 0, place) > 0
    assert named.status_code == 422
    assert "letters, digits" in text(named)
    assert odd.status_code == 422
    assert "is not known" in text(odd)
    assert not Release.objects.filter(version__in=["2026.12.2", "no spaces!", "1"]).exists()


def test_who_may_not_register_sees_who_can(live: Rollout) -> None:
    viewer = logged_in("viewer")

    page = viewer.get(NEW)
    refused = viewer.post(NEW, {"rows": "0", "version": "2026.12.1"})

    assert "Can register it: " in text(page)
    assert 'data-action="register-release"' not in text(page)
    assert refused.status_code == 403
    assert not Release.objects.filter(version="2026.12.1").exists()
    assert logged_in("outsider").get(NEW).status_code == 404


def test_the_list_says_what_each_changes_and_where_it_serves(live: Rollout) -> None:
    path = live.workflow.paths.get()
    seen = Release.objects.create(
        workflow=live.workflow,
        version="<seen>",
        registered=False,
        created_at=live.created_at,
    )
    Release.objects.filter(pk=live.candidate_id).update(
        source={"url": "javascript:alert(1)", "repository": "support"}
    )
    minute = live.created_at.replace(second=0, microsecond=0)
    bucket(path, minute, release_id=seen.pk, passed=1)
    client = logged_in("viewer")

    page = client.get("/releases/?workflow=support-reply")
    rows = dict(
        re.findall(r'<tr data-release="([^"]+)">(.*?)</tr>', page.content.decode(), re.DOTALL)
    )

    assert next(iter(rows)) == "&lt;seen&gt;"
    assert "Not registered" in rows["&lt;seen&gt;"]
    assert f"{minute:%d %b %Y %H:%M}" in rows["&lt;seen&gt;"]
    assert "candidate on Draft a reply" in rows[live.candidate.version]
    assert "1 prompt" in rows[live.candidate.version]
    assert "javascript:" not in rows[live.candidate.version]
    assert "stable on Draft a reply" in rows["2026.10.4"]
    one = client.get(reverse("web:release", args=["support-reply", live.candidate.version]))
    assert 'href="javascript' not in text(one)
    assert live.slug in text(one)
    assert client.get("/workflows/support-reply/releases/none/").status_code == 404
    assert logged_in("outsider").get("/releases/").content.decode().count("data-release") == 0


def test_readers_read_releases_over_the_api(live: Rollout) -> None:
    secret, _ = token(Scope.READ)
    head = {"Authorization": f"Bearer {secret}"}
    base = "/api/v1/workflows/support-reply/releases"

    first = Client().get(base, {"limit": 1}, headers=head).json()
    then = Client().get(base, {"limit": 1, "cursor": first["next"]}, headers=head).json()
    one = Client().get(f"{base}/2026.11.2", headers=head)

    versions = [row["version"] for row in (*first["results"], *then["results"])]
    assert sorted(versions) == ["2026.10.4", "2026.11.2"]
    assert then["next"] is None
    assert one.json()["roles"] == [{"role": "candidate", "path": "draft"}]
    assert one.json()["changes"][0]["component"] == "prompt"
    assert one.json()["newest_task_at"] is None
    assert Client().get(f"{base}/none", headers=head).status_code == 404
    other = Workflow.objects.create(
        slug="other",
        owner=live.workflow.owner,
        deputy=live.workflow.deputy,
        created_at=live.created_at,
    )
    narrow, _ = token(Scope.READ, workflows=(other,))
    for address in (base, f"{base}/2026.11.2", "/api/v1/workflows/support-reply/comparison"):
        answer = Client().get(address, headers={"Authorization": f"Bearer {narrow}"})
        assert answer.status_code == 404
