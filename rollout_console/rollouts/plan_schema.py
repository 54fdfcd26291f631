"""A plan document: what it may say, and what it says. Pure: no Django.

`plan_read` returns the plan, or every fault at once, each with a JSON pointer and a sentence that
names the field and what to do.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from rollout_console.rollouts.plan_check import Fault, Faults, Part, unique
from rollout_console.rollouts.plan_guards import FALLBACK_MODES, guards_read
from rollout_console.rollouts.plan_rules import rule_check
from rollout_console.rollouts.plan_signals import known_signals, signals_read
from rollout_console.rollouts.plan_types import (
    ActionRoutePlan,
    PathPlan,
    Plan,
    ReleasePlan,
    RolloutPlan,
    SegmentPlan,
    StagePlan,
)
from signals.catalogue import Signal

MODES: Final = ("normal", *FALLBACK_MODES)
# api.md's mode table: every other mode answers with some release.
NO_AI_MODES: Final = ("manual",)
COMPONENTS: Final = ("prompt", "model", "retrieval", "tools", "configuration")
KINDS: Final = (
    "internal_team",
    "customer_segment",
    "workflow_path",
    "account_group",
    "user_role",
    "traffic_slice",
)
ROLES: Final = ("viewer", "lead", "reviewer", "approver", "owner", "deputy")
LADDER_ROLES: Final = ("deputy", "owner", "lead", "approver")
HOLD_S: Final = 600
# A workflow that acts on the world is contained sooner (requirement F4).
HOLD_WITH_ROUTES_S: Final = 120
SHARE_DIGITS: Final = 5


def plan_read(document: Any) -> tuple[Plan | None, list[Fault]]:
    """Return (plan, []) or (None, faults in reading order)."""
    faults = Faults()
    top = Part(document, "", faults, what="A plan")
    if top.whole:
        version = top.raw("version")
        if isinstance(version, bool) or version != 1:
            top.fault("version", "“version” must be 1: the format of this file.")
    reader = _Reader(faults)
    plan = reader.plan(top)
    top.nothing_else()
    return (None, faults.found) if faults.found else (plan, [])


def release_read(document: Any) -> tuple[ReleasePlan | None, list[Fault]]:
    """Read a release's body as the API takes it: changes and source, the version apart."""
    faults = Faults()
    part = Part(document, "", faults, what="A release")
    release = _release("", part)
    part.nothing_else()
    return (None, faults.found) if faults.found else (release, [])


class _Reader:
    """Reads the parts in the document's order; later ones refer to earlier ones."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.people: dict[str, str] = {}

    def plan(self, top: Part) -> Plan:
        if top.whole and not top.has("workflow"):
            top.fault("workflow", "A plan needs “workflow”.")
        # None is no map, and said so above.
        workflow = Part(
            top.raw("workflow"),
            "/workflow",
            self.faults if top.has("workflow") else Faults(),
            what="The workflow",
        )
        slug = workflow.slug("slug", dots=False)
        name = workflow.text("name", default=slug)
        owner = self._person(workflow, "owner")
        deputy = self._person(workflow, "deputy")
        escalation = self._escalation(workflow)
        discovery = workflow.flag("discovery")
        routes = self._action_routes(workflow, top)
        paths = self._paths(workflow)
        segments = self._segments(workflow)
        signals = signals_read(workflow)
        hold_s = self._hold_s(workflow, with_routes=bool(routes))
        workflow.nothing_else()
        releases = self._releases(top)
        rollout = None
        if top.has("rollout"):
            rollout = self._rollout(
                top.part("rollout", what="The rollout"),
                paths=paths,
                segments=[segment.slug for segment in segments],
                routes=[route.slug for route in routes],
                signals=known_signals(signals),
            )
        else:
            top.raw("rollout")
        return Plan(
            slug=slug,
            name=name,
            owner=owner,
            deputy=deputy,
            escalation=escalation,
            discovery=discovery,
            hold_s=hold_s,
            paths=paths,
            segments=segments,
            action_routes=routes,
            releases=releases,
            rollout=rollout,
            signals=signals,
            people=self.people,
        )

    def _person(self, part: Part, key: str) -> str:
        name = part.text(key, required=True, most=150)
        if name:
            self.people[part.at(key)] = name
        return name

    def _escalation(self, workflow: Part) -> list[dict[str, Any]]:
        steps = []
        before = 0
        for step in workflow.parts("escalation", what="An escalation step", most=20):
            after_s = step.whole_number("after_s", least=1, required=True) or 0
            if after_s and after_s <= before:
                step.fault("after_s", "Each step comes later than the one before it.")
            before = max(before, after_s)
            notify = step.text("notify", required=True, most=150)
            if notify and notify not in LADDER_ROLES:
                self.people[step.at("notify")] = notify
            step.nothing_else()
            steps.append({"after_s": after_s, "notify": notify})
        return steps

    def _hold_s(self, workflow: Part, *, with_routes: bool) -> int:
        most = HOLD_WITH_ROUTES_S if with_routes else HOLD_S
        hold_s = workflow.whole_number("hold_s", least=1, default=most)
        assert hold_s is not None
        if with_routes and hold_s > HOLD_WITH_ROUTES_S:
            workflow.fault(
                "hold_s", f"With action routes, “hold_s” is at most {HOLD_WITH_ROUTES_S} seconds."
            )
        return hold_s

    def _paths(self, workflow: Part) -> list[PathPlan]:
        parts = workflow.parts("paths", what="A path", required=True, least=1, most=100)
        paths = [_path(part) for part in parts]
        unique(((part, path.slug) for part, path in zip(parts, paths, strict=True)), "slug", "path")
        return paths

    def _segments(self, workflow: Part) -> list[SegmentPlan]:
        parts = workflow.parts("segments", what="A segment", most=200)
        segments = []
        for part in parts:
            slug = part.slug("slug")
            name = part.text("name", default=slug)
            kind = part.choice("kind", KINDS, required=True)
            if part.whole and not part.stated("rule"):
                part.fault("rule", "A segment needs a “rule” over the evaluation context.")
            rule = part.raw("rule")
            if part.stated("rule"):
                rule_check(rule, part.at("rule"), self.faults)
            owner = self._person(part, "owner")
            tasks_per_day = part.whole_number("tasks_per_day", least=0)
            people = part.whole_number("people", least=0)
            part.nothing_else()
            segments.append(SegmentPlan(slug, name, kind, rule, owner, tasks_per_day, people))
        pairs = zip(parts, (segment.slug for segment in segments), strict=True)
        unique(pairs, "slug", "segment")
        return segments

    def _action_routes(self, workflow: Part, top: Part) -> list[ActionRoutePlan]:
        """Read the routes, which stand in the workflow; beside it they count as well."""
        holder = workflow if workflow.has("action_routes") or not top.has("action_routes") else top
        for part in (workflow, top):
            if part is not holder and part.has("action_routes"):
                part.fault("action_routes", "Action routes stand once, in the workflow.")
                part.raw("action_routes")
        parts = holder.parts("action_routes", what="An action route", most=100)
        routes = [_action_route(part) for part in parts]
        pairs = zip(parts, (route.slug for route in routes), strict=True)
        unique(pairs, "slug", "action route")
        return routes

    def _releases(self, top: Part) -> list[ReleasePlan]:
        parts = top.parts("releases", what="A release", most=200)
        releases = []
        for part in parts:
            releases.append(_release(part.release("version"), part))
            part.nothing_else()
        pairs = zip(parts, (release.version for release in releases), strict=True)
        unique(pairs, "version", "release")
        return releases

    def _rollout(
        self,
        part: Part,
        *,
        paths: Sequence[PathPlan],
        segments: Sequence[str],
        routes: Sequence[str],
        signals: Mapping[str, Signal],
    ) -> RolloutPlan:
        slug = part.slug("slug")
        known = {path.slug: path for path in paths}
        chosen = list(known)
        if part.has("paths"):
            chosen = part.texts("paths")
            if not chosen:
                part.fault("paths", "Name at least one path, or leave “paths” out for all.")
            for index, path in enumerate(chosen):
                if path not in known:
                    self.faults.add(
                        f"{part.at('paths')}/{index}", f"There is no path “{path[:80]}” here."
                    )
                elif path in chosen[:index]:
                    self.faults.add(
                        f"{part.at('paths')}/{index}", f"The path “{path}” stands twice."
                    )
        else:
            part.raw("paths")
        candidate = part.release("candidate")
        if part.whole and not part.stated("stable"):
            part.fault("stable", "Say which release is “stable”, or null for a first release.")
        stable = part.release("stable") if part.has("stable") else None
        part.raw("stable")
        if stable and stable == candidate:
            part.fault("stable", "The candidate cannot be the stable release too.")
        stages = self._stages(part, segments)
        declared = {path: tuple(known[path].fallbacks) for path in chosen if path in known}
        guards = guards_read(
            part, declared=declared, segments=segments, routes=routes, signals=signals
        )
        part.nothing_else()
        return RolloutPlan(slug, chosen, candidate, stable, stages, guards)

    def _stages(self, rollout: Part, segments: Sequence[str]) -> list[StagePlan]:
        parts = rollout.parts("stages", what="A stage", required=True, least=1, most=50)
        stages = []
        reached: dict[str, Decimal] = {}
        for part in parts:
            slug = part.slug("slug")
            named = part.parts("segments", what="A segment of a stage", required=True, least=1)
            shares: list[tuple[str, Decimal]] = []
            for item in named:
                segment = item.reference("segment", segments, "segment")
                shares.append((segment, _share(item)))
                item.nothing_else()
            pairs = zip(named, (segment for segment, _ in shares), strict=True)
            unique(pairs, "segment", "segment")
            # A misspelt segment is one fault, not also one that is missing from the ladder.
            if all(segment in segments for segment, _ in shares):
                reached = _ladder_check(part, reached, dict(shares))
            bake_s = part.whole_number("bake_s", least=1, required=True) or 1
            min_runs = part.whole_number("min_runs", least=0, default=0) or 0
            part.nothing_else()
            stages.append(StagePlan(slug, shares, bake_s, min_runs))
        unique(zip(parts, (stage.slug for stage in stages), strict=True), "slug", "stage")
        return stages


def _ladder_check(
    stage: Part, reached: dict[str, Decimal], shares: dict[str, Decimal]
) -> dict[str, Decimal]:
    """Note where a rung exposes less than the one below it; return what this one reaches."""
    for segment, share in reached.items():
        now = shares.get(segment)
        if segment and (now is None or now < share):
            stage.fault(
                "segments",
                f"A stage never exposes less than the one before: “{segment}” had {share}, "
                f"and has {'nothing' if now is None else now} here.",
            )
    return shares


def _share(item: Part) -> Decimal:
    value = item.number("share", above=0, most=1, required=True)
    share = Decimal(str(1.0 if value is None else value))
    if share != round(share, SHARE_DIGITS):
        item.fault("share", f"A share has at most {SHARE_DIGITS} digits after the point.")
        return Decimal(1)
    return share


def _path(part: Part) -> PathPlan:
    slug = part.slug("slug", dots=False)
    name = part.text("name", default=slug)
    sensitivity = part.choice("sensitivity", ("normal", "sensitive"))
    no_ai_mode = part.choice("no_ai_mode", MODES, default="manual")
    if no_ai_mode not in NO_AI_MODES:
        part.fault(
            "no_ai_mode", "Only “manual” needs no release, so only it can be the no-AI mode."
        )
    unreachable_mode = part.choice("unreachable_mode", MODES, default="previous_stable")
    limits = _limits(part.part("limits", what="“limits”"))
    review = part.part("review", what="“review”")
    capacity = review.number("capacity_per_hour", above=0)
    points = review.texts("points", most=500)
    review.nothing_else()
    fallbacks = _fallbacks(part.part("fallbacks", what="“fallbacks”"))
    part.nothing_else()
    return PathPlan(
        slug=slug,
        name=name,
        sensitivity=sensitivity,
        no_ai_mode=no_ai_mode,
        unreachable_mode=unreachable_mode,
        limits=limits,
        review={
            **({} if capacity is None else {"capacity_per_hour": capacity}),
            **({"points": points} if points else {}),
        },
        fallbacks=fallbacks,
    )


def _limits(part: Part) -> dict[str, float]:
    limits = {key: part.number(key, above=0) for key in ("latency_p95_ms", "slow_path_ms")}
    for key in ("cost_per_task_usd", "fallback_cost_per_task_usd", "spend_usd_per_hour"):
        limits[key] = part.number(key, above=0, money=True)
    part.nothing_else()
    return {key: value for key, value in limits.items() if value is not None}


def _fallbacks(part: Part) -> dict[str, Any]:
    fallbacks: dict[str, Any] = {}
    for mode in FALLBACK_MODES:
        if not part.stated(mode):
            continue
        # `previous_stable:` with nothing after it declares the mode as `{}` does.
        one = part.part(mode, what=f"“{mode}”")
        made: dict[str, Any] = {}
        if one.has("when"):
            made["when"] = _when(one.part("when", what="“when”"))
        else:
            one.raw("when")
        if mode == "simpler_route":
            made["route"] = one.text("route", required=True, most=100)
        if mode == "reduced_context":
            made["settings"] = _settings(one)
        one.nothing_else()
        fallbacks[mode] = made
    for mode in FALLBACK_MODES:
        part.raw(mode)
    part.nothing_else()
    return fallbacks


def _when(part: Part) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, known in (
        ("input_condition", ("clean", "messy", "ambiguous")),
        ("risk", ("low", "high")),
    ):
        if part.has(key):
            made[key] = part.choice(key, known)
        else:
            part.raw(key)
    below = part.number("confidence_below", above=0, most=1)
    if below is not None:
        made["confidence_below"] = below
    part.nothing_else()
    stated = any(part.has(key) for key in ("input_condition", "risk", "confidence_below"))
    if not stated and part.whole:
        part.faults.add(
            part.pointer, "“when” needs a condition: input_condition, risk or confidence_below."
        )
    return made


def _settings(mode: Part) -> dict[str, Any]:
    part = mode.part("settings", what="“settings”")
    made = {
        key: value
        for key in ("documents", "context_tokens")
        if (value := part.whole_number(key, least=0)) is not None
    }
    part.nothing_else()
    if not made:
        mode.fault("settings", "“reduced_context” says how many documents or context_tokens.")
    return made


def _action_route(part: Part) -> ActionRoutePlan:
    slug = part.slug("slug")
    effect = part.choice("effect", ("write", "read"))
    risk = part.choice("risk", ("high", "medium", "low"), required=True)
    reversibility = part.choice("reversibility", ("irreversible", "reversible"), required=True)
    undo_s = part.whole_number("undo_s", least=1)
    if undo_s is not None and reversibility == "irreversible":
        part.fault("undo_s", "What is irreversible has no “undo_s”.")
    role = part.choice("role", ROLES, default="reviewer")
    default = part.choice("default", ("ask", "allow", "deny"))
    scope = _scope(part.part("scope", what="“scope”"))
    part.nothing_else()
    return ActionRoutePlan(slug, scope, effect, risk, reversibility, undo_s, role, default)


def _scope(part: Part) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if objects := part.texts("objects"):
        made["objects"] = objects
    for key in ("per_hour", "per_subject_per_day"):
        if (value := part.whole_number(key, least=1)) is not None:
            made[key] = value
    if part.has("parameters"):
        schema = part.raw("parameters")
        if not isinstance(schema, dict):
            part.fault("parameters", "“parameters” is a JSON Schema: a map.")
        made["parameters"] = schema
    else:
        part.raw("parameters")
    part.nothing_else()
    return made


def _release(version: str, part: Part) -> ReleasePlan:
    changes = []
    for change in part.parts("changes", what="A change", most=200):
        changes.append(
            {
                "component": change.choice("component", COMPONENTS, required=True),
                "name": change.text("name", required=True),
                "before": change.text("before", most=100_000),
                "after": change.text("after", most=100_000),
                "note": change.text("note", most=5_000),
            }
        )
        change.nothing_else()
    source = None
    if part.has("source"):
        origin = part.part("source", what="“source”")
        source = {
            key: text
            for key in ("repository", "commit", "url")
            if (text := origin.text(key, most=1_000))
        }
        origin.nothing_else()
    else:
        part.raw("source")
    return ReleasePlan(version, changes, source)
