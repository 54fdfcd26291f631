"""What a record can only say together with earlier ones: a small reader for each such source.

A mapping names one as `source.join`; what it finds stands in expressions as `$joined`. Pure.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

# Users remembered at once, the ones met longest ago forgotten first.
USERS_MAX: Final = 100_000


class Join(Protocol):
    """Met with each record of one file in order; returns what the ones before add to it."""

    def facts(self, record: Mapping[str, Any], row: int) -> dict[str, Any]: ...


@dataclass(slots=True)
class _User:
    """What one user did last."""

    started_at: float | None = None
    call_row: int | None = None
    call_at: float | None = None


class AiderJoin:
    """Pairs the coding assistant's starts with what ended them, and an undo with its call.

    A start counts for one call only: programs overlapped under one id, and a call whose own
    start was not sent has no known latency. Who has no id is nobody in particular, and joins
    nothing.
    """

    def __init__(self) -> None:
        self._users: OrderedDict[str, _User] = OrderedDict()

    def facts(self, record: Mapping[str, Any], row: int) -> dict[str, Any]:
        event, at = record.get("event"), record.get("time")
        made: dict[str, Any] = {}
        if event == "message_send_exception":
            made["failure"] = failure_category(record)
        name = record.get("user_id")
        if not isinstance(name, str) or isinstance(at, bool) or not isinstance(at, int | float):
            return made
        if event == "message_send_starting":
            self._user(name).started_at = at
        elif event in ("message_send", "message_send_exception"):
            user = self._user(name)
            if user.started_at is not None:
                made["latency_s"] = at - user.started_at
            user.started_at = None
            if event == "message_send":
                user.call_row, user.call_at = row, at
        elif event == "command_undo" and name in self._users:
            user = self._user(name)
            made["call_row"], made["call_at"] = user.call_row, user.call_at
        return made

    def _user(self, name: str) -> _User:
        user = self._users.setdefault(name, _User())
        self._users.move_to_end(name)
        if len(self._users) > USERS_MAX:
            self._users.popitem(last=False)
        return user


# Exception texts name paths, addresses and whole prompts; a category is what kind it was.
_FAILURES: Final = (
    ("certificate", re.compile(r"certificate|\bSSL\b", re.IGNORECASE)),
    ("connection", re.compile(r"connection|errno \d+|timed? ?out", re.IGNORECASE)),
    ("not_found", re.compile(r"\b404\b|not found", re.IGNORECASE)),
    ("rate_limit", re.compile(r"\b429\b|rate.?limit|quota|overloaded", re.IGNORECASE)),
    ("authentication", re.compile(r"\b40[13]\b|api.?key|authenticat|unauthori", re.IGNORECASE)),
    ("message_order", re.compile(r"alternate user/assistant", re.IGNORECASE)),
    ("context_length", re.compile(r"context (length|window)|too many tokens", re.IGNORECASE)),
    ("unread_response", re.compile(r"^<generator object Response")),
    (
        "program_error",
        re.compile(
            r"^name '|has no attribute|unexpected keyword|unsupported operand|cannot import"
            r"|local variable|no active exception|^'[^']{0,80}'$",
            re.IGNORECASE,
        ),
    ),
)
# Only the beginning is looked at: what follows is mostly a prompt.
_FAILURE_READ: Final = 200


def failure_category(record: Mapping[str, Any]) -> str:
    """Return what kind of failure an exception's text tells of, in one word."""
    properties = record.get("properties")
    text = properties.get("exception") if isinstance(properties, dict) else None
    beginning = text[:_FAILURE_READ] if isinstance(text, str) else ""
    return next((name for name, told in _FAILURES if told.search(beginning)), "other")


JOINS: Final[Mapping[str, Callable[[], Join]]] = {"aider": AiderJoin}
