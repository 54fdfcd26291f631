"""A workflow's signals: the catalogue with the team's own, and defining one."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from approvals.authority.principals import require
from rollout_console.api import serializers as bodies
from rollout_console.api.access import ApiView
from rollout_console.api.controls import JsonTextParser
from rollout_console.api.reads import listed
from rollout_console.catalog.models import Workflow
from rollout_console.containment.signal_definitions import signal_define_and_publish
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.rollouts.plan_yaml import PlanUnreadable, plan_json_load
from signals.catalogue import Signal
from signals.explain import fed_by, too_little
from signals.own.selectors import OwnRow, own_rows, signals_in


class SignalsView(ApiView):
    @extend_schema(
        operation_id="workflow_signals_list",
        summary="Every signal that a workflow's guards and charts may name, its own last",
        responses=listed(bodies.SignalDefinedOut),
    )
    def get(self, request: Request, workflow: str) -> Response:
        found = _workflow(self, workflow, Verb.READ)
        own = own_rows([found.pk])[found.pk]
        return Response(
            {
                "results": [
                    signal_dict(signal, own.get(slug))
                    for slug, signal in signals_in(found.pk).items()
                ],
                "next": None,
            }
        )


class SignalView(ApiView):
    # Read as strictly as a plan is: this becomes a part of one.
    parser_classes = [JsonTextParser]

    @extend_schema(
        summary="Define a signal of the team's own, in the workflow's plan",
        description="The body is the signal as it stands under `workflow.signals` of a plan; "
        "`slug` may be left out. The same again changes nothing.",
        request=bodies.SignalDefinedIn,
        responses={200: bodies.SignalDefinedOut, 201: bodies.SignalDefinedOut},
    )
    def put(self, request: Request, workflow: str, slug: str) -> Response:
        found = _workflow(self, workflow, Verb.PLAN_EDIT)
        definition = _definition(request)
        defined = signal_define_and_publish(
            workflow=found.slug,
            slug=slug,
            definition=definition,
            principal=self.principal,
            now=self.now,
        )
        row = own_rows([found.pk])[found.pk][slug]
        return Response(signal_dict(row.signal, row), status=201 if defined.created else 200)


def signal_dict(signal: Signal, row: OwnRow | None) -> dict[str, Any]:
    return {
        "slug": signal.slug,
        "name": signal.name,
        "title": signal.title,
        "kind": signal.kind,
        "unit": signal.unit,
        "better": signal.better,
        "own": row is not None,
        "collected": signal.collected,
        "fed_by": fed_by(signal, None if row is None else row.definition),
        "too_little": too_little(signal),
        "version": None if row is None else row.version,
        "since": None if row is None else row.since,
        "by": None if row is None else row.by,
    }


def _definition(request: Request) -> dict[str, Any]:
    # Without a body DRF asks no parser, and has an empty form instead.
    data: Any = request.data
    try:
        definition = plan_json_load(data if isinstance(data, bytes) else b"").value
    except PlanUnreadable as error:
        raise InvalidInput(
            error.detail, errors=[{"pointer": "", "detail": error.detail}]
        ) from error
    if not isinstance(definition, dict):
        raise InvalidInput(
            "A signal is a map of fields.", errors=[{"pointer": "", "detail": "Send an object."}]
        )
    return definition


def _workflow(view: ApiView, slug: str, verb: Verb) -> Workflow:
    """Return a workflow that the caller may do `verb` in; who may nothing there finds none."""
    found = Workflow.objects.filter(slug=slug).first()
    if found is None or not (
        view.principal.may(Verb.READ, found.pk) or view.principal.may(verb, found.pk)
    ):
        raise NotFound(f"There is no workflow “{slug}”.")
    require(view.principal, verb, found)
    return found
