"""Pulls from Debian's real Prometheus, and from servers that fail in every way they can."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Segment, Workflow
from rollout_console.rollouts.states import RolloutState
from signals.points.models import MetricPointRow, PointSeries
from signals.points.selectors import PointStep, point_steps
from signals.pulls.models import PullSource
from signals.pulls.services import floor, pulls_run
from signals.pulls.tasks import run as pulls_task
from signals.pulls.watch import pulls_overdue
from tests.factories import rollout_at, token
from tests.prometheus import Prometheus, prometheus_needed
from tests.stack import wait_until as wait_within

pytestmark = pytest.mark.django_db

LOOKBACK = timedelta(minutes=5)
ADDRESS = "/api/v1/workflows/support-reply/pulls"


@pytest.fixture
def workflow() -> Workflow:
    return rollout_at(RolloutState.DRAFT).workflow


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    prometheus_needed()
    server = Prometheus(tmp_path)
    yield server
    server.stop()


class Broken(BaseHTTPRequestHandler):
    """A server that answers as it is told, and keeps what it was asked."""

    answer: Any  # () -> (status, body)
    asked: ClassVar[list[tuple[str, str]]]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.asked.append((self.rfile.read(length).decode(), self.headers.get("Authorization", "")))
        status, body = self.answer()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def broken() -> Iterator[Callable[..., tuple[str, list[tuple[str, str]]]]]:
    servers = []

    def start(answer: Callable[[], tuple[int, bytes]]) -> tuple[str, list[tuple[str, str]]]:
        asked: list[tuple[str, str]] = []
        handler = type("Handler", (Broken,), {"answer": staticmethod(answer), "asked": asked})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def put(name: str, body: dict[str, Any], *, scope: Scope = Scope.RELEASE, query: str = "") -> Any:
    secret, _ = token(scope)
    return Client().put(
        f"{ADDRESS}/{name}{query}",
        json.dumps({"path": "draft", "step_s": 60, **body}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )


def read(address: str = ADDRESS) -> Any:
    secret, _ = token(Scope.READ)
    return Client().get(address, headers={"Authorization": f"Bearer {secret}"})


def wait_until(reached: Callable[[], bool], what: str = "it to happen") -> None:
    wait_within(reached, within_s=20, what=what)


def steps(workflow: Workflow, name: str, **more: Any) -> list[PointStep]:
    found = point_steps(
        workflow_id=workflow.pk,
        path_id=workflow.paths.get(slug="draft").pk,
        name=name,
        start=datetime(2020, 1, 1, tzinfo=UTC),
        end=datetime(2040, 1, 1, tzinfo=UTC),
        step_s=60,
        **more,
    )
    return [] if found is None else found.steps


def due() -> None:
    PullSource.objects.update(next_at=datetime(2020, 1, 1, tzinfo=UTC))


def looked_up(samples: dict[datetime, float], at: datetime) -> float | None:
    """Return what Prometheus says of `at`: the newest sample of the five minutes before it."""
    found = [moment for moment in samples if at - LOOKBACK < moment <= at]
    return samples[max(found)] if found else None


def expected(samples: dict[datetime, float], start: datetime, end: datetime) -> dict[datetime, Any]:
    minutes = int((end - start).total_seconds()) // 60
    every = [start + timedelta(minutes=number) for number in range(minutes + 1)]
    told = {at: looked_up(samples, at) for at in every}
    return {at: value for at, value in told.items() if value is not None}


def test_a_week_is_back_filled_exactly_and_holes_stay_holes(
    workflow: Workflow, prometheus: Prometheus
) -> None:
    now = timezone.now()
    end = floor(now - timedelta(seconds=5), 60)
    start = end - timedelta(days=8)
    # A hole of an hour a day, and more steps than one request may ask for. Between the steps, since
    # versions differ in whether a sample of exactly five minutes ago is still looked up.
    samples = {
        start + timedelta(minutes=number, seconds=-7): float(number % 97) - 40
        for number in range(8 * 1440 + 1)
        if number % 1440 >= 60
    }
    prometheus.fill("queue_depth", [(at, value, {}) for at, value in samples.items()])
    prometheus.start()

    made = put(
        "queue-depth",
        {
            "base_url": prometheus.url,
            "query": "queue_depth",
            "unit": "{task}",
            "backfill_s": 8 * 86_400,
        },
    )
    assert made.status_code == 201, made.content
    first = PullSource.objects.get().pulled_to + timedelta(minutes=1)
    assert first - start in (timedelta(0), timedelta(minutes=1))
    due()
    stored = pulls_run(now=now)

    assert {step.t: step.value for step in steps(workflow, "queue-depth")} == expected(
        samples, first, end
    )
    assert stored == MetricPointRow.objects.count() > 11_000 - 8 * 60
    assert 0 < MetricPointRow.objects.filter(backfill=False).count() <= 16
    assert PointSeries.objects.get().source == "pull:queue-depth"
    row = read().json()["results"][0]
    assert (row["state"], row["error"]) == ("ok", "")
    assert row["pulled_to"] == end.isoformat().replace("+00:00", "Z")


def test_a_server_that_was_away_leaves_no_hole_and_no_double(
    workflow: Workflow, prometheus: Prometheus
) -> None:
    begin = floor(timezone.now(), 60) - timedelta(hours=2)
    samples = {begin + timedelta(minutes=number): float(number) for number in range(121)}
    prometheus.fill("queue_depth", [(at, value, {}) for at, value in samples.items()])
    prometheus.start()
    put("depth", {"base_url": prometheus.url, "query": "queue_depth"})
    source = PullSource.objects.filter(name="depth")
    source.update(pulled_to=begin - timedelta(minutes=1), next_at=begin)
    settled = timedelta(seconds=10)

    pulls_run(now=begin + timedelta(minutes=30) + settled)
    assert len(steps(workflow, "depth")) == 31

    prometheus.stop()
    for minutes in (31, 45, 60):
        due()
        assert pulls_run(now=begin + timedelta(minutes=minutes) + settled) == 0
    away = read(f"{ADDRESS}/depth").json()
    assert (away["state"], away["failures"]) == ("failing", 3)
    assert "cannot be reached" in away["error"]
    assert source.get().pulled_to == begin + timedelta(minutes=30)

    prometheus.start()
    due()
    pulls_run(now=begin + timedelta(minutes=90) + settled)

    assert {step.t: (step.n, step.value) for step in steps(workflow, "depth")} == {
        at: (1, value)
        for at, value in expected(samples, begin, begin + timedelta(minutes=90)).items()
    }
    assert read(f"{ADDRESS}/depth").json()["state"] == "ok"
    # The same window once more: every point is known already.
    source.update(pulled_to=begin - timedelta(minutes=1))
    due()
    assert pulls_run(now=begin + timedelta(minutes=90) + settled) == 0
    assert MetricPointRow.objects.count() == 91


def test_what_prometheus_refuses_or_does_not_have_is_told_from_zero(
    workflow: Workflow, prometheus: Prometheus
) -> None:
    now = floor(timezone.now(), 60)
    prometheus.fill(
        "depth",
        [
            (now - timedelta(minutes=number), float(number), {"tenant": tenant})
            for number in range(10)
            for tenant in ("a", "b")
        ],
    )
    prometheus.start()
    queries = {
        "absent": "nothing_of_this_name",
        "nan": "0 * max(depth) / 0",
        "infinite": "(1 + max(depth)) / 0",
        "parse": "sum(",
        "execute": "depth + on() group_left() depth",
        "several": "depth",
        "zero": "0 * max(depth)",
    }
    for name, query in queries.items():
        assert (
            put(name, {"base_url": prometheus.url, "query": query, "backfill_s": 300}).status_code
            == 201
        )

    pulls_run(now=timezone.now())

    rows = {row["name"]: row for row in read().json()["results"]}
    assert {name: rows[name]["state"] for name in queries} == {
        "absent": "ok",
        "nan": "ok",
        "infinite": "ok",
        "parse": "failing",
        "execute": "failing",
        "several": "failing",
        "zero": "ok",
    }
    assert "400: bad_data: " in rows["parse"]["error"]
    assert "422: execution: " in rows["execute"]["error"]
    assert "aggregate it" in rows["several"]["error"]
    assert set(PointSeries.objects.values_list("name", flat=True)) == {"zero"}
    assert {step.value for step in steps(workflow, "zero")} == {0.0}


def test_labels_become_segments(workflow: Workflow, prometheus: Prometheus) -> None:
    now = floor(timezone.now(), 60)
    slugs = list(workflow.segments.order_by("pk").values_list("slug", flat=True)[:2])
    assert len(slugs) == 2
    prometheus.fill(
        "load",
        [
            (now - timedelta(minutes=number), float(place * 100 + number), {"tenant": slug})
            for number in range(5)
            for place, slug in enumerate([*slugs, "stranger"])
        ],
    )
    prometheus.start()
    fields = {"base_url": prometheus.url, "labels": {"segment": "tenant"}, "backfill_s": 120}

    put("load", {**fields, "query": f'load{{tenant=~"{"|".join(slugs)}"}}'})
    put("strange", {**fields, "query": "load"})
    pulls_run(now=timezone.now())

    for place, slug in enumerate(slugs):
        segment = Segment.objects.get(workflow=workflow, slug=slug)
        values = [step.value or 0 for step in steps(workflow, "load", segment_ids=[segment.pk])]
        assert values
        assert all(place * 100 <= value < place * 100 + 100 for value in values)
    assert "stranger" in PullSource.objects.get(name="strange").error


def test_a_try_shows_what_the_query_answers_and_keeps_nothing(
    workflow: Workflow, prometheus: Prometheus
) -> None:
    now = floor(timezone.now(), 60)
    prometheus.fill(
        "depth", [(now - timedelta(minutes=number), 7.0, {"job": "x"}) for number in range(30)]
    )
    prometheus.start()

    shown = put("depth", {"base_url": prometheus.url, "query": "depth"}, query="?dry_run=1")
    wrong = put("depth", {"base_url": prometheus.url, "query": "sum("}, query="?dry_run=1")

    assert shown.status_code == 200
    (series,) = shown.json()["trial"]["series"]
    assert series["labels"] == {"__name__": "depth", "job": "x"}
    assert [point["value"] for point in series["points"]] == [7.0] * 10
    assert "bad_data" in wrong.json()["trial"]["error"]
    assert not PullSource.objects.exists()
    assert not MetricPointRow.objects.exists()


@pytest.mark.parametrize(
    ("status", "body", "words", "asked_times"),
    [
        (503, b'{"status":"error","errorType":"timeout","error":"busy"}', "503: timeout: busy", 2),
        (500, b"oops", "answers 500.", 1),
        (200, b"<html>log in</html>", "not JSON of Prometheus", 1),
        (200, b'{"status":"success","data":{"resultType":"vector","result":[]}}', "no matrix", 1),
        (
            200,
            b'{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,"x"]]}]}}',
            "cannot be read",
            1,
        ),
        (302, b"", "answers 302.", 1),
    ],
)
def test_a_broken_server_is_an_error_with_words(
    workflow: Workflow, broken: Any, status: int, body: bytes, words: str, asked_times: int
) -> None:
    url, asked = broken(lambda: (status, body))
    put("depth", {"base_url": url, "query": "depth"})

    assert pulls_run(now=timezone.now() + timedelta(minutes=2)) == 0

    source = PullSource.objects.get()
    assert words in source.error
    assert source.failures == 1
    assert source.next_at > timezone.now()
    assert len(asked) == asked_times
    assert not MetricPointRow.objects.exists()


def test_a_server_that_drips_its_answer_is_given_up(
    workflow: Workflow, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The attempt's time is over with the first byte; no single read ever times out.
    monkeypatch.setattr("signals.pulls.client.ATTEMPT_S", 0.0)
    url, asked = broken(lambda: (200, b"{}"))
    put("depth", {"base_url": url, "query": "depth"})

    assert pulls_run(now=timezone.now() + timedelta(minutes=2)) == 0

    assert "in time" in PullSource.objects.get().error
    assert len(asked) == 2


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_ask_for_the_same_window(workflow: Workflow, broken: Any) -> None:
    both_in = threading.Barrier(2)
    gate = threading.Event()

    def slow() -> tuple[int, bytes]:
        gate.wait(timeout=10)
        return 200, b'{"status":"success","data":{"resultType":"matrix","result":[]}}'

    url, asked = broken(slow)
    put("depth", {"base_url": url, "query": "depth"})
    now = timezone.now() + timedelta(minutes=2)

    def work() -> None:
        both_in.wait(timeout=10)
        try:
            pulls_run(now=now)
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    # The one that lost its race for the claim ends while the other still waits for the server.
    wait_until(lambda: sum(worker.is_alive() for worker in workers) == 1)
    gate.set()
    for worker in workers:
        worker.join(timeout=20)

    assert len(asked) == 1
    assert PullSource.objects.get().failures == 0


@pytest.mark.django_db(transaction=True)
def test_the_watch_pulls_what_is_overdue_and_waits_for_no_server(
    workflow: Workflow, broken: Any
) -> None:
    gate = threading.Event()
    body = {"metric": {}, "values": [[int(timezone.now().timestamp()) // 60 * 60, "3"]]}
    answer = {"status": "success", "data": {"resultType": "matrix", "result": [body]}}

    def hanging() -> tuple[int, bytes]:
        gate.wait(timeout=10)
        return 200, json.dumps(answer).encode()

    url, asked = broken(hanging)
    put("depth", {"base_url": url, "query": "depth", "backfill_s": 600})
    assert pulls_overdue(now=timezone.now()) == 0
    PullSource.objects.update(next_at=timezone.now() - timedelta(minutes=1))

    assert pulls_overdue(now=timezone.now()) == 1
    wait_until(lambda: len(asked) == 1)
    # The server still hangs, and we are here.
    assert not MetricPointRow.objects.exists()
    gate.set()
    wait_until(lambda: MetricPointRow.objects.exists())
    wait_until(lambda: not any(each.name == "pulls" for each in threading.enumerate()))
    assert [step.value for step in steps(workflow, "depth")] == [3.0]


def test_the_job_pulls_what_is_due(workflow: Workflow, broken: Any) -> None:
    at = int(timezone.now().timestamp()) // 60 * 60
    told = {"metric": {}, "values": [[at - 60, "4"], [at, "NaN"]]}
    answer = {"status": "success", "data": {"resultType": "matrix", "result": [told]}}
    url, _ = broken(lambda: (200, json.dumps(answer).encode()))
    put("depth", {"base_url": url, "query": "depth", "backfill_s": 600})

    pulls_task()

    assert [step.value for step in steps(workflow, "depth")] == [4.0]


def test_a_secret_is_sent_and_shown_nowhere(workflow: Workflow, broken: Any, settings: Any) -> None:
    empty = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
    url, asked = broken(lambda: (200, empty))
    settings.PULL_CREDENTIALS = {
        "main": {"url": url, "bearer": "s3cret"},
        "old": {"url": url, "username": "u", "password": "p4ss"},
        "other": {"url": "https://elsewhere.example", "bearer": "not yours"},
    }

    for name in ("main", "old"):
        told = put(name, {"base_url": url, "query": "up", "credential": name})
        assert told.status_code == 201
        assert told.json()["credential"] == name
    # Else whoever may set up a pull had a secret sent to a server of their own.
    for credential in ("other", "missing"):
        refused = put("x", {"base_url": url, "query": "up", "credential": credential})
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["pointer"] == "/credential"
    pulls_run(now=timezone.now() + timedelta(minutes=2))

    assert {header for _, header in asked} == {"Bearer s3cret", "Basic dTpwNHNz"}
    shown = read().content + json.dumps(list(AuditEntry.objects.values("data"))).encode()
    assert b"s3cret" not in shown
    assert b"p4ss" not in shown


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"base_url": "file:///etc/passwd"}, "/base_url"),
        ({"base_url": "gopher://127.0.0.1"}, "/base_url"),
        ({"base_url": "http://user:word@127.0.0.1"}, "/base_url"),
        ({"base_url": "http://other.example"}, "/base_url"),
        ({"base_url": "http://ok.example/?x=1"}, "/base_url"),
        ({"path": "nowhere"}, "/path"),
        ({"owner": "nobody"}, "/owner"),
        ({"step_s": 0}, "/step_s"),
        ({"labels": {"colour": "x"}}, "/labels"),
        ({"surprise": 1}, "/surprise"),
    ],
)
def test_a_pull_that_does_not_fit_is_refused(
    workflow: Workflow, settings: Any, fields: dict[str, Any], pointer: str
) -> None:
    settings.PULL_HOSTS = ["ok.example", "*.inside.example"]

    answer = put("depth", {"base_url": "http://ok.example", "query": "up", **fields})

    assert answer.status_code == 400, answer.content
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}
    assert not PullSource.objects.exists()
    assert put("depth", {"base_url": "http://a.inside.example", "query": "up"}).status_code == 201
    assert put("error_rate", {"base_url": "http://ok.example", "query": "up"}).status_code == 400


def test_the_same_again_changes_nothing_and_an_end_keeps_the_points(workflow: Workflow) -> None:
    body = {"base_url": "http://127.0.0.1:9", "query": "up"}
    answers = [put("depth", body).status_code, put("depth", body).status_code]
    answers.append(put("depth", {**body, "step_s": 30}).status_code)
    PullSource.objects.get()
    secret, _ = token(Scope.RELEASE)
    weak, _ = token(Scope.READ)

    def delete(key: str) -> Any:
        return Client().delete(f"{ADDRESS}/depth", headers={"Authorization": f"Bearer {key}"})

    assert delete(weak).status_code == 403
    answers += [delete(secret).status_code, delete(secret).status_code]

    assert answers == [201, 200, 200, 204, 404]
    assert list(
        AuditEntry.objects.filter(subject_type="pull")
        .order_by("pk")
        .values_list("action", flat=True)
    ) == ["pull.created", "pull.changed", "pull.deleted"]
