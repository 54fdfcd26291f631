import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from rollout_console.containment.keeper import keeper_run


class Command(BaseCommand):
    help = "Do whatever is overdue, by Postgres alone: drain, guards, due clocks, folds."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        keeper_run(stop)
