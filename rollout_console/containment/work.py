"""One round of the watch: what Celery does when nudged, and the keeper when that is overdue."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from rollout_console.containment.clock import clocks_run
from rollout_console.containment.health import signals_watch, watch_resumed
from rollout_console.core.heartbeats import heartbeat_record
from signals.alerts.escalation import escalations_run
from signals.alerts.services import alerts_half_time, guards_watch
from signals.alerts.trips import damage_find
from signals.buckets.services import buckets_fold, stale_fold
from signals.guards.retention import storage_keep
from signals.ingest.drain import batches_drain
from signals.ingest.labels import observations_attribute
from signals.ingest.selectors import queue_state
from signals.otlp.judged import evaluations_send
from signals.otlp.retention import otlp_prune
from signals.otlp.sweep import traces_assemble

log = structlog.get_logger()

# A steady stream of reports must not keep guards and clocks waiting: they look in between.
TURN_S: Final = 1.0
TURNS: Final = 8

Step = Callable[..., int]


def work_once(*, name: str, periodic: bool) -> int:
    """Drain, attribute, fold, look at the guards, apply what is due; return the batches drained.

    A nudged round that finds nothing to drain ends there; a periodic one always looks, since
    clocks run and silence is a verdict too. One failing step does not keep the next from
    running: a broken fold must not stop a trigger.
    """
    # Before anything of this round is a sign of life.
    _step(watch_resumed)
    if periodic:
        # Ahead of the drain, which then takes what they hand on in the same round.
        _step(traces_assemble, for_s=TURN_S)
        _step(evaluations_send)
    drained = _turn()
    if drained == 0 and not periodic:
        return 0
    _watch()
    for _ in range(TURNS - 1):
        if not queue_state(now=timezone.now()).pending or (more := _turn()) == 0:
            break
        drained += more
        _watch()
        if periodic:
            # A long round is no missing one.
            heartbeat_record(name=name, now=timezone.now())
    if periodic:
        _step(signals_watch)
        _step(damage_find)
        _step(stale_fold)
        _step(storage_keep)
        _step(otlp_prune)
        for step in later_steps():
            _step(step)
        heartbeat_record(name=name, now=timezone.now())
    return drained


def _turn() -> int:
    return _step(batches_drain, for_s=TURN_S)


def _watch() -> None:
    for step in (
        observations_attribute,
        guards_watch,
        clocks_run,
        alerts_half_time,
        escalations_run,
        buckets_fold,
    ):
        _step(step)


def later_steps() -> list[Step]:
    """Return the steps of apps above containment, which it may not import: settings name them."""
    return [import_string(name) for name in settings.WATCH_STEPS]


def _step(step: Step, **given: float) -> int:
    now: datetime = timezone.now()
    try:
        return step(now=now, **given)
    except Exception:
        # The outer edge of a background round: logged, and tried again in a second.
        log.exception("work.step_failed", step=step.__name__)
        return 0
