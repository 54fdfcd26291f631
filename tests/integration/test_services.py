"""The embedded servers: killed, confused by a stale pid file, side by side, in odd places."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
import redis

from rollout_console.services.attach import is_process, process_facts
from rollout_console.services.place import place_of
from tests.servers import ROOT

DEADLINE_S = 20.0


class Running:
    """`python -m rollout_console.services` on a folder of its own."""

    def __init__(self, local: Path) -> None:
        self.local = local
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rollout_console.services", str(local), "--not-durable"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.described: dict[str, Any] = json.loads(line) if line else {}

    @property
    def database_url(self) -> str:
        return str(self.described["env"]["DATABASE_URL"])

    @property
    def redis_url(self) -> str:
        return str(self.described["env"]["REDIS_URL"])

    def query(self, statement: str) -> list[Any]:
        with psycopg.connect(self.database_url, connect_timeout=2) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def valkey(self) -> redis.Redis:
        client: redis.Redis = redis.Redis.from_url(self.redis_url, decode_responses=True)
        return client

    def end(self) -> None:
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(timeout=30)

    def words(self) -> str:
        assert self.process.stderr is not None
        return str(self.process.stderr.read())


Start = Callable[[Path], Running]
T = TypeVar("T")


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[Running] = []

    def make(local: Path) -> Running:
        made.append(Running(local))
        return made[-1]

    yield make
    for each in made:
        each.end()
        if (link := each.local / "data").is_symlink():
            # As root, a test's folder is out of the servers' reach: their data is elsewhere.
            shutil.rmtree(link.resolve(), ignore_errors=True)


def eventually(attempt: Callable[[], T], *errors: type[Exception]) -> T:
    """Return what `attempt` does once it no longer raises one of `errors`."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return attempt()
        except errors:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def is_gone(facts: dict[str, Any]) -> bool:
    return not is_process(facts)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


def test_killed_servers_come_back_with_their_data(start: Start, tmp_path: Path) -> None:
    servers = start(tmp_path / "a b" / ".local")
    servers.query("create table kept (n int)")
    servers.query("insert into kept values (7)")
    servers.valkey().set("kept", "7")

    before = [process_facts(pid) for pid in servers.described["pids"].values()]
    for pid in servers.described["pids"].values():
        os.kill(pid, signal.SIGKILL)
    for facts in before:
        wait_until(partial(is_gone, facts))

    rows = eventually(lambda: servers.query("select n from kept"), psycopg.OperationalError)
    assert rows == [(7,)]
    assert eventually(lambda: servers.valkey().get("kept"), redis.RedisError) == "7"


def test_a_pid_file_that_names_a_stranger_is_no_obstacle(start: Start, tmp_path: Path) -> None:
    local = tmp_path / ".local"
    first = start(local)
    first.query("create table kept as select 7 as n")
    first.end()
    place = place_of(local)
    account = place.account
    stranger = subprocess.Popen(
        ["sleep", "60"],
        user=None if account is None else account.uid,
        cwd="/",
    )
    try:
        pid_file = place.data / "postgres" / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{place.data}/postgres\n1\n5432\n\n\n\nready\n")
        place.hand_over(pid_file)

        again = start(local)

        assert again.query("select n from kept") == [(7,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_two_checkouts_run_side_by_side_and_one_runs_once(start: Start, tmp_path: Path) -> None:
    one, other = start(tmp_path / "one"), start(tmp_path / "other")
    one.query("create table mine (n int)")

    assert other.query("select to_regclass('mine') is null") == [(True,)]
    ports = [each.database_url.rsplit(":", 1)[1] for each in (one, other)]
    assert ports[0] != ports[1]

    refused = start(tmp_path / "one")
    assert refused.described == {}
    assert f"already running here (process {one.process.pid})" in refused.words()
    assert one.query("select 1") == [(1,)]


def test_a_killed_supervisor_leaves_nothing_in_the_way(start: Start, tmp_path: Path) -> None:
    first = start(tmp_path)
    first.query("create table kept as select 7 as n")
    servers = [process_facts(pid) for pid in first.described["pids"].values()]

    first.process.kill()
    first.process.wait()
    again = start(tmp_path)

    assert again.query("select n from kept") == [(7,)]
    assert not any(is_process(server) for server in servers)
    # The port is kept, so that what knew the address finds the servers again.
    assert again.database_url == first.database_url
