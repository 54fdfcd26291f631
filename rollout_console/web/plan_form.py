"""The plan editor's forms: what was posted into the document, and back. Pure: no Django.

Every input is named by its JSON pointer. What does not read as its kind is kept in the document
as typed: the reader says what is wrong with it, at its field. What was not changed in the form
stays the very value it was.
"""

import copy
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rollout_console.core.strict_json import INT_MAX, JsonRefused, json_load
from rollout_console.web.plan_rule import rule_posted
from rollout_console.web.plan_steps import Field, Rows, Step

# Marks what a form showed: how many rows of a list, or a box that posts nothing when not ticked.
COUNT: Final = "rows:"
ROWS_MAX: Final = 500
_INT: Final = re.compile(r"[-+]?[0-9]{1,17}")
_FLOAT: Final = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")

# Name of an input → its values, as a form posts them.
Posted = Mapping[str, list[str]]
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Place:
    """A list that the form shows: where it is and what its rows are."""

    pointer: str
    rows: Rows


def form_read(document: Any, step: Step, posted: Posted) -> Any:
    """Return a copy of the document with what the step's form says."""
    made = copy.deepcopy(document) if isinstance(document, dict) else {}
    _groups_read(made, step.groups, "", posted)
    for rows in step.rows:
        _rows_read(made, rows, rows.key, posted)
    return made


def row_add(document: Any, step: Step, pointer: str) -> Any:
    """Return a copy with a new row at the end of a list that the step shows."""
    made = copy.deepcopy(document)
    for place in places(made, step):
        if place.pointer == pointer:
            held = value_at(made, pointer)
            rows = held if isinstance(held, list) else []
            if len(rows) < ROWS_MAX:
                _put(made, pointer, [*rows, copy.deepcopy(place.rows.new)])
    return made


def row_remove(document: Any, step: Step, pointer: str) -> Any:
    """Return a copy without a row; a list that is empty then goes too."""
    made = copy.deepcopy(document)
    found = _row(made, step, pointer)
    if found is not None:
        owner, index = found
        rows = value_at(made, owner)
        del rows[index]
        if not rows:
            _take(made, owner, keep=())
    return made


def row_raise(document: Any, step: Step, pointer: str) -> Any:
    """Return a copy with a row before the one that it follows."""
    made = copy.deepcopy(document)
    found = _row(made, step, pointer)
    if found is not None and found[1] > 0:
        owner, index = found
        rows = value_at(made, owner)
        rows[index - 1 : index + 1] = [rows[index], rows[index - 1]]
    return made


def places(document: Any, step: Step) -> Iterator[Place]:
    """Yield every list that the step shows, nested ones after their owner."""
    waiting = [Place(rows.key, rows) for rows in step.rows]
    while waiting:
        place = waiting.pop(0)
        yield place
        held = value_at(document, place.pointer)
        for index in range(len(held) if isinstance(held, list) else 0):
            waiting += [
                Place(f"{place.pointer}/{index}/{inner.key}", inner) for inner in place.rows.rows
            ]


def value_at(document: Any, pointer: str) -> Any:
    """Return the value at a pointer, None where there is none."""
    found = _look(document, pointer)
    return None if found is _MISSING else found


def shown(value: Any, kind: str) -> str:
    """Return a value as its input shows it."""
    if value is None:
        return ""
    if kind == "lines" and _texts(value):
        return "\n".join(value)
    if kind in ("flag", "present"):
        return "on" if (value is True or kind == "present") else ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | dict | list):
        return json.dumps(value, ensure_ascii=False, indent=2 if kind in ("json", "rule") else None)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    return str(value)


def field_pointer(base: str, field: Field) -> str:
    return field.key if field.key.startswith("/") else f"{base}/{field.key}"


def _row(document: Any, step: Step, pointer: str) -> tuple[str, int] | None:
    owner, _, index = pointer.rpartition("/")
    if owner not in {place.pointer for place in places(document, step)} or not index.isdigit():
        return None
    rows = value_at(document, owner)
    if not isinstance(rows, list) or int(index[:6]) >= len(rows):
        return None
    return owner, int(index[:6])


def _rows_read(document: Any, rows: Rows, pointer: str, posted: Posted) -> None:
    count = _one(posted, COUNT + pointer)
    if not count.isdigit():
        return
    held = value_at(document, pointer)
    there = len(held) if isinstance(held, list) else 0
    for index in range(min(int(count[:4]), there, ROWS_MAX)):
        base = f"{pointer}/{index}"
        _groups_read(document, rows.groups, base, posted)
        for inner in rows.rows:
            _rows_read(document, inner, f"{base}/{inner.key}", posted)


def _groups_read(document: Any, groups: Any, base: str, posted: Posted) -> None:
    fields = [field for group in groups for field in group.fields]
    boxes = tuple(field_pointer(base, field) for field in fields if field.kind == "present")
    closed: list[str] = []
    for field in fields:
        pointer = field_pointer(base, field)
        if any(pointer.startswith(f"{box}/") for box in closed):
            continue
        if field.kind == "present":
            if f"{COUNT}{pointer}" not in posted:
                # The form did not show this box, so it says nothing of it.
                continue
            ticked = bool(_one(posted, pointer))
            if not ticked:
                closed.append(pointer)
                _take(document, pointer, keep=boxes)
            elif _look(document, pointer) in (_MISSING, None):
                _put(document, pointer, {})
            continue
        _field_read(document, field, pointer, posted, keep=(*boxes, base))


def _field_read(
    document: Any, field: Field, pointer: str, posted: Posted, *, keep: tuple[str, ...]
) -> None:
    box = field.kind in ("flag", "several")
    if (f"{COUNT}{pointer}" if box else pointer) not in posted:
        return
    held = _look(document, pointer)
    current = None if held is _MISSING else held
    if field.kind == "several":
        chosen: Any = posted.get(pointer) or None
        same = current is chosen
        if isinstance(current, list) and _texts(current):
            same = set(current) == set(chosen or [])
        if not same:
            _set(document, pointer, chosen, keep=keep)
        return
    raw = _one(posted, pointer).replace("\r\n", "\n").replace("\x00", "")
    if field.kind == "rule":
        made = rule_posted(current, lambda name: _one(posted, f"{pointer}:{name}"), raw)
        if made is None or made != current or isinstance(made, bool) != isinstance(current, bool):
            _set(document, pointer, made, keep=keep)
        return
    if raw == shown(current, field.kind).replace("\r\n", "\n") and not (
        field.null and held is _MISSING
    ):
        return
    if raw == "" and field.null:
        _put(document, pointer, None)
        return
    _set(document, pointer, _READ[field.kind](raw), keep=keep)


def _set(document: Any, pointer: str, value: Any, *, keep: tuple[str, ...]) -> None:
    if value is None or value == "":
        _take(document, pointer, keep=keep)
    else:
        _put(document, pointer, value)


def _number(raw: str) -> Any:
    text = raw.strip()
    if _INT.fullmatch(text) and abs(int(text)) <= INT_MAX:
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def _json(raw: str) -> Any:
    try:
        return json_load(raw) if raw.strip() else None
    except JsonRefused:
        return raw


def _lines(raw: str) -> Any:
    return [line.strip() for line in raw.split("\n") if line.strip()] or None


_READ: Final[dict[str, Callable[[str], Any]]] = {
    "text": lambda raw: raw.strip(),
    "long": lambda raw: raw,
    "lines": _lines,
    "number": _number,
    "whole": _number,
    "flag": bool,
    "choice": lambda raw: raw.strip(),
    "json": _json,
}


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _one(posted: Posted, name: str) -> str:
    values = posted.get(name) or [""]
    return values[-1]


def _steps(pointer: str) -> list[str]:
    return pointer.split("/")[1:]


def _look(document: Any, pointer: str) -> Any:
    value = document
    for key in _steps(pointer):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return _MISSING
    return value


def _put(document: Any, pointer: str, value: Any) -> None:
    """Write a value; a part of the way that is no map becomes one."""
    *way, last = _steps(pointer)
    holder = document
    for key in way:
        if isinstance(holder, list):
            if not isinstance(holder[int(key)], dict | list):
                holder[int(key)] = {}
            holder = holder[int(key)]
            continue
        if not isinstance(holder.get(key), dict | list):
            holder[key] = {}
        holder = holder[key]
    holder[int(last) if isinstance(holder, list) else last] = value


def _take(document: Any, pointer: str, *, keep: tuple[str, ...]) -> None:
    """Take a value away, and the maps that are empty then, but for rows and boxes."""
    while True:
        owner, _, key = pointer.rpartition("/")
        holder = value_at(document, owner)
        if not isinstance(holder, dict):
            return
        holder.pop(key, None)
        if holder or owner in keep or owner in ("", "/workflow", "/rollout"):
            return
        pointer = owner
