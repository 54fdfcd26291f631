"""The health of the signals: what is watched and split goes in, problems and alerts come out."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rollout_console.exposure.selectors import current_number
from rollout_console.rollouts.models import ExposedSegment, Rollout, RolloutPath
from rollout_console.rollouts.states import EXPOSING
from signals.alerts.health import health_alerts
from signals.catalogue import signal_of
from signals.guards.models import Guard
from signals.health.rules import reads_quality
from signals.health.services import Split, Watched, health_look, subjects_prune

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
    looked = health_look(
        watched=[
            Watched(
                workflow_id=on_path.path.workflow_id,
                path_id=on_path.path_id,
                name=on_path.path.name,
                rollout=rollouts[on_path.rollout_id].slug,
                reads_labels=on_path.path_id in labelled,
            )
            for on_path in on_paths
        ],
        splits=_splits(rollouts, on_paths),
        now=now,
    )
    if looked is None:
        return 0
    subjects_prune(now=now)
    return health_alerts(now=now)


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
