import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError

from signals.engine.judge import Unreadable, judge


class Command(BaseCommand):
    help = "Judge recorded rollouts with the decision engine: one verdict line each."
    # Needs files and no database.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR")
        parser.add_argument(
            "out", metavar="OUT", help="a file of JSON lines, or - for standard output"
        )
        parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (1)")

    def handle(self, *, folder: Path, out: str, jobs: int, **_: Any) -> None:
        if jobs < 1:
            raise CommandError("--jobs takes a whole number of at least 1.")
        try:
            if out == "-":
                self._write(sys.stdout.buffer, folder, jobs)
            else:
                with Path(out).open("wb") as file:
                    self._write(file, folder, jobs)
        except (Unreadable, OSError) as error:
            raise CommandError(str(error)) from error

    def _write(self, file: Any, folder: Path, jobs: int) -> None:
        for verdict in judge(folder, jobs=jobs):
            file.write(msgspec.json.encode(verdict) + b"\n")
            file.flush()
