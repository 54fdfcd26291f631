"""One supervised child process: started, watched, restarted with back-off, stopped."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rollout_console.services.place import Account

# A child that lived this long has started well: the next restart is prompt again.
SETTLED_S: Final = 10.0
BACK_OFF_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)

PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent(number: signal.Signals, parent: int) -> Callable[[], None]:
    """Return what makes a new child get `number` when its supervisor is killed."""

    def prepare() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(number))
            if os.getppid() != parent:
                os._exit(1)

    return prepare


@dataclass(slots=True)
class Child:
    """A program in a process group of its own, so that a Ctrl-C reaches its supervisor only.

    `prepare` runs before every start and returns the command: a place for recovery and ports.
    """

    name: str
    prepare: Callable[[], Sequence[str]]
    log: Path
    env: Mapping[str, str]
    cwd: Path
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    config: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    started_at: float = field(default=0.0, init=False)
    failures: int = field(default=0, init=False)
    restart_at: float = field(default=0.0, init=False)

    def start(self) -> None:
        """Start the program; its output goes to the end of its log.

        Raises:
            OSError: it cannot be run.
        """
        command = self.prepare()
        account = self.account
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if self.config is None else subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.cwd,
                env=dict(self.env),
                start_new_session=True,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
                # Runs after the change of user, which would undo it. Nothing in it allocates,
                # and the supervisors that use it have one thread.
                preexec_fn=_end_with_parent(self.stop_signal, os.getpid()),
            )
        if self.config is not None and self.process.stdin is not None:
            self.process.stdin.write(self.config.encode())
            self.process.stdin.close()
        self.started_at = time.monotonic()

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def keep_running(self) -> bool:
        """Restart the program if it ended and its back-off is over; return whether it ended now."""
        if self.is_running():
            return False
        now = time.monotonic()
        if self.restart_at:
            if now >= self.restart_at:
                self.restart_at = 0.0
                self.start()
            return False
        self._sweep()
        settled = now - self.started_at >= SETTLED_S
        self.failures = 0 if settled else self.failures + 1
        self.restart_at = now + BACK_OFF_S[min(self.failures, len(BACK_OFF_S) - 1)]
        return True

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)

    def stop(self, *, deadline: float) -> None:
        """Wait until the program has ended, or kill it at `deadline` (monotonic seconds)."""
        if self.process is None:
            return
        try:
            self.process.wait(timeout=max(0.05, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._sweep()
            self.process.wait()
        self._sweep()

    def _sweep(self) -> None:
        """Kill what is left of the program's process group: children that outlived it."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return


def log_file(folder: Path, name: str) -> Path:
    """Return the log of `name`, with the one of the last start moved to `NAME.log.1`."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    return log
