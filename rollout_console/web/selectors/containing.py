"""What a containment form offers: its choices, the blast radius, and who may press."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, who_can
from rollout_console.containment import changes, policy
from rollout_console.containment.selectors import BlastRadius, blast_radius
from rollout_console.exposure.compile import STRICTNESS, tightest
from rollout_console.rollouts.ladder import cut
from rollout_console.rollouts.models import Rollout, RouteRestriction
from rollout_console.rollouts.states import MoveNotAllowed, RolloutState
from rollout_console.web.actions import Action, action_for, exposed_text, mode_text
from rollout_console.web.drawing import ring_radii
from rollout_console.web.selectors.rollouts import AlertRow, alert_rows, alerts_read
from rollout_console.web.words import STATES, Shown, share_text

_MODE_FOR: Final = policy.MODE_FOR_REASON
# The choice of every place at once, where a fallback is cleared.
EVERYWHERE: Final = "*"


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing to choose; `blocked` says why it cannot be."""

    value: str
    title: str
    aux: str = ""
    detail: str = ""
    chosen: bool = False
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Choices under one legend, of which one (radio) or several (checkbox) are taken."""

    name: str
    legend: str
    kind: Literal["radio", "checkbox"]
    choices: list[Choice]
    help: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class ContainView:
    """What the form shows. `share_text` is the measured part of the paths' tasks."""

    rollout: Rollout
    shown: Shown
    action: Action
    blast: BlastRadius
    share_text: str
    rings: list[tuple[float, str]]
    ring_text: str
    alert: AlertRow | None
    reason: str
    groups: list[Group]
    asks_share: bool
    may: bool
    who: list[str]
    help: str
    widens: bool
    blocked: str
    already: bool


def contain_view(
    rollout: Rollout, action: str, *, principal: Principal, now: datetime
) -> ContainView:
    """Return what an action's form shows for this rollout and reader."""
    state = RolloutState(rollout.state)
    rule = policy.RULES[action]
    blast = blast_radius(rollout, now=now)
    exposed = exposed_text([(part.name, part.share) for part in blast.segments])
    alert = next(iter(alert_rows(alerts_read([rollout.slug])[rollout.slug], now=now)), None)
    reason = policy.reason_for_signal(alert.signal) if alert else "precaution"
    groups = _groups(rollout, action, reason)
    blocked, already = _standing(state, action)
    if not blocked and groups and not any(c for g in groups for c in g.choices if not c.blocked):
        blocked = _NOTHING[action]
    verb = Verb(action)
    may = principal.may(verb, rollout.workflow_id) or (
        rule.widens and principal.may(Verb.SECOND_PERSON, rollout.workflow_id)
    )
    measured = share_text(blast.exposed_share)
    return ContainView(
        rollout=rollout,
        shown=STATES[state],
        action=action_for(rollout, action, exposed=exposed),
        blast=blast,
        share_text=measured,
        rings=[
            (radius, _ring(action, number < rollout.stage and bool(blast.segments)))
            for number, radius in enumerate(ring_radii(rollout.stages.count()))
        ],
        ring_text=f"{measured} → 0 %" if action == "rollback" else f"now at {measured}",
        alert=alert,
        reason=reason,
        groups=groups,
        asks_share=action == "narrow",
        may=may,
        who=[] if may else who_can(verb, rollout.workflow),
        widens=rule.widens,
        help=_HELP_TWO if rule.widens else "Commits at once; it needs nobody else.",
        blocked=blocked,
        already=already,
    )


_HELP_TWO: Final = "The owner alone while nothing tripped since; else a second person too."
_NOTHING: Final = {
    "narrow": "Nobody is exposed, so there is nothing to narrow.",
    "fallback": "The plan declares no fallback that is safer than what holds now.",
    "clear_fallback": "No fallback is in force.",
    "disable_action": "Every action route is denied already, or there is none.",
    "require_approval": "Every action route asks for approval already, or there is none.",
    "enable_action": "Every action route is as planned.",
}


def _standing(state: RolloutState, action: str) -> tuple[str, bool]:
    """Return (why the state does not admit the action, whether it holds already)."""
    if action in ("pause", "rollback", "resume"):
        try:
            return "", policy.state_after(state, action) is state
        except MoveNotAllowed as refusal:
            return str(refusal), False
    if state not in policy.RULES[action].while_:
        return f"A {state.replace('_', ' ')} rollout exposes nobody.", False
    return "", False


def _ring(action: str, exposed: bool) -> str:
    if not exposed:
        return ""
    return "drop" if action == "rollback" else "keep"


def _groups(rollout: Rollout, action: str, reason: str) -> list[Group]:
    if action == "narrow":
        return [_segments_to_keep(rollout)]
    if action == "fallback":
        return [_modes(rollout, reason), *_places(rollout)]
    if action == "clear_fallback":
        return [_fallbacks_in_force(rollout)]
    if action in ("disable_action", "require_approval", "enable_action"):
        return [_routes(rollout, action), *_places(rollout)]
    return []


def _segments_to_keep(rollout: Rollout) -> Group:
    exposed = changes.exposed_set(rollout)
    below = {}
    if rollout.stage > 1:
        below = cut(changes.stage_sets(rollout)[rollout.stage - 2], exposed)
    rows = rollout.exposed.select_related("segment").order_by("pk")
    return Group(
        name="segments",
        legend=f"Keep {rollout.candidate.version} for",
        kind="checkbox",
        choices=[
            Choice(
                value=row.segment.slug,
                title=row.segment.name,
                aux=share_text(float(row.share)),
                detail=f"{row.segment.tasks_per_day:,} tasks a day in all, as planned"
                if row.segment.tasks_per_day
                else "size not known",
                chosen=row.segment.slug in below or not below,
            )
            for row in rows
        ],
        help="Chosen to begin with: what the stage below exposes." if below else "",
    )


def _modes(rollout: Rollout, reason: str) -> Group:
    paths = [row.path for row in rollout.rollout_paths.select_related("path").order_by("pk")]
    held = {row.path_id: row.mode for row in rollout.modes.filter(segment=None)}
    stable = rollout.stable.version if rollout.stable else ""
    choices = []
    for mode, title in policy.MODE_NAMES.items():
        if mode == "normal":
            continue
        on = [path for path in paths if mode in path.fallbacks]
        if not on:
            choices.append(Choice(mode, title, blocked="Not declared in the plan."))
            continue
        modes = [held.get(path.pk, "normal") for path in on]
        blocked = ""
        if all(mode == now or policy.MODE_RANK[mode] < policy.MODE_RANK[now] for now in modes):
            blocked = f"{policy.MODE_NAMES[policy.safest(modes)]} holds already."
        names = ", ".join(path.slug for path in on)
        only = "" if len(on) == len(paths) else f" Declared on {names} only."
        choices.append(
            Choice(
                value=mode,
                title=title,
                aux="Suggested" if mode == _MODE_FOR.get(reason) else "",
                detail=mode_text(
                    mode,
                    on[0].fallbacks[mode] or {},
                    stable=stable,
                    candidate=rollout.candidate.version,
                )
                + only,
                blocked=blocked,
            )
        )
    wanted = _MODE_FOR.get(reason)
    free = [choice.value for choice in choices if not choice.blocked]
    first = wanted if wanted in free else free[0] if free else ""
    return Group(
        name="mode",
        legend="Fallback mode",
        kind="radio",
        wide=True,
        choices=[
            Choice(c.value, c.title, c.aux, c.detail, c.value == first, c.blocked) for c in choices
        ],
    )


def _fallbacks_in_force(rollout: Rollout) -> Group:
    found = rollout.modes.select_related("path", "segment")
    rows = list(found.order_by("path__slug", "segment__slug"))
    places = [
        Choice(
            value=f"{row.path.slug} {row.segment.slug if row.segment else ''}".strip(),
            title=row.path.name + (f", {row.segment.name}" if row.segment else ""),
            aux=policy.MODE_NAMES[row.mode],
            detail=f"since {row.since:%d %b %Y, %H:%M:%S} UTC",
            chosen=len(rows) == 1,
        )
        for row in rows
    ]
    if len(rows) > 1:
        places.insert(0, Choice(EVERYWHERE, "Everywhere", f"{len(rows)} places", chosen=True))
    return Group(name="place", legend="Clear it for", kind="radio", choices=places)


def _routes(rollout: Rollout, action: str) -> Group:
    """Return the action routes; one is blocked where pressing could change nothing anywhere."""
    paths = list(rollout.rollout_paths.values_list("path_id", flat=True))
    held: dict[int, list[str]] = {}
    whole: dict[tuple[int, int], str] = {}
    for row in RouteRestriction.objects.filter(path__in=paths):
        held.setdefault(row.action_route_id, []).append(row.state)
        if row.segment_id is None:
            whole[row.action_route_id, row.path_id] = row.state
    wanted = {"disable_action": "deny", "require_approval": "ask"}.get(action)
    choices = []
    for route in rollout.workflow.action_routes.order_by("slug"):
        everywhere = [tightest([route.default, whole.get((route.pk, p), "")]) for p in paths]
        blocked = ""
        if wanted is None:
            blocked = "" if route.pk in held else "As planned."
        elif all(STRICTNESS[state] >= STRICTNESS[wanted] for state in everywhere):
            blocked = "Denied already." if wanted == "deny" else "Asks already."
        state = tightest([route.default, *held.get(route.pk, [])])
        choices.append(
            Choice(
                value=route.slug,
                title=route.slug,
                aux=f"now {state}",
                detail=f"{route.risk} risk, {route.reversibility}; planned: {route.default}",
                blocked=blocked,
            )
        )
    free = [choice for choice in choices if not choice.blocked]
    return Group(
        name="action_route",
        legend="Action route",
        kind="radio",
        choices=[
            Choice(c.value, c.title, c.aux, c.detail, bool(free) and c is free[0], c.blocked)
            for c in choices
        ],
    )


def _places(rollout: Rollout) -> list[Group]:
    """Return where it applies, where there is a choice; nothing chosen means everywhere."""
    groups = []
    paths = [row.path for row in rollout.rollout_paths.select_related("path").order_by("pk")]
    if len(paths) > 1:
        groups.append(
            Group(
                name="paths",
                legend="Only on these paths (none chosen: all)",
                kind="checkbox",
                choices=[Choice(path.slug, path.name) for path in paths],
            )
        )
    rows = list(rollout.exposed.select_related("segment").order_by("pk"))
    if len(rows) > 1:
        groups.append(
            Group(
                name="segments",
                legend="Only for these segments (none chosen: everybody)",
                kind="checkbox",
                choices=[Choice(row.segment.slug, row.segment.name) for row in rows],
            )
        )
    return groups
