"""What a drill-down asks for: one workflow's runs in a bounded span, by filters and order."""

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import InvalidInput, NotFound
from signals.buckets.keys import ARM_UNKNOWN, ARMS, INPUT_CONDITIONS, MODES, RISKS
from signals.catalogue import SIGNALS
from signals.ingest.rows import OUTCOMES
from signals.ingest.worst import WORST

SPAN_MAX: Final = timedelta(days=31)
SPAN_UNSAID: Final = timedelta(hours=1)
PAGE: Final = 50
PAGE_MAX: Final = 200
# Nothing has this name: it stands for runs that named none.
NONE: Final = "~"
# Whatever mode is not normal, beside the modes themselves.
ANY_FALLBACK: Final = "fallback"
CLOCKS: Final = ("event", "arrival")
ORDERS: Final = ("newest", "worst")
KEYS: Final = (
    *("workflow", "path", "release", "segment", "arm", "mode", "outcome", "route"),
    *("failure_category", "input_condition", "risk", "clock", "from", "to", "order", "signal"),
)
_TEXT_MAX: Final = 200
CODES: Final[dict[str, Mapping[str, int]]] = {
    "arm": {**ARMS, "unknown": ARM_UNKNOWN},
    "outcome": OUTCOMES,
    "input_condition": {**INPUT_CONDITIONS, NONE: 0},
    "risk": {**RISKS, NONE: 0},
}
# What `mode` asks for the runs that signals of a reach are counted from; any for the others.
MODE_OF_REACH: Final = {"normal": "normal", "fallback": ANY_FALLBACK}
_moment: Final = msgspec.json.Decoder(datetime).decode

Asked = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class After:
    """Where a page goes on: below this row, in the order of the page before."""

    occurred_at: datetime
    id_hash: UUID
    badness: float | None = None


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs, in [start, end). `codes` maps columns to codes; None means any.

    `by_arrival` counts time by when a run's batch was received, as live charts do.
    """

    workflow: Workflow
    start: datetime
    end: datetime
    order: Literal["newest", "worst"] = "newest"
    signal: str = ""
    path_id: int | None = None
    release_id: int | None = None
    segment_ids: tuple[int, ...] | None = None
    mode: str = ""
    codes: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    by_arrival: bool = False
    after: After | None = None
    limit: int = PAGE


def query_read(asked: Asked, *, principal: Principal, now: datetime, limit: int = PAGE) -> RunQuery:
    """Return what a query string asks for.

    Args:
        asked: its values by name, as Django's `QueryDict.lists` has them.

    Raises:
        NotFound: no such workflow, path, release or segment, or not the principal's to read.
        InvalidInput: a value does not fit; `errors` points at it.
    """
    one = {key: _text(key, values[-1]) for key, values in asked.items() if values}
    slug = one.get("workflow", "")
    if not slug:
        raise _wrong("workflow", "Name one workflow: runs are read one workflow at a time.")
    workflow = Workflow.objects.filter(slug=slug).first()
    if workflow is None or not principal.may(Verb.READ, workflow.pk):
        raise NotFound(f"There is no workflow “{slug}” in yours. Nothing is affected.")
    start, end = _span(one, now)
    query = RunQuery(
        workflow=workflow,
        start=start,
        end=end,
        order=_choice(one, "order", ORDERS) or "newest",  # type: ignore[arg-type]  # of ORDERS
        signal=_signal(one),
        path_id=_path_id(one, workflow),
        release_id=_release_id(one, workflow),
        segment_ids=_segment_ids(asked, workflow),
        mode=_choice(one, "mode", (*MODES, ANY_FALLBACK)),
        codes={
            key: codes[_choice(one, key, tuple(codes))]
            for key, codes in CODES.items()
            if one.get(key)
        },
        texts={key: one[key] for key in ("route", "failure_category") if one.get(key)},
        by_arrival=_choice(one, "clock", CLOCKS) == "arrival",
        limit=limit,
    )
    return _goes_on(query, one["cursor"]) if one.get("cursor") else query


def cursor_of(query: RunQuery, after: After) -> str:
    """Return the text by which the next page goes on: it holds the span, which must not move."""
    held = [
        query.start.isoformat(),
        query.end.isoformat(),
        after.occurred_at.isoformat(),
        after.id_hash.hex,
        # JSON has no infinity, which is how bad a run is that says nothing of the signal.
        None if after.badness is None else repr(after.badness),
    ]
    return base64.urlsafe_b64encode(json.dumps(held).encode()).decode().rstrip("=")


def _goes_on(query: RunQuery, cursor: str) -> RunQuery:
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        start, end, occurred_at, id_hash, badness = json.loads(packed)
        times = [datetime.fromisoformat(each) for each in (start, end, occurred_at)]
        after = After(times[2], UUID(hex=id_hash), None if badness is None else float(badness))
        whole = all(each.tzinfo is not None for each in times) and not (
            after.badness is not None and math.isnan(after.badness)
        )
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        raise _wrong("cursor", "Use `next` of the page before as it was.") from error
    if not whole or not timedelta(0) < times[1] - times[0] <= SPAN_MAX:
        raise _wrong("cursor", "Use `next` of the page before as it was.")
    if (after.badness is None) == (query.order == "worst"):
        raise _wrong("cursor", "It is of another order; start again without it.")
    return replace(query, start=times[0], end=times[1], after=after)


def _span(one: Mapping[str, str], now: datetime) -> tuple[datetime, datetime]:
    end = _time(one, "to") or now
    start = _time(one, "from") or end - SPAN_UNSAID
    if not timedelta(0) < end - start <= SPAN_MAX:
        raise _wrong("from", "It lies before “to”, and at most 31 days before it.")
    return start, end


def _time(one: Mapping[str, str], key: str) -> datetime | None:
    given = one.get(key)
    if not given:
        return None
    # An unescaped + arrives as a space.
    try:
        found = _moment(json.dumps(given.replace(" ", "+")).encode())
        # Room to reckon with: the ends of the calendar have none.
        found - 2 * SPAN_MAX
        found + 2 * SPAN_MAX
    except (msgspec.ValidationError, OverflowError) as error:
        raise _wrong(key, "Write a time with an offset, as 2026-11-24T12:00:00Z.") from error
    if found.tzinfo is None:
        raise _wrong(key, "Write a time with an offset, as 2026-11-24T12:00:00Z.")
    return found


def _signal(one: Mapping[str, str]) -> str:
    slug = one.get("signal", "")
    if slug and slug not in SIGNALS:
        raise _wrong("signal", f"Known: {', '.join(SIGNALS)}.")
    if slug and slug not in WORST and one.get("order") == "worst":
        raise _wrong("signal", "No run is worse than another by it; leave “order” out.")
    return slug


def _path_id(one: Mapping[str, str], workflow: Workflow) -> int | None:
    slug = one.get("path")
    if not slug:
        return None
    found = workflow.paths.filter(slug=slug).values_list("pk", flat=True).first()
    if found is None:
        raise NotFound(f"There is no path “{slug}” in this workflow.")
    return found


def _release_id(one: Mapping[str, str], workflow: Workflow) -> int | None:
    version = one.get("release")
    if not version:
        return None
    if version == NONE:
        return 0
    found = workflow.releases.filter(version=version).values_list("pk", flat=True).first()
    if found is None:
        raise NotFound(f"There is no release “{version}” in this workflow.")
    return found


def _segment_ids(asked: Asked, workflow: Workflow) -> tuple[int, ...] | None:
    slugs = [_text("segment", each) for each in asked.get("segment", []) if each][:100]
    if not slugs:
        return None
    known = dict(workflow.segments.filter(slug__in=slugs).values_list("slug", "pk"))
    known[NONE] = 0
    for slug in slugs:
        if slug not in known:
            raise NotFound(f"There is no segment “{slug}” in this workflow.")
    return tuple(known[slug] for slug in slugs)


def _choice(one: Mapping[str, str], key: str, known: tuple[str, ...]) -> str:
    given = one.get(key, "")
    if given and given not in known:
        raise _wrong(key, f"One of {', '.join(known)}.")
    return given


def _text(key: str, value: str) -> str:
    if "\x00" in value or len(value) > (_TEXT_MAX if key != "cursor" else 1000):
        raise _wrong(key, f"At most {_TEXT_MAX} characters, none of them NUL.")
    return value


def _wrong(key: str, detail: str) -> InvalidInput:
    errors: list[dict[str, Any]] = [{"pointer": f"/{key}", "detail": detail}]
    return InvalidInput(f"“{key}” does not fit. {detail}", errors=errors)
