"""Fixtures for every test: the database with its two roles, and what child processes need."""

import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit, urlunsplit
from weakref import WeakSet

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test.utils import setup_databases, teardown_databases
from psycopg import sql
from pytest_django.plugin import DjangoDbBlocker

from rollout_console.services import roles
from tests.chromium import chromium_found

# `make test` says at its end that there was no browser.
collect_ignore = ["browser"] if chromium_found() is None else []


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest,
    django_test_environment: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[None]:
    """Make the test database as its owner; then everything runs as the application's role."""
    options: dict[str, Any] = {
        "verbosity": 0,
        "interactive": False,
        "keepdb": request.config.getvalue("reuse_db") and not request.config.getvalue("create_db"),
    }
    with django_db_blocker.unblock():
        with roles.as_owner():
            made = setup_databases(serialized_aliases=set(), **options)
        # On the class: Playwright's event loop gives a test another connection object.
        flush = patch.object(type(connection.ops), "execute_sql_flush", _flush_as_owner)
        connection_created.connect(_connection_note)
        with flush:
            yield
        _connections_end()
        with roles.as_owner():
            teardown_databases(made, verbosity=0, keepdb=options["keepdb"])


_noted: "WeakSet[BaseDatabaseWrapper]" = WeakSet()


def _connection_note(connection: BaseDatabaseWrapper, **_: object) -> None:
    _noted.add(connection)


def _connections_end() -> None:
    """Close what threads and event loops left open: a database in use cannot be dropped."""
    for wrapper in list(_noted):
        if wrapper.connection is not None:
            wrapper.connection.close()
            wrapper.connection = None


def _flush_as_owner(operations: object, sql_list: object) -> None:
    """Empty every table, partitions and the audit included, which the application may not."""
    with psycopg.connect(database_url(), autocommit=True) as owner:
        rows = owner.execute(
            "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition"
            " and c.relname <> 'django_migrations' order by c.relname"
        ).fetchall()
        tables = sql.SQL(", ").join(sql.Identifier(name) for (name,) in rows)
        owner.execute(sql.SQL("truncate {} restart identity cascade").format(tables))


def database_url(*, app: bool = False) -> str:
    """Return the URL of the test database: the owner's, or the application's own."""
    given = settings.DATABASE_APP_URL if app else settings.DATABASE_URL
    parts = urlsplit(given)
    return urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))


@pytest.fixture
def stack_env(transactional_db: None) -> dict[str, str]:
    """Return the environment for a child process that works on the test's own database."""
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "rollout_console.settings.test",
        "DATABASE_URL": database_url(),
        "REDIS_URL": settings.REDIS_URL,
        "PYTHONUNBUFFERED": "1",
    }
    if settings.DATABASE_APP_URL:
        env["DATABASE_APP_URL"] = database_url(app=True)
    return env


@pytest.fixture
def owner_connection(db: None) -> Iterator[Callable[[], psycopg.Connection[Any]]]:
    """Return a way to connect to the test database as its owner, beside Django's connection."""
    made: list[psycopg.Connection[Any]] = []

    def connect() -> psycopg.Connection[Any]:
        made.append(psycopg.connect(database_url(), autocommit=True))
        return made[-1]

    yield connect
    for each in made:
        each.close()
