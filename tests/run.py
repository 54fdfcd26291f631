"""`make test`: find a Chromium, run everything, and say so at the end where there is none.

`REQUIRE_BROWSER=1` makes a missing Chromium a failure.
"""

import os
import shutil
import subprocess
import sys

from tests.chromium import chromium_found

NOT_RUN = "BROWSER TESTS NOT RUN: install chromium"


def main() -> int:
    """Run pytest with the arguments given; return the exit status for make."""
    if chromium_found() is None:
        chromium_install()
    missing = chromium_found() is None
    given = sys.argv[1:]
    # Two processes with servers of their own, a file's tests in one of them.
    shared = [] if "-n" in given else ["-n", "2", "--dist", "loadfile"]
    done = subprocess.run([sys.executable, "-m", "pytest", *shared, *given], check=False)
    if missing:
        print(NOT_RUN, flush=True)
        if os.environ.get("REQUIRE_BROWSER") == "1":
            return done.returncode or 1
    return done.returncode


def chromium_install() -> None:
    """Install Debian's package, where we are root and that is how this system does it."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print("Installing Chromium for the browser tests …", file=sys.stderr, flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"],
    ):
        done = subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            return


if __name__ == "__main__":
    sys.exit(main())
