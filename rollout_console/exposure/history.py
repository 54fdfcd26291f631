"""What an exposure version serves, and what it changed, read out of stored documents.

Pure: no Django. Shares are 0-1; a segment is named by its slug, None stands for everybody else.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rollout_console.exposure.compile import DEFAULT_VARIANT, TIGHT

_EXPOSED: Final = "candidate:"
# What is compared of a served value one by one; actions and the per-run rules besides.
_FIELDS: Final = ("release", "mode", "route", "settings")


@dataclass(frozen=True, slots=True)
class Served:
    """What one group of contexts gets on a path; `share` is None for who is not exposed.

    `held` are those of the group who are in another segment too, in which containment restricts
    action routes.
    """

    segment: str | None
    share: float | None
    held: bool
    release: str | None
    mode: str
    route: str | None
    settings: Mapping[str, Any]
    actions: Mapping[str, str]
    rules: list[Any]

    @property
    def exposed(self) -> bool:
        return self.share is not None


@dataclass(frozen=True, slots=True)
class PathServed:
    """A path in one document: its rollout, the exposed segments, and everybody else.

    `apart` are groups within these that get something else.
    """

    workflow: str
    path: str
    rollout: str | None
    unreachable_mode: str
    exposed: list[Served]
    apart: list[Served]
    others: Served

    @property
    def key(self) -> str:
        return f"{self.workflow}.{self.path}"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two documents; `what` names it, for an action route its slug too.

    `exposed` says whether it is what a segment gets exposed, or what it gets otherwise; `held`
    as in `Served`.
    """

    workflow: str
    path: str
    segment: str | None
    what: str
    before: Any
    after: Any
    exposed: bool = False
    held: bool = False

    @property
    def sentence(self) -> str:
        """Say it in words, without the path, which stands before it everywhere."""
        who = self.segment or "everybody else"
        if self.segment and not self.exposed:
            who = f"{self.segment}, not exposed"
        if self.held:
            who = f"{who}, if in a restricted segment"
        match self.what:
            case "path" if self.before is None:
                return f"the path is new; everybody gets {_release(self.after)}"
            case "path":
                return "the path is no longer served"
            case "rollout":
                return f"rollout {_plain(self.before)} → {_plain(self.after)}"
            case "unreachable_mode":
                return f"when unreachable: {self.before} → {self.after}"
            case "exposed" if self.before is None:
                return f"{who}: exposed, {_exposure(self.after)}; not exposed before"
            case "exposed":
                return f"{who}: no longer exposed; before {_exposure(self.before)}"
            case "share":
                word = "widened" if self.after > self.before else "narrowed"
                return f"{who}: {word} {_percent(self.before)} → {_percent(self.after)}"
            case "rule":
                return f"{who}: its rule changed"
            case "rules":
                return f"{who}: the rules for single runs changed"
            case "release":
                return f"{who}: release {_release(self.before)} → {_release(self.after)}"
            case what if what.startswith("action "):
                route = what.removeprefix("action ")
                return f"{who}: action route {route} {_plain(self.before)} → {_plain(self.after)}"
            case what:
                return f"{who}: {what} {_plain(self.before)} → {_plain(self.after)}"


def paths_served(document: Mapping[str, Any]) -> list[PathServed]:
    """Return every path of a document, by key."""
    return [_path(flag) for _, flag in sorted(document["flags"].items())]


def document_changes(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[Change]:
    """Return what `after` changed, by path; `before` is None for the first document."""
    old = {} if before is None else before["flags"]
    new = after["flags"]
    found: list[Change] = []
    for key in sorted(set(old) | set(new)):
        found += _path_changes(old.get(key), new.get(key))
    return found


def workflows_touched(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> set[str]:
    """Return the slugs of the workflows that are served otherwise than before."""
    old = {} if before is None else before["flags"]
    new = after["flags"]
    touched = set()
    for key in set(old) | set(new):
        if _unnumbered(old.get(key)) != _unnumbered(new.get(key)):
            touched.add((new.get(key) or old[key])["metadata"]["workflow"])
    return touched


def document_cut(
    document: Mapping[str, Any], workflows: Collection[str] | None
) -> Mapping[str, Any]:
    """Return the document with the flags of these workflows alone; None for all."""
    if workflows is None:
        return document
    return {
        **document,
        "flags": {
            key: flag
            for key, flag in document["flags"].items()
            if flag["metadata"]["workflow"] in workflows
        },
    }


def _path(flag: Mapping[str, Any]) -> PathServed:
    metadata = flag["metadata"]
    shares = dict(_shares(flag.get("targeting")))
    variants = flag["variants"]
    groups = {name: _served(name, value, shares) for name, value in variants.items()}
    return PathServed(
        workflow=metadata["workflow"],
        path=metadata["path"],
        rollout=metadata.get("rollout"),
        unreachable_mode=metadata["unreachableMode"],
        exposed=[each for each in groups.values() if each.exposed and not each.held],
        apart=[
            each
            for name, each in groups.items()
            if name != _usual(name) and any(_differences(groups[_usual(name)], each))
        ],
        others=groups[DEFAULT_VARIANT],
    )


def _usual(name: str) -> str:
    """Return the variant that a group within another one gets, unless it is set apart."""
    return name.removesuffix(TIGHT) if name.startswith(_EXPOSED) else DEFAULT_VARIANT


def _served(name: str, value: Mapping[str, Any], shares: Mapping[str, float]) -> Served:
    _, _, segment = name.removesuffix(TIGHT).partition(":")
    return Served(
        segment=segment or None,
        share=shares.get(name, 0.0) if name.startswith(_EXPOSED) else None,
        held=name.endswith(TIGHT),
        release=value["release"],
        mode=value["mode"],
        route=value["route"],
        settings=value["settings"],
        actions=value["actions"],
        rules=value["rules"],
    )


def _shares(targeting: Any) -> Iterator[tuple[str, float]]:
    """Yield each exposed variant with the share of its segment that gets it."""
    if isinstance(targeting, str):
        if targeting.startswith(_EXPOSED):
            yield targeting, 1.0
    elif isinstance(targeting, list):
        for part in targeting:
            yield from _shares(part)
    elif isinstance(targeting, dict):
        if "fractional" in targeting:
            ranges = targeting["fractional"][1:]
            whole = sum(weight for _, weight in ranges)
            for name, weight in ranges:
                if name.startswith(_EXPOSED):
                    yield name, weight / whole
        else:
            for part in targeting.values():
                yield from _shares(part)


def _path_changes(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Iterator[Change]:
    if _unnumbered(old) == _unnumbered(new):
        return
    metadata = (new or old or {})["metadata"]
    place = (metadata["workflow"], metadata["path"])
    before = None if old is None else _path(old)
    after = None if new is None else _path(new)
    if before is None or after is None:
        told = [None if each is None else each.others.release for each in (before, after)]
        # A first release has no stable one, so the release alone would not tell them apart.
        yield Change(
            *place,
            None,
            "path",
            None if before is None else {"release": told[0]},
            None if after is None else {"release": told[1]},
        )
        for each in after.exposed if after is not None else []:
            yield Change(*place, each.segment, "exposed", None, _told(each), exposed=True)
        return
    if before.rollout != after.rollout:
        yield Change(*place, None, "rollout", before.rollout, after.rollout)
    if before.unreachable_mode != after.unreachable_mode:
        yield Change(
            *place, None, "unreachable_mode", before.unreachable_mode, after.unreachable_mode
        )
    was = {each.segment: each for each in before.exposed}
    now = {each.segment: each for each in after.exposed}
    rules = _segment_rules(old), _segment_rules(new)
    for segment in sorted(set(was) | set(now), key=str):
        left, right = was.get(segment), now.get(segment)
        if left is None or right is None:
            yield Change(
                *place,
                segment,
                "exposed",
                None if left is None else _told(left),
                None if right is None else _told(right),
                exposed=True,
            )
            continue
        if left.share != right.share:
            yield Change(*place, segment, "share", left.share, right.share, exposed=True)
        if rules[0].get(segment) != rules[1].get(segment):
            rule, new_rule = rules[0].get(segment), rules[1].get(segment)
            yield Change(*place, segment, "rule", rule, new_rule, exposed=True)
        for what, old_value, new_value in _differences(left, right):
            yield Change(*place, segment, what, old_value, new_value, exposed=True)
    usual = list(_differences(before.others, after.others))
    for what, old_value, new_value in usual:
        yield Change(*place, None, what, old_value, new_value)
    yield from _apart_changes(place, before, after)


def _apart_changes(
    place: tuple[str, str], before: PathServed, after: PathServed
) -> Iterator[Change]:
    """Yield what changed for a group and not for the one that it is within."""
    was = {(each.exposed, each.segment or "", each.held): each for each in before.apart}
    now = {(each.exposed, each.segment or "", each.held): each for each in after.apart}
    for group in sorted(set(was) | set(now)):
        exposed, segment, held = group
        around = _around(before, group), _around(after, group)
        if around[0] is None or around[1] is None:
            # Its segment came or went, which is said.
            continue
        usual = list(_differences(around[0], around[1]))
        pair = was.get(group, around[0]), now.get(group, around[1])
        for difference in _differences(*pair):
            # What changed for everybody around is said once.
            if difference not in usual:
                yield Change(*place, segment or None, *difference, exposed=exposed, held=held)


def _around(path: PathServed, group: tuple[bool, str, bool]) -> Served | None:
    exposed, segment, _ = group
    if not exposed:
        return path.others
    return next((each for each in path.exposed if each.segment == segment), None)


def _differences(left: Served, right: Served) -> Iterator[tuple[str, Any, Any]]:
    """Yield (what, before, after) for everything that two groups are served otherwise."""
    for name in _FIELDS:
        was, now = getattr(left, name), getattr(right, name)
        if was != now:
            yield name, was, now
    for route in sorted(set(left.actions) | set(right.actions)):
        was, now = left.actions.get(route), right.actions.get(route)
        if was != now:
            yield f"action {route}", was, now
    if left.rules != right.rules:
        yield "rules", left.rules, right.rules


def _segment_rules(flag: Mapping[str, Any] | None) -> dict[str | None, Any]:
    """Return each exposed segment's rule, which stands before its outcome in the chain."""
    chain = ((flag or {}).get("targeting") or {}).get("if") or []
    found: dict[str | None, Any] = {}
    for rule, outcome in zip(chain[::2], chain[1::2], strict=False):
        for name, _ in _shares(outcome):
            found[name.removeprefix(_EXPOSED)] = rule
    return found


def _unnumbered(flag: Mapping[str, Any] | None) -> Any:
    """Return a flag without the version that it was published in."""
    if flag is None:
        return None
    metadata = {key: value for key, value in flag["metadata"].items() if key != "exposureVersion"}
    return {**flag, "metadata": metadata}


def _told(served: Served) -> dict[str, Any]:
    return {"share": served.share, "release": served.release, "mode": served.mode}


def _exposure(told: Mapping[str, Any]) -> str:
    return f"{_percent(told['share'])} on {_release(told)} in mode {told['mode']}"


def _release(told: Any) -> str:
    release = told.get("release") if isinstance(told, Mapping) else told
    return release or "no release"


def _percent(share: float) -> str:
    return f"{share * 100:.5g} %"


def _plain(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in sorted(value.items()))
    return str(value)
