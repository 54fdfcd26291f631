"""Gauges of a trace as metric points: each record a measurement of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rollout_console.catalog.models import Release, Segment, WorkflowPath
from rollout_console.replay.items import Item, Refusal
from signals.buckets.keys import ARM_UNKNOWN, ARMS
from signals.points.kinds import Gauge, MetricPoint, Series
from signals.points.services import points_store


@dataclass(frozen=True, slots=True)
class GaugesStored:
    """What has become of some gauges; `duplicates` are among the accepted."""

    accepted: int
    duplicates: int
    refused: list[Refusal] = field(default_factory=list)


class GaugePoints:
    """Stores gauges of one workflow, whose catalogue it reads once.

    Args:
        source: what the series say they come from.
    """

    def __init__(self, *, workflow: str, source: str) -> None:
        self._workflow = workflow
        self._source = source
        self._read = False

    def store(self, items: Sequence[Item], *, backfill: bool, now: datetime) -> GaugesStored:
        """Keep the gauges that fit; each is known by its id and time, so a repeat adds nothing."""
        self._catalogue_read()
        points: list[MetricPoint] = []
        taken: list[Item] = []
        refused: list[Refusal] = []
        for item in items:
            made = self._point(item)
            if isinstance(made, Refusal):
                refused.append(made)
            else:
                points.append(made)
                taken.append(item)
        receipt = points_store(points=points, now=now, backfill=backfill, any_age=True)
        refused += [Refusal(taken[each.index].place, "", each.detail) for each in receipt.refused]
        return GaugesStored(receipt.stored + receipt.duplicates, receipt.duplicates, refused)

    def _point(self, item: Item) -> MetricPoint | Refusal:
        told = item.fields
        place: dict[str, int] = {}
        for name, known in (("path", self._paths), ("segment", self._segments)):
            if name in told and told[name] not in known:
                return _unknown(item, name, known)
            place[name] = known.get(told.get(name, ""), 0)
        if "arm" in told and told["arm"] not in ARMS:
            return _unknown(item, "arm", ARMS)
        release = told.get("release")
        if release is not None and release not in self._releases:
            return _unknown(item, "release", self._releases)
        series = Series(
            workflow_id=self._workflow_id,
            path_id=place["path"],
            name=told["name"],
            kind="gauge",
            source=self._source,
            unit=told.get("unit", ""),
            segment_id=place["segment"],
            release_id=0 if release is None else self._releases[release],
            arm=ARMS.get(told.get("arm", ""), ARM_UNKNOWN),
        )
        return MetricPoint(series, item.at, Gauge.of(float(told["value"])), stream=told["id"])

    def _catalogue_read(self) -> None:
        if self._read:
            return
        paths = WorkflowPath.objects.filter(workflow__slug=self._workflow)
        self._paths = dict(paths.values_list("slug", "pk"))
        self._workflow_id: int = paths.values_list("workflow_id", flat=True)[0]
        here: dict[str, Any] = {"workflow_id": self._workflow_id}
        self._segments = dict(Segment.objects.filter(**here).values_list("slug", "pk"))
        self._releases = dict(Release.objects.filter(**here).values_list("version", "pk"))
        self._read = True


def _unknown(item: Item, name: str, known: dict[str, int]) -> Refusal:
    told = ", ".join(sorted(known)[:20]) or "none"
    detail = f"`{name}` is none of this workflow's; known: {told}."
    return Refusal(item.place, f"/{name}", detail)
