"""Where this machine's Chromium is."""

import os
import shutil


def chromium_found() -> str | None:
    """Return the program: the one that CHROMIUM names, else the system's; None without one."""
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named)
    return shutil.which("chromium") or shutil.which("chromium-browser")
