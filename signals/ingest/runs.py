"""What one reported run is, and what is said of one that does not fit. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from signals.ingest.framing import json_value

OLDEST: Final = timedelta(days=7)
# History may be of any age, but a time before this is a misread one.
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
FARTHEST_AHEAD: Final = timedelta(minutes=5)
MAX_MONEY: Final = 1e6
MAX_INT: Final = 2**53

SLUG: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
SLUG_WITHOUT_DOT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
_DECIMAL: Final = re.compile(r"[0-9]{1,16}(?:\.[0-9]{1,40})?")
_MESSAGE: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key` in `)?\$(?P<path>[^`]*)`)?$")
_MISSING: Final = re.compile(r"missing required field `(?P<name>[^`]+)`")
_NUL_ESCAPE: Final = b"\\u0000"

Text = Annotated[str, Meta(max_length=200)]
Share = Annotated[float, Meta(ge=0, le=1)]
# Bounded like the integers: a sum of squares has to stay finite.
Measure = Annotated[float, Meta(ge=0, le=MAX_INT)]
Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
Money = Annotated[float, Meta(ge=0, le=MAX_MONEY)] | Annotated[str, Meta(max_length=60)]


# Neither kind can be part of a reference cycle; keeping them from the collector halves the time
# that reading a large batch takes.
class Quality(Struct, gc=False):
    score: Share | None = None
    passed: bool | None = None


class Run(Struct, gc=False):
    """One item of `POST /api/v1/runs`; fields and bounds are `api.md`'s."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    occurred_at: Annotated[datetime, Meta(tz=True)]
    workflow: str
    path: str
    release: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,100}\Z")] | None
    outcome: Literal["ok", "error", "fallback", "escalated", "abandoned", "blocked"]
    segment: Annotated[str, Meta(max_length=80)] | None = None
    context: Raw = Raw()
    arm: Literal["stable", "candidate"] | None = None
    mode: (
        Literal[
            "normal",
            "human_review",
            "manual",
            "previous_stable",
            "simpler_route",
            "reduced_context",
            "read_only",
        ]
        | None
    ) = None
    route: Text | None = None
    exposure_version: Count | None = None
    client: Text | None = None
    subject: Text | None = None
    failure_category: Annotated[str, Meta(max_length=100)] | None = None
    critical: bool | None = None
    risk: Literal["low", "high"] | None = None
    input_condition: Literal["clean", "messy", "ambiguous"] | None = None
    latency_ms: Measure | None = None
    cost_usd: Money | None = None
    cost_known: bool | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    context_tokens: Count | None = None
    retries: Count | None = None
    steps: Count | None = None
    tool_calls: Count | None = None
    retrieved: Count | None = None
    retrieval_score: Share | None = None
    confidence: Share | None = None
    quality: Quality | None = None
    review_requested: bool | None = None
    attributes: Annotated[dict[str, str], Meta(max_length=20)] | None = None
    measures: dict[str, float] | None = None
    trace_id: Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{1,64}\Z")] | None = None
    drill: Text | None = None


run_decode: Final = msgspec.json.Decoder(Run).decode

_WHOLE: Final = "a whole number from 0 to 2^53, or null"
_SHARE: Final = "a number from 0 to 1, or null"
_NAME: Final = "text of at most 200 characters, or null"
# What each field must be, to finish the sentence "`field` must be …".
RULES: Final[Mapping[str, str]] = {
    "id": "text of 1 to 200 characters",
    "occurred_at": "a time in RFC 3339 with its offset, such as 2026-11-24T09:30:00Z",
    "workflow": "the slug of a workflow",
    "path": "the slug of a path of that workflow",
    "release": "the release as answered: 1 to 100 of A-Z a-z 0-9 . _ -, or null",
    "outcome": "one of ok, error, fallback, escalated, abandoned, blocked",
    "segment": "the slug of a segment, or null",
    "context": "an object, or null",
    "arm": "stable, candidate or null",
    "mode": "one of the modes as answered, such as normal or human_review, or null",
    "route": _NAME,
    "exposure_version": _WHOLE,
    "client": _NAME,
    "subject": _NAME,
    "failure_category": "text of at most 100 characters, or null",
    "critical": "true, false or null",
    "risk": "low, high or null",
    "input_condition": "clean, messy, ambiguous or null",
    "latency_ms": "a finite number of milliseconds, 0 or more, or null",
    "cost_usd": "an amount in US dollars from 0 to 1,000,000, as number or decimal text, or null",
    "cost_known": "true, false or null",
    "input_tokens": _WHOLE,
    "output_tokens": _WHOLE,
    "context_tokens": _WHOLE,
    "retries": _WHOLE,
    "steps": _WHOLE,
    "tool_calls": _WHOLE,
    "retrieved": _WHOLE,
    "retrieval_score": _SHARE,
    "confidence": _SHARE,
    "quality": "an object with score (0 to 1) and passed (true or false), each if known, or null",
    "review_requested": "true, false or null",
    "attributes": "an object of at most 20 texts, or null",
    "measures": "an object of finite numbers, or null",
    "trace_id": "1 to 64 hexadecimal digits, or null",
    "drill": _NAME,
}


@dataclass(frozen=True, slots=True)
class Place:
    """A path that reports may name, as the catalogue has it."""

    workflow_id: int
    path_id: int


@dataclass(frozen=True, slots=True)
class ItemError:
    """What is wrong with one item; `pointer` is a JSON pointer into it.

    `workflow_id` is the workflow that it names and its token reaches, 0 where there is none.
    """

    index: int
    pointer: str
    detail: str
    workflow_id: int = 0

    def document(self) -> dict[str, Any]:
        return {"index": self.index, "pointer": self.pointer, "detail": self.detail}


class ItemRefused(Exception):
    """Carries pointer and sentence of the first thing wrong with an item."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.detail = detail


def run_read(item: bytes, *, earliest: datetime, latest: datetime) -> Run:
    """Return the run that `item` holds.

    Args:
        item: well-formed JSON text.
        earliest: the oldest `occurred_at` taken.
        latest: the newest.

    Raises:
        ItemRefused: it does not fit.
    """
    try:
        run = run_decode(item)
    except msgspec.ValidationError as error:
        raise refusal(str(error)) from error
    except msgspec.DecodeError as error:
        detail = "The item holds half a surrogate pair, or a number out of range."
        raise ItemRefused("", detail) from error
    if not earliest <= run.occurred_at <= latest:
        raise _out_of_time(run.occurred_at, earliest, latest)
    if run.context and context_of(run)[:1] not in (b"{", b"n"):
        raise must("context")
    if type(run.cost_usd) is str and not _is_amount(run.cost_usd):
        raise must("cost_usd")
    if _NUL_ESCAPE in item and (pointer := nul_pointer(json_value(item))) is not None:
        raise ItemRefused(pointer, "Text must not hold a NUL character.")
    if run.segment is not None and not SLUG.fullmatch(run.segment):
        raise must("segment")
    return run


def context_of(run: Run) -> bytes:
    """Return the run's context as JSON text, empty where it has none."""
    # The decoder keeps white space before a raw value.
    return bytes(run.context).lstrip(b" \t\r\n")


def cost_of(run: Run) -> float | None:
    """Return the run's cost in US dollars; None is unknown, as is a 0 not said to be known."""
    if run.cost_usd is None:
        return None
    cost = float(run.cost_usd)
    return cost if cost > 0 or run.cost_known else None


def time_bounds(now: datetime, *, any_age: bool = False) -> tuple[datetime, datetime]:
    """Return the oldest and the newest `occurred_at` taken at `now`."""
    return EARLIEST if any_age else now - OLDEST, now + FARTHEST_AHEAD


def _is_amount(text: str) -> bool:
    return _DECIMAL.fullmatch(text) is not None and float(text) <= MAX_MONEY


def must(
    field: str, pointer: str | None = None, *, rules: Mapping[str, str] = RULES
) -> ItemRefused:
    """Return the refusal that says what `field` must be."""
    return ItemRefused(pointer or f"/{field}", f"`{field}` must be {rules[field]}.")


def _out_of_time(occurred_at: datetime, earliest: datetime, latest: datetime) -> ItemRefused:
    told = occurred_at.isoformat()
    if occurred_at > latest:
        detail = f"`occurred_at` {told} lies more than 5 minutes ahead."
    elif earliest == EARLIEST:
        detail = f"`occurred_at` {told} lies before 1970: is its format right?"
    else:
        detail = f"`occurred_at` {told} is more than 7 days ago; use `replay` for older runs."
    return ItemRefused("/occurred_at", detail)


def refusal(message: str, *, rules: Mapping[str, str] = RULES) -> ItemRefused:
    """Turn the decoder's message into a pointer and a sentence in the contract's words."""
    if missing := _MISSING.search(message):
        name = missing["name"]
        return ItemRefused(f"/{name}", f"`{name}` is required: {rules.get(name, 'see the docs')}.")
    found = _MESSAGE.match(message)
    path = (found["path"] if found else None) or ""
    # `$.attributes[...]` names no key; the map as a whole is pointed at.
    names = [part for part in path.replace("[...]", "").split(".") if part]
    if not names:
        return ItemRefused("", "An item must be a JSON object.")
    return must(names[0], "/" + "/".join(names), rules=rules)


def nul_pointer(value: Any, pointer: str = "") -> str | None:
    """Return where `value` holds a NUL, None if nowhere."""
    if isinstance(value, str):
        return pointer if "\0" in value else None
    if isinstance(value, dict):
        for key, member in value.items():
            if "\0" in key:
                return pointer
            escaped = key.replace("~", "~0").replace("/", "~1")
            if (found := nul_pointer(member, f"{pointer}/{escaped}")) is not None:
                return found
    elif isinstance(value, list):
        for number, member in enumerate(value):
            if (found := nul_pointer(member, f"{pointer}/{number}")) is not None:
                return found
    return None
