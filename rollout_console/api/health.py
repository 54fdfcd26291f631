"""How far a workflow's signals can be trusted."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from rollout_console.api.access import ApiView
from rollout_console.api.serializers import Out
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import NotFound
from signals.health.models import ProblemKind
from signals.health.selectors import (
    EpochRow,
    FeedRow,
    ProblemRow,
    epoch_rows,
    feed_rows,
    problem_rows,
)


class ProblemRowOut(Out):
    id = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=ProblemKind.choices)
    rollout = serializers.CharField()
    path = serializers.CharField(allow_null=True)
    segment = serializers.CharField(allow_null=True)
    # A declared field, not the base's own.
    source = serializers.CharField(allow_null=True)  # type: ignore[assignment]
    sentence = serializers.CharField()
    example = serializers.CharField()
    count = serializers.IntegerField()
    since = serializers.DateTimeField()
    seen_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
    blinds = serializers.BooleanField()


class FeedOut(Out):
    path = serializers.CharField()
    # A declared field, not the base's own; null for all sources together.
    source = serializers.CharField(allow_null=True)  # type: ignore[assignment]
    n = serializers.IntegerField()
    newest_at = serializers.DateTimeField()
    age_s = serializers.FloatField()
    usual_gap_s = serializers.FloatField(allow_null=True)
    label_at = serializers.DateTimeField(allow_null=True)
    label_age_s = serializers.FloatField(allow_null=True)
    unlabelled = serializers.IntegerField()
    lag_p50_s = serializers.FloatField()
    lag_p95_s = serializers.FloatField()
    ahead = serializers.IntegerField()


class AssignmentOut(Out):
    path = serializers.CharField()
    segment = serializers.CharField()
    rollout = serializers.CharField()
    since = serializers.DateTimeField()
    planned_share = serializers.FloatField()
    observed_share = serializers.FloatField(allow_null=True)
    value = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField()
    e_value = serializers.FloatField()
    tasks = serializers.IntegerField()
    without_subject = serializers.IntegerField()
    crossed = serializers.IntegerField()
    wrong_release = serializers.IntegerField()


class HealthOut(Out):
    workflow = serializers.CharField()
    as_of = serializers.DateTimeField()
    problems = ProblemRowOut(many=True)
    feeds = FeedOut(many=True)
    assignments = AssignmentOut(many=True)


class HealthView(ApiView):
    @extend_schema(summary="How far a workflow's signals can be trusted", responses=HealthOut)
    def get(self, request: Request, workflow: str) -> Response:
        found = Workflow.objects.filter(slug=workflow).first()
        if found is None or not self.principal.may(Verb.READ, found.pk):
            raise NotFound(f"There is no workflow “{workflow}”.")
        now = self.now
        return Response(
            {
                "workflow": found.slug,
                "as_of": now,
                "problems": [
                    _problem(row) for row in problem_rows(workflow_id=found.pk, open_only=False)
                ],
                "feeds": [_feed(row) for row in feed_rows(now=now, workflow_ids=[found.pk])],
                "assignments": [_assignment(row) for row in epoch_rows(workflow_id=found.pk)],
            }
        )


def _problem(row: ProblemRow) -> dict[str, Any]:
    names = ("id", "kind", "rollout", "path", "segment", "sentence", "example", "count")
    times = ("since", "seen_at", "ended_at", "blinds")
    told = {name: getattr(row, name) for name in (*names, *times)}
    return {**told, "source": row.source or None}


def _feed(row: FeedRow) -> dict[str, Any]:
    return {
        "path": row.path,
        "source": row.source or None,
        "n": row.n,
        "newest_at": row.newest_at,
        "age_s": row.age_s,
        "usual_gap_s": row.gap_s,
        "label_at": row.label_at,
        "label_age_s": row.label_age_s,
        "unlabelled": row.n_unlabelled,
        "lag_p50_s": row.lag_p50_s,
        "lag_p95_s": row.lag_p95_s,
        "ahead": row.ahead_n,
    }


def _assignment(row: EpochRow) -> dict[str, Any]:
    seen = row.seen
    return {
        "path": row.path,
        "segment": row.segment,
        "rollout": row.rollout,
        "since": row.since,
        "planned_share": row.planned,
        "observed_share": None if seen is None else seen.observed,
        "value": None if seen is None else seen.value,
        "low": None if seen is None else seen.low,
        "high": None if seen is None else seen.high,
        "n": 0 if seen is None else seen.n,
        "e_value": row.e_value,
        "tasks": row.n_tasks,
        "without_subject": row.n_without_subject,
        "crossed": row.n_crossed,
        "wrong_release": row.n_wrong,
    }
