from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from rollout_console.services.ports import PortTaken
from rollout_console.services.postgres import ServerFailed
from rollout_console.services.servers import AlreadyRunning
from rollout_console.services.supervisor import Plan, StartFailed, Supervisor


class Command(BaseCommand):
    help = "Start the whole stack of this checkout and keep it running until Ctrl-C."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--demo", action="store_true", help="with the demo's people and fleet")

    def handle(self, *args: Any, **options: Any) -> None:
        given = not settings.EMBEDDED_POSTGRES
        plan = Plan(
            root=settings.BASE_DIR,
            local=settings.LOCAL_DIR,
            settings_module=settings.SETTINGS_MODULE,
            port=settings.PORT,
            demo=options["demo"],
            database_url=settings.DATABASE_URL if given else "",
            database_app_url=settings.DATABASE_APP_URL if given else "",
            redis_url=settings.REDIS_URL_GIVEN,
        )
        supervisor = Supervisor(plan, say=self._say, announce=self._announce)
        try:
            supervisor.run()
        except (AlreadyRunning, PortTaken, ServerFailed, StartFailed) as refusal:
            raise CommandError(str(refusal)) from None

    def _say(self, words: str) -> None:
        self.stderr.write(words)
        self.stderr.flush()

    def _announce(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
