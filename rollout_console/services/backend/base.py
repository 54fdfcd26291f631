from pathlib import Path
from typing import Any

import psycopg
from django.db.backends.postgresql import base

from rollout_console.services.attach import NoStackRunning, stack_is_running


class DatabaseWrapper(base.DatabaseWrapper):
    """Used where no DATABASE_URL is set, so that a refused connection can say why."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        local = Path(self.settings_dict["LOCAL_DIR"])
        if not self.settings_dict["PORT"]:
            raise NoStackRunning
        try:
            return super().get_new_connection(conn_params)
        except psycopg.OperationalError as error:
            if stack_is_running(local):
                raise
            raise NoStackRunning from error
