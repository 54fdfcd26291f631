from typing import Any

from django.core.management.commands import migrate

from rollout_console.audit.actions import APPEND_ONLY_TABLES
from rollout_console.services import roles


class Command(migrate.Command):
    """Django's own, run as the database's owner, with the application's rights renewed after."""

    def handle(self, *args: Any, **options: Any) -> None:
        alias = options["database"]
        with roles.as_owner(alias):
            roles.app_role_ensure(alias)
            super().handle(*args, **options)
            if not options["plan"] and not options["check_unapplied"]:
                roles.grant(APPEND_ONLY_TABLES, alias)
