"""A mapping file: what it may say, and what it says. Pure; the language is in docs/replay.md."""

import re
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field
from typing import Any, Final

from rollout_console.replay.expressions import (
    Expression,
    ExpressionInvalid,
    constant,
    expression_read,
)
from rollout_console.replay.functions import text_of
from rollout_console.replay.joins import JOINS
from rollout_console.replay.times import FORMATS, time_of, zone_of
from rollout_console.rollouts.plan_check import Fault, Faults, Part, kind_of, unique
from rollout_console.rollouts.plan_rules import rule_check
from rollout_console.rollouts.plan_schema import KINDS

SOURCES: Final = ("csv", "jsonl", "json")
# What a section with `each` is computed for stands beside these.
EACH: Final = "$each"
GIVEN: Final = frozenset({"$file", "$row", "$head", "$joined", EACH})
_RECORDS: Final = re.compile(r"(?:[^.\[\]]+\.)*[^.\[\]]*\[\]")

# What a field of a run or an observation is, so that a CSV cell can become it.
TEXT, WHOLE, NUMBER, TRUTH, TIME = "text", "whole", "number", "truth", "time"
RUN_FIELDS: Final[AnyMapping[str, str]] = {
    "id": TEXT,
    "occurred_at": TIME,
    "path": TEXT,
    "release": TEXT,
    "segment": TEXT,
    "arm": TEXT,
    "mode": TEXT,
    "route": TEXT,
    "exposure_version": WHOLE,
    "client": TEXT,
    "subject": TEXT,
    "outcome": TEXT,
    "failure_category": TEXT,
    "critical": TRUTH,
    "risk": TEXT,
    "input_condition": TEXT,
    "latency_ms": NUMBER,
    "cost_usd": NUMBER,
    "cost_known": TRUTH,
    "input_tokens": WHOLE,
    "output_tokens": WHOLE,
    "context_tokens": WHOLE,
    "retries": WHOLE,
    "steps": WHOLE,
    "tool_calls": WHOLE,
    "retrieved": WHOLE,
    "retrieval_score": NUMBER,
    "confidence": NUMBER,
    "review_requested": TRUTH,
    "trace_id": TEXT,
}
# Maps within a run; None takes any name.
RUN_MAPS: Final[AnyMapping[str, AnyMapping[str, str] | str]] = {
    "quality": {"score": NUMBER, "passed": TRUTH},
    "attributes": TEXT,
    "measures": NUMBER,
    "context": TEXT,
}
OBSERVATION_FIELDS: Final[AnyMapping[str, str]] = {
    "id": TEXT,
    "run_id": TEXT,
    "run_occurred_at": TIME,
    "occurred_at": TIME,
    "kind": TEXT,
    "name": TEXT,
    "score": NUMBER,
    "passed": TRUTH,
    "verdict": TEXT,
    "reviewer": TEXT,
    "duration_ms": NUMBER,
    "value": TEXT,
    "outcome": TEXT,
    "failure_category": TEXT,
    "critical": TRUTH,
}
GAUGE_FIELDS: Final[AnyMapping[str, str]] = {
    "id": TEXT,
    "occurred_at": TIME,
    "path": TEXT,
    "name": TEXT,
    "value": NUMBER,
    "unit": TEXT,
    "segment": TEXT,
    "release": TEXT,
    "arm": TEXT,
}
RUN_NEEDS: Final = ("occurred_at", "path", "outcome")
OBSERVATION_NEEDS: Final = ("run_id", "occurred_at", "kind")
GAUGE_NEEDS: Final = ("occurred_at", "path", "name", "value")


@dataclass(frozen=True, slots=True)
class Field:
    """One field to compute: its JSON pointer's parts, what it becomes, and how."""

    keys: tuple[str, ...]
    kind: str
    value: Expression


@dataclass(frozen=True, slots=True)
class Section:
    """What makes a record a run (or an observation, a gauge), and the fields of that.

    With `each`, a list or an object, it makes one for every element, beside whatever else the
    record is.
    """

    when: Expression | None
    each: Expression | None
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """How a file is read: its format and, for JSON, where its records stand."""

    format: str
    records: tuple[str, ...] = ()
    head: frozenset[str] = frozenset()
    delimiter: str = ","
    join: str = ""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A checked mapping; `workflow` is the part that a plan for it is made of."""

    source: Source
    workflow: dict[str, Any]
    runs: Section | None
    observations: Section | None
    gauges: Section | None = None
    names: frozenset[str] = field(default_factory=frozenset)


def mapping_read(document: Any) -> tuple[Mapping | None, list[Fault]]:
    """Return (mapping, []) or (None, faults in reading order)."""
    faults = Faults()
    top = Part(document, "", faults, what="A mapping")
    if top.whole:
        version = top.raw("version")
        if isinstance(version, bool) or version != 1:
            top.fault("version", "“version” must be 1: the format of this file.")
    source = _source(top.part("source", what="“source”"))
    workflow = _workflow(top.part("workflow", what="“workflow”"))
    reader = _Reader(faults)
    runs = observations = gauges = None
    if top.has("runs"):
        runs = reader.section(top, "runs", RUN_FIELDS, RUN_MAPS, RUN_NEEDS)
    if top.has("observations"):
        observations = reader.section(
            top, "observations", OBSERVATION_FIELDS, {}, OBSERVATION_NEEDS
        )
    if top.has("gauges"):
        gauges = reader.section(top, "gauges", GAUGE_FIELDS, {}, GAUGE_NEEDS)
    if top.whole and runs is None and observations is None and gauges is None:
        top.fault("runs", "A mapping says what becomes “runs”, “observations” or “gauges”.")
    for key in ("runs", "observations", "gauges"):
        top.raw(key)
    top.nothing_else()
    if faults.found:
        return None, faults.found
    return Mapping(source, workflow, runs, observations, gauges, frozenset(reader.names)), []


def _source(part: Part) -> Source:
    form = part.choice("format", SOURCES, required=True)
    records = part.text("records", default="[]")
    if form != "json" and part.has("records"):
        part.fault("records", "Only JSON has its records somewhere; leave it out.")
    elif not _RECORDS.fullmatch(records):
        part.fault("records", "Write where the list of records stands, such as simulations[].")
    head = part.texts("head")
    if form != "json" and head:
        part.fault("head", "Only JSON has a head beside its records; leave it out.")
    delimiter = part.text("delimiter", default=",")
    if len(delimiter) != 1 or delimiter in '"\r\n':
        part.fault("delimiter", "A delimiter is one character, such as “;”.")
    join = part.choice("join", ("", *JOINS)) if part.has("join") else ""
    part.raw("join")
    part.nothing_else()
    steps = tuple(step for step in records.removesuffix("[]").split(".") if step)
    return Source(form, steps, frozenset(head), delimiter, join)


def _workflow(part: Part) -> dict[str, Any]:
    """Read what a plan of the workflow will say, in the plan's own form."""
    made: dict[str, Any] = {"slug": part.slug("slug", dots=False)}
    made["name"] = part.text("name", default=made["slug"])
    made["discovery"] = part.flag("discovery")
    paths = part.parts("paths", what="A path", most=100)
    made["paths"] = [
        {"slug": path.slug("slug", dots=False), "name": path.text("name") or path.raw("slug")}
        for path in paths
    ]
    unique(((p, m["slug"]) for p, m in zip(paths, made["paths"], strict=True)), "slug", "path")
    if part.whole and not paths:
        part.fault("paths", "Name at least one path; “discovery: true” adds others as met.")
    segments = part.parts("segments", what="A segment", most=100)
    made["segments"] = [_segment(segment) for segment in segments]
    for each in (*paths, *segments):
        each.nothing_else()
    part.nothing_else()
    return made


def _segment(part: Part) -> dict[str, Any]:
    slug = part.slug("slug")
    rule = part.raw("rule")
    rule_check(rule, part.at("rule"), part.faults)
    return {
        "slug": slug,
        "name": part.text("name", default=slug),
        "kind": part.choice("kind", KINDS, required=True),
        "rule": rule,
    }


class _Reader:
    """Reads sections, noting which of a record's fields their expressions name."""

    def __init__(self, faults: Faults) -> None:
        self.names: set[str] = set()
        self._faults = faults
        self._has_each = False

    def section(
        self,
        top: Part,
        key: str,
        known: AnyMapping[str, str],
        maps: AnyMapping[str, AnyMapping[str, str] | str],
        needs: tuple[str, ...],
    ) -> Section:
        part = top.part(key, what=f"“{key}”")
        when = each = None
        self._has_each = False
        if part.has("each"):
            each = self._expression(part.raw("each"), part.at("each"))
        part.raw("each")
        self._has_each = each is not None
        if part.has("when"):
            when = self._expression(part.raw("when"), part.at("when"))
        part.raw("when")
        fields = []
        for name, kind in known.items():
            if part.has(name):
                value = self._value(part.raw(name), part.at(name), is_time=kind == TIME)
                fields.append(Field((name,), kind, value))
            elif name in needs and part.whole:
                part.fault(name, f"“{key}” needs “{name}”.")
            part.raw(name)
        for name, members in maps.items():
            if part.has(name):
                fields += self._map(part.part(name, what=f"“{name}”"), name, members, part)
            part.raw(name)
        part.nothing_else()
        return Section(when, each, tuple(fields))

    def _map(
        self, part: Part, name: str, members: AnyMapping[str, str] | str, holder: Part
    ) -> list[Field]:
        fields = []
        given = holder.raw(name)
        names = list(given) if isinstance(given, dict) else []
        for member in names:
            kind = members if isinstance(members, str) else members.get(member)
            if kind is None or len(member) > 200:
                continue
            value = self._value(part.raw(member), part.at(member), is_time=False)
            fields.append(Field((name, member), kind, value))
        part.nothing_else()
        return fields

    def _value(self, given: Any, pointer: str, *, is_time: bool) -> Expression:
        if isinstance(given, dict):
            part = Part(given, pointer, self._faults, what="A value")
            forms = [form for form in ("const", "map", "time") if form in given]
            if len(forms) != 1:
                self._faults.add(pointer, "A value is an expression, or has const, map or time.")
                return constant(None)
            read_form = {"const": self._const, "map": self._map_form, "time": self._time}
            made = read_form[forms[0]](part)
            part.nothing_else()
            return made
        read = self._expression(given, pointer)
        return _timed(read, "rfc3339", None) if is_time else read

    def _const(self, part: Part) -> Expression:
        value = part.raw("const")
        if isinstance(value, dict | list):
            part.fault("const", f"“const” is one value, not {kind_of(value)}.")
        return constant(value)

    def _map_form(self, part: Part) -> Expression:
        read = self._expression(part.raw("map"), part.at("map"))
        table = part.part("to", what="“to”")
        given = part.raw("to")
        targets = {
            name: self._target(table.raw(name), table.at(name))
            for name in (given if isinstance(given, dict) else {})
        }
        if part.whole and not targets:
            part.fault("to", "“map” needs “to”: a map from values to what they become.")
        otherwise = None
        if part.stated("else"):
            otherwise = self._expression(part.raw("else"), part.at("else"))
        part.raw("else")
        names = read.names | (otherwise.names if otherwise else frozenset())
        given_names = read.given | (otherwise.given if otherwise else frozenset())

        def compute(values: AnyMapping[str, Any]) -> Any:
            value = read(values)
            if value is not None and not isinstance(value, dict | list):
                found = targets.get(text_of(value))
                if found is not None:
                    return found(values)
            return otherwise(values) if otherwise else None

        return Expression(read.text, names, given_names, compute)

    def _target(self, given: Any, pointer: str) -> Expression:
        """A target of `map` is the value itself: a text there needs no quotes."""
        if isinstance(given, dict | list):
            self._faults.add(pointer, f"What a value becomes is one value, not {kind_of(given)}.")
        return constant(given)

    def _time(self, part: Part) -> Expression:
        read = self._expression(part.raw("time"), part.at("time"))
        form = part.text("format", default="rfc3339")
        if "%" not in form:
            form = part.choice("format", FORMATS, default="rfc3339")
        zone = None
        if part.has("zone"):
            try:
                zone = zone_of(part.text("zone"))
            except ValueError as refusal:
                part.fault("zone", str(refusal))
        elif form == "local":
            part.fault("zone", "A local time needs the “zone” it was written in, such as UTC.")
        part.raw("zone")
        if zone is not None and form in ("rfc3339", "unix", "unix_ms"):
            part.fault("zone", f"{form} says by itself when it was; leave “zone” out.")
        return _timed(read, form, zone)

    def _expression(self, given: Any, pointer: str) -> Expression:
        """Read an expression; a number, true, false or null stands for itself."""
        if given is None or isinstance(given, bool | int | float):
            return constant(given)
        if not isinstance(given, str):
            self._faults.add(pointer, f"An expression is text, not {kind_of(given)}.")
            return constant(None)
        try:
            read = expression_read(given)
        except ExpressionInvalid as refusal:
            self._faults.add(pointer, f"Not an expression: {refusal}")
            return constant(None)
        unknown = read.given - GIVEN
        if unknown:
            self._faults.add(
                pointer,
                f"There is no {sorted(unknown)[0]}; there are {', '.join(sorted(GIVEN))}.",
            )
        if EACH in read.given and not self._has_each:
            self._faults.add(pointer, "$each is what “each” of the same section goes through.")
        self.names |= read.names
        return read


def _timed(read: Expression, form: str, zone: Any) -> Expression:
    return Expression(
        read.text, read.names, read.given, lambda values: time_of(read(values), form, zone)
    )
