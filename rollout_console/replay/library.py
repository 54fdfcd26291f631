"""Mappings by name or file. No Django."""

from pathlib import Path
from typing import Final

from rollout_console.replay.mapping import Mapping, mapping_read
from rollout_console.rollouts.plan_check import close_to
from rollout_console.rollouts.plan_yaml import PlanText, PlanUnreadable, yaml_load

BUILT_IN: Final = Path(__file__).parent / "mappings"
_READ_MAX: Final = 1024 * 1024


class MappingRefused(Exception):
    """There is no such mapping, or it does not fit; the sentences say where."""


def mapping_names() -> list[str]:
    """Return the names of the built-in mappings."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def mapping_text(name: str) -> bytes:
    """Return what a mapping that loads says, as it is written."""
    return _path_of(name).read_bytes()


def _path_of(name: str) -> Path:
    return BUILT_IN / f"{name}.yaml" if name in mapping_names() else Path(name)


def mapping_load(name: str) -> Mapping:
    """Return the built-in mapping of this name, else the one in the file of this name.

    Raises:
        MappingRefused
    """
    known = mapping_names()
    path = _path_of(name)
    if name not in known and not path.is_file():
        if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
            raise MappingRefused(f"There is no mapping file {name}.")
        raise MappingRefused(
            f"There is no mapping “{name}”{close_to(name, known)} "
            "A file of your own works too: docs/replay.md has the language."
        )
    try:
        with path.open("rb") as file:
            parsed = yaml_load(file.read(_READ_MAX + 1))
    except OSError as error:
        raise MappingRefused(f"{name}: {error.strerror or error}") from error
    except PlanUnreadable as error:
        line = f":{error.line}" if error.line else ""
        raise MappingRefused(f"{name}{line}: {error.detail}") from error
    mapping, faults = mapping_read(parsed.value)
    if mapping is None:
        told = [
            f"{name}:{_line(parsed, fault.pointer)}: {fault.pointer or '/'}: {fault.detail}"
            for fault in faults
        ]
        raise MappingRefused("\n".join(["The mapping does not fit.", *told]))
    return mapping


def _line(parsed: PlanText, pointer: str) -> int:
    """Return the line of a part, or of the nearest one around what is missing."""
    while pointer and pointer not in parsed.lines:
        pointer = pointer.rpartition("/")[0]
    return parsed.lines.get(pointer, 1)
