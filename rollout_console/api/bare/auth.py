"""Who calls a bare handler: bearer tokens, looked up at most once in five seconds a process."""

import time
from dataclasses import dataclass
from typing import Final

from django.db import InterfaceError, OperationalError
from django.utils import timezone

from approvals.authority.matrix import Scope
from approvals.authority.principals import NotAllowed, Principal, token_digest, token_principal
from rollout_console.api.bare.database import connections_check
from rollout_console.api.bare.http import Request, Unavailable
from rollout_console.core.errors import DomainError

# How long a revoked token may still be obeyed, and how many tokens one process remembers.
FRESH_S: Final = 5.0
REMEMBERED: Final = 10_000
# After Postgres was found away it is left alone this long; remembered tokens go on working.
AWAY_S: Final = 1.0


class Unauthenticated(DomainError):
    code = "unauthenticated"
    title = "A token is needed"
    status = 401


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    checked_at: float  # time.monotonic()


_known: dict[str, _Known] = {}
_away_until = 0.0


def authenticate(request: Request, scope: Scope, *, api_key: bool = False) -> Principal:
    """Return who calls. `api_key` admits the token as `X-API-Key` too.

    While Postgres is away, tokens seen before go on working, however old the last look: a
    client that is told 401 may never ask again.

    Raises:
        Unauthenticated: there is no token, or it is unknown, expired or revoked.
        NotAllowed: the token lacks `scope`.
        Unavailable: the token is new here and Postgres is away.
    """
    secret = _secret(request, api_key=api_key)
    if secret is None:
        raise Unauthenticated("Send a token: `Authorization: Bearer TOKEN`.")
    principal = _principal(secret)
    if not principal.has_scope(scope):
        raise NotAllowed(f"This token lacks the scope {scope.value!r}.", needs=scope.value)
    return principal


def forget() -> None:
    """Drop what this process remembers of tokens."""
    global _away_until
    _known.clear()
    _away_until = 0.0


def _secret(request: Request, *, api_key: bool) -> str | None:
    scheme, _, value = (request.header("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return request.header("X-API-Key") if api_key else None


def _principal(secret: str) -> Principal:
    global _away_until
    digest = token_digest(secret)
    known = _known.get(digest)
    now = time.monotonic()
    if known is not None and now - known.checked_at < FRESH_S:
        return known.principal
    if now < _away_until:
        return _principal_while_away(known)
    try:
        connections_check()
        principal = token_principal(secret, now=timezone.now())
    except (OperationalError, InterfaceError):
        _away_until = time.monotonic() + AWAY_S
        return _principal_while_away(known)
    if principal is None:
        _known.pop(digest, None)
        raise Unauthenticated("This token is unknown, expired or revoked.")
    if len(_known) >= REMEMBERED:
        _known.clear()
    _known[digest] = _Known(principal, time.monotonic())
    return principal


def _principal_while_away(known: _Known | None) -> Principal:
    if known is None:
        raise Unavailable("The database is away, so this token cannot be checked. Try again.")
    return known.principal
