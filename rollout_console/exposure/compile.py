"""From catalogue and rollouts to one document in flagd's format. Pure: no Django.

One object-valued flag per workflow path. A context is exposed where a segment's rule holds and
the bucket of (the rollout's salt, its targeting key) lies below the segment's share: the same
bucket in every segment and on every path, so that one person has one arm everywhere. Segments
are tried by share, the largest first, so that somebody in two of them has the larger share:
then widening keeps everybody, and narrowing removes and never adds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

FLAG_SET_ID: Final = "rollout-console"
SCHEMA: Final = "https://flagd.dev/schema/v0/flags.json"
# The same at every step, else a ramp would reshuffle people. Shares have five decimals.
TOTAL_WEIGHT: Final = 100_000
DEFAULT_VARIANT: Final = "stable"


@dataclass(frozen=True, slots=True)
class ActionSetting:
    """An action route and its state as set by plan and containment."""

    slug: str
    effect: str  # read | write
    state: str  # allow | ask | deny


@dataclass(frozen=True, slots=True)
class SegmentShare:
    """An exposed segment: its rule (JSONLogic) and the share (0-1] of its units."""

    slug: str
    rule: Any
    share: Decimal


@dataclass(frozen=True, slots=True)
class RolloutExposure:
    """A live or paused rollout on one path, with the mode that its candidate is in there."""

    slug: str
    salt: str
    candidate: str
    segments: tuple[SegmentShare, ...]
    mode: str = "normal"


@dataclass(frozen=True, slots=True)
class PathExposure:
    workflow: str
    path: str
    stable: str | None
    no_ai_mode: str
    unreachable_mode: str
    fallbacks: Mapping[str, Any] = field(default_factory=dict)
    actions: tuple[ActionSetting, ...] = ()
    rollout: RolloutExposure | None = None

    @property
    def flag_key(self) -> str:
        return f"{self.workflow}.{self.path}"


@dataclass(frozen=True, slots=True)
class ExposureState:
    """Everything a document is made of; `fractional` names the generation of bucketing."""

    paths: tuple[PathExposure, ...]
    fractional: str


@dataclass(frozen=True, slots=True)
class ModeRow:
    """What a mode does to an exposed context, as in `api.md`'s table."""

    release: Literal["as_normal", "stable", "none"] = "as_normal"
    route: bool = False
    settings: bool = False
    # New state by (state, effect); what is not named stays as set.
    actions: Mapping[tuple[str, str], str] = field(default_factory=dict)


_DENY_WRITES: Final = {("allow", "write"): "deny", ("ask", "write"): "deny"}
_DENY_ALL: Final = {**_DENY_WRITES, ("allow", "read"): "deny", ("ask", "read"): "deny"}

MODES: Final[dict[str, ModeRow]] = {
    "normal": ModeRow(),
    "human_review": ModeRow(actions={("allow", "write"): "ask", ("allow", "read"): "ask"}),
    "manual": ModeRow(release="none", actions=_DENY_ALL),
    "previous_stable": ModeRow(release="stable"),
    "simpler_route": ModeRow(route=True),
    "reduced_context": ModeRow(settings=True),
    "read_only": ModeRow(actions=_DENY_WRITES),
}

# Per-run rules, the safest first: a workflow takes the first that holds.
RULE_ORDER: Final = (
    "manual",
    "human_review",
    "read_only",
    "previous_stable",
    "reduced_context",
    "simpler_route",
)


def compile_document(state: ExposureState) -> dict[str, Any]:
    """Return the flagd document of `state`, without any version number."""
    return {
        "$schema": SCHEMA,
        "flags": {path.flag_key: _flag(path) for path in state.paths},
        "metadata": {"flagSetId": FLAG_SET_ID, "fractional": state.fractional},
    }


def document_numbered(document: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a copy of a compiled document that says which exposure version it is."""
    flags = {
        key: {**flag, "metadata": {**flag["metadata"], "exposureVersion": number}}
        for key, flag in document["flags"].items()
    }
    metadata = {**document["metadata"], "version": str(number)}
    return {**document, "flags": flags, "metadata": metadata}


def candidate_value(path: PathExposure, rollout: RolloutExposure, segment: str) -> dict[str, Any]:
    """Return what an exposed context gets, in the mode that the rollout is in on this path."""
    row = MODES[rollout.mode]
    if row.release == "stable" and path.stable is None:
        return {**_no_ai(path), "arm": "candidate", "segment": segment}
    fallback = path.fallbacks.get(rollout.mode) or {}
    release = {"as_normal": rollout.candidate, "stable": path.stable, "none": None}[row.release]
    return {
        "release": release,
        "arm": "candidate",
        "mode": rollout.mode,
        "route": fallback.get("route") if row.route else None,
        "settings": dict(fallback.get("settings") or {}) if row.settings else {},
        "actions": {
            action.slug: row.actions.get((action.state, action.effect), action.state)
            for action in path.actions
        },
        "rules": _rules(path.fallbacks),
        "segment": segment,
    }


def stable_value(path: PathExposure, segment: str | None = None) -> dict[str, Any]:
    """Return what a context gets that is not exposed; `segment` is the one it was drawn from."""
    if path.stable is None:
        return {**_no_ai(path), "segment": segment}
    return {
        "release": path.stable,
        "arm": "stable",
        "mode": "normal",
        "route": None,
        "settings": {},
        "actions": {action.slug: action.state for action in path.actions},
        "rules": [],
        "segment": segment,
    }


def _no_ai(path: PathExposure) -> dict[str, Any]:
    return {
        "release": None,
        "arm": "stable",
        "mode": path.no_ai_mode,
        "route": None,
        "settings": {},
        "actions": {action.slug: "deny" for action in path.actions},
        "rules": [],
    }


def _rules(fallbacks: Mapping[str, Any]) -> list[dict[str, Any]]:
    conditions = [(mode, (fallbacks.get(mode) or {}).get("when")) for mode in RULE_ORDER]
    return [{"when": when, "mode": mode} for mode, when in conditions if when]


def _flag(path: PathExposure) -> dict[str, Any]:
    metadata = {
        "workflow": path.workflow,
        "path": path.path,
        "unreachableMode": path.unreachable_mode,
    }
    variants = {DEFAULT_VARIANT: stable_value(path)}
    flag: dict[str, Any] = {
        "state": "ENABLED",
        "variants": variants,
        "defaultVariant": DEFAULT_VARIANT,
        "metadata": metadata,
    }
    rollout = path.rollout
    if rollout is None or not rollout.segments:
        return flag
    metadata["rollout"] = rollout.slug
    chain: list[Any] = []
    for segment in _largest_share_first(rollout.segments):
        exposed = f"candidate:{segment.slug}"
        variants[exposed] = candidate_value(path, rollout, segment.slug)
        if segment.share >= 1:
            chain += [segment.rule, exposed]
            continue
        drawn_out = f"stable:{segment.slug}"
        variants[drawn_out] = stable_value(path, segment.slug)
        chain += [segment.rule, _draw(rollout.salt, segment.share, exposed, drawn_out)]
    # Named, not left to the default: only a missing targeting key falls through to that.
    flag["targeting"] = {"if": [*chain, DEFAULT_VARIANT]}
    return flag


def _largest_share_first(segments: Iterable[SegmentShare]) -> list[SegmentShare]:
    return sorted(segments, key=lambda segment: -segment.share)


def _draw(salt: str, share: Decimal, exposed: str, drawn_out: str) -> dict[str, Any]:
    # Without the `if`, all contexts that have no targeting key would share one bucket.
    weight = int(share * TOTAL_WEIGHT)
    bucket_by = {"cat": [salt, {"var": "targetingKey"}]}
    ranges = [[exposed, weight], [drawn_out, TOTAL_WEIGHT - weight]]
    return {"if": [{"var": "targetingKey"}, {"fractional": [bucket_by, *ranges]}, None]}
