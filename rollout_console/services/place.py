"""Where a checkout keeps its servers' data, and as whom the servers run."""

import contextlib
import hashlib
import json
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ACCOUNT_NAME: Final = "rollout-console"
# Only used as root, when the unprivileged account cannot reach the checkout (below /root, say).
OUTSIDE: Final = Path("/var/lib/rollout-console")


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged system account; Postgres refuses to run as root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Place:
    """One checkout's own folder, the folder of its servers' data, and who owns the latter."""

    local: Path
    data: Path
    account: Account | None

    def data_dir(self, name: str) -> Path:
        """Return the private data folder `name`, made if need be, owned by the account."""
        folder = self.data / name
        folder.mkdir(mode=0o700, exist_ok=True)
        self.hand_over(folder)
        return folder

    def hand_over(self, path: Path) -> None:
        if self.account is not None and path.stat().st_uid != self.account.uid:
            os.chown(path, self.account.uid, self.account.gid)


def place_of(local: Path) -> Place:
    """Return the place of a checkout's `.local`, with its folders made.

    As an ordinary user everything lies in `local`. As root the servers run as an
    unprivileged account; where that account cannot walk to `local`, their data lies outside
    the checkout instead, so that no folder above it is opened to everybody.
    """
    local = local.resolve()
    local.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return Place(local, local, None)
    account = unprivileged_account()
    if reachable(local, account):
        return Place(local, local, account)
    data = OUTSIDE / hashlib.sha256(os.fsencode(local)).hexdigest()[:16]
    for folder in (OUTSIDE, data):
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
    (data / "checkout").write_text(f"{local}\n")
    link = local / "data"
    if not link.is_symlink():
        link.symlink_to(data, target_is_directory=True)
    return Place(local, data, account)


def unprivileged_account() -> Account:
    """Return the account that servers run as under root, created once; `nobody` if it cannot be."""
    with contextlib.suppress(KeyError):
        return _account(ACCOUNT_NAME)
    if useradd := shutil.which("useradd"):
        command = [useradd, "--system", "--no-create-home", "--home-dir", "/nonexistent"]
        subprocess.run(
            [*command, "--shell", "/usr/sbin/nologin", ACCOUNT_NAME],
            capture_output=True,
            check=False,
        )
    with contextlib.suppress(KeyError):
        return _account(ACCOUNT_NAME)
    return _account("nobody")


def _account(name: str) -> Account:
    entry = pwd.getpwnam(name)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def reachable(path: Path, account: Account) -> bool:
    """Say whether the account may walk into `path`, by the modes of it and all above it."""
    for folder in (path, *path.parents):
        status = folder.stat()
        if status.st_uid == account.uid:
            bit = 0o100
        elif status.st_gid == account.gid:
            bit = 0o010
        else:
            bit = 0o001
        if not status.st_mode & bit:
            return False
    return True


def programs_for(place: Place, programs: Path, *, version: str, parts: Sequence[str]) -> Path:
    """Return a folder with the `programs` tree that the place's account can run.

    That is the wheel's own folder, or, where the account cannot reach it, a copy of its `parts`
    beside the data.
    """
    account = place.account
    if account is None or all(
        _readable(found, account) for part in parts for found in [programs / part]
    ):
        return programs
    copy = place.data / f"programs-{version}"
    if not copy.exists():
        unfinished = place.data / f"programs-{version}.{os.getpid()}"
        for part in parts:
            source, target = programs / part, unfinished / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copy2(source, target)
        for found in (unfinished, *unfinished.rglob("*")):
            found.chmod(0o755 if found.is_dir() or os.access(found, os.X_OK) else 0o644)
        unfinished.rename(copy)
    return copy


def _readable(path: Path, account: Account) -> bool:
    wanted = 0o005 if path.is_dir() else 0o004
    return path.stat().st_mode & wanted == wanted and reachable(path.parent, account)


def private_json(path: Path) -> dict[str, Any]:
    """Return what a private file holds, or nothing where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        # An unreadable file is one whose writer was killed; its content is made anew.
        return {}
    return found


def private_json_write(path: Path, content: dict[str, Any]) -> None:
    """Replace a file that only its owner may read, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def secret(local: Path, name: str) -> str:
    """Return the checkout's own secret of that name, made at random when first asked for."""
    path = local / "secrets.json"
    kept = private_json(path)
    if name not in kept:
        local.mkdir(parents=True, exist_ok=True)
        kept[name] = secrets.token_hex(24)
        private_json_write(path, kept)
    return str(kept[name])
