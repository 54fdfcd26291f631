"""The side file of what a replay did not take, and why. No Django."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from rollout_console.replay.items import Refusal


class RejectsUnwritable(Exception):
    """The list cannot be written; what was taken so far is kept."""


class Rejects:
    """One file a trace file, in the current folder, or one for all; made when first needed.

    Args:
        path: the one for all, if any.
        names: what each trace file is called, by the name its records carry.
    """

    def __init__(self, path: Path | None, *, names: Mapping[str, str]) -> None:
        self._path = path
        self._names = names
        self._open: dict[Path, IO[str]] = {}

    @property
    def paths(self) -> list[Path]:
        return list(self._open)

    def resume(self, *, reached: Mapping[str, int]) -> None:
        """Keep of earlier lists what is of records up to those reached, and add to that.

        Args:
            reached: the last row that is stored by the name records carry; what is not named here
                is listed anew.
        """
        shown = {self._names[name]: row for name, row in reached.items()}
        for path in {self._path or Path(f"{name}.rejects.jsonl") for name in shown}:
            if not path.is_file():
                continue
            kept = []
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    told = json.loads(line)
                    is_kept = told["row"] <= shown.get(told["file"], -1)
                except (ValueError, KeyError, TypeError):
                    # Cut short with the replay: its record is read again.
                    continue
                if is_kept:
                    kept.append(line + "\n")
            try:
                self._open[path] = path.open("w", encoding="utf-8", errors="replace")
                self._open[path].writelines(kept)
            except OSError as error:
                raise self._unwritable(path, error) from error

    def flush(self) -> None:
        """Hand every line to the system, which keeps it even if this process is killed."""
        for file in self._open.values():
            file.flush()

    def write(self, refusal: Refusal) -> None:
        """Add a line.

        Raises:
            RejectsUnwritable
        """
        name = self._names[refusal.place.file]
        path = self._path or Path(f"{name}.rejects.jsonl")
        line = {
            "file": name,
            "row": refusal.place.row,
            "pointer": refusal.pointer,
            "reason": refusal.reason,
        }
        try:
            if path not in self._open:
                self._open[path] = path.open("w", encoding="utf-8", errors="replace")
            self._open[path].write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise self._unwritable(path, error) from error

    @staticmethod
    def _unwritable(path: Path, error: OSError) -> RejectsUnwritable:
        return RejectsUnwritable(
            f"{path}: {error.strerror or error}. Say with --rejects where the list of what is "
            "not taken may be written."
        )

    def __enter__(self) -> "Rejects":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()
