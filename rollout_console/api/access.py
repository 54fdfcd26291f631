"""Who calls the control API: a bearer token, or a log-in with its CSRF token."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone
from rest_framework import exceptions, negotiation, parsers, permissions, views
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request

from approvals.authority.matrix import Scope, Verb
from approvals.authority.principals import (
    NotAllowed,
    Principal,
    person_principal,
    token_principal,
)
from rollout_console.api.problems import exception_handler
from rollout_console.catalog.models import Person, Workflow
from rollout_console.core.strict_json import JsonRefused, json_load

BODY_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TokenUser:
    """What DRF wants to see as `request.user` for a token; everything else asks the principal."""

    name: str
    is_authenticated: bool = True
    is_active: bool = True


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN`."""

    def authenticate(self, request: Request) -> tuple[TokenUser, Principal] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        scheme, _, secret = header.partition(" ")
        if scheme.lower() != "bearer":
            return None
        principal = token_principal(secret.strip(), now=timezone.now())
        if principal is None:
            raise exceptions.AuthenticationFailed("This token is unknown, expired or revoked.")
        return TokenUser(principal.name), principal

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SessionLogin(SessionAuthentication):
    """A browser's log-in; writes need the CSRF token. Others get 401, and learn of `Bearer`."""

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class StrictJSONParser(parsers.BaseParser):
    """JSON and no more: see `core.strict_json`."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        raw = body_read(stream)
        if not raw.strip():
            return {}
        try:
            return json_load(raw)
        except JsonRefused as error:
            raise exceptions.ParseError(str(error)) from error


class BodyTooLarge(exceptions.APIException):
    status_code = 413
    default_detail = f"A request here holds at most {BODY_MAX:,} bytes."


def body_read(stream: Any) -> bytes:
    """Return a body of at most 1 MiB."""
    raw: bytes = stream.read(BODY_MAX + 1)
    if len(raw) > BODY_MAX:
        raise BodyTooLarge
    return raw


class AlwaysJSON(negotiation.BaseContentNegotiation):
    """One form of answer, whatever `Accept` says; bodies go by their content type."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        given = request.content_type.partition(";")[0].strip().lower()
        if not given:
            # Without a body there is nothing to misread.
            return parsers[0]
        return next((parser for parser in parsers if parser.media_type == given), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class ApiView(views.APIView):
    """What every control endpoint shares; `reading` ones ask a token for the scope `read`."""

    authentication_classes = [TokenAuthentication, SessionLogin]
    permission_classes = [permissions.IsAuthenticated]
    parser_classes = [StrictJSONParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AlwaysJSON
    scope_to_read: Scope | None = Scope.READ

    def get_exception_handler(self) -> Any:
        return exception_handler

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if any(isinstance(value, str) and "\x00" in value for value in kwargs.values()):
            # Nothing has such a name, and Postgres would not even look.
            raise exceptions.NotFound
        scopes = self.principal.scopes
        needed = self.scope_to_read
        reading = request.method in ("GET", "HEAD")
        if reading and scopes is not None and needed and needed not in scopes:
            raise NotAllowed(f"This token lacks the scope {needed.value!r}.", needs=needed.value)

    @property
    def principal(self) -> Principal:
        if isinstance(self.request.auth, Principal):
            return self.request.auth
        user = self.request.user
        assert isinstance(user, Person)
        return person_principal(user)

    @property
    def now(self) -> datetime:
        return timezone.now()

    def readable(self) -> list[Workflow]:
        """Return the workflows that the caller may read, by slug."""
        principal = self.principal
        workflows = Workflow.objects.select_related("owner", "deputy").order_by("slug")
        return [row for row in workflows if principal.may(Verb.READ, row.pk)]
