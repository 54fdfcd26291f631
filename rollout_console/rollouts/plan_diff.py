"""What one plan document says differently from another, line by line. Pure: no Django."""

import json
from typing import Any, Final

# What names an item of a list, so that inserting one does not change all that follow.
_NAMES: Final = ("slug", "version", "segment", "name", "after_s")
TEXT_MAX: Final = 120


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
            name = next((item[key] for key in _NAMES if key in item), index)
            found.extend(_leaves(item, f"{where}[{name}]"))
        return found
    return [] if value is None and not where else [(where, value)]


def _differs(old: Any, new: Any) -> bool:
    # True and 1 are equal to Python and not to a reader.
    return isinstance(old, bool) != isinstance(new, bool) or bool(old != new)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…"
