"""Alerts of other systems: Alertmanager's and Grafana's webhooks, and what they map to."""

from dataclasses import asdict
from typing import ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Scope, Verb
from approvals.authority.principals import NotAllowed, require
from rollout_console.api.access import ApiView
from rollout_console.api.controls import _checked
from rollout_console.api.fields import Body, Text
from rollout_console.api.reads import listed
from rollout_console.api.serializers import Out
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import NotFound
from signals.inbound.services import alerts_receive, mapping_document, mapping_put
from signals.outside.models import OutsideAlert, Source
from signals.outside.selectors import outside_row, outside_rows
from signals.outside.services import outside_alert_end

HELP = (
    "Scope `ingest`. Each alert says what it is about: by its labels `rollout_workflow` and "
    "`rollout_trigger` (which trips) or `rollout_path` (which is marked), or by the rules of an "
    "inbound mapping. An alert counts once, by `fingerprint` and `startsAt`, however often it is "
    "sent; `resolved` ends it. Good alerts of a bad batch are kept; where not one can be used, "
    "the whole is refused."
)


class InboundErrorOut(Out):
    index = serializers.IntegerField(required=False)
    pointer = serializers.CharField()
    detail = serializers.CharField()


class ReceiptOut(Out):
    began = serializers.IntegerField()
    repeated = serializers.IntegerField()
    ended = serializers.IntegerField()
    truncated = serializers.IntegerField(help_text="How many the sender left out of its group.")
    errors = InboundErrorOut(many=True)  # type: ignore[assignment]  # a declared field


class OutsideAlertOut(Out):
    id = serializers.IntegerField()
    workflow = serializers.CharField()
    path = serializers.CharField()
    trigger = serializers.CharField(help_text="The trigger that it trips; empty for a mark only.")
    source = serializers.ChoiceField(Source.choices)  # type: ignore[assignment]  # a declared field
    name = serializers.CharField()
    summary = serializers.CharField()
    sentence = serializers.CharField()
    labels = serializers.DictField(child=serializers.CharField())
    link = serializers.CharField()
    started_at = serializers.DateTimeField()
    received_at = serializers.DateTimeField()
    seen_at = serializers.DateTimeField()
    times = serializers.IntegerField()
    silent_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    ended_by = serializers.CharField()


class EndIn(Body):
    reason = Text(max_length=2000)


class _InboundView(ApiView):
    source_sent: ClassVar[Source]

    def receive(self, request: Request) -> Response:
        receipt = alerts_receive(
            source=self.source_sent,
            document=request.data,
            principal=self.principal,
            now=self.now,
        )
        return Response(asdict(receipt))


class AlertmanagerView(_InboundView):
    source_sent = Source.ALERTMANAGER

    @extend_schema(
        summary="Take Alertmanager's webhook, version 4",
        description=HELP,
        request=OpenApiTypes.OBJECT,
        responses=ReceiptOut,
    )
    def post(self, request: Request) -> Response:
        return self.receive(request)


class GrafanaView(_InboundView):
    source_sent = Source.GRAFANA

    @extend_schema(
        summary="Take Grafana's webhook",
        description=HELP,
        request=OpenApiTypes.OBJECT,
        responses=ReceiptOut,
    )
    def post(self, request: Request) -> Response:
        return self.receive(request)


class OutsideAlertsView(ApiView):
    @extend_schema(
        summary="Alerts from outside, the newest first",
        parameters=[OpenApiParameter("state", str, enum=["firing", "all"])],
        responses=listed(OutsideAlertOut),
    )
    def get(self, request: Request) -> Response:
        rows = outside_rows(
            workflow_ids=[row.pk for row in self.readable()],
            firing=request.query_params.get("state") != "all",
        )
        return Response({"results": [asdict(row) for row in rows], "next": None})


class OutsideAlertEndView(ApiView):
    @extend_schema(
        summary="End an alert from outside by hand",
        description="For one whose sender is gone. A person's to do: it lifts a mark.",
        request=EndIn,
        responses=OutsideAlertOut,
    )
    def post(self, request: Request, alert_id: int) -> Response:
        found = (
            OutsideAlert.objects.select_related("workflow__owner", "workflow__deputy")
            .filter(pk=alert_id)
            .first()
        )
        verbs = (Verb.READ, Verb.ALERT_RESOLVE)
        if found is None or not any(self.principal.may(v, found.workflow_id) for v in verbs):
            raise NotFound(f"There is no alert {alert_id} from outside.")
        require(self.principal, Verb.ALERT_RESOLVE, found.workflow)
        row = outside_alert_end(
            alert_id=alert_id,
            reason=_checked(EndIn, request)["reason"],
            principal=self.principal,
            now=self.now,
        )
        return Response(asdict(outside_row(row)))


class InboundMappingView(ApiView):
    scope_to_read = None

    @extend_schema(
        summary="A workflow's rules for alerts from outside",
        description="Scope `read` or `release`.",
        responses={200: OpenApiTypes.OBJECT},
    )
    def get(self, request: Request, workflow: str) -> Response:
        scopes = self.principal.scopes
        if scopes is not None and scopes.isdisjoint({Scope.READ, Scope.RELEASE}):
            raise NotAllowed("This token lacks the scope 'read'.", needs=Scope.READ.value)
        return Response(mapping_document(workflow=self._workflow(workflow)))

    @extend_schema(
        summary="Put a workflow's rules for alerts from outside",
        description="Scope `release`. Each of `rules` has `match`, labels with their values, and "
        "`trigger` or `path`; the first that fits counts. Labels of the alert itself come before "
        "rules. `triggers_missing` names those that no current plan has.",
        request=OpenApiTypes.OBJECT,
        responses={200: OpenApiTypes.OBJECT, 201: OpenApiTypes.OBJECT},
    )
    def put(self, request: Request, workflow: str) -> Response:
        found = self._workflow(workflow)
        require(self.principal, Verb.INBOUND_MAPPING_EDIT, found)
        created = mapping_put(
            workflow=found, document=request.data, principal=self.principal, now=self.now
        )
        return Response(mapping_document(workflow=found), status=201 if created else 200)

    def _workflow(self, slug: str) -> Workflow:
        found = Workflow.objects.select_related("owner", "deputy").filter(slug=slug).first()
        verbs = (Verb.READ, Verb.INBOUND_MAPPING_EDIT)
        if found is None or not any(self.principal.may(verb, found.pk) for verb in verbs):
            raise NotFound(f"There is no workflow “{slug}”.")
        return found
