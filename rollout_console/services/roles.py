"""The two database roles: an owner who migrates, and the application, which only reads and writes.

The application's role cannot change or delete rows of append-only tables (the audit).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import environ
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import sql

# Where only the owner's URL is given, the owner acts as this role while it serves.
APP_ROLE: Final = "rollout_console_app"
ENGINE: Final = "django.db.backends.postgresql"


def database_settings(owner_url: str, app_url: str) -> dict[str, Any]:
    """Return Django's settings of the application's connection.

    Without a URL of the application's own, the owner logs in and acts as `APP_ROLE`.
    """
    found: dict[str, Any] = environ.Env.db_url_config(app_url or owner_url, engine=ENGINE)
    if not app_url:
        options = found.setdefault("OPTIONS", {})
        options["options"] = f"{options.get('options', '')} -c role={APP_ROLE}".strip()
    return found


def owner_settings(owner_url: str) -> dict[str, Any]:
    """Return what differs when the owner is the one who connects."""
    found = environ.Env.db_url_config(owner_url, engine=ENGINE)
    return {
        "USER": found["USER"],
        "PASSWORD": found["PASSWORD"],
        "OPTIONS": found.get("OPTIONS", {}),
    }


def app_role(app_url: str) -> str:
    """Return the database role that the application acts as."""
    return str(environ.Env.db_url_config(app_url)["USER"]) if app_url else APP_ROLE


@contextmanager
def as_owner(alias: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Make this thread's connection the owner's within the block: for migrations and grants."""
    connection = connections[alias]
    owner: dict[str, Any] = settings.DATABASE_OWNER
    kept = {name: connection.settings_dict[name] for name in owner}
    connection.close()
    connection.settings_dict.update(owner)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(kept)


def app_role_ensure(alias: str = DEFAULT_DB_ALIAS) -> None:
    """Create the role that the owner acts as, where the application has no log-in of its own.

    Raises:
        django.db.ProgrammingError: the owner may not create roles; an administrator has to.
    """
    role = settings.DATABASE_APP_ROLE
    if role != APP_ROLE:
        return
    with connections[alias].cursor() as cursor:
        cursor.execute("select from pg_roles where rolname = %s", [role])
        if cursor.fetchone() is None:
            cursor.execute(f"create role {APP_ROLE} nologin")
        # From 16 on a role's maker is a member that may not act as it until granted that.
        acts_as = "SET" if connections[alias].pg_version >= 160000 else "MEMBER"  # type: ignore[attr-defined]
        cursor.execute("select pg_has_role(current_user, %s, %s)", [role, acts_as])
        if not cursor.fetchone()[0]:
            cursor.execute(f"grant {APP_ROLE} to current_user")


def grant(append_only: Sequence[str], alias: str = DEFAULT_DB_ALIAS) -> None:
    """Give the application's role what it needs on every table, and no more; run as the owner.

    Args:
        append_only: tables whose rows it may add and read only; one not there yet is passed over.
    """
    role = sql.Identifier(settings.DATABASE_APP_ROLE)
    statements = [
        "grant usage on schema public to {role}",
        "grant select, insert, update, delete on all tables in schema public to {role}",
        "grant usage, select on all sequences in schema public to {role}",
        "alter default privileges in schema public"
        " grant select, insert, update, delete on tables to {role}",
        "alter default privileges in schema public grant usage, select on sequences to {role}",
    ]
    with connections[alias].cursor() as cursor:
        for statement in statements:
            cursor.execute(sql.SQL(statement).format(role=role))
        for table in (*append_only, "django_migrations"):
            cursor.execute("select to_regclass(%s) is not null", [table])
            if cursor.fetchone()[0]:
                revoke = sql.SQL("revoke update, delete, truncate on {table} from {role}")
                cursor.execute(revoke.format(table=sql.Identifier(table), role=role))
