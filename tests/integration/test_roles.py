"""The application's database role reads and writes, and cannot change the audit."""

import pytest
from django.db import ProgrammingError, connection, transaction


@pytest.mark.django_db
def test_application_serves_as_a_role_of_its_own() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "select current_user, tableowner from pg_tables where tablename = 'audit_entry'"
        )
        current, owner = cursor.fetchone()
    assert current != owner


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "update audit_entry set actor = 'someone else'",
        "delete from audit_entry",
        "truncate audit_entry",
        "alter table audit_entry add column x int",
        "drop table audit_entry",
        "update django_migrations set name = 'x'",
        "create table x (id int)",
    ],
)
def test_application_role_cannot_change_what_only_grows(statement: str) -> None:
    with (
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


@pytest.mark.django_db(transaction=True)
def test_a_test_that_commits_leaves_nothing_behind() -> None:
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from audit_entry")
        assert cursor.fetchone() == (0,)
        cursor.execute("select rolname from pg_roles where rolname = current_user")
        assert cursor.fetchone() is not None
