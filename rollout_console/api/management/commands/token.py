from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from approvals.authority.matrix import Scope
from approvals.authority.people import token_create
from approvals.authority.principals import SYSTEM
from rollout_console.core.errors import DomainError


class Command(BaseCommand):
    help = "Create a token and print it, alone on its line. It is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="create")
        create = verbs.add_parser("create", help=self.help)
        create.add_argument("name")
        create.add_argument(
            "--scope",
            required=True,
            action="extend",
            nargs="+",
            choices=[scope.value for scope in Scope],
            help="one or more; may be repeated",
        )
        create.add_argument("--workflow", action="append", default=[], help="limit it to workflows")
        create.add_argument("--person", help="whose it is; without, a service account")
        create.add_argument("--days", type=int, help="how long it lives; unless said, for ever")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        days = options["days"]
        if days is not None and not 1 <= days <= 3650:
            raise CommandError("--days is from 1 to 3650.")
        try:
            secret = token_create(
                name=options["name"],
                scopes=[Scope(scope) for scope in options["scope"]],
                workflows=options["workflow"],
                person=options["person"],
                expires_at=None if days is None else now + timedelta(days=days),
                principal=SYSTEM,
                now=now,
            )
        except DomainError as refusal:
            raise CommandError(refusal.detail) from refusal
        self.stdout.write(secret)
