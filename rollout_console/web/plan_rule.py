"""A segment's rule as a form: the common case in three fields, JSONLogic for the rest. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rollout_console.core.strict_json import JsonRefused, json_load

# Operator of the form → how it reads.
OPERATORS: Final[dict[str, str]] = {
    "==": "is",
    "!=": "is not",
    "in": "is one of",
    "starts_with": "starts with",
    "ends_with": "ends with",
    ">=": "is at least",
    "<=": "is at most",
}
_NUMBERS: Final = (">=", "<=")
HOWS: Final[dict[str, str]] = {
    "simple": "one member of the context",
    "all": "everybody",
    "logic": "JSONLogic",
}


@dataclass(frozen=True, slots=True)
class RuleForm:
    """`value` holds the words of “is one of” parted by commas."""

    how: str
    key: str = ""
    operator: str = "=="
    value: str = ""


def rule_form(rule: Any) -> RuleForm:
    """Return a rule as the form shows it; only what it can write back stands in three fields."""
    if rule is True:
        return RuleForm("all")
    if isinstance(rule, dict) and len(rule) == 1:
        ((operator, arguments),) = rule.items()
        if operator in OPERATORS and isinstance(arguments, list) and len(arguments) == 2:
            var, value = arguments
            key = var.get("var") if isinstance(var, dict) and len(var) == 1 else None
            if isinstance(key, str):
                shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                form = RuleForm("simple", key, operator, shown)
                if _same(rule_of(form), rule):
                    return form
    return RuleForm("logic")


def rule_of(form: RuleForm) -> Any:
    """Return the rule that three fields say."""
    if form.how == "all":
        return True
    value: Any = form.value.strip()
    if form.operator == "in":
        value = [word.strip() for word in form.value.split(",") if word.strip()]
    elif form.operator in _NUMBERS:
        try:
            value = json_load(value)
        except JsonRefused:
            pass
        else:
            if isinstance(value, bool) or not isinstance(value, int | float):
                value = form.value.strip()
    return {form.operator: [{"var": form.key.strip()}, value]}


def rule_posted(current: Any, asked: Callable[[str], str], text: str) -> Any:
    """Return the rule that a form says, None for none; broken JSON is kept as its text."""
    how = asked("how")
    if how == "all":
        return True
    if how == "simple":
        operator = asked("operator") if asked("operator") in OPERATORS else "=="
        form = RuleForm("simple", asked("key").strip()[:200], operator, asked("value").strip())
        # Turned to from another way, with nothing said yet: the rule stays.
        if not form.key and not form.value and rule_form(current).how != "simple":
            return current
        return rule_of(form)
    if rule_form(current).how == "simple" and how != "logic":
        return current
    if not text.strip():
        return None
    try:
        return json_load(text)
    except JsonRefused:
        return text


def rule_unnamed(rule: Any) -> bool:
    """Whether the three fields name no member: JSONLogic would take the whole context."""
    form = rule_form(rule)
    return form.how == "simple" and not form.key


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)
