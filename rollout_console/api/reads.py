"""What is read over the API; shapes are those of `api.md`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Q
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from rollout_console.api import alert_bodies, rows
from rollout_console.api import serializers as bodies
from rollout_console.api.access import ApiView
from rollout_console.api.fields import Moment
from rollout_console.audit.models import AuditEntry
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.exposure.records import version_row, versions_readable
from rollout_console.rollouts.gate import gate_read
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import FINAL
from signals.alerts.selectors import alert_rows

PAGE: Final = 50
PAGE_MAX: Final = 200
CURSOR_MAX: Final = 2**62

LIST_PARAMETERS: Final = [
    OpenApiParameter("cursor", str, description="`next` of the answer before."),
    OpenApiParameter("limit", int, description=f"1 to {PAGE_MAX}; {PAGE} unless said."),
]


def listed(out: type[bodies.Out]) -> Any:
    """Return the schema of a list of `out`."""
    return inline_serializer(
        f"{out.__name__}List",
        {
            "results": out(many=True),
            "next": serializers.CharField(allow_null=True),
        },
    )


class MeView(ApiView):
    scope_to_read = None

    @extend_schema(summary="Who asks", responses=bodies.MeOut)
    def get(self, request: Request) -> Response:
        principal = self.principal
        names = {row.pk: row.slug for row in self.readable()}
        return Response(
            {
                "name": principal.name,
                "kind": principal.kind,
                "roles": {
                    "*" if pk is None else names[pk]: sorted(role.value for role in held)
                    for pk, held in principal.roles.items()
                    if pk is None or pk in names
                },
                "scopes": None
                if principal.scopes is None
                else sorted(scope.value for scope in principal.scopes),
                "workflows": sorted(names.values()),
            }
        )


class OverviewView(ApiView):
    @extend_schema(summary="What is exposed now", responses=bodies.OverviewOut)
    def get(self, request: Request) -> Response:
        now = self.now
        found = list(
            rows.rollouts_whole()
            .filter(workflow__in=self.readable())
            .exclude(state__in=[state.value for state in FINAL])
            .order_by("slug")
        )
        return Response({"as_of": now, "rollouts": rows.overview_dicts(found, now=now)})


class WorkflowsView(ApiView):
    @extend_schema(
        summary="Workflows", parameters=LIST_PARAMETERS, responses=listed(bodies.WorkflowOut)
    )
    def get(self, request: Request) -> Response:
        limit, after = _page(request), request.query_params.get("cursor", "")
        found = [row for row in self.readable() if row.slug > after]
        return _list(
            rows.workflow_rows(found[:limit]), found, limit=limit, cursor=lambda row: row.slug
        )


class RolloutsView(ApiView):
    @extend_schema(
        operation_id="rollouts_list",
        summary="Rollouts, the newest first",
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter("workflow", str),
            OpenApiParameter("state", str),
        ],
        responses=listed(bodies.RolloutOut),
    )
    def get(self, request: Request) -> Response:
        limit, before = _page(request), _cursor(request)
        query = rows.rollouts_whole().filter(workflow__in=self.readable())
        if workflow := request.query_params.get("workflow"):
            query = query.filter(workflow__slug=_word(workflow))
        if state := request.query_params.get("state"):
            query = query.filter(state=_word(state))
        if before is not None:
            query = query.filter(pk__lt=before)
        found = list(query.order_by("-pk")[: limit + 1])
        told = rows.rollout_dicts(found[:limit], now=self.now)
        return _list(told, found, limit=limit, cursor=lambda row: str(row.pk))


class RolloutView(ApiView):
    @extend_schema(summary="A rollout", responses=bodies.RolloutOut)
    def get(self, request: Request, slug: str) -> Response:
        rollout = rollout_readable(self, slug)
        return Response(rows.rollout_dicts([rollout], now=self.now)[0])


class VerdictsView(ApiView):
    @extend_schema(summary="What a rollout's guards say", responses=listed(bodies.VerdictOut))
    def get(self, request: Request, slug: str) -> Response:
        rollout = rollout_readable(self, slug)
        return Response({"results": rows.verdict_dicts(rollout.slug, now=self.now), "next": None})


class RecommendationView(ApiView):
    @extend_schema(
        summary="What to do with a rollout, with ranked reasons",
        responses=bodies.RecommendationOut,
    )
    def get(self, request: Request, slug: str) -> Response:
        rollout = rollout_readable(self, slug)
        return Response(rows.recommendation_dict(rollout, now=self.now))


class ReadinessView(ApiView):
    @extend_schema(summary="The readiness gate", responses=bodies.ReadinessOut)
    def get(self, request: Request, slug: str) -> Response:
        rollout = rollout_readable(self, slug)
        gate = gate_read(rollout, now=self.now)
        return Response(
            {
                "rollout": rollout.slug,
                "state": str(rollout.state),
                "plan": gate.plan_number,
                "passed": gate.passed,
                "items": [
                    {
                        "item": item.item,
                        "title": item.title,
                        "present": item.present,
                        "detail": item.detail,
                        "evidence": item.evidence,
                        "missing": [asdict(each) for each in item.missing],
                        "findings": item.findings,
                    }
                    for item in gate.items
                ],
            }
        )


class AlertsView(ApiView):
    @extend_schema(
        summary="Alerts, the newest first",
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter("rollout", str),
            OpenApiParameter("open", bool, description="Only those not resolved."),
        ],
        responses=listed(alert_bodies.AlertOut),
    )
    def get(self, request: Request) -> Response:
        limit, before = _page(request), _cursor(request)
        slug = request.query_params.get("rollout")
        found = alert_rows(
            now=self.now,
            workflow_ids=[row.pk for row in self.readable()],
            rollout_slugs=[_word(slug)] if slug else None,
            unresolved_only=request.query_params.get("open", "").lower() in ("1", "true", "yes"),
            before_id=before,
            limit=limit + 1,
        )
        told = [rows.alert_dict(row) for row in found[:limit]]
        return _list(told, found, limit=limit, cursor=lambda row: str(row.id))


class ExposureVersionsView(ApiView):
    @extend_schema(
        summary="Exposure versions, the newest first",
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter("workflow", str, description="Only those that touch it."),
            OpenApiParameter("time", OpenApiTypes.DATETIME, description="Only those up to then."),
        ],
        responses=listed(bodies.ExposureVersionOut),
    )
    def get(self, request: Request) -> Response:
        limit, before = _page(request), _cursor(request)
        readable = workflows_readable(self)
        until = moment(request, "time", self.now) if request.query_params.get("time") else None
        query = versions_readable(
            workflows=readable,
            workflow=_word(request.query_params.get("workflow", "")),
            until=until,
            before=before,
        )
        found = list(query[: limit + 1])
        told = [asdict(version_row(row, readable)) for row in found[:limit]]
        return _list(told, found, limit=limit, cursor=lambda row: str(row.number))


class AuditView(ApiView):
    @extend_schema(
        summary="The audit, the newest first",
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter("workflow", str),
            OpenApiParameter("action", str),
            OpenApiParameter("subject", str),
        ],
        responses=listed(bodies.AuditOut),
    )
    def get(self, request: Request) -> Response:
        limit, before = _page(request), _cursor(request)
        names = [row.slug for row in self.readable()]
        reach = Q(workflow__in=names)
        if self.principal.may(Verb.READ, None):
            reach |= Q(workflow="")
        query = AuditEntry.objects.filter(reach)
        for key in ("workflow", "action", "subject"):
            if value := request.query_params.get(key):
                query = query.filter(**{key: _word(value)})
        if before is not None:
            query = query.filter(pk__lt=before)
        found = list(query.order_by("-pk")[: limit + 1])
        told = [
            {
                "id": row.pk,
                "at": row.at,
                "action": row.action,
                "actor": row.actor,
                "actor_kind": row.actor_kind,
                "workflow": row.workflow,
                "subject_type": row.subject_type,
                "subject": row.subject,
                "reason": row.reason,
                "data": row.data,
            }
            for row in found[:limit]
        ]
        return _list(told, found, limit=limit, cursor=lambda row: str(row.pk))


def rollout_readable(view: ApiView, slug: str) -> Rollout:
    """Return a rollout with all that its answer needs.

    Raises:
        NotFound: there is none, or it is not the caller's to read.
    """
    rollout: Rollout | None = rows.rollouts_whole().select_related("plan").filter(slug=slug).first()
    if rollout is None or not view.principal.may(Verb.READ, rollout.workflow_id):
        raise NotFound(f"There is no rollout “{slug}”.")
    return rollout


def workflows_readable(view: ApiView) -> frozenset[str] | None:
    """Return the slugs of the workflows that the caller may read, None for all of them."""
    if view.principal.may(Verb.READ, None):
        return None
    return frozenset(row.slug for row in view.readable())


def moment(request: Request, key: str, default: datetime) -> datetime:
    """Return a time from the query.

    Raises:
        InvalidInput: it is no time with an offset.
    """
    given = request.query_params.get(key)
    if not given:
        return default
    # An unescaped + arrives as a space.
    try:
        found: datetime = Moment().to_internal_value(given.replace(" ", "+"))
        # Room to reckon with: the ends of the calendar have none.
        found - timedelta(days=400)
        found + timedelta(days=400)
    except (serializers.ValidationError, OverflowError) as error:
        raise InvalidInput(
            f"“{key}” must be a time with an offset, as 2026-11-24T12:00:00Z.",
            errors=[{"pointer": f"/{key}", "detail": "Write RFC 3339."}],
        ) from error
    return found


def whole(request: Request, key: str, *, default: int, least: int, most: int) -> int:
    """Return a whole number from the query.

    Raises:
        InvalidInput: it is none, or out of range.
    """
    given = request.query_params.get(key)
    if not given:
        return default
    if not given.isascii() or not given.isdigit() or not least <= int(given[:20]) <= most:
        raise InvalidInput(
            f"“{key}” must be a whole number from {least} to {most}.",
            errors=[{"pointer": f"/{key}", "detail": "Correct it, or leave it out."}],
        )
    return int(given)


def _page(request: Request) -> int:
    return whole(request, "limit", default=PAGE, least=1, most=PAGE_MAX)


def _cursor(request: Request) -> int | None:
    return whole(request, "cursor", default=0, least=0, most=CURSOR_MAX) or None


def _word(value: str) -> str:
    if "\x00" in value:
        raise InvalidInput("A query holds no NUL character.")
    return value


def _list(
    told: Sequence[dict[str, Any]],
    found: Sequence[Any],
    *,
    limit: int,
    cursor: Callable[[Any], str],
) -> Response:
    """Answer `told`; `found` holds one row more where the list goes on."""
    following = cursor(found[limit - 1]) if len(found) > limit else None
    return Response({"results": told, "next": following})
