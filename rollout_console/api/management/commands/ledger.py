import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from rollout_console.api.management.counted import CountingCommand
from rollout_console.core.errors import DomainError
from signals.ingest.recount import ledger_rebuild, ledger_verify


class Command(CountingCommand):
    help = (
        "verify: compare the ledgers with what the kept runs and observations add up to, key by "
        "key and event minute. rebuild: put right the hours that differ, with their folds; then "
        "verify. docs/storage.md has more."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--from-runs",
            action="store_true",
            required=True,
            help="count from runs and observations, of days whose runs are kept",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        span = self.span(options)
        if options["verb"] == "rebuild":
            try:
                hours = ledger_rebuild(told=self.progress, **span)
            except DomainError as refusal:
                raise CommandError(str(refusal)) from refusal
            changed = [f"{hour:%Y-%m-%dT%H:%MZ}" for hour in hours]
            self.stdout.write(json.dumps({"rebuilt": changed}))
        self.tell(ledger_verify(told=self.progress, **span))
