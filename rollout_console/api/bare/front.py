"""The WSGI application: bare handlers for machines first, Django behind them for the rest."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError

from rollout_console.api.bare import counters
from rollout_console.api.bare.database import connections_check
from rollout_console.api.bare.http import (
    PROBLEM,
    Request,
    Response,
    Unavailable,
    decoded_path,
    failure_response,
    json_response,
    problem_response,
    send,
)
from rollout_console.core.errors import DomainError, problem

log = structlog.get_logger()

Handler = Callable[[Request], Response]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# Ingest handlers at once in one process where no setting says; fewer than the server's threads,
# so that a flood of runs leaves threads for the containment buttons.
INGEST_SLOTS: Final = 5


def refuse(error: DomainError, request: Request) -> Response:
    return problem_response(error, instance=request.path)


def fail(error_id: str, request: Request) -> Response:
    return failure_response(error_id=error_id, instance=request.path)


@dataclass(frozen=True, slots=True)
class Route:
    """A handler and how its refusals and failures are put. `pattern` may end in `{name}`.

    `behind` are the methods that Django answers at the same address.
    """

    method: str
    pattern: str
    handler: Handler
    limited: bool = False
    behind: frozenset[str] = frozenset()
    refuse: Callable[[DomainError, Request], Response] = refuse
    fail: Callable[[str, Request], Response] = fail


class Front:
    """Answers what `routes` hold and leaves everything else to `behind`."""

    def __init__(
        self,
        routes: Iterable[Route],
        behind: Wsgi,
        *,
        start: Callable[[], None] | None = None,
    ) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._open: dict[str, tuple[str, dict[str, Route]]] = {}
        for route in routes:
            self._add(route)
        self._behind = behind
        self._start = start
        self._start_lock = threading.Lock()
        slots = getattr(settings, "WEB_INGEST_SLOTS", INGEST_SLOTS)
        self._slots = threading.BoundedSemaphore(slots)

    def _add(self, route: Route) -> None:
        head, _, last = route.pattern.rpartition("/")
        if last.startswith("{"):
            _, methods = self._open.setdefault(head, (last.strip("{}"), {}))
        else:
            methods = self._exact.setdefault(route.pattern, {})
        methods[route.method] = route

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if self._start is not None:
            self._start_once()
        path = decoded_path(environ)
        params: dict[str, str] = {}
        methods = self._exact.get(path)
        if methods is None:
            head, _, last = path.rpartition("/")
            if not last or head not in self._open:
                return self._behind(environ, start_response)
            name, methods = self._open[head]
            params[name] = last
        request = Request(environ, params)
        route = methods.get(request.method)
        if route is None:
            if request.method in _behind(methods):
                return self._behind(environ, start_response)
            return send(_wrong_method(methods), start_response)
        began = time.perf_counter()
        response = self._answer(route, request)
        counters.request_count(route.pattern, response.status, time.perf_counter() - began)
        return send(response, start_response)

    def _start_once(self) -> None:
        """Run what a serving process needs; not at import, which tests and commands do too."""
        with self._start_lock:
            if self._start is not None:
                self._start()
                # Only now: requests beside the first wait for it instead of finding nothing.
                self._start = None

    def _answer(self, route: Route, request: Request) -> Response:
        if route.limited and not self._slots.acquire(blocking=False):
            return route.refuse(Unavailable("As many reports as we take at once are in."), request)
        try:
            return _handled(route, request)
        finally:
            if route.limited:
                self._slots.release()


def _handled(route: Route, request: Request) -> Response:
    try:
        connections_check()
        return route.handler(request)
    except DomainError as error:
        return route.refuse(error, request)
    except (OperationalError, InterfaceError):
        log.warning("request.database_away", route=route.pattern, exc_info=True)
        return route.refuse(Unavailable("The database is away. Try again."), request)
    except Exception:
        # The outer edge: whatever a handler raises is a bug, answered with an id to look up.
        error_id = uuid.uuid4().hex
        log.exception("request.failed", route=route.pattern, error_id=error_id)
        return route.fail(error_id, request)
    finally:
        connections_check()


def _behind(methods: dict[str, Route]) -> set[str]:
    return {method for route in methods.values() for method in route.behind}


def _wrong_method(methods: dict[str, Route]) -> Response:
    allowed = ", ".join(sorted({*methods, *_behind(methods)}))
    body = problem(
        code="method-not-allowed",
        title="Not this method",
        status=405,
        detail=f"This address takes {allowed}.",
    )
    return json_response(405, body, headers=[("Allow", allowed)], content_type=PROBLEM)
