"""Run the embedded servers alone, for tests: `python -m rollout_console.services LOCAL`.

Prints one line of JSON, the environment to use, once both answer; restarts a server that dies;
ends when its standard input does, so that it never outlives whoever started it.
"""

import argparse
import json
import os
import select
import sys
from pathlib import Path

from rollout_console.services.servers import CheckoutLock, Servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("local", type=Path)
    parser.add_argument("--not-durable", action="store_true", help="faster; loses at power cuts")
    parser.add_argument("--no-database", action="store_true")
    parser.add_argument("--no-broker", action="store_true")
    options = parser.parse_args()
    local = options.local.resolve()
    lock = CheckoutLock(local)
    servers = Servers(
        local,
        database_url="none" if options.no_database else "",
        redis_url="none" if options.no_broker else "",
        durable=not options.not_durable,
    )
    try:
        env = {name: url for name, url in servers.start().env().items() if url != "none"}
        pids = {child.name: child.pid for child in servers.children}
        print(json.dumps({"env": env, "pids": pids}), flush=True)
        while not _ended():
            for child in servers.children:
                child.keep_running()
    finally:
        servers.stop()
        lock.release()


def _ended() -> bool:
    """Wait a moment; say whether standard input has ended."""
    ready, _, _ = select.select([sys.stdin], [], [], 0.1)
    return bool(ready) and os.read(sys.stdin.fileno(), 4096) == b""


if __name__ == "__main__":
    main()
