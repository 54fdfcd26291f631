"""What spans are read by: the price sheet, a workflow's mapping; and a trace as it was told."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Scope, Verb
from approvals.authority.principals import NotAllowed, Principal, require
from rollout_console.api.access import ApiView
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import NotFound
from signals.otlp import selectors
from signals.otlp.sheets import price_sheet_put, prices_permit, span_mapping_put


class PriceSheetView(ApiView):
    # Whoever may put it may read it, with `release` alone.
    scope_to_read = None

    @extend_schema(
        summary="The price sheet in force",
        description="Scope `read` or `release`.",
        responses={200: OpenApiTypes.OBJECT},
    )
    def get(self, request: Request) -> Response:
        _reading_check(self.principal)
        return Response(selectors.price_sheet_document())

    @extend_schema(
        summary="Put the price sheet",
        description="Scope `release`. `models` names each model's price, or its dated prices: US "
        "dollars per token for `input`, `output`, `cache_read`, `cache_write`, from `since` on. "
        "Holds for what is counted from then.",
        request=OpenApiTypes.OBJECT,
        responses={200: OpenApiTypes.OBJECT, 201: OpenApiTypes.OBJECT},
    )
    def put(self, request: Request) -> Response:
        prices_permit(self.principal)
        version, created = price_sheet_put(
            document=request.data, principal=self.principal, now=self.now
        )
        return Response(selectors.version_document(version), status=201 if created else 200)


class SpanMappingView(ApiView):
    scope_to_read = None

    @extend_schema(
        summary="A workflow's rules for spans",
        description="Scope `read` or `release`.",
        responses={200: OpenApiTypes.OBJECT},
    )
    def get(self, request: Request, workflow: str) -> Response:
        _reading_check(self.principal)
        return Response(
            selectors.span_mapping_document(workflow=_workflow(self.principal, workflow))
        )

    @extend_schema(
        summary="Put a workflow's rules for spans",
        description="Scope `release`. `rules` say which spans belong to which path, the first "
        "that fits counts; `drop_scopes` are instrumentations whose spans are left out of runs.",
        request=OpenApiTypes.OBJECT,
        responses={200: OpenApiTypes.OBJECT, 201: OpenApiTypes.OBJECT},
    )
    def put(self, request: Request, workflow: str) -> Response:
        found = _workflow(self.principal, workflow)
        require(self.principal, Verb.SPAN_MAPPING_EDIT, found)
        version, created = span_mapping_put(
            workflow=found, document=request.data, principal=self.principal, now=self.now
        )
        return Response(selectors.version_document(version), status=201 if created else 200)


class TraceView(ApiView):
    @extend_schema(
        summary="A trace as it was told",
        description="Spans and log records by trace id, as long as they are kept. What people "
        "wrote is left out; `hidden` names the attributes that hold it.",
        responses={200: OpenApiTypes.OBJECT},
    )
    def get(self, request: Request, trace_id: str) -> Response:
        return Response(
            selectors.trace_document(trace_id=trace_id.lower(), principal=self.principal)
        )


def _reading_check(principal: Principal) -> None:
    scopes = principal.scopes
    if scopes is not None and scopes.isdisjoint({Scope.READ, Scope.RELEASE}):
        raise NotAllowed("This token lacks the scope 'read'.", needs=Scope.READ.value)


def _workflow(principal: Principal, slug: str) -> Workflow:
    found = Workflow.objects.filter(slug=slug).first()
    if found is None or not (
        principal.may(Verb.READ, found.pk) or principal.may(Verb.SPAN_MAPPING_EDIT, found.pk)
    ):
        raise NotFound(f"There is no workflow “{slug}”.")
    return found
