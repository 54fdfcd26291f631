"""Act: a workflow asks before it acts, and says what became of it."""

from dataclasses import asdict

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.actions import services
from approvals.actions.models import ActionRequest
from approvals.actions.moves import Result
from approvals.actions.selectors import action_find, action_row
from approvals.authority.matrix import Verb
from approvals.authority.principals import NotAllowed
from rollout_console.api import action_bodies as bodies
from rollout_console.api.access import ApiView
from rollout_console.api.controls import _checked
from rollout_console.api.reads import _word
from rollout_console.catalog.models import Workflow

WHOSE = OpenApiParameter(
    "workflow", str, description="Needed where several of your workflows use this id."
)


class ActionsView(ApiView):
    @extend_schema(
        summary="Ask before acting; the same id gets the same answer",
        request=bodies.ActionIn,
        responses={200: bodies.ActionOut},
    )
    def post(self, request: Request) -> Response:
        self._permitted(request)
        told = _checked(bodies.ActionIn, request)
        found = services.action_request(
            workflow=told["workflow"],
            path=told["path"],
            asked=services.Asked(
                **{key: told[key] for key in ("id", "action", "target", "summary", "run_id")},
                parameters=told.get("parameters"),
                context=told.get("context"),
            ),
            principal=self.principal,
            now=self.now,
        )
        return _answer(self, found)

    def _permitted(self, request: Request) -> None:
        """Refuse before the rest of the body is looked at."""
        named = request.data.get("workflow") if isinstance(request.data, dict) else None
        if isinstance(named, str):
            found = Workflow.objects.filter(slug=named).first() if "\x00" not in named else None
            if found is not None:
                services.action_permit(self.principal, found)
                return
        # Without a workflow to look at, only who may act somewhere is told what is wrong.
        ids = Workflow.objects.values_list("pk", flat=True)
        if not any(self.principal.may(Verb.ACT, pk) for pk in ids):
            raise NotAllowed("Asking for actions needs the scope “act”.", needs="act")


class ActionView(ApiView):
    # What may act may read what it asked for.
    scope_to_read = None

    @extend_schema(
        operation_id="action_request_read",
        summary="An action request, as it is decided now",
        parameters=[WHOSE],
        responses=bodies.ActionOut,
    )
    def get(self, request: Request, request_id: str) -> Response:
        return _answer(self, _find(self, request, request_id))


class ActionResultView(ApiView):
    @extend_schema(
        summary="Say what became of an allowed action",
        parameters=[WHOSE],
        request=bodies.ActionResultIn,
        responses={200: bodies.ActionOut},
    )
    def post(self, request: Request, request_id: str) -> Response:
        found = _find(self, request, request_id)
        services.action_permit(self.principal, found.workflow)
        told = _checked(bodies.ActionResultIn, request)
        found = services.action_result(
            request=found,
            result=Result(told["status"]),
            reference=told["reference"],
            detail=told["detail"],
            principal=self.principal,
            now=self.now,
        )
        return _answer(self, found)


def _find(view: ApiView, request: Request, request_id: str) -> ActionRequest:
    workflow = _word(request.query_params.get("workflow", ""))
    return action_find(request_id=request_id, workflow=workflow, principal=view.principal)


def _answer(view: ApiView, request: ActionRequest) -> Response:
    return Response(asdict(action_row(request, now=view.now)))
