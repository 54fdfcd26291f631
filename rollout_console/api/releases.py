"""Releases: registered, read, and one compared with another."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from approvals.authority.principals import require
from rollout_console.api import release_bodies as answers
from rollout_console.api import serializers as bodies
from rollout_console.api.access import ApiView
from rollout_console.api.controls import _checked
from rollout_console.api.reads import (
    LIST_PARAMETERS,
    _cursor,
    _list,
    _page,
    _word,
    listed,
    moment,
)
from rollout_console.api.rows import change_dict
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.rollouts import services as rollouts
from rollout_console.rollouts.release_rows import ReleaseRow, pair_of, release_row, release_rows
from signals.buckets.comparison import Comparison, Times, comparison_read
from signals.stats.compare import Compared, Side, compare_all, compare_cost
from signals.stats.cost_change import OUTPUT_WEIGHT
from signals.stats.estimate import Estimate

SPAN: Final = timedelta(days=1)


class ReleasesView(ApiView):
    @extend_schema(
        operation_id="releases_list",
        summary="A workflow's releases, the newest first",
        parameters=LIST_PARAMETERS,
        responses=listed(answers.ReleaseReadOut),
    )
    def get(self, request: Request, workflow: str) -> Response:
        found = _readable(self, workflow)
        limit, before = _page(request), _cursor(request)
        rows = release_rows(workflow_ids=[found.pk], before=before, limit=limit + 1)
        told = [_release_dict(row) for row in rows[:limit]]
        return _list(told, rows, limit=limit, cursor=lambda row: str(row.id))


class ReleaseView(ApiView):
    @extend_schema(summary="A release", responses=answers.ReleaseReadOut)
    def get(self, request: Request, workflow: str, version: str) -> Response:
        found = _readable(self, workflow)
        return Response(_release_dict(release_row(workflow=found, version=version)))

    @extend_schema(
        summary="Register a release",
        request=bodies.ReleaseIn,
        responses={200: bodies.ReleaseOut, 201: bodies.ReleaseOut},
    )
    def put(self, request: Request, workflow: str, version: str) -> Response:
        found = Workflow.objects.filter(slug=workflow).first()
        if found is None or not (
            self.principal.may(Verb.READ, found.pk)
            or self.principal.may(Verb.RELEASE_REGISTER, found.pk)
        ):
            raise NotFound(f"There is no workflow “{workflow}”.")
        require(self.principal, Verb.RELEASE_REGISTER, found)
        told = _checked(bodies.ReleaseIn, request)
        release, created = rollouts.release_register(
            workflow=found,
            version=version,
            changes=told.get("changes"),
            source=told.get("source"),
            principal=self.principal,
            now=self.now,
        )
        return Response(
            {
                "workflow": workflow,
                "version": release.version,
                "registered": release.registered,
                "source": release.source,
                "changes": [change_dict(row) for row in release.changes.order_by("position")],
            },
            status=201 if created else 200,
        )


class ComparisonView(ApiView):
    @extend_schema(
        summary="A candidate compared with the stable release on a path",
        description="Values and differences in each signal's unit, with 95 % ranges that are right"
        " at one look. `basis` says how far a difference may be put down to the release. The parts"
        " of `cost_change` sum to its `difference`.",
        parameters=[
            OpenApiParameter("path", str, required=True),
            OpenApiParameter("candidate", str, description="The path's candidate unless said."),
            OpenApiParameter("stable", str, description="The path's stable release unless said."),
            OpenApiParameter("from", str, description="RFC 3339; a day before `to` unless said."),
            OpenApiParameter("to", str, description="RFC 3339; now unless said."),
        ],
        responses=answers.ComparisonOut,
    )
    def get(self, request: Request, workflow: str) -> Response:
        found = _readable(self, workflow)
        asked = request.query_params
        path = (
            found.paths.select_related("candidate", "stable", "workflow")
            .filter(slug=_word(asked.get("path", "")))
            .first()
        )
        if path is None:
            raise NotFound(f"“path” is one of {workflow}'s paths; it is needed.")
        first, second = pair_of(path, candidate=asked.get("candidate"), stable=asked.get("stable"))
        now = self.now
        # The minute that goes on now, and those of clocks that run ahead.
        until = moment(request, "to", now + timedelta(minutes=6))
        since = moment(request, "from", until - SPAN)
        if since >= until:
            raise InvalidInput("“from” lies before “to”.")
        read = comparison_read(
            path_id=path.pk,
            candidate_id=first.pk,
            stable_id=second.pk,
            since=since,
            until=until,
        )
        slow = path.limits.get("slow_path_ms")
        rows = compare_all(read.candidate, read.stable, slow_ms=slow)
        segments = dict(found.segments.values_list("pk", "slug"))
        return Response(
            {
                "workflow": workflow,
                "path": path.slug,
                "as_of": now,
                "from": since,
                "to": until,
                "basis": _basis(read, segments),
                "candidate": _side(first.version, read.candidate, read.candidate_times),
                "stable": _side(second.version, read.stable, read.stable_times),
                "signals": [_compared(row) for row in rows],
                "cost_change": _cost_change(read.candidate, read.stable),
            }
        )


def _readable(view: ApiView, slug: str) -> Workflow:
    found = Workflow.objects.filter(slug=slug).first()
    if found is None or not view.principal.may(Verb.READ, found.pk):
        raise NotFound(f"There is no workflow “{slug}”.")
    return found


def _release_dict(row: ReleaseRow) -> dict[str, Any]:
    return {
        "workflow": row.workflow,
        "version": row.version,
        "registered": row.registered,
        "source": row.source,
        "changes": [change_dict(change) for change in row.changes],
        "roles": [{"role": role.role, "path": role.path} for role in row.roles],
        "first_at": row.first_at,
        "newest_task_at": row.task_at,
    }


def _basis(read: Comparison, segments: dict[int, str]) -> dict[str, Any]:
    chosen = read.window.segment_ids
    return {
        "kind": read.window.basis,
        "from": read.window.start,
        "to": read.window.end,
        # A task may have no segment, which is one of its own here.
        "segments": None if chosen is None else [segments.get(pk) for pk in sorted(chosen)],
        "step_s": read.step_s,
        "steps_both": read.steps_both,
        "steps": read.steps,
        "sentence": read.sentence,
    }


def _side(version: str, side: Side, times: Times | None) -> dict[str, Any]:
    return {
        "release": version,
        "n": side.n,
        "n_fallback": side.fallback.n,
        "cost_n": side.normal.cost_n + side.fallback.cost_n,
        "first_at": None if times is None else times.first_at,
        "newest_at": None if times is None else times.last_at,
    }


def _compared(row: Compared) -> dict[str, Any]:
    gap = None
    if row.gap is not None:
        gap = {"value": row.gap, "low": row.low, "high": row.high}
    return {
        "signal": row.signal.slug,
        "unit": row.signal.unit,
        "better": row.signal.better,
        "candidate": _estimate(row.candidate),
        "stable": _estimate(row.stable),
        "difference": gap,
        "word": row.word,
        "note": row.note,
    }


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _cost_change(candidate: Side, stable: Side) -> dict[str, Any] | None:
    found = compare_cost(candidate, stable)
    if found is None:
        return None
    return {
        "unit": "usd",
        "candidate": found.change.candidate,
        "stable": found.change.stable,
        "difference": {"value": found.change.change, "low": found.low, "high": found.high},
        "n": {"candidate": found.n, "stable": found.stable_n},
        "parts": [{"part": part, "value": usd} for part, usd in found.change.parts.items()],
        "tokens_known": found.change.tokens_known,
        "retries_known": found.change.retries_known,
        "output_weight": OUTPUT_WEIGHT,
    }
