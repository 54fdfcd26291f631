"""The raw runs behind a chart's point, as `GET /api/v1/runs` answers them."""

from dataclasses import asdict
from datetime import date, datetime
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rollout_console.api.access import ApiView
from rollout_console.api.reads import LIST_PARAMETERS, whole
from rollout_console.api.serializers import Out
from signals.ingest.drill import ANY_FALLBACK, CLOCKS, NONE, ORDERS, PAGE, PAGE_MAX, query_read
from signals.ingest.run_reads import Label, RunPage, RunRow, runs_page


class LabelOut(Out):
    """Something learned about the run later; what its kind does not say is left out."""

    id = serializers.CharField()
    kind = serializers.ChoiceField(["evaluation", "review", "feedback", "outcome"])
    occurred_at = serializers.DateTimeField()
    received_at = serializers.DateTimeField()
    name = serializers.CharField(required=False)
    score = serializers.FloatField(required=False)
    passed = serializers.BooleanField(required=False)
    verdict = serializers.CharField(required=False)
    reviewer = serializers.CharField(required=False)
    duration_ms = serializers.FloatField(required=False)
    value = serializers.CharField(required=False)
    outcome = serializers.CharField(required=False)
    failure_category = serializers.CharField(required=False)
    critical = serializers.BooleanField(required=False)


class QualityOut(Out):
    score = serializers.FloatField(allow_null=True)
    passed = serializers.BooleanField(allow_null=True)


class RunOut(Out):
    id = serializers.CharField()
    workflow = serializers.CharField()
    path = serializers.CharField()
    occurred_at = serializers.DateTimeField()
    release = serializers.CharField(allow_null=True)
    segment = serializers.CharField(allow_null=True)
    arm = serializers.CharField(allow_null=True)
    mode = serializers.CharField()
    route = serializers.CharField(allow_null=True)
    exposure_version = serializers.IntegerField(allow_null=True)
    client = serializers.CharField(allow_null=True)
    subject = serializers.CharField(allow_null=True)
    outcome = serializers.CharField()
    failure_category = serializers.CharField(allow_null=True)
    critical = serializers.BooleanField()
    risk = serializers.CharField(allow_null=True)
    input_condition = serializers.CharField(allow_null=True)
    latency_ms = serializers.FloatField(allow_null=True)
    cost_usd = serializers.FloatField(allow_null=True)
    input_tokens = serializers.IntegerField(allow_null=True)
    output_tokens = serializers.IntegerField(allow_null=True)
    context_tokens = serializers.IntegerField(allow_null=True)
    retries = serializers.IntegerField(allow_null=True)
    steps = serializers.IntegerField(allow_null=True)
    tool_calls = serializers.IntegerField(allow_null=True)
    retrieved = serializers.IntegerField(allow_null=True)
    retrieval_score = serializers.FloatField(allow_null=True)
    confidence = serializers.FloatField(allow_null=True)
    quality = QualityOut()
    review_requested = serializers.BooleanField()
    trace_id = serializers.CharField(allow_null=True)
    attributes = serializers.DictField(child=serializers.CharField())
    measures = serializers.DictField(child=serializers.FloatField())
    labels = LabelOut(many=True)


_PAGE_FIELDS: Final[dict[str, Any]] = {
    "results": RunOut(many=True),
    "next": serializers.CharField(allow_null=True),
    "from": serializers.DateTimeField(),
    "to": serializers.DateTimeField(),
    "order": serializers.ChoiceField(list(ORDERS)),
    "read_back_to": serializers.DateTimeField(allow_null=True),
    "kept_from": serializers.DateField(allow_null=True),
}


class RunsOut(Out):
    """`read_back_to`: older runs than that were not looked at. `kept_from`: the first day of which
    raw runs are kept; of days before it only counts are."""

    def get_fields(self) -> dict[str, Any]:
        return dict(_PAGE_FIELDS)


class RunsView(ApiView):
    @extend_schema(
        summary="The runs behind a point of a chart",
        description=(
            "One workflow's raw runs of at most 31 days, newest first, or worst first by a signal."
            " Drill runs are counted nowhere and are not among them."
            f" `{NONE}` as release or segment stands for runs without one."
        ),
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter("workflow", str, required=True),
            OpenApiParameter("path", str),
            OpenApiParameter("release", str),
            OpenApiParameter("segment", str, many=True, description="May be given more than once."),
            OpenApiParameter("arm", str, enum=["candidate", "stable", "unknown"]),
            OpenApiParameter(
                "mode", str, description=f"A mode, or `{ANY_FALLBACK}` for any but normal."
            ),
            OpenApiParameter("outcome", str),
            OpenApiParameter("route", str),
            OpenApiParameter("failure_category", str),
            OpenApiParameter("input_condition", str),
            OpenApiParameter("risk", str),
            OpenApiParameter("from", str, description="RFC 3339; an hour before `to` unless said."),
            OpenApiParameter("to", str, description="RFC 3339; now unless said."),
            OpenApiParameter(
                "clock",
                str,
                enum=list(CLOCKS),
                description="Whether the span is of when runs happened (unless said), or of when"
                " they arrived: of those that happened at most an hour before it.",
            ),
            OpenApiParameter("order", str, enum=list(ORDERS)),
            OpenApiParameter(
                "signal",
                str,
                description="By which signal `worst` goes; by outcome unless said.",
            ),
        ],
        responses=RunsOut,
    )
    def get(self, request: Request) -> Response:
        limit = whole(request, "limit", default=PAGE, least=1, most=PAGE_MAX)
        query = query_read(
            dict(request.query_params.lists()),
            principal=self.principal,
            now=self.now,
            limit=limit,
        )
        page = runs_page(query)
        return Response(_document(page, query.start, query.end, query.order))


def _document(page: RunPage, start: datetime, end: datetime, order: str) -> dict[str, Any]:
    kept_from: date | None = page.kept_from
    return {
        "results": [run_dict(row) for row in page.rows],
        "next": page.next,
        "from": start,
        "to": end,
        "order": order,
        "read_back_to": page.read_back_to,
        "kept_from": kept_from,
    }


def run_dict(row: RunRow) -> dict[str, Any]:
    """Return a run in the names of the report that it came as."""
    told = asdict(row)
    for name in ("id_hash", "badness", "drill"):
        del told[name]
    told["quality"] = {"score": told.pop("quality_score"), "passed": told.pop("quality_passed")}
    for name in ("release", "segment", "arm", "risk", "input_condition"):
        told[name] = told[name] or None
    told["labels"] = [_label_dict(label) for label in row.labels]
    return told


def _label_dict(label: Label) -> dict[str, Any]:
    return {name: value for name, value in asdict(label).items() if value is not None}
