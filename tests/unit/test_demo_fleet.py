import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rollout_console.demo.fleet import Fleet, FleetSettings, Instance
from rollout_console.demo.reporter import Reporter
from rollout_console.demo.scenarios import SCENARIOS, timings

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DECISION: dict[str, Any] = {
    "release": "2026.11.2",
    "arm": "candidate",
    "mode": "normal",
    "route": None,
    "settings": {},
    "actions": {},
    "rules": [],
    "segment": "internal-ops",
}


class Console:
    """A stand-in that speaks OFREP and takes runs, with faults on demand."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = DECISION
        self.ask_status = 200
        self.report_statuses: list[int] = []
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.reported: list[list[dict[str, Any]]] = []
        self.labelled: list[list[dict[str, Any]]] = []
        self.enough = threading.Event()
        self.enough_runs = 1
        console = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path.startswith("/ofrep/"):
                    key = self.path.rpartition("/")[2]
                    console.asked.append((key, body, dict(self.headers)))
                    self._answer(console.ask_status, console.decision(key))
                    return
                noun = self.path.rpartition("/")[2]
                (console.labelled if noun == "observations" else console.reported).append(body)
                status = console.report_statuses.pop(0) if console.report_statuses else 202
                if sum(map(len, console.reported)) >= console.enough_runs:
                    console.enough.set()
                self._answer(status, {"accepted": len(body), "rejected": 0, "errors": []})

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                if status in (429, 503):
                    self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def decision(self, key: str) -> dict[str, Any]:
        return {
            "key": key,
            "reason": "TARGETING_MATCH",
            "variant": "candidate",
            "value": self.value,
            "metadata": {"exposureVersion": 7},
        }

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def console() -> Iterator[Console]:
    found = Console()
    yield found
    found.close()


def settings_for(console: Console, **fields: Any) -> FleetSettings:
    return FleetSettings(
        url=console.url,
        token="rc_fleet",
        workflows=frozenset({"support-reply"}),
        timings=timings("quality", onset_s=0),
        **fields,
    )


def instance_of(console: Console) -> Instance:
    return Instance(
        scenario=SCENARIOS["quality"], name="support-reply-1", settings=settings_for(console)
    )


def reporter_of(console: Console, noun: str = "runs") -> Reporter:
    return Reporter(url=console.url, token="rc_fleet", every_s=0.01, noun=noun)


def test_a_run_says_what_was_answered(console: Console) -> None:
    run = instance_of(console).task(now=NOW, elapsed_s=0, timing=None)
    answered = {key: run[key] for key in ("workflow", "path", "release", "arm", "segment")}
    assert answered == {
        "workflow": "support-reply",
        "path": "draft",
        "release": "2026.11.2",
        "arm": "candidate",
        "segment": "internal-ops",
    }
    assert run["exposure_version"] == 7
    assert run["occurred_at"] == "2026-11-24T12:00:00.000+00:00"
    (key, body, headers) = console.asked[0]
    assert key == "support-reply.draft"
    assert body["context"]["targetingKey"] == run["subject"]
    assert headers["Rollout-Client"] == "support-reply-1"
    assert headers["Authorization"] == "Bearer rc_fleet"


def test_an_instance_obeys_the_next_answer(console: Console) -> None:
    instance = instance_of(console)
    assert instance.task(now=NOW, elapsed_s=0, timing=None)["arm"] == "candidate"
    console.value = {**DECISION, "release": "2026.10.4", "arm": "stable"}
    run = instance.task(now=NOW, elapsed_s=0, timing=None)
    assert (run["release"], run["arm"]) == ("2026.10.4", "stable")


def test_an_instance_that_was_never_told_reports_nothing(console: Console) -> None:
    console.ask_status = 503
    assert instance_of(console).task(now=NOW, elapsed_s=0, timing=None) == {}


def test_an_instance_goes_on_with_what_it_was_told_while_the_console_is_away(
    console: Console,
) -> None:
    instance = instance_of(console)
    path = SCENARIOS["quality"].paths[0]
    context = {"targetingKey": "internal-0001", "team": "internal"}
    told = instance.decision(path, context)
    console.ask_status = 503
    assert instance.decision(path, context) == told
    asked = len(console.asked)
    assert instance.decision(path, context) == told
    assert len(console.asked) == asked
    assert instance.decision(path, {**context, "targetingKey": "internal-0002"}) is None


@pytest.mark.parametrize("status", [429, 503])
def test_a_batch_put_off_is_sent_again_with_the_same_ids(console: Console, status: int) -> None:
    reporter = reporter_of(console)
    console.report_statuses = [status, 202]
    reporter.add({"id": "a"})
    assert reporter.send_once() == 0
    reporter.add({"id": "b"})
    reporter.send_once()
    assert console.reported == [[{"id": "a"}], [{"id": "a"}]]
    reporter.send_once()
    assert console.reported[2:] == [[{"id": "b"}]]
    assert reporter.accepted == 2


def test_a_batch_that_is_refused_is_not_sent_again(console: Console) -> None:
    reporter = reporter_of(console)
    console.report_statuses = [400]
    reporter.add({"id": "a"})
    reporter.send_once()
    reporter.send_once()
    assert console.reported == [[{"id": "a"}]]
    assert (reporter.accepted, reporter.rejected) == (0, 1)


def test_a_batch_waits_while_nothing_listens() -> None:
    reporter = Reporter(url="http://127.0.0.1:9", token="rc_fleet", every_s=0.01)
    reporter.add({"id": "a"})
    assert reporter.send_once() == pytest.approx(0.04)
    assert (reporter.accepted, reporter.rejected) == (0, 0)


def test_what_people_say_of_a_run_is_told_in_its_time(console: Console) -> None:
    instance = instance_of(console)
    run = instance.task(now=NOW, elapsed_s=0, timing=None) | {"review_requested": True}
    instance.labels_keep(run, now=NOW, at_s=5.0)
    assert list(instance.labels_due(at_s=5.0)) == []
    told = list(instance.labels_due(at_s=1e6))
    assert told[0]["run_id"] == run["id"]
    assert "review" in {label["kind"] for label in told}
    assert list(instance.labels_due(at_s=2e6)) == []

    labels = reporter_of(console, "observations")
    labels.add(told[0])
    labels.send_once()
    assert (console.labelled, console.reported) == ([[told[0]]], [])


def test_the_fleet_works_until_it_is_stopped(console: Console) -> None:
    console.enough_runs = 20
    labels = reporter_of(console, "observations")
    fleet = Fleet(settings_for(console, speed=20), reporter_of(console), labels)
    stop = threading.Event()
    thread = threading.Thread(target=fleet.run, args=(stop,))
    thread.start()
    assert console.enough.wait(20)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    runs = [run for batch in console.reported for run in batch]
    assert {run["client"] for run in runs} == {"support-reply-1", "support-reply-2"}
    assert len({run["id"] for run in runs}) == len(runs)
