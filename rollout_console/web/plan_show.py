"""The plan editor's page as rows for its templates. Pure: no Django."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rollout_console.rollouts.findings import Finding
from rollout_console.rollouts.plan_check import Fault
from rollout_console.web.plan_form import field_pointer, shown, value_at
from rollout_console.web.plan_rule import RuleForm, rule_form
from rollout_console.web.plan_steps import OF_ROLLOUT, STEPS, Field, Group, Rows, Step, step_of
from signals.catalogue import SIGNALS

_KEY: Final = re.compile(r"^(\s*(?:- )*)([A-Za-z_][\w.-]*)(:.*)?$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Option:
    value: str
    label: str
    chosen: bool


@dataclass(slots=True)
class Input:
    """An input with what stands in it; `error_id` names its errors for whoever listens."""

    name: str
    id: str
    of: Field
    value: str
    options: list[Option] = field(default_factory=list)
    rule: RuleForm | None = None
    errors: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class GroupView:
    title: str
    help: str
    inputs: list[Input]


@dataclass(slots=True)
class RowView:
    pointer: str
    title: str
    number: int
    groups: list[GroupView]
    lists: list["ListView"]
    errors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ListView:
    pointer: str
    noun: str
    none: str
    rows: list[RowView]
    errors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class StepView:
    """The form of one step; `errors` are faults that no field of it stands for."""

    step: Step
    groups: list[GroupView]
    lists: list[ListView]
    errors: list[str]
    findings: list[Finding]
    needs_rollout: bool


@dataclass(frozen=True, slots=True)
class Tab:
    """A step in the list of steps: done, open, or with faults."""

    step: Step
    number: int
    faults: int
    gaps: int
    note: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: its indentation, key and rest, and how it is marked."""

    head: str
    key: str
    rest: str
    comment: bool
    mark: str


@dataclass(frozen=True, slots=True)
class Words:
    """What selects offer that is not in the document: people's names."""

    people: Sequence[str] = ()


def step_view(
    document: Any, step: Step, *, faults: Sequence[Fault], findings: Sequence[Finding], words: Words
) -> StepView:
    """Return a step's form with faults and findings at their fields."""
    builder = _Builder(document, words)
    groups = builder.groups(step.groups, "")
    lists = [builder.rows_view(rows, rows.key) for rows in step.rows]
    errors = [
        fault.detail
        for fault in faults
        if step_of(fault.pointer) is step and not builder.fault(fault)
    ]
    beside = [
        finding
        for finding in findings
        if step_of(finding.pointer) is step and not builder.finding(finding)
    ]
    needs = step.slug in OF_ROLLOUT and not isinstance(value_at(document, "/rollout"), dict)
    return StepView(step, groups, lists, errors, beside, needs)


def tabs(document: Any, *, faults: Sequence[Fault], findings: Sequence[Finding]) -> list[Tab]:
    """Return the steps with how they stand."""
    made = []
    for number, step in enumerate(STEPS, start=1):
        wrong = [fault for fault in faults if step_of(fault.pointer) is step]
        gaps = [
            finding
            for finding in findings
            if finding.severity == "gap" and step_of(finding.pointer) is step
        ]
        made.append(Tab(step, number, len(wrong), len(gaps), _note(document, step)))
    return made


def _note(document: Any, step: Step) -> str:
    for rows in step.rows:
        if rows.key == "/workflow/escalation":
            return shown(value_at(document, "/workflow/name"), "text")
        held = value_at(document, rows.key)
        count = len(held) if isinstance(held, list) else 0
        return f"{count} {_plural(rows.noun, count)}"
    return ""


def _plural(noun: str, count: int) -> str:
    if count == 1:
        return noun
    return "criteria" if noun == "criterion" else f"{noun}s"


def lines_of(
    text: str,
    *,
    at: Mapping[str, int],
    step: Step | None,
    faults: Sequence[int],
) -> list[Line]:
    """Return a file's lines; `at` maps pointers to lines, `faults` are lines in error."""
    own = {
        line
        for pointer, line in at.items()
        if step is not None and pointer and step_of(pointer) is step
    }
    bad = set(faults)
    made = []
    for number, line in enumerate(text.rstrip("\n").split("\n"), start=1):
        mark = "bad" if number in bad else "hl" if number in own else ""
        stripped = line.lstrip()
        if stripped.startswith("#"):
            made.append(Line(line, "", "", True, mark))
            continue
        found = _KEY.match(line)
        if found and found[3]:
            made.append(Line(found[1], found[2], found[3], False, mark))
        else:
            made.append(Line(line, "", "", False, mark))
    return made


class _Builder:
    def __init__(self, document: Any, words: Words) -> None:
        self.document = document
        self.words = words
        self.inputs: dict[str, Input] = {}
        self.holders: dict[str, RowView | ListView] = {}

    def groups(self, groups: Sequence[Group], base: str) -> list[GroupView]:
        return [
            GroupView(group.title, group.help, [self.input(field, base) for field in group.fields])
            for group in groups
        ]

    def rows_view(self, rows: Rows, pointer: str) -> ListView:
        held = value_at(self.document, pointer)
        made = ListView(pointer, rows.noun, rows.none, [])
        self.holders[pointer] = made
        for index, row in enumerate(held if isinstance(held, list) else []):
            base = f"{pointer}/{index}"
            title = ""
            if isinstance(row, dict):
                names = (row.get(key) for key in ("slug", "version", "segment", "name", "notify"))
                title = next((name for name in names if isinstance(name, str) and name), "")
            view = RowView(base, title, index + 1, self.groups(rows.groups, base), [])
            self.holders[base] = view
            view.lists = [self.rows_view(inner, f"{base}/{inner.key}") for inner in rows.rows]
            made.rows.append(view)
        return made

    def input(self, field: Field, base: str) -> Input:
        pointer = field_pointer(base, field)
        value = value_at(self.document, pointer)
        made = Input(pointer, "f" + pointer.replace("/", "-"), field, shown(value, field.kind))
        if field.kind == "present" and value is None:
            held = value_at(self.document, pointer.rpartition("/")[0])
            stated = isinstance(held, dict) and pointer.rpartition("/")[2] in held
            # `previous_stable:` with nothing after it declares the mode too.
            made.value = "on" if stated else ""
        if field.kind == "rule":
            made.rule = rule_form(value)
        if field.kind == "several":
            chosen = value if isinstance(value, list) else []
            offered = field.words or [slug for slug, _ in self._source(field)]
            made.options = [Option(word, word, word in chosen) for word in offered]
        elif field.kind == "choice" or field.source:
            made.options = self._options(field, made.value)
        self.inputs[pointer] = made
        return made

    def _options(self, field: Field, value: str) -> list[Option]:
        known = [(word, word.replace("_", " ")) for word in field.words] or self._source(field)
        options = [Option(word, label, word == value) for word, label in known]
        if field.source == "people":
            return options
        if value and value not in {word for word, _ in known}:
            # What was typed in the file is shown, wrong as it may be.
            options.insert(0, Option(value, value, True))
        return [Option("", "not said", not value), *options]

    def _source(self, field: Field) -> list[tuple[str, str]]:
        if field.source == "people":
            return [(name, name) for name in self.words.people]
        if field.source == "signals":
            own = self._slugs("/workflow/signals")
            known = [(signal.slug, signal.title) for signal in SIGNALS.values()]
            return [*((slug, f"{slug} (own)") for slug in own if slug not in SIGNALS), *known]
        if field.source == "rollout_paths":
            chosen = value_at(self.document, "/rollout/paths")
            slugs = self._slugs("/workflow/paths")
            if isinstance(chosen, list) and chosen:
                slugs = [slug for slug in slugs if slug in chosen]
        else:
            pointer = {"paths": "paths", "segments": "segments", "routes": "action_routes"}
            slugs = self._slugs(f"/workflow/{pointer[field.source]}")
        return [(slug, slug) for slug in slugs]

    def _slugs(self, pointer: str) -> list[str]:
        held = value_at(self.document, pointer)
        rows = held if isinstance(held, list) else []
        slugs = [row.get("slug") for row in rows if isinstance(row, dict)]
        return [slug for slug in slugs if isinstance(slug, str) and slug]

    def fault(self, fault: Fault) -> bool:
        """Put a fault at its field, or at the row around it; return whether there is one."""
        pointer = fault.pointer
        while pointer:
            if pointer in self.inputs:
                self.inputs[pointer].errors.append(fault.detail)
                return True
            if pointer in self.holders:
                self.holders[pointer].errors.append(fault.detail)
                return True
            pointer = pointer.rpartition("/")[0]
        return False

    def finding(self, finding: Finding) -> bool:
        if finding.pointer in self.inputs:
            self.inputs[finding.pointer].findings.append(finding)
            return True
        return False
