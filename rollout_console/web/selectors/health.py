"""How far a workflow's signals can be trusted, as pages show it."""

from dataclasses import dataclass
from datetime import datetime

from rollout_console.web.words import PROBLEMS, share_text
from signals.health.selectors import (
    EpochRow,
    FeedRow,
    ProblemRow,
    epoch_rows,
    feed_rows,
    problem_rows,
)
from signals.stats.assignment import BUDGET


@dataclass(frozen=True, slots=True)
class ShownProblem:
    """A problem with its heading; `where` names path, segment and source, as far as it has them."""

    row: ProblemRow
    title: str
    where: str


@dataclass(frozen=True, slots=True)
class ShownSplit:
    """A planned share beside the one seen, with its range, as text."""

    row: EpochRow
    planned: str
    observed: str
    gap: str
    alarm: bool


@dataclass(frozen=True, slots=True)
class HealthView:
    problems: list[ShownProblem]
    feeds: list[FeedRow]
    splits: list[ShownSplit]


def problems_shown(*, workflow_id: int, rollout: str | None = None) -> list[ShownProblem]:
    """Return what is wrong now with the signals of a workflow, or of one rollout; one query."""
    return [
        ShownProblem(
            row=row,
            title=PROBLEMS[row.kind],
            where=" · ".join(part for part in (row.path_name, row.segment, row.source) if part),
        )
        for row in problem_rows(workflow_id=workflow_id, rollout=rollout)
    ]


def health_view(*, workflow_id: int, now: datetime) -> HealthView:
    """Return everything about the health of a workflow's signals."""
    return HealthView(
        problems=problems_shown(workflow_id=workflow_id),
        feeds=feed_rows(now=now, workflow_ids=[workflow_id]),
        splits=[_split(row) for row in epoch_rows(workflow_id=workflow_id)],
    )


def _split(row: EpochRow) -> ShownSplit:
    seen = row.seen
    if seen is None:
        return ShownSplit(row, share_text(row.planned), "nobody yet", "", alarm=False)
    points = f"{seen.low * 100:.1f}\N{EN DASH}{seen.high * 100:.1f}"
    return ShownSplit(
        row=row,
        planned=share_text(row.planned),
        observed=share_text(seen.observed),
        gap=f"{seen.value * 100:.1f} % apart · 95 % range {points} %",
        alarm=row.e_value >= 1 / BUDGET,
    )
