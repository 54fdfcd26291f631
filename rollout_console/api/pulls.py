"""Pulls: what is asked of Prometheus-compatible servers, set up and tried by API."""

from dataclasses import asdict
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from approvals.authority.principals import require
from rollout_console.api.access import ApiView
from rollout_console.api.fields import Body, Choice, Flag, JsonMap, Text, Whole
from rollout_console.api.serializers import Out
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.rollouts.plan_check import KEY_SLUG
from signals.catalogue import SIGNALS
from signals.points.kinds import UNIT_MAX, Distribution
from signals.pulls.models import BETTER, PullSource
from signals.pulls.selectors import pull_row, pull_rows
from signals.pulls.services import PullTrial, pull_check, pull_delete, pull_put, pull_try

DIMENSIONS: Final = ("segment", "release")
BACKFILL_MAX_S: Final = 31 * 86_400


class PullIn(Body):
    path = Text(max_length=80)
    base_url = Text(max_length=500)
    query = Text(max_length=10_000)
    step_s = Whole(min_value=1, max_value=86_400, default=60)
    unit = Text(max_length=UNIT_MAX, allow_blank=True, default="")
    better = Choice(choices=BETTER, default="neither")
    labels = JsonMap(default=dict)
    credential = Text(max_length=80, allow_blank=True, default="")
    enabled = Flag(default=True)
    owner = Text(max_length=150, allow_blank=True, default="")
    backfill_s = Whole(min_value=0, max_value=BACKFILL_MAX_S, default=0)

    def validate_labels(self, value: dict[str, Any]) -> dict[str, Any]:
        for dimension, label in value.items():
            if dimension not in DIMENSIONS or not isinstance(label, str) or not label:
                raise serializers.ValidationError(
                    "Maps segment or release to the name of a label, as {“segment”: “tenant”}."
                )
        return value


class PullOut(Out):
    workflow = serializers.CharField()
    name = serializers.CharField()
    path = serializers.CharField()
    base_url = serializers.CharField()
    query = serializers.CharField()
    step_s = serializers.IntegerField()
    unit = serializers.CharField()
    better = serializers.ChoiceField(BETTER)
    labels = serializers.DictField(child=serializers.CharField())
    credential = serializers.CharField()
    enabled = serializers.BooleanField()
    owner = serializers.CharField()
    state = serializers.ChoiceField(["ok", "failing", "waiting", "off"])
    pulled_to = serializers.DateTimeField(allow_null=True)
    next_at = serializers.DateTimeField(allow_null=True)
    succeeded_at = serializers.DateTimeField(allow_null=True)
    failed_at = serializers.DateTimeField(allow_null=True)
    failures = serializers.IntegerField()
    error = serializers.CharField()


class PullsOut(Out):
    results = PullOut(many=True)
    next = serializers.CharField(allow_null=True)


class PullsView(ApiView):
    @extend_schema(summary="A workflow's pulls", responses=PullsOut)
    def get(self, request: Request, workflow: str) -> Response:
        found = _workflow(self, workflow, Verb.READ)
        rows = pull_rows(workflow_ids=[found.pk])
        return Response({"results": [asdict(row) for row in rows], "next": None})


class PullView(ApiView):
    @extend_schema(summary="A pull and how it is going", responses=PullOut)
    def get(self, request: Request, workflow: str, name: str) -> Response:
        found = _workflow(self, workflow, Verb.READ)
        return Response(asdict(pull_row(_source(found, name))))

    @extend_schema(
        summary="Set up a pull, change it, or try it",
        description="With `dry_run`, asks for the last ten steps and answers `trial`: the series "
        "that came, or `error`; nothing is kept.",
        request=PullIn,
        parameters=[OpenApiParameter("dry_run", bool, description="Try it, keep nothing.")],
        responses={200: PullOut, 201: PullOut},
    )
    def put(self, request: Request, workflow: str, name: str) -> Response:
        found = _workflow(self, workflow, Verb.PULL_MANAGE)
        _name_check(name)
        body = PullIn(data=request.data)
        body.is_valid(raise_exception=True)
        told: dict[str, Any] = body.validated_data
        if request.query_params.get("dry_run", "").lower() in ("1", "true", "yes"):
            pull_check(workflow=found, told=told)
            return Response({"dry_run": True, "trial": _trial(pull_try(told=told, now=self.now))})
        _, created = pull_put(
            workflow=found, name=name, told=told, principal=self.principal, now=self.now
        )
        row = pull_row(_source(found, name))
        return Response(asdict(row), status=201 if created else 200)

    @extend_schema(summary="End a pull; its points stay", responses={204: None})
    def delete(self, request: Request, workflow: str, name: str) -> Response:
        found = _workflow(self, workflow, Verb.PULL_MANAGE)
        if not pull_delete(workflow=found, name=name, principal=self.principal, now=self.now):
            raise NotFound(f"There is no pull “{name[:80]}” in “{workflow}”.")
        return Response(status=204)


def _workflow(view: ApiView, slug: str, verb: Verb) -> Workflow:
    found = Workflow.objects.select_related("owner", "deputy").filter(slug=slug).first()
    if found is None or not (
        view.principal.may(Verb.READ, found.pk) or view.principal.may(verb, found.pk)
    ):
        raise NotFound(f"There is no workflow “{slug}”.")
    require(view.principal, verb, found)
    return found


def _source(workflow: Workflow, name: str) -> PullSource:
    sources = PullSource.objects.select_related("workflow", "path", "owner")
    found = sources.filter(workflow=workflow, name=name).first()
    if found is None:
        raise NotFound(f"There is no pull “{name[:80]}” in “{workflow.slug}”.")
    return found


def _name_check(name: str) -> None:
    detail = None
    if not KEY_SLUG.fullmatch(name):
        detail = "The name is a slug: lower-case letters, digits, _ and -, at most 80."
    elif name in SIGNALS:
        detail = f"“{name}” is a signal of runs already; choose another name."
    if detail is not None:
        raise InvalidInput(detail, errors=[{"pointer": "/name", "detail": detail}])


def _trial(trial: PullTrial) -> dict[str, Any]:
    return {
        "error": trial.error,
        "series": [
            {
                "labels": dict(series.labels),
                "points": [
                    {
                        "t": sample.at,
                        "value": _value(sample.value),
                        "n": sample.value.n,
                    }
                    for sample in series.samples
                ],
                "no_data": series.empty,
            }
            for series in trial.series
        ],
    }


def _value(value: Any) -> float | None:
    if isinstance(value, Distribution):
        return value.total / value.n if value.n and value.total is not None else None
    return float(value.last)
