"""What rollouts consist of: their paths, what they expose, their ladders and fallbacks."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from rollout_console.catalog.models import WorkflowPath
from rollout_console.rollouts.models import (
    ExposedSegment,
    PathMode,
    RolloutPath,
    Stage,
    StageSegment,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows of one rollout, each kind in its order; `ladder` goes by stage and position."""

    paths: list[WorkflowPath] = field(default_factory=list)
    exposed: list[ExposedSegment] = field(default_factory=list)
    ladder: list[StageSegment] = field(default_factory=list)
    modes: list[PathMode] = field(default_factory=list)

    def stage(self, position: int) -> Stage | None:
        return next((row.stage for row in self.ladder if row.stage.position == position), None)

    def rung(self, position: int) -> list[StageSegment]:
        """Return the segments that a stage exposes in full."""
        return [row for row in self.ladder if row.stage.position == position]


def parts_read(rollout_ids: Iterable[int]) -> dict[int, Parts]:
    """Return the parts of these rollouts by id, with path and segment; four queries for them all.

    One without any is there when it is asked for.
    """
    ids = list(rollout_ids)
    found: dict[int, Parts] = defaultdict(Parts)
    paths = RolloutPath.objects.filter(rollout__in=ids).select_related("path")
    for path in paths.order_by("path_id"):
        found[path.rollout_id].paths.append(path.path)
    exposed = ExposedSegment.objects.filter(rollout__in=ids).select_related("segment")
    for part in exposed.order_by("pk"):
        found[part.rollout_id].exposed.append(part)
    ladder = StageSegment.objects.filter(stage__rollout__in=ids).select_related("stage", "segment")
    for row in ladder.order_by("stage__position", "position"):
        found[row.stage.rollout_id].ladder.append(row)
    modes = PathMode.objects.filter(rollout__in=ids).select_related("path", "segment")
    for mode in modes.order_by("pk"):
        found[mode.rollout_id].modes.append(mode)
    return found
