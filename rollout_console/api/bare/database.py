"""This thread's database connections, looked at between requests as Django does for its own."""

from django.db import connections


def connections_check() -> None:
    """Let go of connections that broke or are too old.

    One inside a transaction is left alone: only a test calls handlers from within one.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
