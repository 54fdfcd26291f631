"""The health of the signals: what is watched and split goes in, problems and alerts come out."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rollout_console.core.heartbeats import KEEPER, WORKER, heartbeat_last
from rollout_console.exposure.selectors import current_number
from rollout_console.rollouts.models import ExposedSegment, PathMode, Rollout, RolloutPath
from rollout_console.rollouts.states import EXPOSING
from signals.alerts.health import health_alerts
from signals.catalogue import signal_of
from signals.guards.models import Guard
from signals.guards.selectors import triggers_blind
from signals.guards.services import queue_limit_s
from signals.health.rules import (
    BLIND_LONG,
    PAUSED_AFTER_S,
    Finding,
    blind_finding,
    pause_finding,
    queue_finding,
    reads_quality,
)
from signals.health.selectors import distrusts
from signals.health.services import (
    Split,
    Watched,
    health_look,
    problem_open,
    subjects_prune,
)
from signals.ingest.selectors import queue_state

# Silence and a wrong share show in tens of seconds, so a process need not look each round.
LOOK_EVERY_S: Final = 5.0


@dataclass(slots=True)
class _Last:
    """When this process looked last."""

    at: float = float("-inf")  # time.monotonic()


_last: Final = _Last()


def signals_watch(*, now: datetime) -> int:
    """Look at the health of the signals unless this process did so within five seconds."""
    if time.monotonic() - _last.at < LOOK_EVERY_S:
        return 0
    _last.at = time.monotonic()
    return signals_check(now=now)


def signals_check(*, now: datetime) -> int:
    """Look at the health of the signals now; return how many alerts were opened."""
    rollouts = {
        rollout.pk: rollout for rollout in Rollout.objects.filter(state__in=EXPOSING).order_by("pk")
    }
    on_paths = list(
        RolloutPath.objects.filter(rollout__in=rollouts).select_related("path").order_by("pk")
    )
    labelled = {
        path_id
        for path_id, signal in Guard.objects.filter(armed=True, retired_at=None)
        .values_list("path_id", "signal")
        .distinct()
        if reads_quality(signal_of(signal))
    }
    watched = [
        Watched(
            workflow_id=on_path.path.workflow_id,
            path_id=on_path.path_id,
            name=on_path.path.name,
            rollout=rollouts[on_path.rollout_id].slug,
            reads_labels=on_path.path_id in labelled,
        )
        for on_path in on_paths
    ]
    looked = health_look(
        watched=watched,
        splits=_splits(rollouts, on_paths),
        now=now,
        found=[*_queue(rollouts.values(), now=now), *_blind(watched, now=now)],
    )
    if looked is None:
        return 0
    subjects_prune(now=now)
    return health_alerts(now=now)


def watch_resumed(*, now: datetime) -> int:
    """Say of each rollout that is exposed from when to when nobody watched; return how many.

    Called as a round begins: its end is the next sign of life. What is written says when the
    last one was, so that the owner knows what may have happened unseen.
    """
    last = heartbeat_last((WORKER, KEEPER))
    if last is None or (now - last).total_seconds() <= PAUSED_AFTER_S:
        return 0
    told = 0
    exposing = Rollout.objects.filter(state__in=EXPOSING)
    for slug, workflow_id, live_at in exposing.order_by("pk").values_list(
        "slug", "workflow_id", "live_at"
    ):
        since = max(last, live_at or last)
        if (now - since).total_seconds() <= PAUSED_AFTER_S:
            continue
        problem_open(
            pause_finding(rollout=slug, since=since, until=now), workflow_id=workflow_id, now=now
        )
        told += 1
    return told


def _queue(rollouts: Iterable[Rollout], *, now: datetime) -> list[Finding]:
    """Return that reports wait too long, for each rollout: its verdicts are as old."""
    age_s, limit_s = queue_state(now=now).oldest_age_s or 0.0, queue_limit_s()
    found = (
        queue_finding(rollout=rollout.slug, age_s=age_s, limit_s=limit_s) for rollout in rollouts
    )
    return [finding for finding in found if finding is not None]


def _blind(watched: list[Watched], *, now: datetime) -> list[Finding]:
    """Return by path the triggers that are blind for long and that nothing else explains.

    What is silent, unlabelled or late has a problem of its own, and a path in a fallback is
    contained: its release answers nothing there.
    """
    if (queue_state(now=now).oldest_age_s or 0.0) > queue_limit_s():
        return []
    blind: dict[int, list[tuple[str, datetime]]] = {}
    contained = set(PathMode.objects.values_list("rollout__slug", "path", "segment"))
    for guard, since in triggers_blind(now=now, since=BLIND_LONG):
        places = {(guard.rollout, guard.path_id, segment) for segment in (None, guard.segment_id)}
        if not places & contained:
            blind.setdefault(guard.path_id, []).append((guard.slug, since))
    explained = {distrust.path_id for distrust in distrusts(blind)}
    found = (
        blind_finding(path.path_id, path.name, rollout=path.rollout, blind=blind[path.path_id])
        for path in watched
        if path.path_id in blind and path.path_id not in explained
    )
    return [finding for finding in found if finding is not None]


def _splits(rollouts: dict[int, Rollout], on_paths: list[RolloutPath]) -> list[Split]:
    exposed = ExposedSegment.objects.filter(rollout__in=rollouts, share__lt=1)
    shares: dict[int, list[ExposedSegment]] = {}
    for row in exposed.order_by("pk"):
        shares.setdefault(row.rollout_id, []).append(row)
    if not shares:
        return []
    number = current_number()
    return [
        Split(
            rollout=rollouts[on_path.rollout_id].slug,
            path_id=on_path.path_id,
            segment_id=row.segment_id,
            share=row.share,
            candidate_id=rollouts[on_path.rollout_id].candidate_id,
            stable_id=rollouts[on_path.rollout_id].stable_id or 0,
            exposure_version=number,
        )
        for on_path in on_paths
        for row in shares.get(on_path.rollout_id, [])
    ]
