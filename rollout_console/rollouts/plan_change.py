"""What a new plan does to rollouts in force: tighter, looser, or never. Pure: no Django.

Tighter applies at once, looser waits for a second person, and what a rollout stands on does not
change under it. Whatever cannot be told to be tighter counts as looser.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

from rollout_console.core.canonical import digest
from rollout_console.rollouts.plan_guards import SEVERITIES, GuardPlan
from rollout_console.rollouts.plan_types import (
    ActionRoutePlan,
    PathPlan,
    Plan,
    RolloutPlan,
    StagePlan,
)
from signals.guards.decide import DEFAULT_MIN_N, DEFAULT_TRIGGER_WINDOW_S

# From left to right a context is served more safely; within a rank neither is the safer one.
MODE_RANK: Final[dict[str, int]] = {
    "normal": 0,
    "simpler_route": 1,
    "reduced_context": 1,
    "previous_stable": 2,
    "read_only": 2,
    "human_review": 2,
    "manual": 3,
}
RESPONSE_RANK: Final[dict[str, int]] = {
    "alert": 0,
    "recommend": 1,
    "contain_after_hold": 2,
    "contain": 3,
}
ROUTE_RANK: Final[dict[str, int]] = {"allow": 0, "ask": 1, "deny": 2}
RISK_RANK: Final[dict[str, int]] = {"low": 0, "medium": 1, "high": 2}


class Direction(StrEnum):
    TIGHTER = "tighter"
    LOOSER = "looser"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of what rollouts in force stand on; `where` is written as in a plan's diff."""

    direction: Direction
    where: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A rollout in force. `reached` counts its stages exposed so far, 0 before going live."""

    slug: str
    reached: int
    rollout: RolloutPlan


def plan_changes(
    before: Plan,
    after: Plan,
    standing: Sequence[Standing],
    restricted: Mapping[str, str] | None = None,
) -> list[Change]:
    """Return what `after` changes under the rollouts in force.

    `restricted` says by segment which action route is held tighter for it. That outlives every
    rollout, so a change of its rule counts where none is in force too; nothing else does then.
    """
    segments = _segments(before, after, standing, restricted or {})
    if not standing:
        return list(segments)
    return [
        *_owners(before, after),
        *_clock(before, after),
        *_escalation(before, after),
        *_paths(before, after, standing),
        *segments,
        *_routes(before, after),
        *_signals(before, after, standing),
        *_rollouts(after, standing),
    ]


def _looser(where: str, sentence: str) -> Change:
    return Change(Direction.LOOSER, where, sentence)


def _tighter(where: str, sentence: str) -> Change:
    return Change(Direction.TIGHTER, where, sentence)


def _refused(where: str, sentence: str) -> Change:
    return Change(Direction.REFUSED, where, sentence)


def _either(tighter: bool, where: str, sentence: str) -> Change:
    return Change(Direction.TIGHTER if tighter else Direction.LOOSER, where, sentence)


def _number(
    where: str,
    what: str,
    old: float | Decimal | None,
    new: float | Decimal | None,
    *,
    tighter_down: bool,
) -> Iterator[Change]:
    """Yield the change of a bound: adding one tightens, taking it away loosens."""
    if old == new:
        return
    if new is None:
        yield _looser(where, f"{what} is taken away; it was {old}.")
    elif old is None:
        yield _tighter(where, f"{what} is added: {new}.")
    else:
        verb = "falls" if new < old else "rises"
        yield _either((new < old) == tighter_down, where, f"{what} {verb} from {old} to {new}.")


def _ranked(where: str, what: str, old: str, new: str, rank: Mapping[str, int]) -> Iterator[Change]:
    if old != new:
        yield _either(rank[new] > rank[old], where, f"{what} changes from {old} to {new}.")


def _owners(before: Plan, after: Plan) -> Iterator[Change]:
    """Yield another owner or deputy: with the name go the rights."""
    for key, old, new in (
        ("owner", before.owner, after.owner),
        ("deputy", before.deputy, after.deputy),
    ):
        if old != new:
            yield _looser(f"workflow.{key}", f"The {key} changes from {old} to {new}.")


def _clock(before: Plan, after: Plan) -> Iterator[Change]:
    yield from _number(
        "workflow.hold_s",
        "The clock before automatic containment (hold_s)",
        before.hold_s,
        after.hold_s,
        tighter_down=True,
    )


def _escalation(before: Plan, after: Plan) -> Iterator[Change]:
    """Yield a person who is told later or not any more; told sooner is tighter."""
    for step in before.escalation:
        told = [each["after_s"] for each in after.escalation if each["notify"] == step["notify"]]
        if not told or min(told) > step["after_s"]:
            yield _looser(
                "workflow.escalation",
                f"“{step['notify']}” is told {'later' if told else 'no longer'}; "
                f"it was after {step['after_s']} s.",
            )


def _paths(before: Plan, after: Plan, standing: Sequence[Standing]) -> Iterator[Change]:
    live = {path for rollout in standing for path in rollout.rollout.paths}
    paths = {path.slug: path for path in after.paths}
    for old in before.paths:
        if old.slug not in live:
            continue
        where = f"workflow.paths[{old.slug}]"
        if old.slug not in paths:
            yield _refused(where, f"the path “{old.slug}”")
        else:
            yield from _path(where, old, paths[old.slug])


def _path(where: str, old: PathPlan, new: PathPlan) -> Iterator[Change]:
    of = f"of path “{old.slug}”"
    if old.sensitivity != new.sensitivity:
        yield _either(
            new.sensitivity == "sensitive",
            f"{where}.sensitivity",
            f"The sensitivity {of} changes from {old.sensitivity} to {new.sensitivity}.",
        )
    for key, before, after in (
        ("no_ai_mode", old.no_ai_mode, new.no_ai_mode),
        ("unreachable_mode", old.unreachable_mode, new.unreachable_mode),
    ):
        yield from _ranked(f"{where}.{key}", f"“{key}” {of}", before, after, MODE_RANK)
    for key in [*old.limits, *(key for key in new.limits if key not in old.limits)]:
        yield from _number(
            f"{where}.limits.{key}",
            f"The limit {key} {of}",
            old.limits.get(key),
            new.limits.get(key),
            tighter_down=True,
        )
    yield from _number(
        f"{where}.review.capacity_per_hour",
        f"The review capacity {of}",
        old.review.get("capacity_per_hour"),
        new.review.get("capacity_per_hour"),
        tighter_down=True,
    )
    before_points, after_points = old.review.get("points", []), new.review.get("points", [])
    for point in before_points:
        if point not in after_points:
            yield _looser(f"{where}.review.points", f"The review point “{point}” {of} is removed.")
    for point in after_points:
        if point not in before_points:
            yield _tighter(f"{where}.review.points", f"The review point “{point}” {of} is added.")
    yield from _fallbacks(where, of, old.fallbacks, new.fallbacks)


def _fallbacks(
    where: str, of: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Change]:
    for mode in [*old, *(mode for mode in new if mode not in old)]:
        here = f"{where}.fallbacks.{mode}"
        what = f"The fallback {mode} {of}"
        if mode not in new:
            yield _looser(here, f"{what} is removed.")
        elif mode not in old:
            yield _tighter(here, f"{what} is added.")
        elif old[mode] != new[mode]:
            yield _either(_safer(old[mode], new[mode]), here, f"{what} is set up differently.")


def _safer(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a fallback takes in all that it did, and leaves the model no more than before."""
    if old.get("route") != new.get("route"):
        return False
    before, after = old.get("when") or {}, new.get("when") or {}
    # A mode without a condition is used by containment only; all conditions must hold at once.
    if before and not after:
        return False
    if before:
        for key, value in after.items():
            if key not in before:
                return False
            if key == "confidence_below" and value < before[key]:
                return False
            if key != "confidence_below" and value != before[key]:
                return False
    settings, given = old.get("settings") or {}, new.get("settings") or {}
    return all(key in given and given[key] <= value for key, value in settings.items())


def _segments(
    before: Plan, after: Plan, standing: Sequence[Standing], restricted: Mapping[str, str]
) -> Iterator[Change]:
    """Yield changed rules. Of whom a stage has reached, nobody may be swapped for another."""
    reached: set[str] = set()
    named: set[str] = set()
    for rollout in standing:
        for position, stage in enumerate(rollout.rollout.stages, start=1):
            slugs = {slug for slug, _ in stage.segments}
            named |= slugs
            if position <= max(1, rollout.reached):
                reached |= slugs
    rules = {segment.slug: segment.rule for segment in after.segments}
    for segment in before.segments:
        if segment.slug not in named and segment.slug not in restricted:
            continue
        where = f"workflow.segments[{segment.slug}]"
        if segment.slug not in rules:
            # A restricted one that no stage names is refused where it would be removed.
            if segment.slug in named:
                yield _refused(where, f"the segment “{segment.slug}”")
        elif digest(rules[segment.slug]) != digest(segment.rule):
            if segment.slug in reached:
                yield _refused(f"{where}.rule", f"the rule of segment “{segment.slug}”")
            else:
                sentence = f"The rule of segment “{segment.slug}” changes, and with it who is in it"
                if segment.slug in restricted:
                    sentence += f"; {restricted[segment.slug]}"
                yield _looser(f"{where}.rule", f"{sentence}.")


def _signals(before: Plan, after: Plan, standing: Sequence[Standing]) -> Iterator[Change]:
    """Yield what guards in force read otherwise than before. Others, and words, are free."""
    guarded = {guard.signal for rollout in standing for guard in rollout.rollout.guards}
    meanings = {signal.slug: signal.meaning for signal in after.signals}
    for signal in before.signals:
        if signal.slug not in guarded or meanings.get(signal.slug) == signal.meaning:
            continue
        yield _refused(
            f"workflow.signals[{signal.slug}]",
            f"the signal “{signal.slug}”, which its guards read (what means something else takes a "
            "slug of its own)",
        )


class _Named(Protocol):
    @property
    def slug(self) -> str: ...


N = TypeVar("N", bound=_Named)


def _pairs(old: Sequence[N], new: Sequence[N]) -> Iterator[tuple[str, N | None, N | None]]:
    """Yield what carries the same name before and after, gone and new ones with None."""
    before = {item.slug: item for item in old}
    after = {item.slug: item for item in new}
    for slug in [*before, *(slug for slug in after if slug not in before)]:
        yield slug, before.get(slug), after.get(slug)


def _routes(before: Plan, after: Plan) -> Iterator[Change]:
    for slug, old, new in _pairs(before.action_routes, after.action_routes):
        where = f"workflow.action_routes[{slug}]"
        if new is None:
            yield _tighter(where, f"The action route “{slug}” is removed.")
        elif old is None:
            yield _either(
                new.default == "deny",
                where,
                f"The action route “{slug}” is added, with default {new.default}.",
            )
        else:
            yield from _route(where, f"of action route “{slug}”", old, new)


def _route(where: str, of: str, old: ActionRoutePlan, new: ActionRoutePlan) -> Iterator[Change]:
    yield from _ranked(
        f"{where}.default", f"The default {of}", old.default, new.default, ROUTE_RANK
    )
    yield from _ranked(f"{where}.risk", f"The risk {of}", old.risk, new.risk, RISK_RANK)
    yield from _ranked(
        f"{where}.effect", f"The effect {of}", old.effect, new.effect, {"read": 0, "write": 1}
    )
    yield from _ranked(
        f"{where}.reversibility",
        f"The reversibility {of}",
        old.reversibility,
        new.reversibility,
        {"reversible": 0, "irreversible": 1},
    )
    yield from _number(
        f"{where}.undo_s", f"The time to undo {of}", old.undo_s, new.undo_s, tighter_down=True
    )
    if old.role != new.role:
        yield _looser(f"{where}.role", f"The role that decides {of} is {new.role}, not {old.role}.")
    for key in ("per_hour", "per_subject_per_day"):
        yield from _number(
            f"{where}.scope.{key}",
            f"The scope {key} {of}",
            old.scope.get(key),
            new.scope.get(key),
            tighter_down=True,
        )
    before, after = old.scope.get("objects", []), new.scope.get("objects", [])
    if before != after:
        # Naming no objects means any.
        narrower = bool(after) and (not before or set(after) <= set(before))
        yield _either(narrower, f"{where}.scope.objects", f"The objects {of} change.")
    if old.scope.get("parameters") != new.scope.get("parameters"):
        added = "parameters" not in old.scope
        yield _either(added, f"{where}.scope.parameters", f"The parameters {of} change.")


def _rollouts(after: Plan, standing: Sequence[Standing]) -> Iterator[Change]:
    for held in standing:
        if after.rollout is None or after.rollout.slug != held.slug:
            continue
        old, new = held.rollout, after.rollout
        for key, same in (
            ("candidate", old.candidate == new.candidate),
            ("stable", old.stable == new.stable),
            ("paths", set(old.paths) == set(new.paths)),
        ):
            if not same:
                yield _refused(f"rollout.{key}", f"its {key}")
        yield from _stages(old.stages, new.stages, held.reached)
        yield from _guards(old.guards, new.guards)


def _stages(old: Sequence[StagePlan], new: Sequence[StagePlan], reached: int) -> Iterator[Change]:
    for position in range(reached):
        held = old[position]
        now = new[position] if position < len(new) else None
        where = f"rollout.stages[{held.slug}]"
        if now is None or now.slug != held.slug or dict(now.segments) != dict(held.segments):
            yield _refused(where, f"the stage “{held.slug}”, which it has reached")
        else:
            yield from _bake(where, held, now)
    below, ahead = old[reached:], new[reached:]
    before_slugs, after_slugs = [row.slug for row in below], [row.slug for row in ahead]
    for slug, held_row, now_row in _pairs(below, ahead):
        where = f"rollout.stages[{slug}]"
        if now_row is None:
            # Without a rung the next one is a larger step; the top of the ladder may go.
            later = before_slugs[before_slugs.index(slug) + 1 :]
            steeper = any(each in after_slugs for each in later)
            yield _either(not steeper, where, f"The stage “{slug}” is removed.")
        elif held_row is None:
            later = after_slugs[after_slugs.index(slug) + 1 :]
            finer = any(each in before_slugs for each in later)
            yield _either(finer, where, f"The stage “{slug}” is added.")
        else:
            yield from _shares(where, held_row, now_row)
            yield from _bake(where, held_row, now_row)
    if _common(before_slugs, after_slugs) != _common(after_slugs, before_slugs):
        yield _looser("rollout.stages", "The stages are in another order.")


def _common(slugs: Sequence[str], others: Sequence[str]) -> list[str]:
    return [slug for slug in slugs if slug in others]


def _shares(where: str, old: StagePlan, new: StagePlan) -> Iterator[Change]:
    before, after = dict(old.segments), dict(new.segments)
    for segment in [*before, *(segment for segment in after if segment not in before)]:
        was, now = before.get(segment, Decimal(0)), after.get(segment, Decimal(0))
        if was != now:
            yield _either(
                now < was,
                f"{where}.segments[{segment}].share",
                f"The share of “{segment}” on stage “{old.slug}” "
                f"{'falls' if now < was else 'rises'} from {was} to {now}.",
            )


def _bake(where: str, old: StagePlan, new: StagePlan) -> Iterator[Change]:
    for key, what, before, after in (
        ("bake_s", "The bake", old.bake_s, new.bake_s),
        ("min_runs", "The least number of runs", old.min_runs, new.min_runs),
    ):
        yield from _number(
            f"{where}.{key}", f"{what} of stage “{old.slug}”", before, after, tighter_down=False
        )


def _guards(old: Sequence[GuardPlan], new: Sequence[GuardPlan]) -> Iterator[Change]:
    for slug, held, now in _pairs(old, new):
        of = held or now
        assert of is not None
        where = f"rollout.{'criteria' if of.kind == 'criterion' else 'triggers'}[{slug}]"
        if now is None:
            yield _looser(where, f"The {of.kind} “{slug}” is removed.")
        elif held is None:
            yield _tighter(where, f"The {of.kind} “{slug}” is added.")
        else:
            yield from _guard(where, held, now)


def _guard(where: str, old: GuardPlan, new: GuardPlan) -> Iterator[Change]:
    of = f"of {old.kind} “{old.slug}”"
    for key in ("kind", "path", "segment", "signal", "compare"):
        before, after = getattr(old, key), getattr(new, key)
        if before != after:
            # What watches something else no longer watches what it did.
            yield _looser(f"{where}.{key}", f"The {key} {of} is {after}, not {before}.")
    lower_is_better = old.of.better == "lower"
    yield from _number(
        f"{where}.limit", f"The limit {of}", old.limit, new.limit, tighter_down=lower_is_better
    )
    yield from _number(
        f"{where}.margin",
        f"The margin {of}",
        old.margin or 0.0,
        new.margin or 0.0,
        tighter_down=True,
    )
    if old.kind == "trigger":
        was, now = (guard.window_s or DEFAULT_TRIGGER_WINDOW_S for guard in (old, new))
    else:
        was, now = old.window_s or 0, new.window_s or 0
    if was != now:
        # A longer window is slower to see harm, a shorter one sees too little to say so.
        yield _looser(f"{where}.window_s", f"The window {of} changes from {was} to {now} s.")
    # A criterion that asks for more tasks holds later; a trigger that does trips later.
    yield from _number(
        f"{where}.min_n",
        f"The least number of tasks {of}",
        _min_n(old),
        _min_n(new),
        tighter_down=old.kind == "trigger",
    )
    yield from _ranked(
        f"{where}.severity",
        f"The severity {of}",
        old.severity,
        new.severity,
        {word: rank for rank, word in enumerate(SEVERITIES)},
    )
    if old.response != new.response:
        yield _either(
            _stricter(old.response, new.response),
            f"{where}.response",
            f"The response {of} is {_words(new.response)}, not {_words(old.response)}.",
        )


def _min_n(guard: GuardPlan) -> int:
    return guard.min_n or (1 if guard.compare == "hard_cap" else DEFAULT_MIN_N)


def _stricter(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a response comes at least as soon and takes away at least as much."""
    was, now = RESPONSE_RANK[old["kind"]], RESPONSE_RANK[new["kind"]]
    if now < was:
        return False
    if old["kind"] == "alert" or new["action"] == "rollback":
        return True
    if {key: value for key, value in old.items() if key not in ("kind", "mode")} != {
        key: value for key, value in new.items() if key not in ("kind", "mode")
    }:
        return False
    before, after = old.get("mode"), new.get("mode")
    return before == after or MODE_RANK[str(after)] > MODE_RANK[str(before)]


def _words(response: Mapping[str, Any]) -> str:
    return " ".join(str(value).replace("_", " ") for value in response.values())
