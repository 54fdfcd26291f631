from typing import Any

import pytest
from django.test import Client

from approvals.authority.matrix import Scope
from rollout_console.api import urls
from rollout_console.api.bare.routes import ROUTES
from rollout_console.catalog.models import Person, Workflow
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from tests.factories import contain, rollout_at, token

pytestmark = pytest.mark.django_db

SLUG = "support-reply-2026.11.2"


@pytest.fixture
def live() -> Rollout:
    return rollout_at(RolloutState.LIVE)


def get(address: str, *scopes: Scope, of: str | None = None, **fields: Any) -> Any:
    person = None if of is None else Person.objects.get(username=of)
    secret, _ = token(*(scopes or (Scope.READ,)), of=person, **fields)
    return Client().get(f"/api/v1/{address}", headers={"Authorization": f"Bearer {secret}"})


def test_a_rollout_reads_as_the_contract_has_it(live: Rollout) -> None:
    told = get(f"rollouts/{SLUG}").json()

    assert told == {
        "slug": SLUG,
        "workflow": "support-reply",
        "candidate": "2026.11.2",
        "stable": "2026.10.4",
        "state": "live",
        "version": live.version,
        "stage": 1,
        "stages": 2,
        "exposed": [{"segment": "internal-ops", "share": 0.9, "exposed_share": None}],
        "modes": {"draft": "normal"},
        "actions": {"send_message": "ask"},
        "changes": [
            {
                "component": "prompt",
                "name": "refund-policy",
                "before": "v18",
                "after": "v19",
                "note": "offer an exchange first",
            }
        ],
        "owner": "owner",
        "deputy": "deputy",
        "since": told["since"],
        "by": live.state_by,
    }
    listed = get("rollouts").json()
    assert listed == {"results": [told], "next": None}
    overview = get("overview").json()
    (row,) = overview["rollouts"]
    assert row == {**told, "tasks_per_min": 0.0, "signals": row["signals"], "alerts": 0}
    assert [(cell["signal"], cell["path"], cell["state"]) for cell in row["signals"]] == [
        ("quality_pass_rate", "draft", "too_few"),
        ("latency_p95_ms", "draft", "too_few"),
        ("cost_per_task_usd", "draft", "too_few"),
    ]


def test_workflows_verdicts_and_readiness(live: Rollout) -> None:
    assert get("workflows").json()["results"] == [
        {
            "slug": "support-reply",
            "name": "Support reply",
            "owner": "owner",
            "deputy": "deputy",
            "paths": [{"slug": "draft", "name": "Draft a reply", "sensitivity": "normal"}],
        }
    ]
    verdicts = get(f"rollouts/{SLUG}/verdicts").json()["results"]
    assert [(row["guard"], row["kind"]) for row in verdicts] == [
        ("cost-inside", "criterion"),
        ("quality-holds", "criterion"),
        ("quality-low", "trigger"),
        ("slow", "trigger"),
        ("spend-cap", "trigger"),
    ]
    assert set(verdicts[0]) == {
        *("guard", "kind", "path", "segment", "verdict", "value", "low", "high", "unit"),
        *("reference", "n", "window_s", "age_s", "evidence", "needs", "sentence", "ledger_block"),
    }
    items = get(f"rollouts/{SLUG}/readiness").json()["items"]
    assert {item["item"]: item["present"] for item in items} == {
        "first_segment": True,
        "criteria": True,
        "fallbacks": True,
        "triggers": True,
        "limits": True,
        "review": True,
        "owner": True,
    }


def test_lists_go_on_by_cursor(live: Rollout) -> None:
    contain(live, "pause")
    contain(live, "rollback")

    first = get("audit?limit=2").json()
    second = get(f"audit?limit=2&cursor={first['next']}").json()

    assert [row["action"] for row in first["results"]] == [
        "rollout.rolled_back",
        "rollout.paused",
    ]
    assert first["next"] == str(first["results"][-1]["id"])
    assert second["results"][0]["action"] == "rollout.went_live"
    assert get("audit?action=rollout.paused").json()["next"] is None
    versions = get("exposure/versions?limit=1").json()
    assert versions["results"][0]["cause"] == f"{SLUG} rolled back by owner"


def test_a_series_has_points_marks_and_its_limit(live: Rollout) -> None:
    told = get(
        "signals/series?workflow=support-reply&path=draft&signal=latency_p95_ms&step=60"
    ).json()

    assert (told["signal"], told["unit"], told["step_s"]) == ("latency_p95_ms", "ms", 60)
    assert (told["points"], told["limit"], told["baseline"]) == ([], 6000.0, None)
    assert [(mark["kind"], mark["text"]) for mark in told["marks"]] == [
        ("release", "2026.11.2 live: Internal operations 90.0%")
    ]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "workflow=support-reply&path=draft",
        "workflow=support-reply&path=draft&signal=nothing",
        "workflow=support-reply&path=draft&signal=error_rate&from=yesterday",
        "workflow=support-reply&path=draft&signal=error_rate&from=2026-01-01T00:00:00",
        "workflow=support-reply&path=draft&signal=error_rate&to=0001-01-01T00:00:00Z",
        "workflow=support-reply&path=draft&signal=error_rate&step=0",
        "workflow=support-reply&path=draft&signal=error_rate&arm=both",
        "workflow=support-reply&path=draft&signal=error_rate&release=1",
        "workflow=support-reply%00&path=draft&signal=error_rate",
    ],
)
def test_a_series_that_cannot_be_is_refused(live: Rollout, query: str) -> None:
    response = get(f"signals/series?{query}")

    assert response.status_code == 400, response.content
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "address", ["audit?limit=0", "audit?limit=1e3", "audit?cursor=-1", "alerts?cursor=²"]
)
def test_a_page_that_cannot_be_is_refused(live: Rollout, address: str) -> None:
    assert get(address).status_code == 400


def test_what_is_not_yours_to_read_is_not_there(live: Rollout) -> None:
    for address in ("workflows", "rollouts", "alerts", "audit", "exposure/versions"):
        assert get(address, of="outsider").json()["results"] == []
    assert get("overview", of="outsider").json()["rollouts"] == []
    for address in ("", "/verdicts", "/readiness"):
        assert get(f"rollouts/{SLUG}{address}", of="outsider").status_code == 404
    query = "signals/series?workflow=support-reply&path=draft&signal=error_rate"
    assert get(query, of="outsider").status_code == 404
    refused = get("rollouts", Scope.INGEST)
    assert (refused.status_code, refused.json()["needs"]) == (403, "read")


def test_me_says_who_asks(live: Rollout) -> None:
    assert get("me", Scope.INGEST, of="owner").json() == {
        "name": "owner",
        "kind": "person",
        "roles": {},
        "scopes": ["ingest"],
        "workflows": [],
    }
    told = get("me", workflows=(Workflow.objects.get(),)).json()
    assert (told["kind"], told["workflows"]) == ("token", ["support-reply"])
    client = Client()
    client.force_login(Person.objects.get(username="owner"))
    assert client.get("/api/v1/me").json()["roles"] == {"support-reply": ["owner"]}


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("get", "/api/v1/nothing", 404),
        ("get", "/api/", 404),
        ("get", "/api/v1/rollouts/a%00b", 404),
        ("put", "/api/v1/plans/a%00b", 404),
        ("put", "/api/v1/workflows/a%00b/releases/1", 404),
        ("post", "/api/v1/rollouts/a%ffb/ready", 404),
        ("get", f"/api/v1/rollouts/{SLUG}/containment", 405),
        ("delete", "/api/v1/me", 405),
        ("post", "/api/v1/plans/x", 405),
    ],
)
def test_every_wrong_address_is_a_problem_document(
    live: Rollout, method: str, address: str, status: int
) -> None:
    secret, _ = token(*Scope)

    response = getattr(Client(), method)(
        address,
        headers={"Authorization": f"Bearer {secret}", "Accept": "text/html"},
    )

    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["status"] == status


def test_a_bug_of_ours_is_a_problem_with_an_id(
    live: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr("rollout_console.api.rows.rollout_dicts", broken)

    response = get("rollouts")

    assert response.status_code == 500
    assert response.json()["type"] == "/problems/internal"
    assert response.json()["error_id"] in response.json()["detail"]
    assert b"secret" not in response.content


def test_the_openapi_document_has_every_route() -> None:
    response = Client().get("/api/schema/")
    document = response.json()

    assert response.status_code == 200
    named = {
        "/api/" + str(pattern.pattern).replace("<str:", "{").replace("<int:", "{").replace(">", "}")
        for pattern in urls.urlpatterns
        if str(pattern.pattern).startswith("v1/")
    }
    assert set(document["paths"]) == named | {route.pattern for route in ROUTES}
    for route in ROUTES:
        assert route.method.lower() in document["paths"][route.pattern]
    schemas = document["components"]["schemas"]
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert all(status.isdigit() for status in operation["responses"])
    for ref in references(document):
        assert ref.removeprefix("#/components/schemas/") in schemas


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    return (
        [found for item in value for found in references(item)] if isinstance(value, list) else []
    )


def test_the_docs_page_needs_no_script() -> None:
    response = Client().get("/api/docs/")
    page = response.content.decode()

    assert response.status_code == 200
    assert "/api/v1/rollouts/{slug}/containment" in page
    assert "/ofrep/v1/evaluate/flags/{key}" in page
    assert "<script" not in page
    assert "style=" not in page
