"""Every refusal and failure of the API as RFC 9457; pages behind other addresses stay HTML."""

import logging
import uuid
from http import HTTPStatus
from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from rollout_console.core.errors import DomainError, problem, problem_of

logger = logging.getLogger(__name__)

PROBLEM: Final = "application/problem+json"

# DRF's own refusals, in our words: status → (code, title).
TITLES: Final[dict[int, tuple[str, str]]] = {
    400: ("invalid-input", "The input does not fit"),
    401: ("unauthenticated", "A token or a log-in is needed"),
    403: ("not-allowed", "Not yours to do"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Not this method"),
    406: ("not-acceptable", "Only JSON is answered here"),
    413: ("too-large", "Too large"),
    415: ("media-type-unsupported", "This kind of body is not read here"),
    429: ("too-many-requests", "Too many requests"),
}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer whatever a view raised; DRF's setting `EXCEPTION_HANDLER`."""
    request = context.get("request")
    instance = getattr(request, "path", None)
    set_rollback()
    if isinstance(error, DomainError):
        return _response(problem_of(error, instance=instance))
    if isinstance(error, Http404 | exceptions.NotFound):
        error = exceptions.NotFound("There is nothing at this address.")
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, exceptions.APIException):
        return _of_framework(error, instance)
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("database away", exc_info=error)
        body = problem(
            code="unavailable",
            title="Not available right now",
            status=503,
            detail="The database is away. Try again.",
            instance=instance,
        )
        return _response(body, {"Retry-After": "1"})
    return _response(_failure(error, instance))


def not_found_view(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler404."""
    if not request.path.startswith("/api/"):
        return defaults.page_not_found(request, exception)
    return problem_http(
        problem(
            code="not-found",
            title="Not found",
            status=404,
            detail="There is nothing at this address.",
            instance=request.path,
        )
    )


def failure_view(request: HttpRequest) -> HttpResponseBase:
    """Django's handler500, for what failed outside of a view: DRF's own are answered above."""
    if not request.path.startswith("/api/"):
        body = _failure(None, request.path)
        return render(request, "500.html", {"reference": body["error_id"][:8]}, status=500)
    return problem_http(_failure(None, request.path))


def problem_http(body: dict[str, Any]) -> HttpResponse:
    return JsonResponse(body, status=body["status"], content_type=PROBLEM)


def _of_framework(error: exceptions.APIException, instance: str | None) -> Response:
    status = error.status_code
    code, title = TITLES.get(status, ("refused", HTTPStatus(status).phrase))
    facts: dict[str, Any] = {}
    if isinstance(error, exceptions.ValidationError):
        facts["errors"] = _errors(error.detail, "")
        first = facts["errors"][0]
        detail = f"{first['pointer'].lstrip('/') or 'The body'}: {first['detail']}"
    else:
        detail = str(error.detail)
    headers = {}
    if isinstance(error, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        headers["WWW-Authenticate"] = "Bearer"
        status, (code, title) = 401, TITLES[401]
    wait = getattr(error, "wait", None)
    if wait is not None:
        headers["Retry-After"] = str(int(wait) + 1)
    body = problem(code=code, title=title, status=status, detail=detail, instance=instance, **facts)
    return _response(body, headers)


def _errors(detail: Any, pointer: str) -> list[dict[str, str]]:
    """Return DRF's nested validation detail as pointers and sentences."""
    if isinstance(detail, dict):
        return [
            found
            for key, value in detail.items()
            for found in _errors(
                value, pointer if key == "non_field_errors" else f"{pointer}/{key}"
            )
        ]
    if isinstance(detail, list):
        found = []
        for index, value in enumerate(detail):
            if isinstance(value, dict | list):
                found.extend(_errors(value, f"{pointer}/{index}"))
            else:
                found.append({"pointer": pointer, "detail": str(value)})
        return found or [{"pointer": pointer, "detail": "Does not fit."}]
    return [{"pointer": pointer, "detail": str(detail)}]


def _failure(error: Exception | None, instance: str | None) -> dict[str, Any]:
    error_id = uuid.uuid4().hex
    # Without an error of its own to show, Django's log has the traceback beside this line.
    logger.error("request failed", extra={"error_id": error_id, "path": instance}, exc_info=error)
    return problem(
        code="internal",
        title="Something broke on our side",
        status=500,
        detail=f"It is in the log under {error_id}. Nothing says that the request took effect.",
        instance=instance,
        error_id=error_id,
    )


def _response(body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    # The renderer keeps a content type that the response names.
    return Response(body, status=body["status"], headers=headers, content_type=PROBLEM)
