"""What each containment action changes on a locked rollout, in the caller's transaction."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Segment, WorkflowPath
from rollout_console.containment import policy
from rollout_console.containment.targets import (
    Press,
    action_route_named,
    paths_named,
    segments_named,
)
from rollout_console.core.errors import DomainError, InvalidInput
from rollout_console.exposure.compile import ActionSetting
from rollout_console.rollouts.ladder import cut, is_subset
from rollout_console.rollouts.models import (
    Mark,
    PathMode,
    Rollout,
    RolloutPath,
    RouteRestriction,
)
from signals.alerts.escalation import ladder_climb, ladder_facts

SHARE_STEP: Final = Decimal("0.00001")


class NotAReduction(DomainError):
    """A narrow that would expose somebody who is not exposed now."""

    code = "not-a-reduction"
    title = "This would not narrow"


class NotSafer(DomainError):
    """A fallback to the left of what holds, or one that loosens an action route."""

    code = "not-safer"
    title = "This fallback is not safer"


class ModeNotDeclared(DomainError):
    code = "mode-not-declared"
    title = "The plan declares no such fallback"


class AnotherInForce(DomainError):
    """Another rollout is in force on the path: what trips there is not seen from this one."""

    code = "another-in-force"
    title = "Another rollout is in force there"


class NothingToReturn(DomainError):
    """There is no fallback to clear, or no restriction to lift, where the press says."""

    code = "nothing-to-return"
    title = "There is nothing to take back here"


@dataclass(frozen=True, slots=True)
class Change:
    """What an action came to. `where` ends the mark's text; `data` goes into the audit entry.

    `paths` and `segments` (None: all) are the ids of what it covers, by which clocks are stopped.
    """

    changed: bool
    where: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    paths: frozenset[int] = frozenset()
    segments: frozenset[int] | None = None


def exposed_set(rollout: Rollout) -> dict[str, Decimal]:
    """Return what is exposed now: segment slug to share."""
    rows = rollout.exposed.select_related("segment").order_by("pk")
    return {row.segment.slug: row.share for row in rows}


def stage_sets(rollout: Rollout) -> list[dict[str, Decimal]]:
    """Return what each stage of the ladder exposes in full, in order."""
    stages = rollout.stages.prefetch_related("segments__segment").order_by("position")
    return [
        {row.segment.slug: row.share for row in stage.segments.order_by("position")}
        for stage in stages
    ]


def shares_text(exposed: dict[str, Decimal]) -> str:
    """Return an exposed set in words, as in "internal-ops 90 % + eu 5 %"."""
    shown = (f"{slug} {(share * 100).normalize():f} %" for slug, share in exposed.items())
    return " + ".join(shown) or "nobody"


def narrow(rollout: Rollout, press: Press) -> Change:
    """Expose a subset of what is exposed now.

    Raises:
        NotAReduction: a named segment is not exposed.
        InvalidInput: no segment stays, or the share is none.
    """
    before = exposed_set(rollout)
    if press.to is not None:
        return _narrow_to(rollout, cut(press.to, before))
    stay = tuple(before) if press.segments is None else tuple(dict.fromkeys(press.segments))
    outside = [slug for slug in stay if slug not in before]
    if outside:
        raise NotAReduction(
            f"Not exposed now: {', '.join(outside)[:200]}. Narrowing keeps some of"
            f" {shares_text(before)}; widening is an expansion.",
            exposed=list(before),
        )
    if not stay:
        raise InvalidInput(
            "Name at least one segment that stays; to take all away, roll back.",
            errors=[{"pointer": "/segments", "detail": f"Use some of: {', '.join(before)}."}],
        )
    most = Decimal(1)
    if press.share is not None:
        most = press.share
        if not 0 < most <= 1 or most != most.quantize(SHARE_STEP):
            raise InvalidInput(
                "A share is more than 0 and at most 1, with up to five decimals.",
                errors=[{"pointer": "/share", "detail": "Use a share such as 0.05."}],
            )
    return _narrow_to(rollout, cut(before, dict.fromkeys(stay, most)))


def _narrow_to(rollout: Rollout, target: dict[str, Decimal]) -> Change:
    """Expose `target`, a subset of what is exposed now."""
    before = exposed_set(rollout)
    assert is_subset(target, before)
    for row in rollout.exposed.select_related("segment"):
        share = target.get(row.segment.slug)
        if share is None:
            row.delete()
        elif share != row.share:
            row.share = share
            row.save(update_fields=["share"])
    return Change(
        changed=target != before,
        where=f" to {shares_text(target)}",
        data={"to": {slug: str(share.normalize()) for slug, share in target.items()}},
        paths=_path_ids(rollout),
    )


def fall_back(rollout: Rollout, press: Press, *, now: datetime) -> Change:
    """Put paths, or segments of them, into a fallback mode, where that is safer than what holds.

    Places that are in a safer mode already stay in it.

    Raises:
        InvalidInput: no mode is named.
        ModeNotDeclared: a path's plan has no such fallback.
        NotSafer: nowhere that the press names would it be safer.
    """
    if press.mode is None:
        raise InvalidInput(
            "Say which fallback mode.",
            errors=[{"pointer": "/mode", "detail": f"Use one of: {', '.join(policy.MODE_NAMES)}."}],
        )
    paths, segments = paths_named(rollout, press), segments_named(rollout, press)
    for path in paths:
        if press.mode not in path.fallbacks:
            declared = ", ".join(path.fallbacks) or "none"
            raise ModeNotDeclared(
                f"“{path.name}” declares no fallback {press.mode}; it has: {declared}.",
                declared=list(path.fallbacks),
            )
    refused: list[str] = []
    done = already = 0
    for path in paths:
        for segment in segments:
            said = _mode_set(rollout, path, segment, press.mode, now=now)
            done += said == ""
            already += said == "same"
            if said not in ("", "same"):
                refused.append(said)
    if refused and not done and not already:
        raise NotSafer(
            f"{refused[0]} Clear the fallback instead, which takes the owner and a second person.",
        )
    return Change(
        changed=done > 0,
        where=f" to {policy.MODE_NAMES[press.mode].lower()}{_where_text(paths, segments)}",
        data={"mode": press.mode, **_where_data(paths, segments)},
        paths=frozenset(path.pk for path in paths),
        segments=_segment_ids(segments),
    )


def _mode_set(
    rollout: Rollout, path: WorkflowPath, segment: Segment | None, mode: str, *, now: datetime
) -> str:
    """Set one place's mode; return "" when done, "same", or the sentence of why it is not safer."""
    rows = {row.segment_id: row for row in rollout.modes.filter(path=path)}
    whole = rows.get(None)
    own = rows.get(segment.pk) if segment is not None else whole
    held = own.mode if own is not None else whole.mode if whole is not None else "normal"
    actions = _actions(path, segment)
    narrower = [] if segment is not None else [row for key, row in rows.items() if key is not None]
    # For the whole path, a segment's own mode gives way only where the new one is safer.
    passed = [row for row in narrower if policy.is_safer(row.mode, mode, actions)]
    if held == mode and not [row for row in passed if row.mode != mode]:
        return "same"
    if held != mode and not policy.is_safer(held, mode, actions):
        return _not_safer(path, held, mode, actions)
    # A safer mode goes on from the first: what tripped since counts when it is cleared.
    since = min([now, *(row.since for row in [*passed, *([own] if own is not None else [])])])
    PathMode.objects.filter(pk__in=[row.pk for row in passed]).delete()
    PathMode.objects.update_or_create(
        rollout=rollout, path=path, segment=segment, defaults={"mode": mode, "since": since}
    )
    return ""


def _not_safer(path: WorkflowPath, held: str, mode: str, actions: dict[str, ActionSetting]) -> str:
    names = policy.MODE_NAMES
    if policy.MODE_RANK[mode] < policy.MODE_RANK[held]:
        return (
            f"“{path.name}” is in {names[held].lower()}, which is safer than {names[mode].lower()}."
        )
    route, old, new = policy.looser_routes(held, mode, actions)[0]
    return (
        f"“{path.name}” is in {names[held].lower()}: with {names[mode].lower()} the action route"
        f" {route} would go from {old} to {new}."
    )


def returns_since(rollout: Rollout, action: str, press: Press) -> datetime:
    """Return when what a widening action takes back began.

    Raises:
        NothingToReturn: there is no fallback, or no restriction, where the press says.
        AnotherInForce: a path to enable a route on is another rollout's.
    """
    if action == "resume":
        paused = AuditEntry.objects.filter(
            subject_type="rollout", subject=rollout.slug, action=policy.RULES["pause"].audit
        )
        # What happened to it while it was paused moved `state_at`.
        return paused.order_by("-pk").values_list("at", flat=True).first() or rollout.state_at
    if action == "enable_action":
        _others_refuse(rollout, paths_named(rollout, press))
    rows = _modes(rollout, press) if action == "clear_fallback" else _restrictions(rollout, press)
    return min(row.since for row in rows)


def fallback_clear(rollout: Rollout, press: Press) -> Change:
    """Return paths, or segments of them, from their fallback to normal.

    Raises:
        NothingToReturn: no fallback is in force there.
    """
    rows = _modes(rollout, press)
    PathMode.objects.filter(pk__in=[row.pk for row in rows]).delete()
    paths, segments = paths_named(rollout, press), segments_named(rollout, press)
    return Change(
        changed=True,
        where=_where_text(paths, segments),
        data={"modes": sorted({row.mode for row in rows}), **_where_data(paths, segments)},
    )


def _others_refuse(rollout: Rollout, paths: list[WorkflowPath]) -> None:
    others = (
        RolloutPath.objects.filter(path__in=paths, in_force=True)
        .exclude(rollout=rollout)
        .order_by("rollout__slug")
        .values_list("rollout__slug", flat=True)
        .distinct()
    )
    if slugs := list(others):
        raise AnotherInForce(
            f"On a path of it {', '.join(slugs)} is in force: enable the action route there.",
            rollouts=slugs,
        )


def _modes(rollout: Rollout, press: Press) -> list[PathMode]:
    paths, segments = paths_named(rollout, press), segments_named(rollout, press)
    rows = rollout.modes.filter(path__in=paths)
    found = list(rows if segments == [None] else rows.filter(segment__in=segments))
    if not found:
        raise NothingToReturn(
            "The fallback there is for the whole path: clear it without naming segments."
            if rows.filter(segment=None).exists()
            else "No fallback is in force there."
        )
    return found


def _restrictions(rollout: Rollout, press: Press) -> list[RouteRestriction]:
    route = action_route_named(rollout, press)
    paths, segments = paths_named(rollout, press), segments_named(rollout, press)
    rows = RouteRestriction.objects.filter(path__in=paths, action_route=route)
    found = list(rows if segments == [None] else rows.filter(segment__in=segments))
    if not found:
        raise NothingToReturn(
            f"The action route {route.slug} is held for the whole path: enable it without naming"
            " segments."
            if rows.filter(segment=None).exists()
            else f"The action route {route.slug} is as planned there."
        )
    return found


def action_restrict(rollout: Rollout, press: Press, *, state: str, now: datetime) -> Change:
    """Hold an action route at `state` (ask or deny) or tighter, on both arms."""
    route = action_route_named(rollout, press)
    paths, segments = paths_named(rollout, press), segments_named(rollout, press)
    changed = False
    for path in paths:
        for segment in segments:
            row, made = RouteRestriction.objects.get_or_create(
                path=path,
                segment=segment,
                action_route=route,
                defaults={"state": state, "since": now},
            )
            tightest = policy.restricted(row.state, state)
            if not made and tightest != row.state:
                row.state = tightest
                row.save(update_fields=["state"])
                made = True
            changed = changed or made
    return Change(
        changed=changed,
        where=f": {route.slug}{_where_text(paths, segments)}",
        data={"action_route": route.slug, "to": state, **_where_data(paths, segments)},
        paths=frozenset(path.pk for path in paths),
        segments=_segment_ids(segments),
    )


def action_enable(rollout: Rollout, press: Press) -> Change:
    """Let an action route be as planned again.

    Raises:
        NothingToReturn: it is as planned there.
    """
    rows = _restrictions(rollout, press)
    RouteRestriction.objects.filter(pk__in=[row.pk for row in rows]).delete()
    paths, segments = paths_named(rollout, press), segments_named(rollout, press)
    return Change(
        changed=True,
        where=f": {press.action_route}{_where_text(paths, segments)}",
        data={"action_route": press.action_route, **_where_data(paths, segments)},
    )


def escalate(rollout: Rollout) -> Change:
    """Tell the next on the ladder: of the incident that waits, else of those told since going
    live."""
    told = AuditEntry.objects.filter(
        subject_type="rollout",
        subject=rollout.slug,
        action=policy.RULES["escalate"].audit,
        at__gte=rollout.live_at or rollout.created_at,
    )
    rung = ladder_climb(workflow=rollout.workflow, rollout=rollout.slug, before=told.count())
    names = ", ".join(rung.names) or "nobody has this role"
    return Change(changed=True, where=f" to {rung.to} ({names})", data=ladder_facts(rung))


def mark_add(rollout: Rollout, *, kind: str, text: str, now: datetime) -> None:
    """Mark the charts."""
    Mark.objects.create(
        workflow_id=rollout.workflow_id, rollout=rollout, kind=kind, text=text[:200], at=now
    )


def _actions(path: WorkflowPath, segment: Segment | None) -> dict[str, ActionSetting]:
    """Return the action routes of a path as plan and restrictions set them."""
    held: dict[str, str] = {}
    rows = path.restrictions.select_related("action_route")
    for row in rows:
        if row.segment_id is None or (segment is not None and row.segment_id == segment.pk):
            slug = row.action_route.slug
            held[slug] = policy.restricted(held.get(slug), row.state)
    return {
        route.slug: ActionSetting(
            route.slug, route.effect, policy.restricted(held.get(route.slug), route.default)
        )
        for route in path.workflow.action_routes.all()
    }


def _path_ids(rollout: Rollout) -> frozenset[int]:
    return frozenset(rollout.rollout_paths.values_list("path_id", flat=True))


def _segment_ids(segments: Iterable[Segment | None]) -> frozenset[int] | None:
    found = frozenset(segment.pk for segment in segments if segment is not None)
    return found or None


def _where_text(paths: list[WorkflowPath], segments: list[Segment | None]) -> str:
    text = f" on {', '.join(path.slug for path in paths)}"
    named = [segment.slug for segment in segments if segment is not None]
    return f"{text} for {', '.join(named)}" if named else text


def _where_data(paths: list[WorkflowPath], segments: list[Segment | None]) -> dict[str, Any]:
    named = [segment.slug for segment in segments if segment is not None]
    return {"paths": [path.slug for path in paths], **({"segments": named} if named else {})}
