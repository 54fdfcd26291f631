"""Loopback ports: chosen once for a checkout, kept, chosen again when somebody else has them."""

import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rollout_console.services.place import private_json, private_json_write

HOST: Final = "127.0.0.1"
RANGE: Final = range(20_000, 32_000)


class PortTaken(Exception):
    """A port was asked for by number and somebody listens on it."""


def is_free(port: int) -> bool:
    """Say whether a server could listen on the port now (leftovers of closed ones aside)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def any_free() -> int:
    """Return a port nobody listens on.

    Taken from below the range that the system hands out to clients: one of those could hold
    the port just while its server is being restarted.
    """
    while True:
        port = secrets.choice(RANGE)
        if is_free(port):
            return port


def kept_port(local: Path, name: str) -> int:
    """Return the checkout's port for `name`, chosen again where it is taken."""
    path = local / "ports.json"
    kept = private_json(path)
    port = kept.get(name)
    if not isinstance(port, int) or not is_free(port):
        port = any_free()
        private_json_write(path, {**kept, name: port})
    return port


def public_port_hold(asked: int | None, *, first: int) -> socket.socket:
    """Hold the port asked for, exactly; where none was, `first` or the next free one.

    The socket is bound and does not listen: while it is open, nobody else is given the port, and
    the web server, which shares addresses (SO_REUSEPORT), may listen on it. Without it two stacks
    that start at once would both find the port free, and then share its connections.

    Raises:
        PortTaken: the port asked for is in use, in words for people.
    """
    with _one_at_a_time():
        if asked is not None:
            if not is_free(asked):
                raise PortTaken(f"Port {asked} is in use. Free it, or choose another with PORT=….")
            return _hold(asked)
        port = next((port for port in range(first, first + 200) if is_free(port)), 0)
        return _hold(port or any_free())


def _hold(port: int) -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((HOST, port))
    return held


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let this account's stacks choose their ports one after the other."""
    with open(f"{tempfile.gettempdir()}/rollout-console-{os.getuid()}-ports.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
