"""The exposed set's mix against everybody else's, as read of what was reported (requirement A4)."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from rollout_console.catalog.models import Segment
from rollout_console.rollouts.mix import AttributeMix, Gap, attribute_mix, gaps_of
from rollout_console.rollouts.models import Rollout, StageSegment
from rollout_console.rollouts.states import RolloutState
from signals.buckets.keys import CONDITION, RISK
from signals.buckets.mix import Mixes, Who, mix_tasks
from signals.ingest.segments import declared_attributes, rule_names

# A mix is told over the present bake, or over the last week where that is longer or nothing is
# exposed yet.
WINDOW: Final = timedelta(days=7)
# Clients' clocks may be so far ahead.
_AHEAD: Final = timedelta(minutes=6)
_BEFORE: Final = (RolloutState.DRAFT, RolloutState.READY)


@dataclass(frozen=True, slots=True)
class PathMix:
    """One path's exposed tasks against all its others, in the minutes from `since` to `until`.

    `planned` means that nothing is exposed yet, and the first stage's segments stand for it.
    """

    path: str
    name: str
    planned: bool
    since: datetime
    until: datetime
    exposed: int
    others: int
    attributes: list[AttributeMix]
    gaps: list[Gap]

    @property
    def too_protected(self) -> bool:
        """Whether something common elsewhere is surely missing or rare in the exposed set."""
        return any(gap.sure for gap in self.gaps)


def exposed_mixes(rollout: Rollout, *, now: datetime) -> list[PathMix]:
    """Return the mixes of a rollout's paths, in their order.

    While it is exposed, the exposed tasks are the candidate's; before, they are those of the
    first stage's segments. By event minute, history included.
    """
    planned = RolloutState(rollout.state) in _BEFORE
    until = rollout.ended_at or now
    since = until - WINDOW
    if not planned and rollout.bake_from is not None:
        since = max(since, rollout.bake_from)
    since = since.replace(second=0, microsecond=0)
    paths = list(
        rollout.rollout_paths.order_by("pk").values_list("path_id", "path__slug", "path__name")
    )
    first: set[int] = set()
    if planned:
        stages = StageSegment.objects.filter(stage__rollout=rollout, stage__position=1)
        first = set(stages.values_list("segment_id", flat=True))
    found = mix_tasks(
        path_ids=[pk for pk, _, _ in paths], since=since, until=rollout.ended_at or now + _AHEAD
    )
    attributes = attributes_of(rollout.workflow_id)

    def is_exposed(who: Who) -> bool:
        return who.segment_id in first if planned else who.candidate

    return [
        _path(
            found,
            path_id,
            is_exposed,
            attributes,
            path=slug,
            name=name,
            planned=planned,
            since=since,
            until=until,
        )
        for path_id, slug, name in paths
    ]


def attributes_of(workflow_id: int) -> tuple[str, ...]:
    """Return the attributes that a workflow's mix is told by, the two kinds of case first."""
    named: set[str] = set()
    rules = Segment.objects.filter(workflow=workflow_id).order_by("pk")
    read = [rule_names(rule) for rule in rules.values_list("rule", flat=True)]
    # As the drain reads them: where one rule may read any member, none is named.
    if all(names is not None for names in read):
        named.update(name for names in read for name in names or ())
    return (RISK, CONDITION, *declared_attributes(named))


def _path(
    found: Mixes,
    path_id: int,
    is_exposed: Callable[[Who], bool],
    attributes: tuple[str, ...],
    **about: Any,
) -> PathMix:
    counted = {True: 0, False: 0}
    for who, n in found.tasks.items():
        if who.path_id == path_id:
            counted[is_exposed(who)] += n
    values: dict[bool, dict[str, Counter[str]]] = {True: {}, False: {}}
    for who, told in found.values.items():
        if who.path_id != path_id:
            continue
        for attribute, counts in told.items():
            values[is_exposed(who)].setdefault(attribute, Counter()).update(counts)
    # Beside what is declared now, what was while the tasks came.
    seen = sorted({name for side in values.values() for name in side} - set(attributes))
    mixes = [
        attribute_mix(
            attribute,
            exposed=values[True].get(attribute, {}),
            others=values[False].get(attribute, {}),
            exposed_of=counted[True],
            others_of=counted[False],
        )
        for attribute in (*attributes, *seen)
    ]
    return PathMix(
        **about,
        exposed=counted[True],
        others=counted[False],
        attributes=mixes,
        gaps=gaps_of(mixes, kind="first-stage" if about["planned"] else "exposed"),
    )
