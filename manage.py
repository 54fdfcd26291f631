#!/usr/bin/env python3
"""The console's command line."""

import os
import sys

from django.core.management import execute_from_command_line
from django.db import OperationalError

from rollout_console.services.attach import NoStackRunning


def main() -> None:
    """Run one command; a missing stack is one sentence, not a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rollout_console.settings.dev")
    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if isinstance(error.__cause__, NoStackRunning):
            sys.exit(str(error.__cause__))
        raise


if __name__ == "__main__":
    main()
