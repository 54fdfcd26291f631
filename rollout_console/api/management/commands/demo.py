import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from rollout_console.demo.fleet import Fleet, FleetSettings
from rollout_console.demo.reporter import Reporter
from rollout_console.demo.scenarios import SCENARIOS, timings
from rollout_console.demo.seed import READY_FILE, TOKENS_FILE
from rollout_console.services.place import private_json

REPORT_EVERY_S = 0.5
FAST_REPORT_EVERY_S = 0.2


class Command(BaseCommand):
    help = "Run the demo fleet: AI workflows that ask the console and report to it, over HTTP."
    # The fleet is a client; it needs no database.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", help="the console's address, unless the stack runs here")
        parser.add_argument("--scenario", choices=list(SCENARIOS), help="play only this one")
        parser.add_argument("--onset-s", type=float, help="seconds until the harm sets in")
        parser.add_argument("--speed", type=float, help="multiplies the rate of tasks")

    def handle(self, *args: Any, **options: Any) -> None:
        tokens = private_json(settings.LOCAL_DIR / TOKENS_FILE)
        url = options["url"] or settings.CONSOLE_URL
        if not tokens or not url:
            raise CommandError("There is no demo here: start one with `make run`.")
        fleet_settings = _fleet_settings(options, tokens=tokens, url=url.rstrip("/"))
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        ready = settings.LOCAL_DIR / READY_FILE
        reporter = Reporter(
            url=fleet_settings.url,
            token=fleet_settings.token,
            every_s=fleet_settings.report_every_s,
            on_first_accepted=ready.touch,
        )
        labels = Reporter(
            url=fleet_settings.url,
            token=fleet_settings.token,
            every_s=fleet_settings.report_every_s,
            noun="observations",
        )
        Fleet(fleet_settings, reporter, labels).run(stop)


def _fleet_settings(options: dict[str, Any], *, tokens: dict[str, Any], url: str) -> FleetSettings:
    onset_s = settings.DEMO_ONSET_S if options["onset_s"] is None else options["onset_s"]
    speed = settings.DEMO_SPEED if options["speed"] is None else options["speed"]
    if not (0 <= onset_s < float("inf") and 0 < speed <= 100):
        raise CommandError("DEMO_ONSET_S is 0 or more seconds; DEMO_SPEED is above 0, at most 100.")
    try:
        played = timings(options["scenario"] or settings.DEMO_SCENARIO, onset_s=onset_s)
    except ValueError as refusal:
        raise CommandError(str(refusal)) from None
    return FleetSettings(
        url=url,
        token=tokens["fleet"],
        workflows=frozenset(tokens["workflows"]),
        timings=played,
        speed=speed * (4 if settings.DEMO_FAST else 1),
        report_every_s=FAST_REPORT_EVERY_S if settings.DEMO_FAST else REPORT_EVERY_S,
    )
