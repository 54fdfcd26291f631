"""What one reported observation is, and what is said of one that does not fit. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from signals.ingest.framing import json_value
from signals.ingest.rows import OUTCOMES, SMALLEST, id_hash
from signals.ingest.runs import (
    ItemRefused,
    Measure,
    Share,
    Text,
    nul_pointer,
    refusal,
)

# Codes of the observation table; never renumber.
KINDS: Final = {"evaluation": 0, "review": 1, "feedback": 2, "outcome": 3}
VERDICTS: Final = {"approved": 0, "edited": 1, "rejected": 2}
VALUES: Final = {"up": 0, "down": 1, "complaint": 2, "abandon": 3, "undo": 4, "rerun": 5}
# Feedback that shows lost trust. Asking again may have many reasons, so it is kept and not read.
NEGATIVE: Final = frozenset({"down", "complaint", "abandon", "undo"})
# What a review says of quality. An edited answer was neither right nor refused.
REVIEW_PASSED: Final = {"approved": True, "rejected": False, "edited": None}

_NUL_ESCAPE: Final = b"\\u0000"


class Observation(Struct, gc=False):
    """One item of `POST /api/v1/observations`; fields and bounds are `api.md`'s."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    workflow: str
    run_id: Annotated[str, Meta(min_length=1, max_length=200)]
    occurred_at: Annotated[datetime, Meta(tz=True)]
    kind: Literal["evaluation", "review", "feedback", "outcome"]
    run_occurred_at: Annotated[datetime, Meta(tz=True)] | None = None
    name: Text | None = None
    score: Share | None = None
    passed: bool | None = None
    verdict: Literal["approved", "edited", "rejected"] | None = None
    reviewer: Text | None = None
    duration_ms: Measure | None = None
    value: Literal["up", "down", "complaint", "abandon", "undo", "rerun"] | None = None
    outcome: Literal["ok", "error", "fallback", "escalated", "abandoned", "blocked"] | None = None
    failure_category: Annotated[str, Meta(max_length=100)] | None = None
    critical: bool | None = None


observation_decode: Final = msgspec.json.Decoder(Observation).decode

_ID: Final = "text of 1 to 200 characters"
_NAME: Final = "text of at most 200 characters, or null"
RULES: Final[Mapping[str, str]] = {
    "id": _ID,
    "workflow": "the slug of a workflow",
    "run_id": f"the run's `id`: {_ID}",
    "occurred_at": "a time in RFC 3339 with its offset, such as 2026-11-24T09:30:00Z",
    "run_occurred_at": "the run's `occurred_at` in RFC 3339 with its offset, or null",
    "kind": "one of evaluation, review, feedback, outcome",
    "name": _NAME,
    "score": "a number from 0 to 1, or null",
    "passed": "true, false or null",
    "verdict": "one of approved, edited, rejected",
    "reviewer": _NAME,
    "duration_ms": "a finite number of milliseconds, 0 or more, or null",
    "value": "one of up, down, complaint, abandon, undo, rerun",
    "outcome": "one of ok, error, fallback, escalated, abandoned, blocked, or null",
    "failure_category": "text of at most 100 characters, or null",
    "critical": "true, false or null",
}

# What each kind is about: at least one of these is there, and the pointer goes to the first.
_SAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "evaluation": ("passed", "score"),
    "review": ("verdict",),
    "feedback": ("value",),
    "outcome": ("outcome", "failure_category", "critical"),
}

# The order of `observation_line`'s fields.
COLUMNS: Final = (
    "workflow_id",
    "id_hash",
    "drain",
    "occurred_at",
    "run_hash",
    "run_occurred_at",
    "kind",
    "observation_id",
    "run_id",
    "name",
    "score",
    "passed",
    "verdict",
    "reviewer",
    "duration_ms",
    "value",
    "outcome",
    "failure_category",
    "critical",
)
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def observation_read(item: bytes, *, earliest: datetime, latest: datetime) -> Observation:
    """Return the observation that `item` holds.

    Args:
        item: well-formed JSON text.
        earliest: the oldest `occurred_at` taken.
        latest: the newest.

    Raises:
        ItemRefused: it does not fit.
    """
    try:
        seen = observation_decode(item)
    except msgspec.ValidationError as error:
        raise refusal(str(error), rules=RULES) from error
    except msgspec.DecodeError as error:
        detail = "The item holds half a surrogate pair, or a number out of range."
        raise ItemRefused("", detail) from error
    if not earliest <= seen.occurred_at <= latest:
        raise _out_of_time("occurred_at", seen.occurred_at, latest)
    if seen.run_occurred_at is not None and seen.run_occurred_at > latest:
        raise _out_of_time("run_occurred_at", seen.run_occurred_at, latest)
    if all(getattr(seen, field) is None for field in _SAYS[seen.kind]):
        raise _says_nothing(seen.kind)
    if _NUL_ESCAPE in item and (pointer := nul_pointer(json_value(item))) is not None:
        raise ItemRefused(pointer, "Text must not hold a NUL character.")
    return seen


def observation_line(seen: Observation, *, workflow_id: int, drain: int) -> str:
    """Return the line for COPY with an empty NULL.

    Only what its kind is about is kept: a score in a review, say, is no evaluation.
    """
    name = score = passed = verdict = reviewer = duration = value = None
    outcome = category = critical = None
    match seen.kind:
        case "evaluation":
            name, score, passed = seen.name, seen.score, seen.passed
        case "review":
            assert seen.verdict is not None
            verdict, passed = VERDICTS[seen.verdict], REVIEW_PASSED[seen.verdict]
            reviewer, duration = seen.reviewer, seen.duration_ms
        case "feedback":
            assert seen.value is not None
            value = VALUES[seen.value]
        case "outcome":
            outcome = None if seen.outcome is None else OUTCOMES[seen.outcome]
            category, critical = seen.failure_category, seen.critical
    fields: tuple[str | int | float | None, ...] = (
        workflow_id,
        id_hash(seen.id),
        drain,
        seen.occurred_at.isoformat(),
        id_hash(seen.run_id),
        None if seen.run_occurred_at is None else seen.run_occurred_at.isoformat(),
        KINDS[seen.kind],
        seen.id,
        seen.run_id,
        name,
        None if score is None else score if score > SMALLEST else 0,
        _flag(passed),
        verdict,
        reviewer,
        duration,
        value,
        outcome,
        category,
        _flag(critical),
    )
    return "\t".join("" if v is None else str(v).translate(_ESCAPES) for v in fields)


def _flag(value: bool | None) -> str | None:
    return None if value is None else "t" if value else "f"


def _says_nothing(kind: str) -> ItemRefused:
    fields = _SAYS[kind]
    if len(fields) == 1:
        detail = f"`{fields[0]}` is required here: {RULES[fields[0]]}."
    else:
        named = ", ".join(f"`{field}`" for field in fields)
        detail = f"An observation of kind `{kind}` needs at least one of {named}."
    return ItemRefused(f"/{fields[0]}", detail)


def _out_of_time(field: str, at: datetime, latest: datetime) -> ItemRefused:
    told = at.isoformat()
    if at > latest:
        detail = f"`{field}` {told} lies more than 5 minutes ahead."
    else:
        detail = f"`{field}` {told} is more than 7 days ago."
    return ItemRefused(f"/{field}", detail)
