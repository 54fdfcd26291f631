"""A record through a mapping: the run or observation it stands for, or why not. Pure."""

from collections.abc import Callable
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import msgspec

from rollout_console.replay.functions import ValueRefused, number_of, shown, text_of, truth_of
from rollout_console.replay.mapping import NUMBER, TEXT, TIME, TRUTH, WHOLE, Mapping, Section

RUN: Final = "run"
OBSERVATION: Final = "observation"
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
    """A run or an observation before it is put into text; times are still times."""

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


def item_of(
    mapping: Mapping, values: dict[str, Any], *, place: Place, workflow: str
) -> Item | Refusal | None:
    """Return what a record stands for, None where that is nothing.

    Args:
        values: the record's own, with `$file`, `$row`, `$head` and `$joined` beside them.
    """
    sections = ((RUN, mapping.runs), (OBSERVATION, mapping.observations))
    for kind, section in sections:
        if section is None:
            continue
        try:
            if section.when is not None and not truth_of(section.when(values)):
                continue
        except ValueRefused as refused:
            return Refusal(place, "", f"`when`: {refused}.")
        return _item(kind, section, values, place=place, workflow=workflow)
    return None


def _item(
    kind: str, section: Section, values: dict[str, Any], *, place: Place, workflow: str
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
        fields["id"] = f"{place.file}:{place.row}"
    at = fields.get("occurred_at")
    if not isinstance(at, datetime):
        return Refusal(place, "/occurred_at", "`occurred_at`: the record does not say when.")
    if kind == OBSERVATION and "run_id" not in fields:
        return Refusal(place, "/run_id", "`run_id`: no run is known that this is about.")
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
