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
            raise RejectsUnwritable(
                f"{path}: {error.strerror or error}. Say with --rejects where the list of what is "
                "not taken may be written."
            ) from error

    def __enter__(self) -> "Rejects":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()
