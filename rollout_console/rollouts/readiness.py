"""The readiness gate: the seven things that go-live asks for (requirements H1, A2, F4, G1).

Pure: no Django. The plan says what is declared; the facts say what traffic was measured and who
is there. A finding refuses nothing; whatever stands in an item's `missing` does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rollout_console.rollouts.findings import (
    CRITERIA,
    FIRST_STAGE_MOST,
    FIRST_STAGE_WITH_ROUTES_MOST,
    TRIGGERS,
    Finding,
)
from rollout_console.rollouts.ladder import tasks_in_all
from rollout_console.rollouts.plan_guards import GuardPlan
from rollout_console.rollouts.plan_schema import HOLD_WITH_ROUTES_S
from rollout_console.rollouts.plan_types import PathPlan, Plan, RolloutPlan
from signals.catalogue import signal_of
from signals.format import limit_text

# A path's traffic counts as measured from here on; with less, the plan's estimates stand.
MEASURED_LEAST: Final = 100
DAY_S: Final = 86_400
APPROVERS_WITH_ROUTES: Final = 2
# Who takes over from a workflow that acts, without acting itself.
SAFE_MODES: Final = ("manual", "read_only")
SENSITIVE_MODE: Final = "manual"

_TITLES: Final = {
    "first_segment": "First segment or traffic slice",
    "criteria": "Expansion criteria",
    "fallbacks": "Fallback behaviour",
    "triggers": "Rollback conditions",
    "limits": "Cost and latency thresholds",
    "review": "Human review and approval points",
    "owner": "Containment owner",
}
ITEMS: Final = tuple(_TITLES)

# What each path's criteria speak of. A quiet trigger never says that quality holds; latency and
# cost may lean on a trigger at the limit instead, since nothing expands while one is tripped.
_QUALITY: Final = CRITERIA["quality"]
_LEANING: Final = {name: CRITERIA[name] for name in ("latency", "cost")}
# What each path's triggers speak of; a repeated failure pattern is quality that drops.
_WATCHED: Final = {
    "quality": (*_QUALITY, *TRIGGERS["repeated failures"], *TRIGGERS["reviewers rejecting"]),
    "latency": TRIGGERS["latency"],
    "cost": TRIGGERS["cost"],
}
_CRITICAL: Final = CRITERIA["critical failures"]
_LIMITS: Final = {
    "latency_p95_ms": "latency limit",
    "cost_per_task_usd": "cost limit for each task",
}
# The item itself says these, and refuses where the finding would only tell.
_SAID_BY_ITEMS: Final = {"first_stage_size_unknown", "first_stage_too_large", "no_fallback"}


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that go-live waits for, and how to put it there."""

    detail: str
    fix: str


@dataclass(frozen=True, slots=True)
class ReadinessItem:
    """One of the seven: what there is of it, in numbers, and what is missing."""

    item: str
    evidence: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return _TITLES[self.item]

    @property
    def present(self) -> bool:
        return not self.missing

    @property
    def detail(self) -> str:
        return " ".join([*(each.detail for each in self.missing), *self.evidence])


@dataclass(frozen=True, slots=True)
class PathTraffic:
    """What arrived on a path in the last day: tasks, and those of each segment by its slug.

    `span_s` is how much of that day has passed since the first of them.
    """

    tasks: int
    by_segment: Mapping[str, int]
    span_s: float

    @property
    def measured(self) -> bool:
        return self.tasks >= MEASURED_LEAST

    @property
    def per_day(self) -> float:
        return self.tasks * DAY_S / self.span_s if self.span_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What the gate asks beside the plan.

    `active` are the user names that can log in; `holders` maps a role to the active people who
    hold it in this workflow, by user name; `traffic` maps path slugs.
    """

    active: frozenset[str]
    holders: Mapping[str, Sequence[str]]
    traffic: Mapping[str, PathTraffic] = field(default_factory=dict)


def readiness_items(
    plan: Plan, *, facts: GateFacts, findings: Sequence[Finding] = ()
) -> list[ReadinessItem]:
    """Return the seven items for the plan's rollout, in the order of `ITEMS`."""
    rollout = plan.rollout
    if rollout is None:
        return unreadable_items("The plan has no rollout section.")
    paths = [path for path in plan.paths if path.slug in rollout.paths]
    made = {
        "first_segment": _first_segment(plan, rollout, paths, facts),
        "criteria": _criteria(rollout, paths),
        "fallbacks": _fallbacks(plan, paths),
        "triggers": _triggers(plan, rollout, paths),
        "limits": _limits(paths),
        "review": _review(plan, paths, facts),
        "owner": _owner(plan, facts),
    }
    for finding in findings:
        if finding.code not in _SAID_BY_ITEMS:
            made[_item_of(finding)].findings.append(finding.sentence)
    return [made[item] for item in ITEMS]


def unreadable_items(why: str) -> list[ReadinessItem]:
    """Return the seven items where there is no sound plan to read them from."""
    missing = Missing(why, "Apply a plan with a rollout section.")
    return [ReadinessItem(item, missing=[missing]) for item in ITEMS]


def _item_of(finding: Finding) -> str:
    """Return the item that a finding stands beside."""
    if finding.pointer.startswith("/rollout/stages"):
        return "first_segment"
    if finding.pointer.startswith("/rollout/criteria"):
        return "criteria"
    if finding.pointer.startswith("/rollout/triggers"):
        return "triggers"
    return "fallbacks"


# --- The first segment ---


def _first_segment(
    plan: Plan, rollout: RolloutPlan, paths: Sequence[PathPlan], facts: GateFacts
) -> ReadinessItem:
    made = ReadinessItem("first_segment")
    segments = {segment.slug: segment for segment in plan.segments}
    first = rollout.stages[0].segments
    for slug, share in first:
        segment = segments[slug]
        size = "its size is not stated"
        if segment.tasks_per_day is not None:
            size = f"about {float(share) * segment.tasks_per_day:,.0f} tasks a day as stated"
        kind = segment.kind.replace("_", " ")
        made.evidence.append(f"{segment.name} ({kind}) at {_percent(float(share))}: {size}.")
    whole_team = len(first) == 1 and segments[first[0][0]].kind == "internal_team"
    most = FIRST_STAGE_WITH_ROUTES_MOST if plan.action_routes else FIRST_STAGE_MOST
    bound = f"{_percent(most)}{' with action routes' if plan.action_routes else ''}"
    for path in paths:
        part, source = _first_part(plan, rollout, facts.traffic.get(path.slug))
        if part is None:
            if not whole_team:
                made.missing.append(
                    Missing(
                        f"How much of “{path.slug}” the first stage exposes is not known: it has "
                        f"no measured traffic, and a segment states no tasks a day.",
                        "Give every segment its “tasks_per_day”, or report the path's runs first.",
                    )
                )
            continue
        sentence = f"{_percent(part)} of the tasks on “{path.slug}”, {source}"
        if part <= most:
            made.evidence.append(f"{sentence}; at most {bound}.")
        elif whole_team:
            made.evidence.append(f"{sentence}; one internal team may be of any size.")
            made.findings.append(
                f"The first stage is {sentence}: more than {bound}, which only one internal team "
                "may be."
            )
        else:
            made.missing.append(
                Missing(
                    f"The first stage is too large: {sentence}, and it may be at most {bound}.",
                    "Lower the shares of the first stage, or start with one internal team.",
                )
            )
    return made


def _first_part(
    plan: Plan, rollout: RolloutPlan, traffic: PathTraffic | None
) -> tuple[float | None, str]:
    """Return the first stage's part (0-1) of a path's tasks and where that is known from."""
    first = rollout.stages[0].segments
    if traffic is not None and traffic.measured:
        seen = [(traffic.by_segment.get(slug, 0), float(share)) for slug, share in first]
        # Runs may come without a context: a segment nobody was seen in was not measured.
        if all(tasks for tasks, _ in seen):
            part = sum(tasks * share for tasks, share in seen) / traffic.tasks
            return part, f"measured over {traffic.tasks:,} tasks"
    stated = {segment.slug: segment.tasks_per_day for segment in plan.segments}
    sizes = {slug: size for slug, size in stated.items() if size is not None}
    whole = tasks_in_all(sizes, {segment.slug: segment.rule for segment in plan.segments})
    if len(sizes) < len(stated) or not whole:
        return None, ""
    part = sum((stated[slug] or 0) * float(share) for slug, share in first) / whole
    return min(1.0, part), "stated in the plan"


# --- Guards ---


def _criteria(rollout: RolloutPlan, paths: Sequence[PathPlan]) -> ReadinessItem:
    made = ReadinessItem("criteria")
    for path in paths:
        criteria = _decidable(rollout, path.slug, "criterion")
        triggers = _decidable(rollout, path.slug, "trigger")
        if criteria:
            made.evidence.append(f"{path.slug}: {_guards_text(criteria)}.")
        wanted = {"quality": _QUALITY}
        if path.sensitivity == "sensitive":
            wanted["critical failures"] = _CRITICAL
        for name, signals in wanted.items():
            if not _on(criteria, signals):
                made.missing.append(_guard_missing(path, "expansion criterion", name, signals))
        for name, signals in _LEANING.items():
            if _on(criteria, signals):
                continue
            at_limit = [
                guard
                for guard in _on(triggers, signals)
                if guard.compare in ("limit", "hard_cap") and guard.segment is None
            ]
            if not at_limit:
                made.missing.append(_guard_missing(path, "expansion criterion", name, signals))
            else:
                made.evidence.append(
                    f"{path.slug}: {name} leans on the trigger {_guards_text(at_limit)}."
                )
    return made


def _triggers(plan: Plan, rollout: RolloutPlan, paths: Sequence[PathPlan]) -> ReadinessItem:
    made = ReadinessItem("triggers")
    for path in paths:
        triggers = _decidable(rollout, path.slug, "trigger")
        if triggers:
            made.evidence.append(f"{path.slug}: {_guards_text(triggers)}.")
        wanted = dict(_WATCHED)
        if path.sensitivity == "sensitive":
            wanted["critical failures"] = _CRITICAL
        for name, signals in wanted.items():
            if not _on(triggers, signals):
                made.missing.append(_guard_missing(path, "rollback trigger", name, signals))
        if not plan.action_routes:
            continue
        by_itself = [guard for guard in triggers if _contains_in_time(guard, plan.hold_s)]
        if by_itself:
            made.evidence.append(
                f"{path.slug}: contained without a person by "
                f"{', '.join(guard.slug for guard in by_itself)}, within {plan.hold_s} s."
            )
        else:
            made.missing.append(
                Missing(
                    f"With action routes, “{path.slug}” needs a trigger that contains by itself "
                    f"within {HOLD_WITH_ROUTES_S} s.",
                    "Give a trigger of the path “response.kind: contain” or “contain_after_hold”, "
                    f"with “hold_s” at most {HOLD_WITH_ROUTES_S}.",
                )
            )
    return made


def _contains_in_time(guard: GuardPlan, hold_s: int) -> bool:
    kind = guard.response.get("kind")
    if guard.response.get("action") == "escalate":
        return False
    return kind == "contain" or (kind == "contain_after_hold" and hold_s <= HOLD_WITH_ROUTES_S)


def _decidable(rollout: RolloutPlan, path: str, kind: str) -> list[GuardPlan]:
    """Return a path's guards that can come to a verdict on the first stage."""
    exposed = {slug for slug, _ in rollout.stages[0].segments}
    return [
        guard
        for guard in rollout.guards
        if guard.kind == kind
        and guard.path == path
        and (guard.segment is None or guard.segment in exposed)
        and not (guard.compare == "stable" and rollout.stable is None)
    ]


def _on(guards: Sequence[GuardPlan], signals: Sequence[str]) -> list[GuardPlan]:
    return [guard for guard in guards if guard.signal in signals]


def _guard_missing(path: PathPlan, noun: str, name: str, signals: Sequence[str]) -> Missing:
    key = "criteria" if noun == "expansion criterion" else "triggers"
    return Missing(
        f"“{path.slug}” has no {noun} for {name}.",
        f"Add one to “rollout.{key}” on {' or '.join(signals[:2])}.",
    )


def _guards_text(guards: Sequence[GuardPlan]) -> str:
    return ", ".join(_guard_text(guard) for guard in guards)


def _guard_text(guard: GuardPlan) -> str:
    signal = guard.of
    if guard.limit is not None:
        return f"{guard.slug} ({signal.name} {limit_text(signal, guard.limit)})"
    return f"{guard.slug} ({signal.name} against {guard.compare})"


# --- Fallbacks, limits, review ---


def _fallbacks(plan: Plan, paths: Sequence[PathPlan]) -> ReadinessItem:
    made = ReadinessItem("fallbacks")
    for path in paths:
        declared = list(path.fallbacks)
        if declared:
            made.evidence.append(f"{path.slug}: {', '.join(declared)}.")
        else:
            made.missing.append(
                Missing(
                    f"“{path.slug}” declares no fallback mode.",
                    "Declare under “fallbacks” of the path what may take over.",
                )
            )
        if plan.action_routes and not set(declared) & set(SAFE_MODES):
            made.missing.append(
                Missing(
                    f"With action routes, “{path.slug}” needs a manual or read-only mode.",
                    "Declare “manual” or “read_only” under “fallbacks” of the path.",
                )
            )
        elif path.sensitivity == "sensitive" and SENSITIVE_MODE not in declared:
            made.missing.append(
                Missing(
                    f"“{path.slug}” is sensitive and has no manual mode for its high-risk cases.",
                    "Declare “manual” under “fallbacks” of the path.",
                )
            )
    return made


def _limits(paths: Sequence[PathPlan]) -> ReadinessItem:
    made = ReadinessItem("limits")
    for path in paths:
        told = []
        for key, words in _LIMITS.items():
            if key in path.limits:
                known = signal_of(key)
                told.append(f"{known.name} {limit_text(known, path.limits[key])}")
            else:
                made.missing.append(
                    Missing(
                        f"“{path.slug}” has no {words}.",
                        f"Set “limits.{key}” of the path.",
                    )
                )
        if told:
            made.evidence.append(f"{path.slug}: {', '.join(told)}.")
    return made


def _review(plan: Plan, paths: Sequence[PathPlan], facts: GateFacts) -> ReadinessItem:
    made = ReadinessItem("review")
    for path in paths:
        points = path.review.get("points") or []
        if not points:
            made.missing.append(
                Missing(
                    f"“{path.slug}” names nothing that a person reviews.",
                    "List under “review.points” of the path what a person looks at.",
                )
            )
            continue
        capacity = path.review.get("capacity_per_hour")
        room = "no capacity stated" if capacity is None else f"{capacity:g} reviews an hour"
        made.evidence.append(f"{path.slug}: {', '.join(points)}; {room}.")
        if capacity is None:
            made.findings.append(
                f"“{path.slug}” states no review capacity, so its backlog has nothing to be "
                "judged by."
            )
    for route in plan.action_routes:
        made.evidence.append(
            f"Action route {route.slug}: {_route_text(route.default, route.role)}."
        )
        if route.default == "ask" and not facts.holders.get(route.role):
            made.findings.append(
                f"Nobody who can log in is {route.role} here, so only an approver can decide on "
                f"“{route.slug}”."
            )
    approvers = facts.holders.get("approver", ())
    if not approvers:
        made.findings.append(
            "Nobody who can log in is approver here, and going live takes one beside the owner."
        )
    elif plan.action_routes and len(approvers) < APPROVERS_WITH_ROUTES:
        made.findings.append(
            f"Only {', '.join(approvers)} may approve: a next stage with action routes asks "
            "for two people."
        )
    return made


def _route_text(default: str, role: str) -> str:
    return {
        "ask": f"asks a {role} each time",
        "allow": "allowed without asking",
        "deny": "denied",
    }[default]


# --- People ---


def _owner(plan: Plan, facts: GateFacts) -> ReadinessItem:
    made = ReadinessItem("owner")
    made.evidence.append(f"Owner {plan.owner}, deputy {plan.deputy}.")
    for noun, name in (("owner", plan.owner), ("deputy", plan.deputy)):
        if name not in facts.active:
            made.missing.append(
                Missing(f"The {noun} “{name}” cannot log in.", f"Name an active person as {noun}.")
            )
    if plan.owner == plan.deputy:
        made.missing.append(
            Missing("Owner and deputy are the same person.", "Name somebody else as deputy.")
        )
    if not plan.escalation:
        made.missing.append(
            Missing(
                "There is no escalation ladder.",
                "List under “escalation” who is told next, and after how long.",
            )
        )
        return made
    steps = [f"{step['notify']} after {step['after_s']} s" for step in plan.escalation]
    made.evidence.append(f"Escalation: {', '.join(steps)}.")
    made.findings.extend(_unreached(plan, facts))
    return made


def _unreached(plan: Plan, facts: GateFacts) -> Iterator[str]:
    for step in plan.escalation:
        name = step["notify"]
        if not facts.holders.get(name) and name not in facts.active:
            yield f"The escalation step “{name}” reaches nobody who can log in."


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
