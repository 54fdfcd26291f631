"""Incidents: the alerts of one rollout together, taken on and opened again as one."""

from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from approvals.authority.principals import require
from rollout_console.api import alert_bodies as bodies
from rollout_console.api import serializers as shared
from rollout_console.api.access import ApiView
from rollout_console.api.reads import LIST_PARAMETERS, _cursor, _list, _page, _word, listed
from rollout_console.api.rows import alert_dict
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import NotFound
from signals.alerts.incident_reads import IncidentRow, incident_row, incident_rows
from signals.alerts.incidents import incident_acknowledge, incident_reopen

INCIDENT_ID_MAX: Final = 2**63 - 1


class IncidentsView(ApiView):
    @extend_schema(
        summary="Incidents, the newest first",
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter("rollout", str),
            OpenApiParameter("open", bool, description="Only those not resolved."),
        ],
        responses=listed(bodies.IncidentOut),
    )
    def get(self, request: Request) -> Response:
        limit, before = _page(request), _cursor(request)
        slug = request.query_params.get("rollout")
        found = incident_rows(
            now=self.now,
            workflow_ids=[row.pk for row in self.readable()],
            rollout_slugs=[_word(slug)] if slug else None,
            unresolved_only=request.query_params.get("open", "").lower() in ("1", "true", "yes"),
            before_id=before,
            limit=limit + 1,
        )
        told = [incident_dict(row) for row in found[:limit]]
        return _list(told, found, limit=limit, cursor=lambda row: str(row.id))


class IncidentView(ApiView):
    """One incident; `verb` says who may do with it what the address names."""

    verb = Verb.READ

    def incident(self, incident_id: int) -> int:
        row = None
        if incident_id <= INCIDENT_ID_MAX:
            row = Workflow.objects.filter(incidents=incident_id).first()
        if row is None or not (
            self.principal.may(Verb.READ, row.pk) or self.principal.may(self.verb, row.pk)
        ):
            raise NotFound(f"There is no incident {incident_id}.")
        require(self.principal, self.verb, row)
        return incident_id

    def answer(self, incident_id: int) -> Response:
        row = incident_row(incident_id=incident_id, now=self.now)
        assert row is not None
        return Response(incident_dict(row))


class IncidentReadView(IncidentView):
    @extend_schema(summary="An incident with its alerts", responses=bodies.IncidentOut)
    def get(self, request: Request, incident_id: int) -> Response:
        return self.answer(self.incident(incident_id))


class IncidentAckView(IncidentView):
    verb = Verb.ALERT_ACKNOWLEDGE

    @extend_schema(
        summary="Take all alerts of an incident on",
        request=shared.EmptyIn,
        responses={200: bodies.IncidentOut},
    )
    def post(self, request: Request, incident_id: int) -> Response:
        pk = self.incident(incident_id)
        shared.EmptyIn(data=request.data).is_valid(raise_exception=True)
        incident_acknowledge(incident_id=pk, principal=self.principal, now=self.now)
        return self.answer(pk)


class IncidentReopenView(IncidentView):
    verb = Verb.ALERT_RESOLVE

    @extend_schema(
        summary="Open a resolved incident again",
        request=bodies.ReopenIn,
        responses={200: bodies.IncidentOut},
    )
    def post(self, request: Request, incident_id: int) -> Response:
        pk = self.incident(incident_id)
        told = bodies.ReopenIn(data=request.data)
        told.is_valid(raise_exception=True)
        incident_reopen(
            incident_id=pk,
            reason=told.validated_data["reason"],
            principal=self.principal,
            now=self.now,
        )
        return self.answer(pk)


def incident_dict(row: IncidentRow) -> dict[str, Any]:
    rung = row.next_rung
    return {
        "id": row.id,
        "workflow": row.workflow,
        "rollout": row.rollout,
        "state": row.state,
        "owner": row.owner_username,
        "opened_at": row.opened_at,
        "acked_at": row.acked_at,
        "acked_by": row.acked_by or None,
        "resolved_at": row.resolved_at,
        "reopened_at": row.reopened_at,
        "reopened": row.reopened,
        "sentence": row.sentence,
        "due_at": row.due_at,
        "next_page": None
        if rung is None
        else {
            "at": row.page_at,
            "step": rung.number,
            "told": rung.to,
            "notify": rung.usernames,
        },
        "alerts": [alert_dict(alert) for alert in row.alerts],
    }
