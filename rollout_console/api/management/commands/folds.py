import json
from typing import Any

from rollout_console.api.management.counted import CountingCommand
from signals.buckets.proof import folds_rebuild, folds_verify


class Command(CountingCommand):
    help = (
        "verify: compare every minute, five-minute and hour fold with its ledger, key by key. "
        "rebuild: make them anew from the ledger, an hour at a time, on a running system; then "
        "verify. docs/storage.md has more."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        span = self.span(options)
        if options["verb"] == "rebuild":
            hours = folds_rebuild(told=self.progress, **span)
            self.stdout.write(json.dumps({"rebuilt": hours}))
        self.tell(folds_verify(told=self.progress, **span))
