"""Who saw what, and when, over the API."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Scope
from approvals.authority.principals import NotAllowed
from rollout_console.api import serializers as bodies
from rollout_console.api.access import ApiView
from rollout_console.api.reads import moment, workflows_readable
from rollout_console.exposure.records import context_at, exposure_at, version_record

# Postgres' bigint; a longer number names no version.
NUMBER_MAX = 2**63 - 1


class ExposureVersionView(ApiView):
    @extend_schema(
        operation_id="exposure_version_read",
        summary="An exposure version, and what it changed",
        responses=bodies.ExposureRecordOut,
    )
    def get(self, request: Request, number: int) -> Response:
        record = version_record(number=min(number, NUMBER_MAX), workflows=workflows_readable(self))
        return Response(
            {
                **asdict(record.row),
                "changes": [
                    {**asdict(change), "sentence": change.sentence} for change in record.changes
                ],
                "document": record.document,
            }
        )


class ExposureAtView(ApiView):
    @extend_schema(
        summary="What was exposed at a time",
        parameters=[
            OpenApiParameter("time", OpenApiTypes.DATETIME, description="Unless said: now.")
        ],
        responses=bodies.ExposureThenOut,
    )
    def get(self, request: Request) -> Response:
        now = self.now
        time = moment(request, "time", now)
        then = exposure_at(time=time, workflows=workflows_readable(self), now=now)
        return Response(
            {
                "time": time,
                "version": asdict(then.version),
                "fractional": then.fractional,
                "paths": [_path(each) for each in then.paths],
            }
        )


class EvaluateView(ApiView):
    @extend_schema(
        summary="What a context got at a time",
        request=bodies.EvaluateIn,
        responses={200: bodies.ContextThenOut},
    )
    def post(self, request: Request) -> Response:
        scopes = self.principal.scopes
        if scopes is not None and Scope.READ not in scopes:
            # It takes a body, and still only reads.
            raise NotAllowed("This token lacks the scope 'read'.", needs=Scope.READ.value)
        serializer = bodies.EvaluateIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        told: dict[str, Any] = serializer.validated_data
        then = context_at(
            time=told["at"],
            workflow=told["workflow"],
            path=told["path"],
            context=told.get("context", {}),
            workflows=workflows_readable(self),
            now=self.now,
        )
        failure = then.failure
        return Response(
            {
                "at": told["at"],
                "key": then.key,
                "version": asdict(then.version),
                "since": None if then.since is None else asdict(then.since),
                "variant": then.variant,
                "value": then.value,
                "metadata": then.metadata,
                "error": failure and {"code": failure.code, "detail": failure.detail},
                "fractional": then.fractional,
                "computed_with": then.computed_with,
                "same_generation": then.same_generation,
            }
        )


def _path(then: Any) -> dict[str, Any]:
    served = asdict(then.served)
    return {
        "workflow": served["workflow"],
        "path": served["path"],
        "rollout": served["rollout"],
        "exposed": served["exposed"],
        "apart": served["apart"],
        "others": served["others"],
        "since": None if then.since is None else asdict(then.since),
    }
