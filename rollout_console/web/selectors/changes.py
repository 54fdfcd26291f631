"""A release's changes as pages show them, and the signals that they may have moved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rollout_console.catalog.models import ReleaseChange, WorkflowPath
from rollout_console.rollouts.models import Rollout
from rollout_console.web.change_diff import Diff, change_diff
from rollout_console.web.selectors.comparison import AHEAD, ComparedRow, compared_row
from signals.buckets.comparison import Comparison, comparisons_read
from signals.catalogue import SIGNALS, shown_at
from signals.effects import EFFECTS
from signals.stats.compare import compare

# How far back a cockpit compares; the comparison itself goes further.
SPAN: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ChangeView:
    component: str
    name: str
    note: str
    diff: Diff


@dataclass(frozen=True, slots=True)
class Moved:
    """A signal of both releases, and the components whose change may have moved it."""

    row: ComparedRow
    by: list[str]


@dataclass(frozen=True, slots=True)
class Effects:
    """On one path the signals that a release's changes may have moved, as measured since."""

    path: str
    path_name: str
    sentence: str
    since: datetime
    signals: list[Moved]


def change_views(changes: Iterable[ReleaseChange]) -> list[ChangeView]:
    return [
        change_told(
            component=change.component,
            name=change.name,
            before=change.before,
            after=change.after,
            note=change.note,
        )
        for change in changes
    ]


def change_told(*, component: str, name: str, before: str, after: str, note: str) -> ChangeView:
    """Return a change with its diff, also one that was frozen into evidence."""
    return ChangeView(component, name, note, change_diff(before, after))


def change_effects(
    rollout: Rollout,
    changes: Sequence[ChangeView],
    *,
    paths: Sequence[WorkflowPath],
    now: datetime,
) -> list[Effects]:
    """Return candidate against stable on what its changes may have moved, path by path.

    Over the rollout's last day; nothing without a stable release or a registered change.
    """
    components = list(dict.fromkeys(change.component for change in changes))
    if rollout.stable_id is None or rollout.live_at is None or not components:
        return []
    until = min(rollout.ended_at or now, now)
    reads = comparisons_read(
        path_ids=[path.pk for path in paths],
        candidate_id=rollout.candidate_id,
        stable_id=rollout.stable_id,
        since=max(until - SPAN, rollout.live_at.replace(second=0, microsecond=0)),
        until=until + AHEAD,
    )
    found = [
        Effects(
            path=path.slug,
            path_name=path.name,
            sentence=reads[path.pk].sentence,
            since=reads[path.pk].window.start,
            signals=_moved(components, reads[path.pk], path),
        )
        for path in paths
    ]
    return [each for each in found if each.signals]


def _moved(components: Sequence[str], read: Comparison, path: WorkflowPath) -> list[Moved]:
    by: dict[str, list[str]] = {}
    for component in components:
        for slug in EFFECTS[component]:
            # Others are not gathered by this console.
            if slug in SIGNALS and SIGNALS[slug].collected:
                by.setdefault(slug, []).append(component)
    slow = path.limits.get("slow_path_ms")
    moved = []
    for slug in sorted(by, key=shown_at):
        row = compare(slug, read.candidate, read.stable, slow_ms=slow)
        if row.candidate is not None or row.stable is not None:
            moved.append(Moved(compared_row(row), by[slug]))
    return moved
