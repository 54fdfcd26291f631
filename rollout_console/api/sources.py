"""What reports, how fresh it is and what was refused, as `GET /api/v1/sources` answers it."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from rollout_console.api.access import ApiView
from rollout_console.api.serializers import Out
from rollout_console.catalog.models import WorkflowPath
from signals.ingest.source_reads import (
    DAY,
    SourceRow,
    notes_read,
    queue_read,
    rejected_read,
    source_rows,
    source_state,
)
from signals.points.selectors import point_names


class CountsOut(Out):
    """`accepted` holds the duplicates too."""

    batches = serializers.IntegerField()
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()


class SourceOut(Out):
    path = serializers.CharField(allow_null=True)
    token = serializers.CharField()
    kind = serializers.CharField()
    state = serializers.ChoiceField(["fresh", "late", "silent", "history"])
    first_received_at = serializers.DateTimeField()
    last_received_at = serializers.DateTimeField()
    newest_event_at = serializers.DateTimeField()
    last_hour = CountsOut()
    last_day = CountsOut()


class PathNotesOut(Out):
    """Clients and unknown segments are of the last day."""

    path = serializers.CharField()
    clients = serializers.ListField(child=serializers.CharField())
    unknown_segments = serializers.DictField(child=serializers.IntegerField())


class MetricOut(Out):
    """Points of one name from one source; `n` counts those measured in the last day."""

    path = serializers.CharField(allow_null=True)
    name = serializers.CharField()
    kind = serializers.CharField()
    unit = serializers.CharField(allow_blank=True)
    # Named like the base's own attribute, which a declared field replaces.
    source = serializers.CharField(allow_blank=True)  # type: ignore[assignment]  # as said
    state = serializers.ChoiceField(["fresh", "late", "silent"])
    value = serializers.FloatField(allow_null=True)
    at = serializers.DateTimeField()
    arrived_at = serializers.DateTimeField()
    n = serializers.IntegerField()


class WorkflowSourcesOut(Out):
    workflow = serializers.CharField()
    sources = SourceOut(many=True)
    paths = PathNotesOut(many=True)
    metrics = MetricOut(many=True)
    observations_waiting = serializers.IntegerField()
    observations_unknown = serializers.IntegerField()


class QueueOut(Out):
    pending = serializers.IntegerField()
    pending_bytes = serializers.IntegerField()
    history = serializers.IntegerField()
    oldest_at = serializers.DateTimeField(allow_null=True)
    failed = serializers.IntegerField()
    drained_at = serializers.DateTimeField(allow_null=True)
    lag_s = serializers.FloatField(allow_null=True)
    lag_most_s = serializers.FloatField(allow_null=True)
    lag_of = serializers.IntegerField()


class RejectionOut(Out):
    at = serializers.DateTimeField()
    batch_id = serializers.CharField()
    token = serializers.CharField()
    kind = serializers.CharField()
    index = serializers.IntegerField()
    pointer = serializers.CharField(allow_blank=True)
    detail = serializers.CharField()
    of = serializers.IntegerField()


class RejectedOut(Out):
    last_hour = serializers.IntegerField()
    last_day = serializers.IntegerField()
    whole = serializers.BooleanField()
    newest = RejectionOut(many=True)


class SourcesOut(Out):
    as_of = serializers.DateTimeField()
    queue = QueueOut()
    results = WorkflowSourcesOut(many=True)
    next = serializers.CharField(allow_null=True)
    rejected = RejectedOut()


class SourcesView(ApiView):
    @extend_schema(
        summary="What reports, how fresh it is, how far behind, and what was refused",
        responses=SourcesOut,
    )
    def get(self, request: Request) -> Response:
        now = self.now
        workflows = self.readable()
        ids = [row.pk for row in workflows]
        paths = {path.pk: path for path in WorkflowPath.objects.filter(workflow__in=ids)}
        notes = notes_read(workflow_ids=ids, now=now)
        rows: dict[int, list[dict[str, Any]]] = {pk: [] for pk in ids}
        for row in source_rows(workflow_ids=ids, now=now):
            path = paths.get(row.path_id)
            rows[row.workflow_id].append(_source_dict(row, path.slug if path else None))
        metrics: dict[int, list[dict[str, Any]]] = {pk: [] for pk in ids}
        for point in point_names(workflow_ids=ids, since=now - DAY, until=now):
            path = paths.get(point.path_id)
            told = asdict(point)
            del told["workflow_id"], told["path_id"]
            told["path"] = path.slug if path else None
            told["state"] = source_state(last_received_at=point.arrived_at, backfill=False, now=now)
            metrics[point.workflow_id].append(told)
        rejected = rejected_read(
            workflow_ids=ids, all_of_them=self.principal.may(Verb.READ, None), now=now
        )
        return Response(
            {
                "as_of": now,
                "queue": asdict(queue_read()),
                "results": [
                    {
                        "workflow": workflow.slug,
                        "sources": rows[workflow.pk],
                        "paths": [
                            {
                                "path": path.slug,
                                "clients": notes[workflow.pk].clients.get(path.pk, []),
                                "unknown_segments": notes[workflow.pk].unknown_segments.get(
                                    path.pk, {}
                                ),
                            }
                            for path in sorted(paths.values(), key=lambda each: each.slug)
                            if path.workflow_id == workflow.pk
                        ],
                        "metrics": metrics[workflow.pk],
                        "observations_waiting": notes[workflow.pk].labels_waiting,
                        "observations_unknown": notes[workflow.pk].labels_lost,
                    }
                    for workflow in workflows
                ],
                "next": None,
                "rejected": {
                    "last_hour": rejected.hour,
                    "last_day": rejected.day,
                    "whole": rejected.whole,
                    "newest": [
                        {
                            "token" if key == "token_name" else key: value
                            for key, value in asdict(each).items()
                        }
                        for each in rejected.newest
                    ],
                },
            }
        )


def _source_dict(row: SourceRow, path: str | None) -> dict[str, Any]:
    return {
        "path": path,
        "token": row.token_name,
        "kind": row.kind,
        "state": row.state,
        "first_received_at": row.first_received_at,
        "last_received_at": row.last_received_at,
        "newest_event_at": row.newest_at,
        "last_hour": asdict(row.hour),
        "last_day": asdict(row.day),
    }
