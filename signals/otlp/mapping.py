"""Which workflow and path a span belongs to: its own words, else a workflow's rules. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from signals.ingest.runs import SLUG, SLUG_WITHOUT_DOT
from signals.otlp.aliases import Facts
from signals.otlp.spans import Span

RULES_MAX: Final = 200
TEXT_MAX: Final = 200

Fault = dict[str, str]


@dataclass(frozen=True, slots=True)
class Take:
    """Where a rule takes a value from: one said in the rule, or a span's attribute."""

    value: str | None = None
    attribute: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Spans that fit every part of the match belong to `path`."""

    path: str
    service: str | None = None
    scope: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    release: Take = field(default_factory=Take)
    segment: Take = field(default_factory=Take)
    subject: Take = field(default_factory=Take)

    def fits(self, span: Span) -> bool:
        resource = resource_of(span)
        if self.service is not None and resource.get("service.name") != self.service:
            return False
        if self.scope is not None and span.source.scope_name != self.scope:
            return False
        return all(
            span.attributes.get(name, resource.get(name)) == value
            for name, value in self.attributes.items()
        )


@dataclass(frozen=True, slots=True)
class SpanMapping:
    """A workflow's rules, the first that fits counts, and the scopes it leaves out."""

    rules: tuple[Rule, ...] = ()
    drop_scopes: frozenset[str] = frozenset()


NO_MAPPING: Final = SpanMapping()


@dataclass(frozen=True, slots=True)
class Known:
    """A workflow as far as spans are concerned."""

    id: int
    paths: tuple[str, ...]
    mapping: SpanMapping = NO_MAPPING


@dataclass(frozen=True, slots=True)
class Place:
    """Where a span belongs. `fault` says why its run cannot be counted, "" that it can."""

    workflow: str
    path: str | None = None
    rule: Rule | None = None
    fault: str = ""


def resource_of(span: Span) -> Mapping[str, Any]:
    found = span.source.resource.get("attributes", {})
    return found if isinstance(found, dict) else {}


def seek(name: str, span: Span, ancestors: Sequence[Span]) -> Any:
    """Return an attribute of the span, else of its nearest ancestor, else of its resource."""
    for one in (span, *ancestors):
        if (value := one.attributes.get(name)) is not None:
            return value
    return resource_of(span).get(name)


def place_of(
    span: Span,
    *,
    facts: Facts,
    ancestors: Sequence[Span],
    workflows: Mapping[str, Known],
) -> Place | None:
    """Return where a span belongs, None where nothing says so.

    First what it, an ancestor or its resource says (`rollout.workflow`, `rollout.path`); then the
    rules of the workflows, by name; then the workflow's name by the GenAI conventions; last
    `service.name`, as `<workflow>` or `<workflow>.<path>`.

    Args:
        span: the span.
        facts: what its attributes say.
        ancestors: its parent, the parent's parent, and so on.
        workflows: those that its token may report for.
    """
    named = seek("rollout.workflow", span, ancestors)
    path = seek("rollout.path", span, ancestors)
    if named is not None:
        known = workflows.get(str(named))
        if known is None:
            return Place(
                str(named)[:80], fault=f"There is no workflow {str(named)[:80]!r} for its token."
            )
        return _place(str(named), known, path, _rule(span, known))
    for slug in sorted(workflows):
        rule = _rule(span, workflows[slug])
        if rule is not None:
            return _place(slug, workflows[slug], path, rule)
    if facts.workflow is not None and facts.workflow in workflows:
        return _place(facts.workflow, workflows[facts.workflow], path, None)
    service = resource_of(span).get("service.name")
    if isinstance(service, str):
        if service in workflows:
            return _place(service, workflows[service], path, None)
        slug, _, of_service = service.partition(".")
        if slug in workflows and of_service in workflows[slug].paths:
            return _place(slug, workflows[slug], path or of_service, None)
    return None


def _rule(span: Span, known: Known) -> Rule | None:
    return next((rule for rule in known.mapping.rules if rule.fits(span)), None)


def _place(slug: str, known: Known, path: Any, rule: Rule | None) -> Place:
    if path is None and rule is not None:
        path = rule.path
    if path is None and len(known.paths) == 1:
        (path,) = known.paths
    if path is None:
        fault = f"Nothing says which path of {slug!r}: send `rollout.path`, or add a mapping rule."
        return Place(slug, rule=rule, fault=fault)
    return Place(slug, str(path), rule)


def taken(take: Take, span: Span, ancestors: Sequence[Span]) -> str | None:
    """Return a rule's value as text."""
    value = take.value if take.attribute is None else seek(take.attribute, span, ancestors)
    return None if value is None or isinstance(value, dict | list) else _text(value)


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


# --- Reading a document ---


def mapping_read(document: Any, *, paths: Sequence[str]) -> tuple[SpanMapping | None, list[Fault]]:
    """Return the mapping that a JSON document holds, or what is wrong with it, by pointer.

    Args:
        paths: the workflow's; a rule names one of them.
    """
    if not isinstance(document, dict):
        return None, [_fault("", "Send an object with `rules` and `drop_scopes`.")]
    faults = _unknown(document, {"rules", "drop_scopes"}, "")
    told = document.get("rules", [])
    if not isinstance(told, list) or len(told) > RULES_MAX:
        faults.append(_fault("/rules", f"`rules` must be a list of at most {RULES_MAX}."))
        told = []
    rules = [_rule_read(one, f"/rules/{n}", paths, faults) for n, one in enumerate(told)]
    scopes = document.get("drop_scopes", [])
    if not isinstance(scopes, list) or len(scopes) > RULES_MAX:
        faults.append(_fault("/drop_scopes", f"Must be a list of at most {RULES_MAX} names."))
        scopes = []
    for number, scope in enumerate(scopes):
        _text_check(scope, f"/drop_scopes/{number}", "the name of a scope", faults)
    if faults:
        return None, faults
    return SpanMapping(tuple(rule for rule in rules if rule is not None), frozenset(scopes)), []


def _rule_read(told: Any, pointer: str, paths: Sequence[str], faults: list[Fault]) -> Rule | None:
    if not isinstance(told, dict):
        faults.append(_fault(pointer, "A rule is an object with `match` and `path`."))
        return None
    before = len(faults)
    faults += _unknown(told, {"match", "path", "release", "segment", "subject"}, pointer)
    path = told.get("path")
    if not isinstance(path, str) or not SLUG_WITHOUT_DOT.fullmatch(path) or path not in paths:
        known = ", ".join(paths) or "none yet"
        faults.append(
            _fault(f"{pointer}/path", f"`path` must be one of the workflow's paths: {known}.")
        )
    match = _match_read(told.get("match"), f"{pointer}/match", faults)
    release = _take_read(told.get("release"), f"{pointer}/release", faults)
    segment = _take_read(told.get("segment"), f"{pointer}/segment", faults)
    subject = _take_read(told.get("subject"), f"{pointer}/subject", faults)
    if segment.value is not None and not SLUG.fullmatch(segment.value):
        faults.append(_fault(f"{pointer}/segment", "`segment` must be a slug."))
    if subject.value is not None:
        faults.append(
            _fault(f"{pointer}/subject", 'Name an attribute: {"attribute": "enduser.pseudo.id"}.')
        )
    if len(faults) > before or not isinstance(path, str):
        return None
    return Rule(path=path, release=release, segment=segment, subject=subject, **match)


def _match_read(told: Any, pointer: str, faults: list[Fault]) -> dict[str, Any]:
    if not isinstance(told, dict) or not told:
        detail = "A rule matches on `service.name`, `scope` or `attributes`, one at least."
        faults.append(_fault(pointer, detail))
        return {}
    faults += _unknown(told, {"service.name", "scope", "attributes"}, pointer)
    match: dict[str, Any] = {}
    for name, ours in (("service.name", "service"), ("scope", "scope")):
        if name in told and _text_check(told[name], f"{pointer}/{name}", "text", faults):
            match[ours] = told[name]
    attributes = told.get("attributes", {})
    if not isinstance(attributes, dict) or len(attributes) > 20:
        faults.append(_fault(f"{pointer}/attributes", "At most 20 attributes with their values."))
        return match
    for name, value in attributes.items():
        if not isinstance(value, str | int | float | bool):
            at = f"{pointer}/attributes/{_escaped(name)}"
            faults.append(_fault(at, "A value is text, a number, true or false."))
    return {**match, "attributes": attributes}


def _take_read(told: Any, pointer: str, faults: list[Fault]) -> Take:
    if told is None:
        return Take()
    what = 'text, or {"attribute": "its.name"}'
    if isinstance(told, dict) and set(told) == {"attribute"}:
        ok = _text_check(told["attribute"], f"{pointer}/attribute", "an attribute's name", faults)
        return Take(attribute=told["attribute"]) if ok else Take()
    return Take(value=told) if _text_check(told, pointer, what, faults) else Take()


def _text_check(told: Any, pointer: str, what: str, faults: list[Fault]) -> bool:
    if isinstance(told, str) and 0 < len(told) <= TEXT_MAX and "\0" not in told:
        return True
    faults.append(_fault(pointer, f"Must be {what}, of at most {TEXT_MAX} characters."))
    return False


def _unknown(told: dict[str, Any], known: set[str], pointer: str) -> list[Fault]:
    names = sorted(told.keys() - known)
    return [_fault(f"{pointer}/{_escaped(name)}", "There is no such field.") for name in names]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _fault(pointer: str, detail: str) -> Fault:
    return {"pointer": pointer, "detail": detail}
