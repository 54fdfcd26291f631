"""One run as a line of Postgres's COPY text. Pure, and the drain's hot loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import msgspec

from signals.buckets.keys import (
    ARM_CANDIDATE,
    ARM_STABLE,
    ARM_UNKNOWN,
    ARMS,
    INPUT_CONDITIONS,
    MODES,
    RISKS,
)
from signals.ingest.runs import Run, context_of, cost_of
from signals.ingest.segments import SegmentRules

OUTCOMES: Final = {
    "ok": 0,
    "error": 1,
    "fallback": 2,
    "escalated": 3,
    "abandoned": 4,
    "blocked": 5,
}

# The order of `run_line`'s fields.
COLUMNS: Final = (
    "occurred_at",
    "drain",
    "workflow_id",
    "path_id",
    "release_id",
    "arm",
    "mode",
    "input_condition",
    "risk",
    "segment_id",
    "outcome",
    "critical",
    "review_requested",
    "id_hash",
    "run_id",
    "quality_score",
    "quality_passed",
    "latency_ms",
    "cost_usd",
    "retrieval_score",
    "confidence",
    "exposure_version",
    "input_tokens",
    "output_tokens",
    "context_tokens",
    "retries",
    "steps",
    "tool_calls",
    "retrieved",
    "failure_category",
    "route",
    "client",
    "subject",
    "trace_id",
    "drill",
    "attributes",
    "measures",
    "context",
)

# Positive values below this count as 0: their square would not be a number any more.
SMALLEST: Final = 1e-100
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_TABS: Final = len(COLUMNS) - 1
_encode: Final = msgspec.json.Encoder().encode

_HeadKey = tuple[str, str, str | None, str | None, str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class PathRoles:
    """A path and which release plays which role on it; 0 where none does."""

    workflow_id: int
    path_id: int
    stable_id: int
    candidate_id: int


@dataclass(frozen=True, slots=True)
class Names:
    """The catalogue, as far as the runs at hand name it."""

    paths: Mapping[tuple[str, str], PathRoles]
    releases: Mapping[tuple[int, str], int]
    segments: Mapping[tuple[int, str], int]
    rules: Mapping[int, SegmentRules]
    # What runs of one kind share, from workflow_id to risk, is put into text once.
    heads: dict[_HeadKey, str] = field(default_factory=dict)


def run_line(
    run: Run, *, drain: int, names: Names, unknown_segments: dict[tuple[str, str, str], int]
) -> str:
    """Return the run's line, for COPY with an empty NULL; so empty text is stored as null.

    A segment name nobody knows is counted in `unknown_segments`, by workflow, path and name.
    """
    key = (
        run.workflow,
        run.path,
        run.release,
        run.arm,
        run.mode,
        run.input_condition,
        run.risk,
    )
    head = names.heads.get(key)
    if head is None:
        head = names.heads[key] = _head(run, names)
    segment_id, context = 0, ""
    if run.context:
        segment_id, context = names.rules[names.paths[key[:2]].workflow_id].read(context_of(run))
    if run.segment is not None:
        segment_id = _segment_id(run, names, unknown_segments)
    quality = run.quality
    score = passed = None
    if quality is not None:
        score, passed = quality.score, quality.passed
    line = (
        f"{run.occurred_at.isoformat()}\t{drain}\t{head}\t{segment_id}\t{OUTCOMES[run.outcome]}"
        f"\t{'t' if run.critical else 'f'}\t{'t' if run.review_requested else 'f'}"
        f"\t{id_hash(run.id)}\t{run.id}"
        f"\t{'' if score is None else score if score > SMALLEST else 0}"
        f"\t{'' if passed is None else 't' if passed else 'f'}"
        f"\t{'' if (v := run.latency_ms) is None else v if v > SMALLEST else 0}"
        f"\t{'' if (v := cost_of(run)) is None else v if v > SMALLEST else 0}"
        f"\t{'' if (v := run.retrieval_score) is None else v if v > SMALLEST else 0}"
        f"\t{'' if (v := run.confidence) is None else v if v > SMALLEST else 0}"
        f"\t{'' if (w := run.exposure_version) is None else w}"
        f"\t{'' if (w := run.input_tokens) is None else w}"
        f"\t{'' if (w := run.output_tokens) is None else w}"
        f"\t{'' if (w := run.context_tokens) is None else w}"
        f"\t{'' if (w := run.retries) is None else w}"
        f"\t{'' if (w := run.steps) is None else w}"
        f"\t{'' if (w := run.tool_calls) is None else w}"
        f"\t{'' if (w := run.retrieved) is None else w}"
        f"\t{run.failure_category or ''}\t{run.route or ''}\t{run.client or ''}"
        f"\t{run.subject or ''}\t{run.trace_id or ''}\t{run.drill or ''}"
        f"\t{_encode(run.attributes).decode() if run.attributes else ''}"
        f"\t{_encode(run.measures).decode() if run.measures else ''}\t{context}"
    )
    # Hardly any run holds a character that COPY reads as its own; one look tells.
    if "\\" in line or "\n" in line or "\r" in line or line.count("\t") != _TABS:
        return _escaped(run, line, context)
    return line


def id_hash(run_id: str) -> str:
    """Return 16 bytes of BLAKE2b over a run's id, in hex."""
    return blake2b(run_id.encode(), digest_size=16).hexdigest()


def _head(run: Run, names: Names) -> str:
    path = names.paths[run.workflow, run.path]
    release_id = 0 if run.release is None else names.releases[path.workflow_id, run.release]
    if run.arm is not None:
        arm = ARMS[run.arm]
    elif release_id == 0:
        arm = ARM_UNKNOWN
    elif release_id == path.candidate_id:
        arm = ARM_CANDIDATE
    else:
        arm = ARM_STABLE if release_id == path.stable_id else ARM_UNKNOWN
    codes = (
        path.workflow_id,
        path.path_id,
        release_id,
        arm,
        0 if run.mode is None else MODES[run.mode],
        0 if run.input_condition is None else INPUT_CONDITIONS[run.input_condition],
        0 if run.risk is None else RISKS[run.risk],
    )
    return "\t".join(map(str, codes))


def _segment_id(run: Run, names: Names, unknown_segments: dict[tuple[str, str, str], int]) -> int:
    assert run.segment is not None
    workflow_id = names.paths[run.workflow, run.path].workflow_id
    segment_id = names.segments.get((workflow_id, run.segment), 0)
    if segment_id == 0:
        place = (run.workflow, run.path, run.segment)
        unknown_segments[place] = unknown_segments.get(place, 0) + 1
    return segment_id


def _escaped(run: Run, line: str, context: str) -> str:
    """Return the line with its free texts escaped."""
    texts = (
        run.failure_category,
        run.route,
        run.client,
        run.subject,
        run.trace_id,
        run.drill,
        _encode(run.attributes).decode() if run.attributes else "",
        _encode(run.measures).decode() if run.measures else "",
        context,
    )
    before_id = line[: line.index(id_hash(run.id))]
    after_id = line[len(before_id) + 32 + 1 + len(run.id) :]
    # Between the id and the free texts stand fourteen fields that hold numbers only.
    numbers = after_id.split("\t")[1:15]
    fields = [id_hash(run.id), run.id, *numbers, *texts]
    return before_id + "\t".join((text or "").translate(_ESCAPES) for text in fields)
