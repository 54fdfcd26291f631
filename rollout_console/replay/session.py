"""One replay from its first record to the last batch in charts."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.utils import timezone

from rollout_console.replay.checkpoints import Checkpoints
from rollout_console.replay.gauges import GaugePoints
from rollout_console.replay.items import Item, Place, Refusal
from rollout_console.replay.play import Player, shifted
from rollout_console.replay.services import Intake
from rollout_console.replay.sources import SourceRefused
from rollout_console.replay.trace import Trace, span_of

# Items stored between two notes of how far a replay has come.
NOTE_EVERY = 5_000
# The progress is looked at once in so many records.
LOOK_EVERY = 200


@dataclass(frozen=True, slots=True)
class Options:
    """How a trace is put in: as history, shifted to now, or played at a speed."""

    shift: bool
    speed: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it; `broken` says what kept files from being read to their end."""

    accepted: int
    rejected: int
    skipped: int
    duplicates: int
    failed: int
    broken: tuple[str, ...]

    @property
    def read(self) -> int:
        return self.accepted + self.rejected + self.skipped


def replay_run(
    *,
    trace: Trace,
    options: Options,
    reject: Callable[[Refusal], None],
    stop: threading.Event,
    progress: Callable[[str, int], None],
    checkpoints: Checkpoints,
) -> Result:
    """Put a trace in and wait until it stands in charts; once `stop` is set, what was read so far.

    Args:
        checkpoints: where history notes how far it has come; what was noted is not read again.
        progress: told what is being done and how many bytes of the files are read.
    """
    gauges = GaugePoints(workflow=trace.workflow, source=f"replay:{checkpoints.mapping}")
    intake = Intake(backfill=not options.shift, gauges=gauges, reject=reject, wait=time.sleep)
    # What is shifted or played gets new times, so it is another replay each time.
    before = None if options.shift else checkpoints.last()
    if before is not None:
        trace.stored = (before.file, before.row)
        intake.stored.accepted = before.accepted
        intake.stored.rejected = before.rejected
    skipped_before = 0 if before is None else before.skipped
    numbers = {file.name: number for number, file in enumerate(trace.files)}
    was: Place | None = None
    broken: list[str] = []
    try:
        for found in _found(trace, options, intake=intake, stop=stop, progress=progress):
            place = found.place
            if place != was:
                if not options.shift and intake.held >= NOTE_EVERY:
                    # Between two records, so that none is stored in part.
                    intake.flush()
                    checkpoints.note(
                        file=numbers[place.file],
                        row=place.row - 1,
                        accepted=intake.stored.accepted,
                        rejected=intake.stored.rejected,
                        skipped=skipped_before + trace.skipped,
                    )
                was = place
            if isinstance(found, Refusal):
                intake.refuse(found)
            else:
                intake.add(found)
    except SourceRefused as refusal:
        # It was sound when looked at before the start; what was read of it stays.
        broken.append(str(refusal))
    intake.flush()
    intake.settle()
    broken += [f"{file.path}: {file.broken}" for file in trace.files if file.broken]
    if not stop.is_set():
        checkpoints.forget()
    stored = intake.stored
    return Result(
        accepted=stored.accepted,
        rejected=stored.rejected,
        skipped=skipped_before + trace.skipped,
        duplicates=stored.duplicates,
        failed=stored.failed,
        broken=tuple(broken),
    )


def _found(
    trace: Trace,
    options: Options,
    *,
    intake: Intake,
    stop: threading.Event,
    progress: Callable[[str, int], None],
) -> Iterator[Item | Refusal]:
    """Yield what the trace holds, with the times that it is to have."""

    def going_on() -> bool:
        return not stop.is_set()

    def told(what: str, found: Iterator[Item | Refusal]) -> Iterator[Item | Refusal]:
        for number, each in enumerate(found):
            if not going_on():
                return
            if number % LOOK_EVERY == 0:
                progress(what, trace.position())
            yield each
        progress(what, trace.position())

    if not options.shift:
        yield from told("Backfilling", trace.items())
        return
    span = span_of(told("Reading times", trace.items()))
    if span is None:
        # Nothing has a time: what is left are refusals.
        yield from told("Storing", trace.items())
        return
    oldest, newest = span
    started_at = timezone.now()
    if options.speed is None:
        for each in told("Storing", trace.items()):
            yield (
                each if isinstance(each, Refusal) else shifted(each, newest=newest, now=started_at)
            )
        return
    player = Player(
        oldest=oldest,
        speed=options.speed,
        started_at=started_at,
        clock=timezone.now,
        wait=stop.wait,
        going_on=going_on,
        flush=intake.flush,
    )
    for each in told("Playing", trace.by_time()):
        if isinstance(each, Refusal):
            yield each
        elif (item := player.played(each)) is not None:
            yield item
