"""A segment's rule: JSONLogic as far as flagd's evaluator has it. Pure: no Django."""

from typing import Any, Final

from rollout_console.rollouts.plan_check import Faults, close_to, kind_of
from rollout_console.rollouts.plan_yaml import pointer_part

DEPTH_MAX: Final = 12
NODES_MAX: Final = 500

# Operator → (fewest, most) arguments. flagd's `fractional` is left out: the share of a segment is
# the stage's to say; and `log`, which writes to the evaluator's output.
OPERATORS: Final[dict[str, tuple[int, int]]] = {
    "==": (2, 2),
    "!=": (2, 2),
    "===": (2, 2),
    "!==": (2, 2),
    "<": (2, 3),
    "<=": (2, 3),
    ">": (2, 3),
    ">=": (2, 3),
    "!": (1, 1),
    "!!": (1, 1),
    "and": (1, 100),
    "or": (1, 100),
    "if": (2, 100),
    "?:": (2, 3),
    "in": (2, 2),
    "var": (1, 2),
    "missing": (1, 100),
    "missing_some": (2, 2),
    "some": (2, 2),
    "all": (2, 2),
    "none": (2, 2),
    "filter": (2, 2),
    "map": (2, 2),
    "reduce": (3, 3),
    "merge": (1, 100),
    "cat": (1, 100),
    "substr": (2, 3),
    "min": (1, 100),
    "max": (1, 100),
    "+": (1, 100),
    "*": (1, 100),
    "-": (1, 2),
    "/": (2, 2),
    "%": (2, 2),
    "starts_with": (2, 2),
    "ends_with": (2, 2),
    "sem_ver": (3, 3),
}
SEM_VER: Final = ("=", "!=", "<", "<=", ">", ">=", "^", "~")


def rule_check(rule: Any, pointer: str, faults: Faults) -> None:
    """Note what is wrong with a rule; `true` alone is one: everybody."""
    if rule is True:
        return
    if not isinstance(rule, dict):
        faults.add(
            pointer,
            f'A rule is an operator over the context, as in {{"==": [{{"var": "team"}}, '
            f'"internal"]}}, not {kind_of(rule)}.',
        )
        return
    _Checker(faults).expression(rule, pointer, 1)


class _Checker:
    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.nodes = 0
        self.full = False

    def expression(self, value: Any, pointer: str, depth: int) -> None:
        if self.full:
            return
        self.nodes += 1
        if depth > DEPTH_MAX or self.nodes > NODES_MAX:
            self.full = True
            self.faults.add(
                pointer, f"A rule has at most {DEPTH_MAX} levels and {NODES_MAX} values."
            )
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.expression(item, f"{pointer}/{index}", depth + 1)
        elif isinstance(value, dict):
            self._operation(value, pointer, depth)

    def _operation(self, value: dict[str, Any], pointer: str, depth: int) -> None:
        if len(value) != 1:
            self.faults.add(
                pointer, "An operation has one operator; join several with “and” or “or”."
            )
            return
        ((operator, given),) = value.items()
        here = f"{pointer}/{pointer_part(operator)}"
        bounds = OPERATORS.get(operator)
        if bounds is None:
            self.faults.add(
                here,
                f"flagd knows no operator “{operator[:40]}” for a segment"
                f"{close_to(operator, list(OPERATORS))}",
            )
            return
        arguments = given if isinstance(given, list) else [given]
        fewest, most = bounds
        if not fewest <= len(arguments) <= most:
            count = str(fewest) if fewest == most else f"{fewest} to {most}"
            self.faults.add(here, f"“{operator}” takes {count} values, not {len(arguments)}.")
            return
        if operator == "var":
            self._var(arguments[0], here)
        if operator == "sem_ver" and arguments[1] not in SEM_VER:
            self.faults.add(here, f"“sem_ver” compares by one of {' '.join(SEM_VER)}.")
        for index, argument in enumerate(arguments):
            below = f"{here}/{index}" if isinstance(given, list) else here
            self.expression(argument, below, depth + 1)

    def _var(self, name: Any, pointer: str) -> None:
        if not isinstance(name, str) or len(name) > 200:
            self.faults.add(pointer, f"“var” names a context key as text, not {kind_of(name)}.")
