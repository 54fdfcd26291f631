import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from approvals.authority.matrix import Role
from approvals.authority.people import person_create
from approvals.authority.principals import SYSTEM
from rollout_console.core.errors import DomainError


class Command(BaseCommand):
    help = "Create a person with a role, in every workflow unless one is named."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="create")
        create = verbs.add_parser("create", help=self.help)
        create.add_argument("name")
        create.add_argument(
            "--role",
            required=True,
            action="append",
            choices=[role.value for role in Role],
            help="may be given more than once",
        )
        create.add_argument("--workflow", action="append", default=[])
        create.add_argument(
            "--password-stdin", action="store_true", help="read the password from standard input"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["password_stdin"]:
            raise CommandError("Pass --password-stdin and write the password to standard input.")
        password = sys.stdin.readline().rstrip("\r\n")
        try:
            created = person_create(
                name=options["name"],
                roles=[Role(role) for role in options["role"]],
                workflows=options["workflow"],
                password=password,
                principal=SYSTEM,
                now=timezone.now(),
            )
        except DomainError as refusal:
            raise CommandError(refusal.detail) from refusal
        roles = ", ".join(options["role"])
        where = ", ".join(options["workflow"]) or "every workflow"
        word = "created" if created else "was there already; now"
        self.stdout.write(f"{options['name']} {word}: {roles} in {where}")
