"""A record through a mapping: the runs, observations and gauges it stands for, or why not. Pure."""

from collections.abc import Callable, Iterator
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import msgspec

from rollout_console.replay.functions import ValueRefused, number_of, shown, text_of, truth_of
from rollout_console.replay.mapping import EACH, NUMBER, TEXT, TIME, TRUTH, WHOLE, Mapping, Section

RUN: Final = "run"
OBSERVATION: Final = "observation"
GAUGE: Final = "gauge"
# What any encoder of JSON can write; what a field takes is less.
NUMBER_MAX: Final = 2**62
# The longest id that is taken.
ID_MAX: Final = 200
_TRUTHS: Final[AnyMapping[str, bool]] = {"true": True, "false": False, "1": True, "0": False}
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Place:
    """Which record of which file."""

    file: str
    row: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record was not taken; `pointer` is a JSON pointer into the item."""

    place: Place
    pointer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """A run, an observation or a gauge before it is put into text; times are still times."""

    kind: str
    place: Place
    at: datetime
    fields: dict[str, Any]

    def moved(self, when: Callable[[datetime], datetime], *, started_at: datetime) -> "Item":
        """Return it with each of its times passed through `when`.

        A run is another one at another time; an observation is known by its id alone, so it gets
        one of the replay that started at `started_at`.
        """
        fields = {
            name: when(value) if isinstance(value, datetime) else value
            for name, value in self.fields.items()
        }
        if self.kind == OBSERVATION:
            fields["id"] = _id_of_replay(str(fields["id"]), started_at)
        return replace(self, at=when(self.at), fields=fields)

    def text(self) -> bytes:
        return _encode(self.fields)


def _id_of_replay(given: str, started_at: datetime) -> str:
    """Return an id with the replay's start behind it; of a long one its hash stands for the end.

    One that is refused as it is stays so.
    """
    if not 0 < len(given) <= ID_MAX:
        return given
    tail = f"@{started_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"
    most = ID_MAX - len(tail)
    if len(given) > most:
        digest = blake2b(given.encode(), digest_size=16).hexdigest()
        given = f"{given[: most - len(digest)]}{digest}"
    return f"{given}{tail}"


def items_of(
    mapping: Mapping, values: dict[str, Any], *, place: Place, workflow: str
) -> Iterator[Item | Refusal]:
    """Yield what a record stands for; nothing where that is nothing.

    It is the first of run, observation and gauge that it fits, and beside that whatever sections
    with `each` make of it.

    Args:
        values: the record's own, with `$file`, `$row`, `$head` and `$joined` beside them.
    """
    sections = (
        (RUN, mapping.runs),
        (OBSERVATION, mapping.observations),
        (GAUGE, mapping.gauges),
    )
    is_one = False
    for kind, section in sections:
        if section is None or (is_one and section.each is None):
            continue
        try:
            if section.when is not None and not truth_of(section.when(values)):
                continue
        except ValueRefused as refused:
            # What it is cannot be told, so it is nothing else either.
            yield Refusal(place, "", f"`when`: {refused}.")
            return
        try:
            parts = [(None, values)] if section.each is None else _parts(section.each, values)
        except ValueRefused as refused:
            yield Refusal(place, "", f"`each`: {refused}.")
            continue
        is_one = is_one or section.each is None
        for key, part in parts:
            yield _item(kind, section, part, place=place, key=key, workflow=workflow)


def _parts(
    each: Callable[[dict[str, Any]], Any], values: dict[str, Any]
) -> list[tuple[str | None, dict[str, Any]]]:
    """Return one set of values for each element, with `$each` beside the record's own."""
    found = each(values)
    if found is None:
        return []
    elements: list[tuple[str, Any]]
    if isinstance(found, dict):
        elements = list(found.items())
    elif isinstance(found, list):
        elements = [(str(number), value) for number, value in enumerate(found, start=1)]
    else:
        raise ValueRefused(f"{shown(found)} is neither a list nor an object")
    return [
        (key, {**values, EACH: {"key": key, "value": value, "number": number}})
        for number, (key, value) in enumerate(elements, start=1)
    ]


def _item(
    kind: str,
    section: Section,
    values: dict[str, Any],
    *,
    place: Place,
    key: str | None,
    workflow: str,
) -> Item | Refusal:
    fields: dict[str, Any] = {"workflow": workflow}
    if kind == RUN:
        # Required of a run even where it is unknown.
        fields["release"] = None
    for field in section.fields:
        pointer = "/" + "/".join(field.keys)
        try:
            value = _become(field.kind, field.value(values))
        except ValueRefused as refused:
            return Refusal(place, pointer, f"`{'.'.join(field.keys)}`: {refused}.")
        except RecursionError:
            return Refusal(place, pointer, "The record is nested too deeply.")
        if value is None:
            continue
        if len(field.keys) == 1:
            fields[field.keys[0]] = value
        else:
            fields.setdefault(field.keys[0], {})[field.keys[1]] = value
    if "id" not in fields:
        fields["id"] = f"{place.file}:{place.row}" + ("" if key is None else f":{key}")
    at = fields.get("occurred_at")
    if not isinstance(at, datetime):
        return Refusal(place, "/occurred_at", "`occurred_at`: the record does not say when.")
    if kind == OBSERVATION and "run_id" not in fields:
        return Refusal(place, "/run_id", "`run_id`: no run is known that this is about.")
    if kind == GAUGE and "value" not in fields:
        return Refusal(place, "/value", "`value`: the record does not say how much.")
    return Item(kind, place, at, fields)


def _become(kind: str, value: Any) -> Any:
    """Return a value as its field has it; a text such as a CSV cell becomes a number or truth."""
    if value is None:
        return None
    match kind:
        case k if k == TEXT:
            return text_of(value)
        case k if k in (NUMBER, WHOLE):
            number = number_of(value)
            if abs(number) > NUMBER_MAX:
                raise ValueRefused("the number is too large")
            if kind == NUMBER:
                return number
            if isinstance(number, float) and not number.is_integer():
                raise ValueRefused(f"{shown(value)} is no whole number")
            return int(number)
        case k if k == TRUTH:
            truth = _TRUTHS.get(text_of(value).strip().lower())
            if truth is None:
                raise ValueRefused(f"{shown(value)} is neither true nor false")
            return truth
        case k if k == TIME:
            return value
    raise ValueError(kind)
