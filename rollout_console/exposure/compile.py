"""From catalogue and rollouts to one document in flagd's format. Pure: no Django.

One object-valued flag per workflow path. A context is exposed where a segment's rule holds and
the bucket of (the rollout's salt, its targeting key) lies below the segment's share: the same
bucket in every segment and on every path, so that one person has one arm everywhere. Segments
are tried by share, the largest first, so that somebody in two of them has the larger share:
then widening keeps everybody, and narrowing removes and never adds.

A context is answered as the first segment that it matches, in that segment's mode. An action
route held tighter for a segment is held for everybody in it, whichever segment they are answered
as: with several such segments, whoever is in one of them gets the tightest of all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, Literal

FLAG_SET_ID: Final = "rollout-console"
SCHEMA: Final = "https://flagd.dev/schema/v0/flags.json"
# The same at every step, else a ramp would reshuffle people. Shares have five decimals.
TOTAL_WEIGHT: Final = 100_000
DEFAULT_VARIANT: Final = "stable"
# Ends the name of a variant for contexts that a restriction of another segment holds too.
TIGHT: Final = ":restricted"


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
    """A live or paused rollout on one path, with the modes that its candidate is in there.

    `modes` maps a segment's slug, or None for the whole path, to a mode.
    """

    slug: str
    salt: str
    candidate: str
    segments: tuple[SegmentShare, ...]
    modes: Mapping[str | None, str] = field(default_factory=dict)

    def mode_in(self, segment: str) -> str:
        """Return the mode of a segment: its own, else the path's, else normal."""
        return self.modes.get(segment) or self.modes.get(None) or "normal"


@dataclass(frozen=True, slots=True)
class Restriction:
    """Action routes held tighter than planned: route slug to `ask` or `deny`.

    `segment` and its `rule` are None for the whole path.
    """

    segment: str | None
    rule: Any
    states: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PathExposure:
    workflow: str
    path: str
    stable: str | None
    no_ai_mode: str
    unreachable_mode: str
    fallbacks: Mapping[str, Any] = field(default_factory=dict)
    actions: tuple[ActionSetting, ...] = ()
    restrictions: tuple[Restriction, ...] = ()
    rollout: RolloutExposure | None = None

    @property
    def flag_key(self) -> str:
        return f"{self.workflow}.{self.path}"

    def actions_for(self, segments: Iterable[str | None]) -> dict[str, ActionSetting]:
        """Return the action routes as set, restricted for the path and for `segments`."""
        wanted = {None, *segments}
        held = [each.states for each in self.restrictions if each.segment in wanted]
        return {
            action.slug: replace(
                action,
                state=tightest([action.state, *(states.get(action.slug, "") for states in held)]),
            )
            for action in self.actions
        }


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


# How tight an action route's state is.
STRICTNESS: Final = {"": -1, "allow": 0, "ask": 1, "deny": 2}


def tightest(states: Iterable[str]) -> str:
    """Return the tightest of some states of one action route."""
    return max(states, key=STRICTNESS.__getitem__)


def state_in_mode(mode: str, action: ActionSetting) -> str:
    """Return what becomes of an action route, as set, in a mode."""
    return MODES[mode].actions.get((action.state, action.effect), action.state)


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


def candidate_value(
    path: PathExposure, rollout: RolloutExposure, segment: str, *, also: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what a context gets that is exposed as `segment`, in the mode it is in.

    `also` are further segments whose restrictions hold for it.
    """
    mode = rollout.mode_in(segment)
    row = MODES[mode]
    if row.release == "stable" and path.stable is None:
        return {**_no_ai(path), "arm": "candidate", "segment": segment}
    fallback = path.fallbacks.get(mode) or {}
    release = {"as_normal": rollout.candidate, "stable": path.stable, "none": None}[row.release]
    actions = path.actions_for([segment, *also])
    return {
        "release": release,
        "arm": "candidate",
        "mode": mode,
        "route": fallback.get("route") if row.route else None,
        "settings": dict(fallback.get("settings") or {}) if row.settings else {},
        "actions": {slug: state_in_mode(mode, action) for slug, action in actions.items()},
        "rules": _rules(path.fallbacks),
        "segment": segment,
    }


def stable_value(
    path: PathExposure, segment: str | None = None, *, also: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what a context gets that is not exposed; `segment` is the one it was drawn from."""
    if path.stable is None:
        return {**_no_ai(path), "segment": segment}
    return {
        "release": path.stable,
        "arm": "stable",
        "mode": "normal",
        "route": None,
        "settings": {},
        "actions": {s: action.state for s, action in path.actions_for([segment, *also]).items()},
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
    segments: list[SegmentShare] = []
    if rollout is not None and rollout.segments:
        metadata["rollout"] = rollout.slug
        segments = _largest_share_first(rollout.segments)
    held = [each for each in path.restrictions if each.segment is not None]
    if not segments and not held:
        return flag
    chain: list[Any] = []
    for segment in segments:
        assert rollout is not None
        chain += [segment.rule, _entry(path, rollout, segment, held, variants)]
    if held:
        tight = f"{DEFAULT_VARIANT}{TIGHT}"
        variants[tight] = stable_value(path, also=_names(held))
        chain += [_in_any(held), tight]
    # Named, not left to the default: only a missing targeting key falls through to that.
    flag["targeting"] = {"if": [*chain, DEFAULT_VARIANT]}
    return flag


def _entry(
    path: PathExposure,
    rollout: RolloutExposure,
    segment: SegmentShare,
    held: Sequence[Restriction],
    variants: dict[str, Any],
) -> Any:
    """Return what is answered in a segment, and add its variants."""
    others = [each for each in held if each.segment != segment.slug]
    plain = _draw_of(path, rollout, segment, (), "", variants)
    if not others:
        return plain
    tight = _draw_of(path, rollout, segment, _names(others), TIGHT, variants)
    return {"if": [_in_any(others), tight, plain]}


def _draw_of(
    path: PathExposure,
    rollout: RolloutExposure,
    segment: SegmentShare,
    also: Sequence[str],
    mark: str,
    variants: dict[str, Any],
) -> Any:
    exposed = f"candidate:{segment.slug}{mark}"
    variants[exposed] = candidate_value(path, rollout, segment.slug, also=also)
    if segment.share >= 1:
        return exposed
    drawn_out = f"stable:{segment.slug}{mark}"
    variants[drawn_out] = stable_value(path, segment.slug, also=also)
    return _draw(rollout.salt, segment.share, exposed, drawn_out)


def _names(held: Iterable[Restriction]) -> list[str]:
    return [each.segment for each in held if each.segment is not None]


def _in_any(held: Sequence[Restriction]) -> Any:
    return {"or": [each.rule for each in held]}


def _largest_share_first(segments: Iterable[SegmentShare]) -> list[SegmentShare]:
    return sorted(segments, key=lambda segment: -segment.share)


def _draw(salt: str, share: Decimal, exposed: str, drawn_out: str) -> dict[str, Any]:
    # Without the `if`, all contexts that have no targeting key would share one bucket.
    weight = int(share * TOTAL_WEIGHT)
    bucket_by = {"cat": [salt, {"var": "targetingKey"}]}
    ranges = [[exposed, weight], [drawn_out, TOTAL_WEIGHT - weight]]
    return {"if": [{"var": "targetingKey"}, {"fractional": [bucket_by, *ranges]}, None]}
