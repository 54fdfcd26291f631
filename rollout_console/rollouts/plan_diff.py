"""What one plan document says differently from another, line by line. Pure: no Django."""

import json
import re
from typing import Any, Final

# What names an item of a list, so that inserting one does not change all that follow.
_NAMES: Final = ("slug", "version", "segment", "name", "after_s")
TEXT_MAX: Final = 120
# A key, and in brackets the name of an item of its list.
_PLACE: Final = re.compile(r"([A-Za-z0-9_]+)(?:\[([^\]]*)\])?")


def plan_diff(before: Any, after: Any) -> list[str]:
    """Return lines such as `changed workflow.hold_s: 120 → 60`, in the order of `after`."""
    old = dict(_leaves(before, ""))
    new = dict(_leaves(after, ""))
    lines = []
    for where, value in new.items():
        if where not in old:
            lines.append(f"added {where}: {_shown(value)}")
        elif _differs(old[where], value):
            lines.append(f"changed {where}: {_shown(old[where])} → {_shown(value)}")
    lines.extend(
        f"removed {where}: {_shown(value)}" for where, value in old.items() if where not in new
    )
    return lines


def _leaves(value: Any, where: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value and not where.endswith(".rule"):
        return [
            leaf
            for key, item in value.items()
            for leaf in _leaves(item, f"{where}.{key}" if where else str(key))
        ]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        found: list[tuple[str, Any]] = []
        for index, item in enumerate(value):
            found.extend(_leaves(item, f"{where}[{_name(item, index)}]"))
        return found
    return [] if value is None and not where else [(where, value)]


def _differs(old: Any, new: Any) -> bool:
    # True and 1 are equal to Python and not to a reader.
    return isinstance(old, bool) != isinstance(new, bool) or bool(old != new)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…"


def diff_pointer(document: Any, where: str) -> str:
    """Return the JSON pointer of a diff's place in `document`, as far as it is there."""
    pointer, value = "", document
    for key, name in _PLACE.findall(where):
        if not isinstance(value, dict) or key not in value:
            break
        pointer, value = f"{pointer}/{key}", value[key]
        if not name:
            continue
        rows = value if isinstance(value, list) else []
        place = next((index for index, row in enumerate(rows) if _name(row, index) == name), None)
        if place is None:
            break
        pointer, value = f"{pointer}/{place}", rows[place]
    return pointer


def _name(row: Any, index: int) -> str:
    if not isinstance(row, dict):
        return str(index)
    return str(next((row[key] for key in _NAMES if key in row), index))
