"""The plan editor's steps as data: which part of the document each field writes. Pure.

A field's `key` is its place below the row that it stands in, a list's `key` likewise; together
they make the JSON pointer that names the input and that the reader's faults carry.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rollout_console.rollouts.plan_guards import (
    ACTIONS,
    COMPARES,
    FALLBACK_MODES,
    RESPONSES,
    SEVERITIES,
)
from rollout_console.rollouts.plan_schema import COMPONENTS, KINDS, MODES, NO_AI_MODES, ROLES
from rollout_console.rollouts.plan_signals import BETTER
from rollout_console.rollouts.plan_signals import KINDS as SIGNAL_KINDS
from signals.definition import WORDS_OF

Kind = Literal[
    "text", "long", "lines", "number", "whole", "flag", "present", "choice", "several", "rule",
    "json",
]  # fmt: skip
# Where a choice's words come from, where they are not fixed.
Source = Literal["", "people", "segments", "paths", "rollout_paths", "routes", "signals"]


@dataclass(frozen=True, slots=True)
class Field:
    """`present` is a box that puts a map there or takes it away, with all that stands below."""

    key: str
    label: str
    kind: Kind = "text"
    help: str = ""
    words: tuple[str, ...] = ()
    source: Source = ""
    unit: str = ""
    # Empty means null, said out loud, and not left out.
    null: bool = False
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    fields: tuple[Field, ...]
    help: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """A list of maps; `new` is what a row starts with."""

    key: str
    noun: str
    groups: tuple[Group, ...]
    new: dict[str, Any] = field(default_factory=dict)
    rows: tuple["Rows", ...] = ()
    none: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    slug: str
    title: str
    lead: str
    groups: tuple[Group, ...] = ()
    rows: tuple[Rows, ...] = ()
    # Pointers whose faults belong here; the longest one of all steps decides.
    owns: tuple[str, ...] = ()


def _seconds(key: str, label: str, said: str = "") -> Field:
    return Field(key, label, "whole", help=said, unit="s")


_WHEN: Final = (
    ("input_condition", "Input", ("clean", "messy", "ambiguous")),
    ("risk", "Risk", ("low", "high")),
)


def _fallback(mode: str, title: str, said: str, *more: Field) -> Group:
    key = f"fallbacks/{mode}"
    return Group(
        title,
        (
            Field(key, f"Declare {title.lower()}", "present"),
            *(
                Field(f"{key}/when/{name}", label, "choice", words=words)
                for name, label, words in _WHEN
            ),
            Field(f"{key}/when/confidence_below", "Confidence below", "number", unit="0 to 1"),
            *more,
        ),
        help=said,
    )


_PATHS: Final = Rows(
    "/workflow/paths",
    "path",
    (
        Group(
            "Path",
            (
                Field("slug", "Slug", help="Part of its flag's key, so without a dot."),
                Field("name", "Name"),
                Field("sensitivity", "Sensitivity", "choice", words=("normal", "sensitive")),
                Field("no_ai_mode", "Without any release", "choice", words=NO_AI_MODES),
                Field(
                    "unreachable_mode",
                    "When nothing can be reached",
                    "choice",
                    words=MODES,
                ),
            ),
        ),
        Group(
            "Limits",
            (
                Field("limits/latency_p95_ms", "Slowest 5 % take", "number", unit="ms"),
                Field("limits/slow_path_ms", "A slow task takes over", "number", unit="ms"),
                Field("limits/cost_per_task_usd", "A task costs", "number", unit="$"),
                Field(
                    "limits/fallback_cost_per_task_usd",
                    "A task in a fallback costs",
                    "number",
                    unit="$",
                ),
                Field("limits/spend_usd_per_hour", "All tasks cost", "number", unit="$ an hour"),
            ),
        ),
        Group(
            "Human review",
            (
                Field("review/capacity_per_hour", "Reviews an hour", "number"),
                Field(
                    "review/points",
                    "What people review or approve",
                    "lines",
                    help="One point a line.",
                    wide=True,
                ),
            ),
        ),
        _fallback("human_review", "Human review mode", "For ambiguous outputs."),
        _fallback("manual", "Manual path", "For high-risk cases."),
        _fallback("previous_stable", "Previous stable version", "For degraded behaviour."),
        _fallback(
            "simpler_route",
            "Simpler prompt or route",
            "For latency.",
            Field("fallbacks/simpler_route/route", "Route"),
        ),
        _fallback(
            "reduced_context",
            "Reduced context",
            "For cost.",
            Field("fallbacks/reduced_context/settings/documents", "Documents", "whole"),
            Field("fallbacks/reduced_context/settings/context_tokens", "Tokens", "whole"),
        ),
        _fallback("read_only", "Read-only", "For low confidence in actions."),
    ),
    new={"slug": "", "fallbacks": {"human_review": {}, "previous_stable": {}}},
)

_SEGMENTS: Final = Rows(
    "/workflow/segments",
    "segment",
    (
        Group(
            "Segment",
            (
                Field("slug", "Slug"),
                Field("name", "Name"),
                Field("kind", "Kind", "choice", words=KINDS),
                Field("owner", "Owner", source="people"),
                Field("tasks_per_day", "Tasks a day", "whole", help="Estimated."),
                Field("people", "People", "whole", help="Estimated."),
            ),
        ),
        Group("Who is in it", (Field("rule", "Rule", "rule", wide=True),)),
    ),
    new={"slug": "", "kind": "", "rule": {"==": [{"var": "team"}, ""]}},
    none="A rollout exposes segments: add the first, small one.",
)

_SIGNALS: Final = Rows(
    "/workflow/signals",
    "signal",
    (
        Group(
            "Signal",
            (
                Field("slug", "Slug", help="What guards and charts name it by."),
                Field("name", "Name", help="Short, for tight places."),
                Field("title", "Title"),
                Field("kind", "Kind", "choice", words=SIGNAL_KINDS),
                Field("better", "Better is", "choice", words=BETTER),
                Field("unit", "Unit", help="Of a mean or quantile: any short text, ms, usd."),
                Field(
                    "phrase",
                    "In a sentence",
                    help="With {} for the value, as in: answers had {} words.",
                    wide=True,
                ),
            ),
        ),
        Group(
            "From a measure of runs",
            (
                Field("measure", "Measure", help="A name under “measures”."),
                Field("q", "Quantile", "number", unit="0 to 1", help="For kind quantile."),
                Field("above", "Above", "number", help="For kind rate."),
                Field("per_task", "Spread its sum over all tasks", "flag"),
            ),
            help="Fill in one of these.",
        ),
        Group(
            "From outcomes",
            (
                Field("outcome", "Outcomes", "several", words=WORDS_OF["outcome"], wide=True),
                Field(
                    "failure_category",
                    "Failure categories",
                    "lines",
                    help="One a line. With outcomes, a task with either counts once.",
                ),
            ),
        ),
        Group(
            "From observations",
            (
                Field("evaluation", "Evaluation", help="Its name: rate passes, mean scores."),
                Field("feedback", "Feedback", "several", words=WORDS_OF["feedback"], wide=True),
                Field("review", "Reviews", "several", words=WORDS_OF["review"], wide=True),
            ),
        ),
    ),
    new={"slug": "", "kind": "mean", "better": "lower", "measure": ""},
    none="The catalogue's signals need no definition; add what only your team measures.",
)

_RELEASES: Final = Rows(
    "/releases",
    "release",
    (
        Group(
            "Release",
            (
                Field("version", "Version"),
                Field("source/repository", "Repository"),
                Field("source/commit", "Commit"),
                Field("source/url", "Address"),
            ),
        ),
    ),
    new={"version": "", "changes": [{"component": "prompt", "name": ""}]},
    rows=(
        Rows(
            "changes",
            "change",
            (
                Group(
                    "Change",
                    (
                        Field("component", "Component", "choice", words=COMPONENTS),
                        Field("name", "Name"),
                        Field("before", "Before", "long"),
                        Field("after", "After", "long"),
                        Field("note", "Note", wide=True),
                    ),
                ),
            ),
            new={"component": "prompt", "name": ""},
        ),
    ),
    none="A release that a pipeline registers need not stand here.",
)

_STAGES: Final = Rows(
    "/rollout/stages",
    "stage",
    (
        Group(
            "Stage",
            (
                Field("slug", "Slug"),
                _seconds("bake_s", "Bake", "Its least length; 86400 is a day."),
                Field("min_runs", "Least number of tasks", "whole"),
            ),
        ),
    ),
    new={"slug": "", "segments": [{"segment": "", "share": 0.9}], "bake_s": 86400},
    rows=(
        Rows(
            "segments",
            "segment",
            (
                Group(
                    "",
                    (
                        Field("segment", "Segment", "choice", source="segments"),
                        Field("share", "Share of it", "number", unit="0 to 1"),
                    ),
                ),
            ),
            new={"segment": "", "share": 0.9},
        ),
    ),
    none="The first stage is small: one internal team, or a few percent.",
)


def _watched(compares: tuple[str, ...]) -> tuple[Field, ...]:
    return (
        Field("slug", "Slug"),
        Field("path", "Path", "choice", source="rollout_paths"),
        Field("segment", "Segment", "choice", source="segments", help="None: everybody exposed."),
        Field("signal", "Signal", "choice", source="signals"),
        Field("compare", "Compare with", "choice", words=compares),
        Field("limit", "Limit", "number", help="For limit and hard_cap."),
        Field("margin", "Margin", "number", help="For stable and history."),
        _seconds("window_s", "Window"),
        Field("min_n", "Least number of tasks", "whole"),
    )


_CRITERIA: Final = Rows(
    "/rollout/criteria",
    "criterion",
    (Group("", _watched(COMPARES[:-1])),),
    new={"slug": "", "path": "", "signal": "", "compare": "limit", "min_n": 100},
    none="Without a criterion nothing says that a wider stage is safe.",
)

_SEVERITY: Final = Field("severity", "Severity", "choice", words=SEVERITIES)
_TRIGGERS: Final = Rows(
    "/rollout/triggers",
    "trigger",
    (
        Group("Watches", (*_watched(COMPARES), _SEVERITY)),
        Group(
            "Answers",
            (
                Field("response", "It does more than alert", "present"),
                Field("response/kind", "Response", "choice", words=RESPONSES),
                Field("response/action", "Action", "choice", words=ACTIONS),
                Field("response/mode", "Mode, of a fallback", "choice", words=FALLBACK_MODES),
                Field("response/action_route", "Action route", "choice", source="routes"),
            ),
        ),
    ),
    new={
        "slug": "",
        "path": "",
        "signal": "",
        "compare": "limit",
        "min_n": 50,
        "severity": "high",
        "response": {"kind": "recommend", "action": "rollback"},
    },
    none="Without a trigger nobody is told when it goes wrong.",
)

_ROUTES: Final = Rows(
    "/workflow/action_routes",
    "action route",
    (
        Group(
            "Action route",
            (
                Field("slug", "Slug"),
                Field("effect", "Effect", "choice", words=("write", "read")),
                Field("risk", "Risk", "choice", words=("low", "medium", "high")),
                Field(
                    "reversibility",
                    "Reversibility",
                    "choice",
                    words=("reversible", "irreversible"),
                ),
                _seconds("undo_s", "Can be undone for"),
                Field("role", "Role that decides", "choice", words=ROLES),
                Field("default", "Unless contained", "choice", words=("ask", "allow", "deny")),
            ),
        ),
        Group(
            "Scope",
            (
                Field("scope/objects", "Objects", "lines", help="One a line."),
                Field("scope/per_hour", "An hour", "whole"),
                Field("scope/per_subject_per_day", "A subject a day", "whole"),
                Field("scope/parameters", "Parameters, a JSON Schema", "json", wide=True),
            ),
        ),
    ),
    new={"slug": "", "risk": "high", "reversibility": "irreversible", "default": "ask"},
    none="A workflow that only answers acts on nothing.",
)

STEPS: Final = (
    Step(
        "workflow",
        "Workflow and people",
        "Who answers for it, and who is told next when nobody does.",
        (
            Group(
                "Workflow",
                (
                    Field("/workflow/slug", "Slug"),
                    Field("/workflow/name", "Name"),
                    Field("/workflow/owner", "Containment owner", source="people"),
                    Field("/workflow/deputy", "Deputy", source="people"),
                    _seconds(
                        "/workflow/hold_s",
                        "Clock before automatic containment",
                        "At most 120 with action routes.",
                    ),
                    Field(
                        "/workflow/discovery",
                        "Add unknown paths from reports, exposed to nobody",
                        "flag",
                        wide=True,
                    ),
                ),
            ),
        ),
        (
            Rows(
                "/workflow/escalation",
                "escalation step",
                (
                    Group(
                        "",
                        (
                            _seconds("after_s", "After"),
                            Field(
                                "notify",
                                "Tell",
                                source="people",
                                help="A person, or deputy, owner, lead, approver.",
                            ),
                        ),
                    ),
                ),
                new={"after_s": 300, "notify": "deputy"},
                none="Without a step an alert that nobody acknowledges stays where it is.",
            ),
        ),
        owns=("", "/version", "/workflow"),
    ),
    Step(
        "paths",
        "Paths",
        "The kinds of work, with their limits, their review and their fallbacks.",
        rows=(_PATHS,),
        owns=("/workflow/paths",),
    ),
    Step(
        "segments",
        "Segments",
        "Who can be exposed, by a rule over the evaluation context.",
        rows=(_SEGMENTS,),
        owns=("/workflow/segments",),
    ),
    Step(
        "signals",
        "Own signals",
        "What your team measures beside the catalogue: it charts and guards like any other.",
        rows=(_SIGNALS,),
        owns=("/workflow/signals",),
    ),
    Step(
        "releases",
        "Releases and changes",
        "What each release changes against the stable one.",
        rows=(_RELEASES,),
        owns=("/releases",),
    ),
    Step(
        "rollout",
        "Rollout and stages",
        "Which release goes up which ladder. Each stage exposes at least what the one below did.",
        (
            Group(
                "Rollout",
                (
                    Field("/rollout", "Plan a rollout now", "present", wide=True),
                    Field("/rollout/slug", "Slug"),
                    Field("/rollout/candidate", "Candidate"),
                    Field(
                        "/rollout/stable",
                        "Stable",
                        null=True,
                        help="Empty for a workflow's first release.",
                    ),
                    Field(
                        "/rollout/paths",
                        "Paths",
                        "several",
                        source="paths",
                        help="None ticked: all.",
                        wide=True,
                    ),
                ),
            ),
        ),
        (_STAGES,),
        owns=("/rollout",),
    ),
    Step(
        "criteria",
        "Expansion criteria",
        "All of them must hold before a wider stage can be requested. A date alone never widens.",
        rows=(_CRITERIA,),
        owns=("/rollout/criteria",),
    ),
    Step(
        "triggers",
        "Rollback triggers",
        "What calls for containment, and what is done then. Automation only contains.",
        rows=(_TRIGGERS,),
        owns=("/rollout/triggers",),
    ),
    Step(
        "actions",
        "Action routes",
        "How it may act on the world. With a route, the first stage and the clock are stricter.",
        rows=(_ROUTES,),
        owns=("/workflow/action_routes", "/action_routes"),
    ),
    Step(
        "review",
        "Review and apply",
        "What changes against the plan in force, and what is still open.",
    ),
)
BY_SLUG: Final = {step.slug: step for step in STEPS}
# A plan without a rollout has none of these.
OF_ROLLOUT: Final = frozenset({"criteria", "triggers"})


def step_of(pointer: str) -> Step:
    """Return the step that a fault or finding at `pointer` belongs to."""
    best, longest = STEPS[0], -1
    for step in STEPS:
        for own in step.owns:
            inside = pointer == own or pointer.startswith(f"{own}/")
            if inside and len(own) > longest:
                best, longest = step, len(own)
    return best
