"""One replay from its first record to the last batch in charts."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.utils import timezone

from rollout_console.replay.items import Item, Refusal
from rollout_console.replay.play import Player, shifted
from rollout_console.replay.services import Intake
from rollout_console.replay.sources import SourceRefused
from rollout_console.replay.trace import Trace, span_of

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
) -> Result:
    """Put a trace in and wait until it stands in charts; once `stop` is set, what was read so far.

    Args:
        progress: told what is being done and how many bytes of the files are read.
    """
    intake = Intake(backfill=not options.shift, reject=reject, wait=time.sleep)
    broken: list[str] = []
    try:
        for found in _found(trace, options, intake=intake, stop=stop, progress=progress):
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
    stored = intake.stored
    return Result(
        accepted=stored.accepted,
        rejected=stored.rejected,
        skipped=trace.skipped,
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
