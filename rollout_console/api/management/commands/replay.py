import json
import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from rollout_console.core.errors import DomainError
from rollout_console.replay.checkpoints import Checkpoints
from rollout_console.replay.library import (
    MappingRefused,
    mapping_load,
    mapping_names,
    mapping_text,
)
from rollout_console.replay.mapping import Mapping
from rollout_console.replay.rejects import Rejects, RejectsUnwritable
from rollout_console.replay.services import replay_record, workflow_ensure
from rollout_console.replay.session import Options, Result, replay_run
from rollout_console.replay.sources import SourceRefused, TraceFile
from rollout_console.replay.trace import Trace
from rollout_console.rollouts.plan_check import KEY_SLUG


class Command(BaseCommand):
    help = (
        "Read a recorded trace as input: as history, or, with --shift-to-now, as if it "
        "happened now. docs/replay.md tells of mappings."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="plain or gzip")
        parser.add_argument(
            "--mapping",
            required=True,
            metavar="MAP",
            help=f"a YAML file, or one of: {', '.join(mapping_names())}",
        )
        parser.add_argument("--workflow", metavar="W", help="the mapping's own unless said")
        parser.add_argument("--owner", metavar="NAME", help="who owns the workflow if it is new")
        parser.add_argument(
            "--speed", type=float, metavar="N", help="play the shifted trace N times as fast"
        )
        parser.add_argument(
            "--shift-to-now", action="store_true", help="the newest lies now, and guards see it"
        )
        parser.add_argument(
            "--rejects", type=Path, metavar="PATH", help="FILE.rejects.jsonl here unless said"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        speed = options["speed"]
        if speed is not None and not (math.isfinite(speed) and speed > 0):
            raise CommandError("--speed is a number above 0.")
        if speed is not None and not options["shift_to_now"]:
            raise CommandError("--speed plays a trace as live, so it needs --shift-to-now too.")
        try:
            mapping = mapping_load(options["mapping"])
        except MappingRefused as refusal:
            raise CommandError(str(refusal)) from None
        workflow = options["workflow"] or mapping.workflow["slug"]
        if not KEY_SLUG.fullmatch(workflow):
            raise CommandError("--workflow is a slug: lower-case letters, digits, _ and -.")
        trace = Trace(_files(options["files"], mapping), mapping, workflow)
        rejects = Rejects(
            options["rejects"], names={file.name: file.path.name for file in trace.files}
        )
        checkpoints = Checkpoints(
            workflow=workflow,
            mapping=Path(options["mapping"]).stem,
            mapping_text=mapping_text(options["mapping"]),
            files=[file.path for file in trace.files],
            durable=rejects.flush,
        )
        try:
            made = workflow_ensure(
                mapping=mapping, slug=workflow, owner=options["owner"], now=timezone.now()
            )
            for words in made:
                self.stderr.write(f"Made {words}.")
            with rejects:
                chosen = Options(shift=options["shift_to_now"], speed=speed)
                if not chosen.shift:
                    self._resume(trace, rejects, checkpoints)
                result = _run(trace, chosen, rejects=rejects, checkpoints=checkpoints)
        except (DomainError, RejectsUnwritable) as refusal:
            raise CommandError(str(refusal)) from refusal
        except (OperationalError, InterfaceError) as error:
            raise CommandError(
                f"The database went away: {error}".strip() + " Start the same command again: what "
                "is stored counts once."
            ) from error
        self._tell(result, trace, rejects, options)

    def _resume(self, trace: Trace, rejects: Rejects, checkpoints: Checkpoints) -> None:
        """Say where a replay that was cut short goes on, and keep its list up to there."""
        before = checkpoints.last()
        if before is None:
            return
        names = [file.name for file in trace.files]
        rejects.resume(
            reached={
                **dict.fromkeys(names[: before.file], 2**63),
                names[before.file]: before.row,
            }
        )
        self.stderr.write(
            f"Goes on after row {before.row:,} of {names[before.file]}: what stands before is "
            "stored."
        )

    def _tell(
        self, result: Result, trace: Trace, rejects: Rejects, options: dict[str, Any]
    ) -> None:
        counts = {
            "read": result.read,
            "accepted": result.accepted,
            "rejected": result.rejected,
            "skipped": result.skipped,
            "duplicates": result.duplicates,
        }
        replay_record(
            workflow=trace.workflow,
            data={
                "files": [file.path.name for file in trace.files],
                "mapping": options["mapping"],
                "live": options["shift_to_now"],
                **counts,
            },
            now=timezone.now(),
        )
        if rejects.paths:
            where = ", ".join(map(str, rejects.paths))
            self.stderr.write(f"{result.rejected:,} not taken; the reasons are in {where}.")
        self.stdout.write(json.dumps(counts))
        faults = list(result.broken)
        if result.failed:
            faults.append(f"{result.failed:,} accepted runs could not be drained; see the log.")
        if faults:
            raise CommandError("\n".join(faults))


def _files(paths: list[Path], mapping: Mapping) -> list[TraceFile]:
    """Return the files, each looked into, so that a wrong one stops the start and not the middle.

    Raises:
        CommandError
    """
    files: dict[str, TraceFile] = {}
    for path in paths:
        if path.is_dir():
            raise CommandError(f"{path} is a folder; name its files.")
        file = TraceFile(path, mapping.source, names=mapping.names)
        if file.name in files:
            raise CommandError(
                f"Two files are called {file.name}; their rows would have the same ids. "
                "Replay them one by one under names of their own."
            )
        try:
            file.check()
        except SourceRefused as refusal:
            raise CommandError(str(refusal)) from None
        files[file.name] = file
    return list(files.values())


def _run(trace: Trace, options: Options, *, rejects: Rejects, checkpoints: Checkpoints) -> Result:
    size = sum(file.size for file in trace.files)
    with (
        _stopped_by_ctrl_c() as stop,
        click.progressbar(length=max(size, 1), file=sys.stderr, label="Reading") as bar,
    ):

        def progress(what: str, position: int) -> None:
            if bar.label != what:
                # The next pass over the files starts anew.
                bar.label = what
                bar.pos = 0
                bar.finished = False
            bar.update(max(0, position - bar.pos))

        return replay_run(
            trace=trace,
            options=options,
            reject=rejects.write,
            stop=stop,
            progress=progress,
            checkpoints=checkpoints,
        )


@contextmanager
def _stopped_by_ctrl_c() -> Iterator[threading.Event]:
    """Give an event that the first Ctrl-C sets; a second one ends the program as usual."""
    stop = threading.Event()

    def first(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
