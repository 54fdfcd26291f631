"""What a sound plan leaves open: findings, not errors, so they refuse nothing. Pure: no Django.

They are read from the document as it stands, whole or half typed: what does not fit is the
reader's to say, and is passed over here.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from rollout_console.rollouts.ladder import tasks_in_all
from rollout_console.rollouts.plan_guards import FALLBACK_MODES

# A gap is to be closed before the first exposure; advice makes the plan better.
Severity = Literal["gap", "advice"]

# The first stage's part of the path's tasks a day (requirement A2), less where it may act.
FIRST_STAGE_MOST: Final = 0.05
FIRST_STAGE_WITH_ROUTES_MOST: Final = 0.01
CONTROL_SHARE: Final = 0.9

# Requirement D1: what must hold before a wider stage, with the signals that say it.
CRITERIA: Final[dict[str, tuple[str, ...]]] = {
    "quality": ("quality_pass_rate", "quality_score"),
    "critical failures": ("critical_failures",),
    "latency": ("latency_p95_ms", "latency_p50_ms", "latency_p99_ms", "slow_path_rate"),
    "cost": ("cost_per_task_usd", "spend_usd_per_hour"),
    "review load": ("review_backlog", "review_arrivals_per_hour", "review_age_s"),
    "repeated failures": ("repeated_failures",),
}
# Requirement D3: what calls for rolling back.
TRIGGERS: Final[dict[str, tuple[str, ...]]] = {
    "repeated failures": ("repeated_failures",),
    "latency": ("latency_p95_ms", "latency_p50_ms", "latency_p99_ms", "slow_path_rate"),
    "cost": ("cost_per_task_usd", "spend_usd_per_hour"),
    "fallback usage": ("fallback_rate",),
    "reviewers rejecting": ("review_reject_rate",),
    "trust": ("trust_negative_rate",),
}
TRIGGERS_SENSITIVE: Final[dict[str, tuple[str, ...]]] = {
    "critical failures": ("critical_failures",),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One open point: what kind, how grave, where (JSON pointer), and a sentence for people."""

    code: str
    severity: Severity
    pointer: str
    sentence: str


def plan_findings(
    document: Mapping[str, Any],
    *,
    tasks_per_day: Mapping[str, float],
    rehearsed: Mapping[str, Collection[str]] | None = None,
) -> list[Finding]:
    """Return what the plan leaves open, gaps first, in the document's order.

    Args:
        document: a plan, sound or not yet.
        tasks_per_day: path slug → measured tasks a day; left out or 0 where none were measured.
        rehearsed: path slug → fallback modes with a passed rehearsal; left out: none.
    """
    plan = _Document(document)
    found = [
        *_first_stage(plan, tasks_per_day),
        *_fallbacks(plan, rehearsed or {}),
        *_modes(plan),
        *_guards(plan),
        *_control(plan),
    ]
    return sorted(found, key=lambda finding: finding.severity != "gap")


class _Document:
    """The parts that findings read; anything of another shape counts as not there."""

    def __init__(self, document: Any) -> None:
        top = _map(document)
        self.workflow = _map(top.get("workflow"))
        self.rollout = _map(top.get("rollout"))
        self.planned = isinstance(top.get("rollout"), dict)
        self.segments = {_text(row.get("slug")): row for _, row in _maps(self.workflow, "segments")}
        routes = self.workflow.get("action_routes") or top.get("action_routes")
        self.with_routes = isinstance(routes, list) and bool(routes)

    def paths(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the rollout's paths, which are all of them unless it names some."""
        chosen = self.rollout.get("paths")
        for index, path in _maps(self.workflow, "paths"):
            if not isinstance(chosen, list) or not chosen or path.get("slug") in chosen:
                yield index, path

    def stages(self) -> list[tuple[int, list[tuple[int, str, float]]]]:
        """Return each stage's place and its (place, segment, share) rows."""
        return [
            (
                index,
                [
                    (place, _text(row.get("segment")), share)
                    for place, row in _maps(stage, "segments")
                    if (share := _number(row.get("share"))) is not None
                ],
            )
            for index, stage in _maps(self.rollout, "stages")
        ]


def _first_stage(plan: _Document, measured: Mapping[str, float]) -> Iterator[Finding]:
    stages = plan.stages()
    if not stages or not stages[0][1]:
        return
    index, shares = stages[0]
    pointer = f"/rollout/stages/{index}/segments"
    kinds = [_text(plan.segments.get(name, {}).get("kind")) for _, name, _ in shares]
    if kinds == ["internal_team"]:
        return
    most = FIRST_STAGE_WITH_ROUTES_MOST if plan.with_routes else FIRST_STAGE_MOST
    rule = f"one internal team, or at most {most:.0%} of the path's tasks a day".replace("%", " %")
    if plan.with_routes:
        rule += " where it has action routes"
    planned = {
        slug: _number(segment.get("tasks_per_day")) for slug, segment in plan.segments.items()
    }
    exposed = 0.0
    for _, name, share in shares:
        tasks = planned.get(name)
        if tasks is None:
            yield Finding(
                "first_stage_size_unknown",
                "gap",
                pointer,
                f"The first stage is {rule}, and “{name[:80]}” says no tasks a day to judge it by.",
            )
            return
        exposed += tasks * share
    paths = [_text(path.get("slug")) for _, path in plan.paths()]
    by_path = [measured.get(path, 0.0) for path in paths]
    if paths and all(by_path):
        whole, source = sum(by_path), "as measured"
    else:
        sizes = {slug: tasks for slug, tasks in planned.items() if tasks is not None}
        rules = {slug: segment.get("rule") for slug, segment in plan.segments.items()}
        whole, source = tasks_in_all(sizes, rules), "by the plan's estimates"
    if exposed <= whole * most:
        return
    part = f"{exposed / whole:.0%}".replace("%", " %") if whole else "all"
    yield Finding(
        "first_stage_too_large",
        "gap",
        pointer,
        f"The first stage is {rule}; this one exposes about {exposed:,.0f} of {whole:,.0f} tasks "
        f"a day, {part}, {source}.",
    )


def _fallbacks(plan: _Document, rehearsed: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    for index, path in plan.paths():
        slug = _text(path.get("slug"))
        declared = _declared(path)
        pointer = f"/workflow/paths/{index}/fallbacks"
        if not declared:
            yield Finding(
                "no_fallback", "gap", pointer, f"The path “{slug}” declares no fallback mode."
            )
            continue
        passed = [mode for mode in declared if mode in rehearsed.get(slug, ())]
        if not passed:
            yield Finding(
                "fallback_not_rehearsed",
                "gap",
                pointer,
                f"No fallback of the path “{slug}” has been rehearsed: "
                f"{', '.join(declared)} {'is' if len(declared) == 1 else 'are'} only described.",
            )
        if plan.with_routes and not {"manual", "read_only"} & set(passed):
            yield Finding(
                "no_safe_mode_for_routes",
                "gap",
                pointer,
                f"With action routes, the path “{slug}” needs a rehearsed manual or read_only "
                "fallback.",
            )


def _modes(plan: _Document) -> Iterator[Finding]:
    """Yield every mode that is named where the path it is for does not declare it."""
    declared = {}
    for index, path in _maps(plan.workflow, "paths"):
        slug = _text(path.get("slug"))
        declared[slug] = _declared(path)
        for key in ("unreachable_mode", "no_ai_mode"):
            mode = _text(path.get(key))
            if mode in FALLBACK_MODES and mode not in declared[slug]:
                yield Finding(
                    "mode_not_declared",
                    "advice",
                    f"/workflow/paths/{index}/{key}",
                    f"“{key}” of the path “{slug}” is {mode}, which its fallbacks do not declare.",
                )
    for index, trigger in _maps(plan.rollout, "triggers"):
        mode = _text(_map(trigger.get("response")).get("mode"))
        slug = _text(trigger.get("path"))
        if mode in FALLBACK_MODES and slug in declared and mode not in declared[slug]:
            yield Finding(
                "mode_not_declared",
                "gap",
                f"/rollout/triggers/{index}/response/mode",
                f"The trigger “{_text(trigger.get('slug'))}” answers with {mode}, which the path "
                f"“{slug}” does not declare.",
            )


def _guards(plan: _Document) -> Iterator[Finding]:
    if not plan.planned:
        return
    first_release = "stable" in plan.rollout and plan.rollout["stable"] is None
    watched: dict[tuple[str, str], set[str]] = {}
    for key in ("criteria", "triggers"):
        for index, guard in _maps(plan.rollout, key):
            place = (key, _text(guard.get("path")))
            watched.setdefault(place, set()).add(_text(guard.get("signal")))
            if first_release and guard.get("compare") == "stable":
                yield Finding(
                    "no_stable_to_compare",
                    "gap",
                    f"/rollout/{key}/{index}/compare",
                    f"“{_text(guard.get('slug'))}” compares with the stable release, and a first "
                    "release has none: use a limit.",
                )
    for _, path in plan.paths():
        slug = _text(path.get("slug"))
        triggers = dict(TRIGGERS)
        if path.get("sensitivity") == "sensitive":
            triggers |= TRIGGERS_SENSITIVE
        for key, code, noun, wanted in (
            ("criteria", "criterion_missing", "expansion criterion", CRITERIA),
            ("triggers", "trigger_missing", "rollback trigger", triggers),
        ):
            there = watched.get((key, slug), set())
            missing = [name for name, signals in wanted.items() if not there & set(signals)]
            for name in missing:
                yield Finding(
                    code,
                    "advice",
                    f"/rollout/{key}",
                    f"The path “{slug}” has no {noun} for {name}: {' or '.join(wanted[name][:2])}.",
                )


def _control(plan: _Document) -> Iterator[Finding]:
    """Yield segments exposed whole below the last stage: the last one is meant to be everybody."""
    if plan.rollout.get("stable") is None:
        return
    stages = plan.stages()
    seen: set[str] = set()
    for position, (index, shares) in enumerate(stages):
        if position and position == len(stages) - 1:
            return
        for place, segment, share in shares:
            if share < 1 or segment in seen:
                continue
            seen.add(segment)
            yield Finding(
                "no_concurrent_control",
                "advice",
                f"/rollout/stages/{index}/segments/{place}/share",
                f"“{segment}” is exposed whole, so nobody in it gets stable to compare with; a "
                f"share of {CONTROL_SHARE} keeps a control.",
            )


def _declared(path: Mapping[str, Any]) -> list[str]:
    fallbacks = _map(path.get("fallbacks"))
    return [mode for mode in FALLBACK_MODES if mode in fallbacks]


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _maps(holder: Mapping[str, Any], key: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the maps of a list with their places."""
    value = holder.get(key)
    rows = value if isinstance(value, list) else []
    return [(index, row) for index, row in enumerate(rows) if isinstance(row, dict)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
