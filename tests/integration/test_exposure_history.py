"""Who saw what, and when: over the API and on the pages, and never of another workflow."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from rollout_console.catalog.models import Workflow
from rollout_console.exposure.evaluate import Answer
from rollout_console.exposure.models import ExposureVersion
from rollout_console.exposure.selectors import snapshot_current
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from tests.factories import contain, person, rollout_at, token
from tests.matrix import logged_in, written

pytestmark = pytest.mark.django_db

SLUG = "support-reply-2026.11.2"
INTERNAL = {"targetingKey": "u-1", "team": "internal"}


@pytest.fixture
def story() -> list[datetime]:
    """Five versions, a minute apart: two plans, both go live, and one is rolled back.

    Returns their times. `reader` may read support-reply alone.
    """
    support = rollout_at(RolloutState.LIVE)
    rollout_at(RolloutState.LIVE, workflow="claims-intake")
    contain(support, "rollback")
    person("reader", Role.VIEWER, Workflow.objects.get(slug="support-reply"))
    start = timezone.now().replace(microsecond=0) - timedelta(minutes=10)
    times = []
    for place, version in enumerate(ExposureVersion.objects.order_by("number")):
        times.append(start + timedelta(minutes=place))
        ExposureVersion.objects.filter(pk=version.pk).update(at=times[-1])
    assert len(times) == 5
    return times


def get(name: str, address: str, *, status: int = 200) -> Any:
    response = logged_in(name).get(f"/api/v1/exposure/{address}")
    assert response.status_code == status, response.content
    return response.json()


def stamp(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def evaluate(name: str, *, status: int = 200, **body: Any) -> Any:
    response = logged_in(name).post(
        "/api/v1/exposure/evaluate",
        {"workflow": "support-reply", "path": "draft", "context": INTERNAL, **body},
        content_type="application/json",
    )
    assert response.status_code == status, response.content
    return response.json()


def drawn(story: list[datetime]) -> str:
    """Return a user who was exposed at version 4: salts are random, so one in ten is not."""
    for n in range(100):
        context = {"team": "internal", "targetingKey": f"u-{n}"}
        if evaluate("viewer", at=stamp(story[3]), context=context)["value"]["arm"] == "candidate":
            return f"u-{n}"
    raise AssertionError("nobody of 100 was exposed at 90 %")


def test_versions_name_whom_they_touch_and_only_to_who_may_read_it(story: list[datetime]) -> None:
    whole = get("viewer", "versions")["results"]
    assert [(row["number"], row["workflows"], row["cause"]) for row in whole] == [
        (5, ["support-reply"], f"{SLUG} rolled back by owner"),
        (
            4,
            ["claims-intake"],
            "claims-intake-2026.11.2 2026.11.2 live: Internal operations 90.0%",
        ),
        (3, ["claims-intake"], "plan of claims-intake applied"),
        (2, ["support-reply"], f"{SLUG} 2026.11.2 live: Internal operations 90.0%"),
        (1, ["support-reply"], "plan of support-reply applied"),
    ]
    mine = get("reader", "versions")["results"]
    assert [row["number"] for row in mine] == [5, 2, 1]
    assert mine[0] == whole[0]
    assert get("outsider", "versions") == {"results": [], "next": None}


def test_versions_go_on_by_cursor_workflow_and_time(story: list[datetime]) -> None:
    first = get("reader", "versions?limit=2")
    assert ([row["number"] for row in first["results"]], first["next"]) == ([5, 2], "2")
    second = get("reader", "versions?limit=2&cursor=2")
    assert ([row["number"] for row in second["results"]], second["next"]) == ([1], None)
    theirs = get("viewer", "versions?workflow=claims-intake")["results"]
    assert [row["number"] for row in theirs] == [4, 3]
    assert get("reader", "versions?workflow=claims-intake")["results"] == []
    by_then = get("viewer", f"versions?time={stamp(story[2] + timedelta(seconds=1))}")["results"]
    assert [row["number"] for row in by_then] == [3, 2, 1]
    get("viewer", "versions?time=noon", status=400)


def test_a_version_says_what_it_changed(story: list[datetime]) -> None:
    told = get("reader", "versions/2")

    assert (told["cause"], told["actor"]) == (
        f"{SLUG} 2026.11.2 live: Internal operations 90.0%",
        "approver",
    )
    assert told["changes"] == [
        {
            "workflow": "support-reply",
            "path": "draft",
            "segment": None,
            "what": "rollout",
            "before": None,
            "after": SLUG,
            "exposed": False,
            "held": False,
            "sentence": f"rollout none → {SLUG}",
        },
        {
            "workflow": "support-reply",
            "path": "draft",
            "segment": "internal-ops",
            "what": "exposed",
            "before": None,
            "after": {"share": 0.9, "release": "2026.11.2", "mode": "normal"},
            "exposed": True,
            "held": False,
            "sentence": "internal-ops: exposed, 90 % on 2026.11.2 in mode normal; "
            "not exposed before",
        },
    ]
    assert list(told["document"]["flags"]) == ["support-reply.draft"]


def test_a_containment_that_changes_nothing_served_is_its_workflows_version() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    contain(rollout, "pause")
    person("reader", Role.VIEWER, rollout.workflow)

    newest = get("reader", "versions")["results"][0]

    assert (newest["cause"], newest["workflows"]) == (
        f"{SLUG} paused by owner",
        ["support-reply"],
    )
    assert get("reader", f"versions/{newest['number']}")["changes"] == []


def test_no_answer_holds_anything_of_another_workflow(story: list[datetime]) -> None:
    for number in (3, 4):
        get("reader", f"versions/{number}", status=404)
    get("reader", "versions/99", status=404)
    get("reader", f"versions/{2**70}", status=404)
    addresses = [
        *("versions", "versions/5", "versions/2", "versions/1", "at"),
        # Version 4 was in force, and it is another workflow's.
        f"at?time={stamp(story[3])}",
    ]
    for address in addresses:
        assert "claims" not in str(get("reader", address)), address
    client = logged_in("reader")
    pages = [
        *("/exposure/", "/exposure/5/", "/exposure/at/"),
        f"/exposure/at/?time={stamp(story[3])}&path=support-reply.draft&team=internal",
    ]
    for page in pages:
        answer = client.get(page)
        assert answer.status_code == 200
        assert "claims" not in answer.content.decode(), page
    refused = client.get(f"/exposure/at/?time={stamp(story[4])}&path=claims-intake.draft")
    assert refused.status_code == 422
    assert "There is no workflow" in refused.content.decode()
    assert client.get("/exposure/4/").status_code == 404
    evaluate("reader", at=stamp(story[4]), workflow="claims-intake", status=404)


def test_what_was_exposed_at_a_time(story: list[datetime]) -> None:
    told = get("reader", f"at?time={stamp(story[3] + timedelta(seconds=5))}")

    assert told["version"] == {
        "number": 4,
        "at": stamp(story[3]),
        "cause": None,
        "actor": None,
        "digest": ExposureVersion.objects.get(number=4).digest,
        "workflows": [],
    }
    (path,) = told["paths"]
    assert (path["workflow"], path["path"], path["rollout"]) == ("support-reply", "draft", SLUG)
    assert [(row["segment"], row["share"], row["release"]) for row in path["exposed"]] == [
        ("internal-ops", 0.9, "2026.11.2")
    ]
    assert (path["others"]["release"], path["others"]["mode"]) == ("2026.10.4", "normal")
    assert (path["since"]["number"], path["since"]["actor"]) == (2, "approver")
    after = get("reader", "at")
    assert after["paths"][0]["exposed"] == []
    assert after["paths"][0]["since"]["cause"] == f"{SLUG} rolled back by owner"


def test_a_time_before_the_first_version_or_ahead_is_refused(story: list[datetime]) -> None:
    get("viewer", f"at?time={stamp(story[0] - timedelta(seconds=1))}", status=404)
    ahead = get("viewer", f"at?time={stamp(timezone.now() + timedelta(hours=1))}", status=400)
    assert "lies in the future" in ahead["detail"]
    evaluate("viewer", at=stamp(timezone.now() + timedelta(hours=1)), status=400)
    evaluate("viewer", at=stamp(story[0] - timedelta(seconds=1)), status=404)


def test_what_a_context_got_before_during_and_after(story: list[datetime]) -> None:
    shares = []
    for place in (0, 1, 3, 4):
        told = evaluate("reader", at=stamp(story[place]), context={"team": "customer"})
        assert (told["value"]["release"], told["value"]["arm"]) == ("2026.10.4", "stable")
        assert (told["version"]["number"], told["error"]) == (place + 1, None)
        shares.append(
            sum(
                evaluate(
                    "reader",
                    at=stamp(story[place]),
                    context={"team": "internal", "targetingKey": f"u-{n}"},
                )["value"]["arm"]
                == "candidate"
                for n in range(20)
            )
        )
    assert (shares[0], shares[3]) == (0, 0)
    assert shares[1] == shares[2]
    assert shares[1] > 10
    exposed = evaluate(
        "reader", at=stamp(story[3]), context={**INTERNAL, "targetingKey": drawn(story)}
    )
    assert exposed["metadata"]["exposureVersion"] == 4
    assert (exposed["version"]["cause"], exposed["since"]["number"]) == (None, 2)
    assert exposed["same_generation"] is True
    assert exposed["fractional"] == exposed["computed_with"]


def test_the_answer_is_what_ofrep_answers_now(story: list[datetime]) -> None:
    snapshot = snapshot_current()
    assert snapshot is not None
    for n in range(40):
        told = evaluate(
            "viewer",
            at=stamp(timezone.now()),
            workflow="claims-intake",
            context={"team": "internal", "targetingKey": f"u-{n}"},
        )
        served = snapshot.decide(
            "claims-intake.draft", targeting_key=f"u-{n}", attributes={"team": "internal"}
        )
        assert isinstance(served, Answer)
        assert told["variant"] == served.variant


def test_a_context_without_its_key_got_an_error_and_it_is_said(story: list[datetime]) -> None:
    told = evaluate("reader", at=stamp(story[3]), context={"team": "internal"})

    assert (told["value"], told["error"]["code"]) == (None, "TARGETING_KEY_MISSING")


def test_a_document_of_another_generation_is_said_to_be_one(story: list[datetime]) -> None:
    version = ExposureVersion.objects.get(number=4)
    version.document["metadata"]["fractional"] = "an older core"
    version.save(update_fields=["document"])

    told = evaluate("reader", at=stamp(story[3]))

    assert (told["fractional"], told["same_generation"]) == ("an older core", False)
    page = logged_in("reader").get(
        "/exposure/at/",
        {"time": stamp(story[3]), "path": "support-reply.draft", **INTERNAL},
    )
    assert "It was served with an older core" in page.content.decode()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"at": "noon"}, "/at"),
        ({"at": "2026-11-24T12:00:00"}, "/at"),
        ({"workflow": 7}, "/workflow"),
        ({"context": []}, "/context"),
        ({"context": {"targetingKey": 7}}, "/context/targetingKey"),
        ({"contexts": {}}, "/contexts"),
    ],
)
def test_a_question_that_does_not_fit_is_refused(
    story: list[datetime], body: dict[str, Any], pointer: str
) -> None:
    told = evaluate("reader", **{"at": stamp(story[3]), **body}, status=400)

    assert [error["pointer"] for error in told["errors"]] == [pointer]


def test_asking_takes_the_scope_read_and_the_csrf_token_and_writes_nothing(
    story: list[datetime],
) -> None:
    before = written()
    body = {"at": stamp(story[3]), "workflow": "support-reply", "path": "draft", "context": {}}
    address = "/api/v1/exposure/evaluate"

    def ask(client: Client, **headers: str) -> int:
        return client.post(
            address, body, content_type="application/json", headers=headers
        ).status_code

    for scope in Scope:
        secret, _ = token(scope)
        expected = 200 if scope is Scope.READ else 403
        assert ask(Client(), Authorization=f"Bearer {secret}") == expected, scope
    elsewhere, _ = token(Scope.READ, workflows=(Workflow.objects.get(slug="claims-intake"),))
    assert ask(Client(), Authorization=f"Bearer {elsewhere}") == 404
    assert ask(Client()) == 401
    assert ask(logged_in("outsider")) == 404
    assert ask(logged_in("owner", enforce_csrf_checks=True)) == 403
    assert ask(logged_in("owner")) == 200
    assert written() == before


# --- Pages ---


def text(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def test_the_list_reads_in_words_and_filters(story: list[datetime]) -> None:
    client = logged_in("viewer")
    words = text(client.get("/exposure/"))
    assert "Internal operations: exposed, 90 % on 2026.11.2 in mode normal; not exposed" in words
    assert "Internal operations: no longer exposed; before 90 % on 2026.11.2" in words

    def numbers(query: str) -> list[str]:
        body = client.get(f"/exposure/?{query}").content.decode()
        return re.findall(r'data-exposure-version="(\d+)"', body)

    assert numbers("") == ["5", "4", "3", "2", "1"]
    assert numbers("workflow=claims-intake") == ["4", "3"]
    assert numbers(f"time={story[1]:%Y-%m-%dT%H:%M:%S}") == ["2", "1"]
    assert numbers("before=3") == ["2", "1"]
    wrong = client.get("/exposure/?time=noon")
    assert wrong.status_code == 422
    assert "Write a time as" in text(wrong)


def test_the_list_goes_on_page_by_page() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    version = ExposureVersion.objects.order_by("-number").first()
    assert version is not None
    for number in range(version.number + 1, version.number + 31):
        version.pk = number
        version.save(force_insert=True)
    person("reader", Role.VIEWER, rollout.workflow)
    client = logged_in("reader")

    first = client.get("/exposure/").content.decode()
    older = re.search(r'href="(\?[^"]*before=\d+)"', first)
    assert older is not None
    second = client.get(f"/exposure/{older[1].replace('&amp;', '&')}").content.decode()

    shown = re.findall(r'data-exposure-version="(\d+)"', first + second)
    assert shown == [str(number) for number in range(version.number, 0, -1)]
    assert "before=" not in second


def test_who_saw_what_at_a_time_is_answered_on_a_page(story: list[datetime]) -> None:
    client = logged_in("viewer")
    asked = {
        "time": f"{story[3]:%Y-%m-%dT%H:%M:%S}",
        "path": "support-reply.draft",
        "targetingKey": drawn(story),
        "team": "internal",
    }

    exposed = text(client.get("/exposure/at/", asked))
    outside = text(client.get("/exposure/at/", {**asked, "team": "customer"}))
    keyless = text(client.get("/exposure/at/", {**asked, "targetingKey": ""}))
    after = text(client.get("/exposure/at/", {**asked, "time": stamp(story[4])}))

    assert "Exposed as part of “Internal operations”: 2026.11.2 in mode normal." in exposed
    assert "version 2" in exposed
    assert "Internal operations 90 % 2026.11.2 normal" in exposed
    assert "Not exposed: in no exposed segment; 2026.10.4 in mode normal." in outside
    assert "No decision: A share of this segment is exposed" in keyless
    assert "Not exposed: in no exposed segment; 2026.10.4 in mode normal." in after


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"time": "noon"}, "Write a time as 2026-11-24T14:05"),
        ({"time": "2999-01-01T00:00"}, "lies in the future"),
        ({"time": "1999-01-01T00:00"}, "Nothing was served by this console at that time yet."),
        ({"path": "support-reply.gone"}, "served no path “support-reply.gone”"),
        ({"path": "support-reply.draft", "other": "{"}, "is no JSON"),
        ({"path": "support-reply.draft", "other": "[1]"}, "must be a JSON object"),
    ],
)
def test_a_form_that_does_not_fit_says_so_beside_the_field(
    story: list[datetime], asked: dict[str, str], said: str
) -> None:
    answer = logged_in("viewer").get("/exposure/at/", asked)

    assert answer.status_code == 422
    assert said in text(answer)
    assert 'role="alert"' in answer.content.decode()


def test_other_fields_reach_the_rules(story: list[datetime]) -> None:
    answer = logged_in("viewer").get(
        "/exposure/at/",
        {
            "time": stamp(story[3]),
            "path": "support-reply.draft",
            "other": json.dumps({"team": "internal", "targetingKey": drawn(story)}),
        },
    )

    assert "Exposed as part of “Internal operations”" in text(answer)


def test_pages_ask_few_questions(story: list[datetime], django_assert_max_num_queries: Any) -> None:
    client = logged_in("reader")
    assert Rollout.objects.count() == 2
    for address in ("/exposure/", "/exposure/5/", "/exposure/at/?path=support-reply.draft"):
        with django_assert_max_num_queries(20):
            client.get(address)
