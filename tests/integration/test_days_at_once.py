"""Two who need the same new day at once: one makes it, the other waits and finds it made."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from tests.conftest import database_url

# Nobody else has runs or spans of that day.
DAY = "2041-03-05"
PARENTS = {
    "run": "select run_day_ensure(%s)",
    "otlp_span": "select otlp_day_ensure('otlp_span', %s)",
    "otlp_log": "select otlp_day_ensure('otlp_log', %s)",
}

Connect = Callable[[], psycopg.Connection[Any]]


@pytest.fixture
def owner(owner_connection: Connect) -> Iterator[psycopg.Connection[Any]]:
    owner = owner_connection()
    yield owner
    for parent in PARENTS:
        owner.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(_day_of(parent))))


def _day_of(parent: str) -> str:
    return f"{parent}_{DAY.replace('-', '')}"


def _waits_for_its_turn(owner: psycopg.Connection[Any], pid: int) -> bool:
    return owner.execute(
        "select exists (select from pg_locks where locktype = 'advisory' and not granted"
        " and pid = %s)",
        [pid],
    ).fetchone() == (True,)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("parent", PARENTS)
def test_who_waited_for_a_day_finds_it_made(owner: psycopg.Connection[Any], parent: str) -> None:
    answers: list[bool] = []
    faults: list[Exception] = []
    url = database_url(app=connection.settings_dict["USER"] != owner.info.user)
    with psycopg.connect(url) as first, psycopg.connect(url, autocommit=True) as second:

        def ask() -> None:
            try:
                row = second.execute(PARENTS[parent], [DAY]).fetchone()
                answers.extend(row or ())
            except psycopg.Error as fault:
                faults.append(fault)

        assert first.execute(PARENTS[parent], [DAY]).fetchone() == (True,)
        asking = threading.Thread(target=ask)
        asking.start()
        while asking.is_alive() and not _waits_for_its_turn(owner, second.info.backend_pid):
            pass
        assert not answers, "The second did not wait for the first."
        first.commit()
        asking.join(30)

    assert not asking.is_alive()
    assert (answers, faults) == ([False], [])
    parents = owner.execute(
        "select inhparent::regclass::text from pg_inherits where inhrelid = %s::regclass",
        [_day_of(parent)],
    ).fetchall()
    assert parents == [(parent,)]


@pytest.mark.django_db
def test_days_are_made_with_the_owners_rights_and_a_fixed_path(
    owner: psycopg.Connection[Any],
) -> None:
    rows = owner.execute(
        "select proname, prosecdef, proconfig, pg_get_userbyid(proowner) from pg_proc"
        " where proname in ('run_day_ensure', 'otlp_day_ensure') order by proname"
    ).fetchall()
    path = ["search_path=public, pg_temp"]
    assert rows == [
        ("otlp_day_ensure", True, path, owner.info.user),
        ("run_day_ensure", True, path, owner.info.user),
    ]
