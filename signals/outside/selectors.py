"""What fires outside now, as guards and pages read it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db.models import Q

from signals.outside.models import OutsideAlert, Source

# What ended longer ago was looked at while it fired: rounds come each second.
_LOOKED: Final = timedelta(seconds=600)
_SHOWN: Final = {
    Source.ALERTMANAGER.value: "Alertmanager",
    Source.GRAFANA.value: "Grafana",
}


@dataclass(frozen=True, slots=True)
class OutsideFact:
    """An alert from outside as evidence; one that ended is told of for ten minutes more."""

    workflow_id: int
    path_id: int
    trigger: str
    received_at: datetime
    changed_at: datetime
    ended_at: datetime | None
    sentence: str

    def trips(self, trigger: str, *, since: datetime, looked_at: datetime | None) -> bool:
        """Whether it trips a trigger whose evidence starts at `since`.

        One that came and went between two looks trips all the same: `looked_at` is when the
        trigger was looked at last. One that was told of by its end alone never came.
        """
        if self.trigger != trigger or self.received_at <= since:
            return False
        if self.ended_at is None:
            return True
        unseen = looked_at is None or looked_at <= self.received_at
        return unseen and self.ended_at > self.received_at


@dataclass(frozen=True, slots=True)
class OutsideRow:
    """An alert from outside for pages and the API."""

    id: int
    workflow: str
    path: str
    trigger: str
    source: str
    name: str
    summary: str
    sentence: str
    labels: dict[str, str]
    link: str
    started_at: datetime
    received_at: datetime
    seen_at: datetime
    times: int
    silent_at: datetime | None
    ended_at: datetime | None
    ended_by: str


def outside_facts(path_ids: Collection[int], *, now: datetime) -> list[OutsideFact]:
    """Return what fires on these paths, or ended within ten minutes, the oldest first."""
    rows = OutsideAlert.objects.filter(path__in=path_ids).filter(
        Q(ended_at=None) | Q(ended_at__gt=now - _LOOKED)
    )
    return [
        OutsideFact(
            workflow_id=row.workflow_id,
            path_id=row.path_id,
            trigger=row.trigger,
            received_at=row.received_at,
            changed_at=row.changed_at,
            ended_at=row.ended_at,
            sentence=outside_sentence(row),
        )
        for row in rows.order_by("pk")
    ]


def outside_rows(
    *,
    workflow_ids: Collection[int],
    paths: Collection[str] | None = None,
    firing: bool = True,
    limit: int = 100,
) -> Sequence[OutsideRow]:
    """Return the alerts from outside of these workflows, or of some paths, the newest first."""
    rows = OutsideAlert.objects.filter(workflow__in=workflow_ids).select_related("workflow", "path")
    if paths is not None:
        rows = rows.filter(path__slug__in=paths)
    if firing:
        rows = rows.filter(ended_at=None)
    return [outside_row(row) for row in rows.order_by("-pk")[:limit]]


def outside_row(row: OutsideAlert) -> OutsideRow:
    """Return an alert, read with its workflow and path, as a row."""
    return OutsideRow(
        id=row.pk,
        workflow=row.workflow.slug,
        path=row.path.slug,
        trigger=row.trigger,
        source=row.source,
        name=row.name,
        summary=row.summary,
        sentence=outside_sentence(row),
        labels=row.labels,
        link=row.link,
        started_at=row.started_at,
        received_at=row.received_at,
        seen_at=row.seen_at,
        times=row.times,
        silent_at=row.silent_at,
        ended_at=row.ended_at,
        ended_by=row.ended_by,
    )


def outside_sentence(row: OutsideAlert) -> str:
    """Return what an alert from outside says: who says it, what, since when."""
    fires = "fires" if row.ended_at is None else "fired"
    since = f"{row.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    summary = f": {row.summary.rstrip('.')}" if row.summary else ""
    silent = "; it has no data of it any more" if row.silent_at is not None else ""
    return f"{_SHOWN[row.source]} says that {row.name} {fires} since {since}{summary}{silent}."
