"""The ledger of trips, and what each guard has been worth."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rollout_console.api import alert_bodies as bodies
from rollout_console.api.access import ApiView
from rollout_console.api.reads import LIST_PARAMETERS, _cursor, _page, _word
from rollout_console.core.errors import NotFound
from signals.alerts.trips import GuardTrips, TripRow, guard_trips, trip_rows


class TripsView(ApiView):
    @extend_schema(
        summary="Trips, the newest first, and each guard's precision",
        parameters=[*LIST_PARAMETERS, OpenApiParameter("workflow", str)],
        responses=inline_serializer(
            "TripsOut",
            {
                "results": bodies.TripOut(many=True),
                "next": serializers.CharField(allow_null=True),
                "guards": bodies.GuardTripsOut(many=True),
            },
        ),
    )
    def get(self, request: Request) -> Response:
        limit, before = _page(request), _cursor(request)
        slug = _word(request.query_params.get("workflow", ""))
        ids = [row.pk for row in self.readable() if slug in ("", row.slug)]
        if slug and not ids:
            raise NotFound(f"There is no workflow “{slug}” in yours.")
        found = trip_rows(workflow_ids=ids, before_id=before, limit=limit + 1)
        return Response(
            {
                "results": [_trip(row) for row in found[:limit]],
                "next": str(found[limit - 1].alert) if len(found) > limit else None,
                "guards": [_guard(row) for row in guard_trips(now=self.now, workflow_ids=ids)],
            }
        )


def _trip(row: TripRow) -> dict[str, Any]:
    names = (
        *("alert", "incident", "workflow", "rollout", "guard", "signal", "path", "severity"),
        *("state", "sentence", "value", "low", "high", "n", "opened_at", "acked_at"),
        *("resolved_at", "was_right", "note", "recurrences", "detect_s", "detect_from", "done"),
    )
    return {name: getattr(row, name) for name in names}


def _guard(row: GuardTrips) -> dict[str, Any]:
    found = row.precision
    return {
        "workflow": row.workflow,
        "guard": row.guard,
        "path": row.path,
        "signal": row.signal,
        "trips": row.trips,
        "answered": found.answered,
        "right": found.right,
        "precision": found.share,
        "low": None if found.interval is None else found.interval.low,
        "high": None if found.interval is None else found.interval.high,
        "detect_median_s": row.detect_median_s,
        "detect_n": row.detect_n,
        "limit": row.limit,
        "suggestion": None if row.suggestion is None else asdict(row.suggestion),
        "history": None if row.history is None else asdict(row.history),
    }
