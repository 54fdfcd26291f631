"""Pulls as rows for pages and the API: never with a secret, since none is stored."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from signals.pulls.models import PullSource


@dataclass(frozen=True, slots=True)
class PullRow:
    """A pull and how it is going; `state` is ok, failing, waiting (never asked yet) or off."""

    workflow: str
    name: str
    path: str
    base_url: str
    query: str
    step_s: int
    unit: str
    better: str
    labels: dict[str, Any]
    credential: str
    enabled: bool
    owner: str
    state: str
    pulled_to: datetime | None
    next_at: datetime | None
    succeeded_at: datetime | None
    failed_at: datetime | None
    failures: int
    error: str


def pull_rows(*, workflow_ids: Iterable[int]) -> list[PullRow]:
    """Return the pulls of these workflows, by workflow and name."""
    found = PullSource.objects.filter(workflow__in=list(workflow_ids))
    ordered = found.select_related("workflow", "path", "owner").order_by("workflow__slug", "name")
    return [pull_row(source) for source in ordered]


def pull_row(source: PullSource) -> PullRow:
    """Return a source, read with its workflow, path and owner, as a row."""
    state = "off"
    if source.enabled:
        state = "failing" if source.failures else "ok" if source.succeeded_at else "waiting"
    return PullRow(
        workflow=source.workflow.slug,
        name=source.name,
        path=source.path.slug,
        base_url=source.base_url,
        query=source.query,
        step_s=source.step_s,
        unit=source.unit,
        better=source.better,
        labels=source.labels,
        credential=source.credential,
        enabled=source.enabled,
        owner=source.owner.username,
        state=state,
        pulled_to=source.pulled_to if source.succeeded_at else None,
        next_at=source.next_at if source.enabled else None,
        succeeded_at=source.succeeded_at,
        failed_at=source.failed_at,
        failures=source.failures,
        error=source.error,
    )
