"""How long each criterion would need before it can be decided, told before anything is exposed."""

from datetime import datetime, timedelta
from typing import Final

from rollout_console.rollouts.models import Rollout, StageSegment
from signals.buckets.fed import told_by_segment
from signals.buckets.keys import MODE_NORMAL
from signals.buckets.parts import place_measures, reported_before
from signals.guards.evidence import signal_of_guard
from signals.guards.models import Guard, GuardKind
from signals.guards.pace import Pace, in_reach
from signals.guards.selectors import runs_open

# A day's traffic stands for what the first stage will see.
WINDOW: Final = timedelta(hours=24)
_LEAST_SPAN_S: Final = 60.0


def first_stage_paces(rollout: Rollout, *, now: datetime) -> list[tuple[Guard, Pace]]:
    """Return each criterion that is still open, with its pace on the first stage.

    What its segments reported in the last day, whoever served it, times the share to be exposed;
    tasks count that report the criterion's signal.
    """
    guards = list(
        Guard.objects.filter(rollout=rollout.slug, retired_at=None, kind=GuardKind.CRITERION.value)
        .select_related("path", "segment", "verdict", "definition")
        .order_by("pk")
    )
    stage = StageSegment.objects.filter(stage__rollout=rollout, stage__position=1)
    shares = {segment: float(share) for segment, share in stage.values_list("segment", "share")}
    ids = sorted({guard.path_id for guard in guards})
    since = (now - WINDOW).replace(second=0, microsecond=0)
    fields = sorted({"n", *(signal_of_guard(guard).n_of for guard in guards)})
    found = place_measures(path_ids=ids, since=since, until=now, fields=fields)
    older = reported_before(path_ids=ids, before=since)
    paces = []
    for guard in guards:
        runs, signal = runs_open(guard), signal_of_guard(guard)
        if runs is None:
            continue
        span_s = (now - since).total_seconds()
        first_at = found.first_at.get(guard.path_id)
        if first_at is not None and guard.path_id not in older:
            span_s = max(_LEAST_SPAN_S, (now - first_at).total_seconds())
        told = {}
        if not signal.n_of:
            # What its team's own feed counts stands beside what is read for all.
            told = told_by_segment(signal, path_id=guard.path_id, start=since, end=now)
        n = sum(
            shares[segment] * count
            for segment, count in told.items()
            if segment in shares and guard.segment_id in (None, segment)
        ) + sum(
            shares[place.segment_id] * getattr(measures, signal.n_of)
            for place, measures in found.by_place.items()
            if signal.n_of
            and place.path_id == guard.path_id
            and place.segment_id in shares
            and guard.segment_id in (None, place.segment_id)
            and in_reach(moved=place.mode != MODE_NORMAL, reach=signal.reach)
        )
        per_hour = n * 3600 / span_s
        paces.append((guard, Pace(runs, per_hour, signal.counted)))
    return paces
