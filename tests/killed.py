"""A worker that dies between its look and its commit: run as a process, to be killed from outside.

It does what `argv[1]` names, writes "looked" once everything is in its transaction, and waits.
"""

import sys
import threading
from unittest import mock

import django

django.setup()

from django.utils import timezone  # noqa: E402

from signals.alerts import escalation, services  # noqa: E402


def stand_still(*_: object, **__: object) -> None:
    print("looked", flush=True)
    threading.Event().wait()


def main() -> None:
    if sys.argv[1] == "watch":
        # The alert is written, and what tells of it is not.
        with mock.patch.object(services, "alert_record", stand_still):
            services.guards_watch(now=timezone.now())
    else:
        with mock.patch.object(escalation, "rung_told", stand_still):
            escalation.escalations_run(now=timezone.now())


if __name__ == "__main__":
    main()
