"""What the commands that count again share: their span, their progress, their last line."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from signals.buckets.proof import Proof

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


class CountingCommand(BaseCommand):
    """A command that goes over the hours of a span."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("verb", choices=["verify", "rebuild"])
        parser.add_argument("--since", metavar="TIME", help="first hour (UTC); all unless said")
        parser.add_argument("--until", metavar="TIME", help="before this hour; all unless said")

    def span(self, options: dict[str, Any]) -> dict[str, datetime]:
        """Return the span asked for, in whole hours."""
        since, until = (
            self._moment(options[name], name, default)
            for name, default in (("since", _FIRST), ("until", _last()))
        )
        if since >= until:
            raise CommandError("--since lies before --until.")
        return {"since": since, "until": until}

    def tell(self, proof: Proof) -> None:
        """Write what was proved as a line of JSON.

        Raises:
            CommandError: something differs.
        """
        equal = proof.difference is None
        self.stdout.write(json.dumps({"hours": proof.hours, "equal": equal}))
        if not equal:
            raise CommandError(f"Counted again, this differs first: {proof.difference}")

    @property
    def progress(self) -> Callable[[int], None]:
        def told(hours: int) -> None:
            if hours % 100 == 0:
                self.stderr.write(f"{hours:,} hours …")

        return told

    @staticmethod
    def _moment(text: str | None, name: str, default: datetime) -> datetime:
        if text is None:
            return default
        try:
            day, moment = parse_date(text), parse_datetime(text)
        except ValueError:
            day = moment = None
        if day is not None:
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if moment is None:
            raise CommandError(f"--{name} is a day or a time: 2026-11-24, 2026-11-24T10:00Z.")
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        if moment.minute or moment.second or moment.microsecond:
            raise CommandError(f"--{name} is a whole hour.")
        return moment


def _last() -> datetime:
    # What is reported may lie minutes ahead.
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    return now.replace(year=now.year + 1, day=1)
