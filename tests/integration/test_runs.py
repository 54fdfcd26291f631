"""Drill-down: the raw runs behind a number, by filters and order, for whoever may read them."""

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from rollout_console.catalog.models import Workflow
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.selectors.charts import WINDOWS, chart_plans, charts
from signals.ingest import run_reads
from signals.ingest.drill import query_read
from signals.ingest.rows import OUTCOMES
from tests.factories import person, principal, rollout_at, token
from tests.labels import Reports, observation, work
from tests.matrix import logged_in
from tests.story import run_item

pytestmark = pytest.mark.django_db


@pytest.fixture
def live() -> Rollout:
    return rollout_at(RolloutState.LIVE)


@pytest.fixture
def reports(live: Rollout) -> Reports:
    return Reports()


def ago(**spans: float) -> str:
    return (datetime.now(UTC) - timedelta(**spans)).isoformat()


def asked(**query: Any) -> Any:
    secret, _ = token(Scope.READ)
    given = {"workflow": "support-reply", **query}
    return Client().get(
        f"/api/v1/runs?{urlencode(given, doseq=True)}",
        headers={"Authorization": f"Bearer {secret}"},
    )


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


def test_a_run_reads_back_as_it_was_reported_with_what_came_later(reports: Reports) -> None:
    run = run_item(
        id="order/7 ü",
        subject="u-9",
        route="rag-large",
        risk="high",
        input_condition="messy",
        input_tokens=1200,
        output_tokens=80,
        retries=2,
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        attributes={"question": "Where is my parcel?"},
        measures={"hops": 3},
        failure_category="late",
        outcome="error",
    )
    reports.runs(run)
    reports.observations(observation(run, "review", verdict="rejected", reviewer="kim"))
    work()

    (told,) = asked().json()["results"]

    for field in ("id", "workflow", "path", "release", "segment", "outcome", "subject", "route"):
        assert told[field] == run[field], field
    for field in ("risk", "input_condition", "input_tokens", "output_tokens", "retries"):
        assert told[field] == run[field], field
    for field in ("trace_id", "attributes", "measures", "failure_category", "latency_ms"):
        assert told[field] == run[field], field
    assert datetime.fromisoformat(told["occurred_at"]) == datetime.fromisoformat(run["occurred_at"])
    assert (told["arm"], told["mode"], told["cost_usd"]) == ("candidate", "normal", 0.02)
    (label,) = told["labels"]
    assert (label["kind"], label["verdict"], label["reviewer"]) == ("review", "rejected", "kim")

    page = logged_in("viewer").get("/runs/", {"workflow": "support-reply"}).content.decode()
    (href,) = re.findall(r'<a class="lnk nowrap" href="([^"]+)"', page)
    assert "review: rejected" in page
    assert "parcel" not in page
    own = logged_in("viewer").get(href.replace("&amp;", "&"))
    text = own.content.decode()
    assert own.status_code == 200
    assert '<h1 class="clip-any">Run order/7 ü</h1>' in text
    assert re.search(r'<details class="disc" id="attributes">.*parcel.*</details>', text, re.S)
    assert "4bf92f3577b34da6a3ce929d0e0e4736" in text


def test_filters_part_the_runs_and_drills_are_left_out(reports: Reports) -> None:
    reports.runs(
        run_item(id="plain"),
        run_item(id="hard", input_condition="ambiguous", risk="high"),
        run_item(id="stable", release="2026.10.4", segment="eu-customers"),
        run_item(id="bare", release=None, segment=None, arm="stable", mode="manual"),
        run_item(id="broken", outcome="error", failure_category="timeout", route="simple"),
        run_item(id="drill", drill="d-1"),
        run_item(id="old", occurred_at=ago(hours=3)),
    )
    work()

    def found(**query: Any) -> set[str]:
        return set(ids(asked(**query)))

    hour = {"plain", "hard", "stable", "bare", "broken"}
    assert found() == hour
    assert found(**{"from": ago(hours=4)}) == hour | {"old"}
    assert found(**{"from": ago(hours=4), "to": ago(hours=2)}) == {"old"}
    assert found(release="2026.10.4") == {"stable"}
    assert found(release="~") == {"bare"}
    assert found(segment="eu-customers") == {"stable"}
    assert found(segment=["eu-customers", "~"]) == {"stable", "bare"}
    assert found(arm="stable") == {"stable", "bare"}
    assert found(mode="manual") == found(mode="fallback") == {"bare"}
    assert found(mode="normal") == hour - {"bare"}
    assert found(outcome="error") == found(failure_category="timeout") == {"broken"}
    assert found(route="simple", input_condition="clean") == set()
    assert found(risk="high", input_condition="ambiguous") == {"hard"}
    # By arrival, of what happened at most an hour before.
    assert found(path="draft", clock="arrival", **{"from": ago(minutes=5)}) == hour
    late = {"clock": "arrival", "from": ago(hours=2.5)}
    assert found(path="draft", **late) == hour | {"old"}


@pytest.mark.parametrize(
    ("signal", "worst_first"),
    [
        ("latency_p95_ms", ["slow", "dear", "bad", "good"]),
        ("cost_per_task_usd", ["dear", "slow", "bad", "good"]),
        ("quality_pass_rate", ["bad", "good", "dear", "slow"]),
        ("trust_negative_rate", ["dear", "slow", "bad", "good"]),
        ("", ["slow", "dear", "bad", "good"]),
    ],
)
def test_worst_first_by_each_signal_and_paged_without_a_gap(
    reports: Reports, signal: str, worst_first: list[str]
) -> None:
    base = datetime.now(UTC) - timedelta(minutes=10)
    fields: dict[str, dict[str, Any]] = {
        "good": {"latency_ms": 100, "cost_usd": 0.01, "quality": {"passed": True}},
        "bad": {"latency_ms": 200, "cost_usd": 0.02, "quality": None},
        "dear": {"latency_ms": 300, "cost_usd": 9000, "quality": None},
        "slow": {"latency_ms": 9000, "cost_usd": 0.03, "quality": None, "outcome": "error"},
    }
    items = {
        name: run_item(id=name, occurred_at=(base + timedelta(seconds=n)).isoformat(), **said)
        for n, (name, said) in enumerate(fields.items())
    }
    items["slow"]["quality"] = items["dear"]["quality"] = None
    reports.runs(*items.values())
    reports.observations(
        observation(items["bad"], passed=False),
        observation(items["dear"], "feedback", value="complaint"),
    )
    work()
    # Those that say nothing of the signal come last, the newest of them first.
    if signal == "quality_pass_rate":
        worst_first = ["bad", "good", "slow", "dear"]

    whole = ids(asked(order="worst", signal=signal))
    paged: list[str] = []
    query: dict[str, Any] = {"order": "worst", "signal": signal, "limit": 1}
    for _ in range(4):
        answer = asked(**query)
        paged += ids(answer)
        query["cursor"] = answer.json()["next"]

    assert whole == paged == worst_first
    assert query["cursor"] is None


def test_newest_first_pages_over_runs_of_one_moment(reports: Reports) -> None:
    moment = ago(minutes=5)
    names = {uuid.uuid4().hex for _ in range(7)}
    reports.runs(*(run_item(id=name, occurred_at=moment) for name in names))
    work()

    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = asked(limit=3, **({"cursor": cursor} if cursor else {}))
        seen += ids(answer)
        cursor = answer.json()["next"]

    assert len(seen) == 7
    assert set(seen) == names


def test_a_bounded_read_says_how_far_it_looked_and_goes_on(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_reads, "READ_MAX", 4)
    base = datetime.now(UTC) - timedelta(minutes=10)
    items = [
        run_item(
            id=f"r{n}",
            occurred_at=(base + timedelta(seconds=n)).isoformat(),
            outcome="error" if n == 0 else "ok",
            latency_ms=1000 - n,
        )
        for n in range(6)
    ]
    reports.runs(*items)
    work()

    worst = asked(order="worst", signal="latency_p95_ms")
    assert ids(worst) == ["r2", "r3", "r4", "r5"]
    back_to = datetime.fromisoformat(worst.json()["read_back_to"])
    assert back_to == datetime.fromisoformat(items[2]["occurred_at"])
    first = asked(order="worst", signal="latency_p95_ms", limit=1).json()
    assert (first["read_back_to"], first["next"] is None) == (worst.json()["read_back_to"], False)
    errors = asked(outcome="error")
    assert (ids(errors), errors.json()["next"] is None) == ([], False)
    assert ids(asked(outcome="error", cursor=errors.json()["next"])) == ["r0"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"workflow": ""}, "/workflow"),
        ({"from": "yesterday"}, "/from"),
        ({"from": "2026-11-24T10:00:00"}, "/from"),
        ({"to": "9999-12-31T23:59:59Z"}, "/to"),
        ({"from": "2026-09-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}, "/from"),
        ({"outcome": "great"}, "/outcome"),
        ({"arm": "left"}, "/arm"),
        ({"order": "best"}, "/order"),
        ({"signal": "mood"}, "/signal"),
        ({"signal": "data_age_s", "order": "worst"}, "/signal"),
        ({"route": "a\x00b"}, "/route"),
        ({"cursor": "x"}, "/cursor"),
        ({"cursor": "W10"}, "/cursor"),
        ({"limit": "1000"}, "/limit"),
    ],
)
def test_what_does_not_fit_is_named(live: Rollout, query: dict[str, str], pointer: str) -> None:
    answer = asked(**query)

    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_runs_are_only_for_readers_of_their_workflow(reports: Reports) -> None:
    run = run_item(id="secret-run")
    reports.runs(run)
    work()
    other = rollout_at(RolloutState.LIVE, workflow="claims-intake").workflow
    person("elsewhere", Role.OWNER, other)
    limited, _ = token(Scope.READ, workflows=(other,))
    query = {"workflow": "support-reply"}

    refused = Client().get("/api/v1/runs", query, headers={"Authorization": f"Bearer {limited}"})
    assert refused.status_code == 404
    ingest, _ = token(Scope.INGEST)
    scoped = Client().get("/api/v1/runs", query, headers={"Authorization": f"Bearer {ingest}"})
    assert scoped.status_code == 403
    for name in ("elsewhere", "outsider"):
        client = logged_in(name)
        for address, given in (
            ("/runs/", query),
            ("/runs/support-reply/secret-run/", {"at": run["occurred_at"]}),
        ):
            answer = client.get(address, given)
            assert answer.status_code == 404, (name, address)
            assert b"internal-ops" not in answer.content
    assert logged_in("outsider").get("/runs/").status_code == 200
    assert Client().get("/runs/?workflow=support-reply").status_code == 302


def test_a_charts_row_leads_to_exactly_the_runs_it_counted(reports: Reports, live: Rollout) -> None:
    passed = [run_item() for _ in range(5)]
    failed = [run_item(quality={"passed": False}) for _ in range(3)]
    aside = [
        run_item(mode="manual"),
        run_item(segment="eu-customers"),
        run_item(release="2026.10.4", arm="stable"),
    ]
    reports.runs(*passed, *failed, *aside)
    work()
    client = logged_in("viewer")
    live.refresh_from_db()
    plans = chart_plans(live, signals=["quality_pass_rate", "latency_p95_ms"])
    now = timezone.now() + timedelta(seconds=1)

    for window in (WINDOWS["15m"], WINDOWS["12h"]):
        for chart in charts(live, plans, window=window, now=now):
            rows = [row for row in chart.rows if row.href]
            assert sum(int(row.n) for row in rows) == 8
            listed: list[str] = []
            for row in rows:
                query = parse_qsl(urlsplit(row.href).query)
                answer = asked(**{key: [v for k, v in query if k == key] for key, _ in query})
                assert len(ids(answer)) == int(row.n), (window.slug, chart.key, row)
                listed += ids(answer)
                assert client.get(row.href).status_code == 200
            assert set(listed) == {item["id"] for item in (*passed, *failed)}
            if chart.signal == "quality_pass_rate" and len(rows) == 1:
                assert set(listed[:3]) == {item["id"] for item in failed}
            figure = chart.figure["data"]
            (line,) = [trace for trace in figure if trace.get("meta") == {"role": "line"}]
            assert [point[3] for point in line["customdata"]] == [
                row.href for row in reversed(rows)
            ]


def test_reading_follows_the_index_of_a_day(reports: Reports, live: Rollout) -> None:
    workflow = Workflow.objects.get(slug="support-reply")
    work()
    with connection.cursor() as cursor:
        day = datetime.now(UTC).date()
        cursor.execute("select run_day_ensure(%s)", [day])
        cursor.execute(
            "insert into run (occurred_at, drain, workflow_id, path_id, segment_id, release_id,"
            " arm, mode, input_condition, risk, outcome, critical, review_requested, id_hash,"
            " run_id) select now() - interval '1 minute' - n * interval '1 millisecond', 1, %s, 1,"
            " 0, 0, 0, 0, 0, 0, %s, false, false, md5(n::text)::uuid, n::text"
            " from generate_series(1, 20000) as n",
            [workflow.pk, OUTCOMES["ok"]],
        )
        cursor.execute("analyze run")
        query = query_read(
            {"workflow": ["support-reply"]}, principal=principal("viewer"), now=timezone.now()
        )
        source, arguments = run_reads._looked_through(query, after=None)
        cursor.execute(f"explain {source} limit 51", arguments)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Scan Backward" in plan
    assert "Sort" not in plan
