"""Which trigger or path an alert from outside is about: its labels, else a workflow's rules. Pure.

A rule fits an alert that carries each of its labels with just that value; the first that fits
counts.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

WORKFLOW: Final = "rollout_workflow"
PATH: Final = "rollout_path"
TRIGGER: Final = "rollout_trigger"
RULES_MAX: Final = 200
MATCH_MAX: Final = 20
TEXT_MAX: Final = 200

Fault = dict[str, str]


@dataclass(frozen=True, slots=True)
class Rule:
    """Alerts with all of these labels trip `trigger`, or else mark `path`."""

    match: Mapping[str, str]
    trigger: str = ""
    path: str = ""


def rule_of(labels: Mapping[str, str], rules: Sequence[Rule]) -> Rule | None:
    """Return what an alert is about by its own labels, else by the first rule that fits."""
    if labels.get(TRIGGER) or labels.get(PATH):
        return Rule({}, trigger=labels.get(TRIGGER, ""), path=labels.get(PATH, ""))
    for rule in rules:
        if all(labels.get(name) == value for name, value in rule.match.items()):
            return rule
    return None


def rules_of(document: Mapping[str, Any]) -> list[Rule]:
    """Return the rules of a document that was read before."""
    return [
        Rule(rule["match"], rule.get("trigger", ""), rule.get("path", ""))
        for rule in document.get("rules", [])
    ]


def rules_read(document: Any, *, paths: Collection[str]) -> tuple[list[Rule], list[Fault]]:
    """Return the rules that a JSON document holds, or what is wrong with it, by pointer.

    A trigger's slug is not looked up: plans bring triggers and take them away.
    """
    if not isinstance(document, dict) or document.keys() - {"rules"}:
        return [], [_fault("", "Send an object with `rules`, a list, and nothing else.")]
    told = document.get("rules", [])
    if not isinstance(told, list) or len(told) > RULES_MAX:
        return [], [_fault("/rules", f"`rules` is a list of at most {RULES_MAX}.")]
    faults: list[Fault] = []
    rules = []
    for number, one in enumerate(told):
        rule = _rule_read(one, f"/rules/{number}", paths, faults)
        if rule is not None:
            rules.append(rule)
    return rules, faults


def _rule_read(told: Any, pointer: str, paths: Collection[str], faults: list[Fault]) -> Rule | None:
    if not isinstance(told, dict) or told.keys() - {"match", "trigger", "path"}:
        faults.append(_fault(pointer, "A rule has `match`, and `trigger` or `path`."))
        return None
    before = len(faults)
    match = told.get("match")
    if not isinstance(match, dict):
        match = {}
    if not 0 < len(match) <= MATCH_MAX or not _are_texts(match):
        detail = f"`match` is 1 to {MATCH_MAX} labels with the values that they have to have."
        faults.append(_fault(f"{pointer}/match", detail))
    trigger, path = told.get("trigger", ""), told.get("path", "")
    if not isinstance(trigger, str) or len(trigger) > 80 or not isinstance(path, str):
        faults.append(_fault(pointer, "`trigger` and `path` are slugs."))
    elif bool(trigger) == bool(path):
        faults.append(_fault(pointer, "Name the trigger that trips, or the path that is marked."))
    elif path and path not in paths:
        known = ", ".join(sorted(paths)) or "none yet"
        faults.append(_fault(f"{pointer}/path", f"One of the workflow's paths: {known}."))
    if len(faults) > before:
        return None
    return Rule(match, trigger, path)


def _are_texts(told: Mapping[Any, Any]) -> bool:
    return all(
        isinstance(each, str) and 0 < len(each) <= TEXT_MAX and "\0" not in each
        for pair in told.items()
        for each in pair
    )


def _fault(pointer: str, detail: str) -> Fault:
    return {"pointer": pointer, "detail": detail}
