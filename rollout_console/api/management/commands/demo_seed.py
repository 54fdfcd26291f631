from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from rollout_console.core.errors import DomainError
from rollout_console.demo.scenarios import SCENARIOS, scenarios_played
from rollout_console.demo.seed import demo_seed


class Command(BaseCommand):
    help = "Make the demo's people, token and live rollouts; what is there already stays."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--scenario", choices=list(SCENARIOS), help="only this one's workflow")
        parser.add_argument(
            "--fast", action="store_true", help="windows of seconds, for tests (DEMO_FAST)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            played = scenarios_played(options["scenario"] or settings.DEMO_SCENARIO)
        except ValueError as refusal:
            raise CommandError(str(refusal)) from None
        settings.LOCAL_DIR.mkdir(parents=True, exist_ok=True)
        try:
            slugs = demo_seed(
                local=settings.LOCAL_DIR,
                workflows=[scenario.workflow for scenario in played],
                fast=options["fast"] or settings.DEMO_FAST,
                now=timezone.now(),
            )
        except DomainError as refusal:
            raise CommandError(f"{refusal.detail} {refusal.facts or ''}".rstrip()) from None
        self.stdout.write(f"Live: {', '.join(slugs)}")
