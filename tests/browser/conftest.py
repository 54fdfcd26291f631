"""A real Chromium for every browser test; without one they are not collected."""

import os
from typing import Any

import pytest

from tests.chromium import chromium_found

# Playwright keeps an event loop in this thread, which Django would take for an async view.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

collect_ignore_glob = [] if chromium_found() else ["test_*.py"]


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Run Debian's Chromium, which as root has no sandbox of its own."""
    return {
        **browser_type_launch_args,
        "executable_path": chromium_found(),
        "args": ["--no-sandbox", "--disable-dev-shm-usage"],
    }
