"""A signal over time, as points, marks and limits."""

from datetime import datetime, timedelta
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from rollout_console.api import serializers as bodies
from rollout_console.api.access import ApiView
from rollout_console.api.point_series import names_of, point_document
from rollout_console.api.reads import moment, whole
from rollout_console.catalog.models import WorkflowPath
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.rollouts.models import Mark
from signals.buckets.keys import (
    ARM_CANDIDATE,
    ARM_STABLE,
    ARM_UNKNOWN,
    INPUT_CONDITIONS,
    MODES,
    RISKS,
)
from signals.buckets.scopes import Kind
from signals.buckets.selectors import Point, rounded_step, signal_series
from signals.buckets.splits import splits_of
from signals.catalogue import Signal
from signals.guards.selectors import limit_drawn
from signals.own.selectors import signals_in

ARMS: Final = {"candidate": ARM_CANDIDATE, "stable": ARM_STABLE}
EVERY_ARM: Final = [ARM_UNKNOWN, ARM_STABLE, ARM_CANDIDATE]
SPAN_MAX: Final = timedelta(days=31)
POINTS: Final = 120
POINTS_MAX: Final = 2000


class SeriesView(ApiView):
    @extend_schema(
        summary="A signal over time",
        parameters=[
            OpenApiParameter("workflow", str, required=True),
            OpenApiParameter("path", str, required=True),
            OpenApiParameter(
                "signal",
                str,
                required=True,
                description="A signal of the catalogue, or a name that the path has points of.",
            ),
            OpenApiParameter("segment", str),
            OpenApiParameter("release", str, description="One of the workflow's releases."),
            OpenApiParameter(
                "arm",
                str,
                enum=sorted(ARMS),
                description="candidate unless said; all runs where the path has no candidate.",
            ),
            OpenApiParameter(
                "mode", str, enum=list(MODES), description="Only tasks that ran in this mode."
            ),
            OpenApiParameter("input_condition", str, enum=list(INPUT_CONDITIONS)),
            OpenApiParameter("risk", str, enum=list(RISKS)),
            OpenApiParameter("from", str, description="RFC 3339; an hour before `to` unless said."),
            OpenApiParameter("to", str, description="RFC 3339; now unless said."),
            OpenApiParameter("step", int, description="Seconds; so many that 120 points fit."),
        ],
        responses=bodies.SeriesOut,
    )
    def get(self, request: Request) -> Response:
        asked = request.query_params
        path = (
            WorkflowPath.objects.select_related("workflow", "stable", "candidate")
            .filter(workflow__slug=_word(asked, "workflow"), slug=_word(asked, "path"))
            .first()
        )
        if path is None or not self.principal.may(Verb.READ, path.workflow_id):
            raise NotFound("There is no such workflow and path; both are needed.")
        slug = _word(asked, "signal")
        signal = signals_in(path.workflow_id).get(slug)
        if signal is None:
            return self._of_points(request, path, slug)
        start, end, step_s = _span(request, now=self.now)
        step_s = rounded_step(start=start, end=end, step_s=step_s, by_event=signal.by_event)
        _steps_check(start, end, step_s)
        arms, release_id = _arms(asked, path)
        fields: dict[str, Any] = {
            "signal": signal,
            "workflow_id": path.workflow_id,
            "path_id": path.pk,
            "segment_ids": _segments(asked, path),
            "start": start,
            "end": end,
            "release_id": release_id,
            "slow_ms": path.limits.get("slow_path_ms"),
            "kind": _kind(asked, signal),
        }
        points = signal_series(arms=arms, step_s=step_s, **fields)
        baseline = None
        if arms == [ARM_CANDIDATE]:
            baseline = _mean(
                signal_series(
                    arms=[ARM_STABLE], step_s=int((end - start).total_seconds()) + 1, **fields
                )
            )
        return Response(
            {
                "signal": slug,
                "unit": signal.unit,
                "step_s": step_s,
                "points": [
                    {"t": p.t, "value": p.value, "low": p.low, "high": p.high, "n": p.n}
                    for p in points
                ],
                "marks": _marks(path, start, end),
                "limit": limit_drawn(path, slug),
                "baseline": baseline,
            }
        )

    def _of_points(self, request: Request, path: WorkflowPath, name: str) -> Response:
        """Answer a name that is no signal of runs: metric points of it, where there are some."""
        asked = request.query_params
        start, end, step_s = _span(request, now=self.now)
        _steps_check(start, end, step_s)
        version, arm = asked.get("release"), asked.get("arm")
        if arm and arm not in ARMS:
            raise InvalidInput("“arm” is candidate or stable.")
        document = point_document(
            path,
            name,
            start=start,
            end=end,
            step_s=step_s,
            segment_ids=_segments(asked, path),
            release_id=_release_id(path, version) if version else None,
            arms=[ARMS[arm]] if arm else None,
        )
        if document is None:
            known = ", ".join([*signals_in(path.workflow_id), *names_of(path, now=self.now)[:50]])
            raise InvalidInput(
                f"There is no signal “{name[:80]}”.",
                errors=[{"pointer": "/signal", "detail": f"Known: {known}."}],
            )
        return Response({**document, "marks": _marks(path, start, end)})


def _span(request: Request, *, now: datetime) -> tuple[datetime, datetime, int]:
    """Return the span asked for and its step in seconds, as it was asked for."""
    end = moment(request, "to", now)
    start = moment(request, "from", end - timedelta(hours=1))
    if not timedelta(0) < end - start <= SPAN_MAX:
        raise InvalidInput("“from” lies before “to”, and at most 31 days before it.")
    span_s = (end - start).total_seconds()
    step_s = whole(request, "step", default=max(1, int(span_s / POINTS)), least=1, most=31 * 86400)
    return start, end, step_s


def _steps_check(start: datetime, end: datetime, step_s: int) -> None:
    if (end - start).total_seconds() / step_s > POINTS_MAX:
        raise InvalidInput(f"At most {POINTS_MAX:,} points: choose a longer “step”.")


def _word(asked: Any, key: str) -> str:
    value = str(asked.get(key, ""))
    if not value or "\x00" in value:
        raise InvalidInput(
            f"“{key}” is needed.", errors=[{"pointer": f"/{key}", "detail": "Name one."}]
        )
    return value


def _arms(asked: Any, path: WorkflowPath) -> tuple[list[int], int | None]:
    """Return the arms to add up, and the release where it plays neither role on the path."""
    name = asked.get("arm")
    if name and name not in ARMS:
        raise InvalidInput("“arm” is candidate or stable.")
    by_arm = [ARMS[name]] if name else None
    if version := asked.get("release"):
        playing = {
            row.version: arm
            for row, arm in ((path.stable, ARM_STABLE), (path.candidate, ARM_CANDIDATE))
            if row is not None
        }
        if version in playing:
            if by_arm not in (None, [playing[version]]):
                raise InvalidInput("“arm” and “release” name two different arms; send one of them.")
            return [playing[version]], None
        return by_arm or EVERY_ARM, _release_id(path, version)
    # Without a candidate nothing was exposed: what was reported is what everybody got.
    return by_arm or ([ARM_CANDIDATE] if path.candidate is not None else EVERY_ARM), None


def _release_id(path: WorkflowPath, version: str) -> int:
    found = None
    if "\x00" not in version:
        found = path.workflow.releases.filter(version=version).first()
    if found is None:
        newest = path.workflow.releases.order_by("-pk").values_list("version", flat=True)
        raise InvalidInput(
            "“release” is one of the workflow's.",
            errors=[{"pointer": "/release", "detail": f"Known: {', '.join(newest[:20])}."}],
        )
    return found.pk


def _kind(asked: Any, signal: Signal) -> Kind:
    """Return which kind of case alone is asked for.

    Raises:
        InvalidInput: the word is unknown, or the signal cannot be parted so.
    """
    codes: dict[str, int] = {}
    for name, known in (("mode", MODES), ("input_condition", INPUT_CONDITIONS), ("risk", RISKS)):
        word = asked.get(name)
        if not word:
            continue
        if word not in known:
            raise InvalidInput(
                f"“{name}” is one of {', '.join(known)}.",
                errors=[{"pointer": f"/{name}", "detail": f"Known: {', '.join(known)}."}],
            )
        if not splits_of(signal):
            raise InvalidInput(
                f"{signal.slug} is not kept by {name}.",
                errors=[{"pointer": f"/{name}", "detail": "Leave it out for this signal."}],
            )
        codes[name] = known[word]
    return Kind(**codes)


def _segments(asked: Any, path: WorkflowPath) -> list[int] | None:
    slug = asked.get("segment")
    if not slug:
        return None
    found = list(
        path.workflow.segments.filter(slug=_word(asked, "segment")).values_list("pk", flat=True)
    )
    if not found:
        raise NotFound(f"There is no segment “{slug[:80]}” in this workflow.")
    return found


def _marks(path: WorkflowPath, start: datetime, end: datetime) -> list[dict[str, Any]]:
    marks = Mark.objects.filter(
        workflow=path.workflow_id, at__gte=start, at__lt=end, rollout__rollout_paths__path=path
    )
    return [
        {"t": mark.at, "kind": mark.kind, "text": mark.text} for mark in marks.order_by("at", "pk")
    ]


def _mean(points: list[Point]) -> float | None:
    """Return the value over all points, each weighted by its tasks."""
    n = sum(point.n for point in points)
    return sum(point.value * point.n for point in points) / n if n else None
