"""Why a task costs more or less than before: the change in parts that sum to it. Pure: no Django.

A release's mean cost per task is

    cost = (1 - s) * a * (i + W * o) * p + s * f

with s the share of tasks in a fallback mode and f what such a task costs, and for the others a
attempts per task (1 + retries), i input and o output tokens per attempt, W what an output token
counts beside an input one, and p the price of an input token. Each factor's part of the change
is its Shapley value: what moving it alone from its stable to its candidate value adds, averaged
over all orders in which the factors can be moved. The parts sum to the change whatever the
orders, no factor is preferred, and one that did not move gets nothing.

Source: Shapley 1953, Contributions to the Theory of Games II; for decompositions of a change in
a product Shorrocks 2013, J. Econ. Inequality 11(1), section 3, and Ang 2004, Energy Policy 32(9).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import Final, Literal

from signals.buckets.measures import Measures

Part = Literal["input_tokens", "output_tokens", "price", "tokens_and_price", "retries", "fallback"]

# What an output token counts beside an input one, so that a shift between them is not read as a
# price. Models commonly ask four or five times as much for it; where one asks otherwise, the rest
# of such a shift shows as price. The sum of the parts does not depend on it.
OUTPUT_WEIGHT: Final = 4.0
# Means are of the same tasks where no more than this part of them differs.
_APART: Final = 0.05

_SHARE, _FALLBACK, _ATTEMPTS, _INPUT, _OUTPUT, _PRICE = (
    "share",
    "fallback_cost",
    "attempts",
    "input",
    "output",
    "price",
)
# Which part a factor's value is counted in.
_PARTS: Final[dict[str, Part]] = {
    _INPUT: "input_tokens",
    _OUTPUT: "output_tokens",
    _PRICE: "price",
    _ATTEMPTS: "retries",
    _SHARE: "fallback",
    _FALLBACK: "fallback",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """What one release's tasks cost: those in mode normal, and those in a fallback mode.

    Tasks whose cost is not known count nowhere: they are no free ones.
    """

    normal: Measures
    fallback: Measures

    @property
    def n(self) -> int:
        """Tasks whose cost is known."""
        return self.normal.cost_n + self.fallback.cost_n

    @property
    def mean(self) -> float:
        """Dollars per task of known cost."""
        return (self.normal.cost_sum + self.fallback.cost_sum) / self.n


@dataclass(frozen=True, slots=True)
class CostChange:
    """The change in mean cost per task, in dollars, and its parts, which sum to it.

    `retries_known` is False where a release does not report retries: they stand in the others.
    `tokens_known` is False where tokens and price cannot be told apart.
    """

    candidate: float
    stable: float
    parts: dict[Part, float]
    tokens_known: bool
    retries_known: bool

    @property
    def change(self) -> float:
        return self.candidate - self.stable


def cost_change(candidate: Spent, stable: Spent) -> CostChange | None:
    """Return the change from `stable` to `candidate` in parts; None where a cost is not known.

    Tokens and price are told apart where both releases report both kinds of tokens for (nearly)
    the tasks whose cost is known; else they are one part, and the sum is as exact.
    """
    if not candidate.n or not stable.n:
        return None
    arms = [arm.normal for arm in (candidate, stable) if arm.normal.cost_n]
    retries_known = all(_same(arm.retries_n, arm.cost_n) for arm in arms)
    tokens_known = all(_tokens_known(arm) for arm in arms)
    after = _factors(candidate, retries=retries_known, tokens=tokens_known)
    before = _factors(stable, retries=retries_known, tokens=tokens_known)
    # Where a release has no task of a kind, nothing is known of that kind to have changed.
    after, before = {**before, **after}, {**after, **before}
    values = _shapley(before, after)
    parts: dict[Part, float] = {}
    for factor, value in values.items():
        part = _PARTS[factor]
        if part == "price" and not tokens_known:
            part = "tokens_and_price"
        parts[part] = parts.get(part, 0.0) + value
    if not tokens_known:
        del parts["input_tokens"], parts["output_tokens"]
    if not retries_known:
        del parts["retries"]
    return CostChange(candidate.mean, stable.mean, parts, tokens_known, retries_known)


def _same(n: int, of: int) -> bool:
    return abs(n - of) <= _APART * of


def _tokens_known(arm: Measures) -> bool:
    return (
        _same(arm.input_tokens_n, arm.cost_n)
        and _same(arm.output_tokens_n, arm.cost_n)
        and arm.input_tokens_sum + arm.output_tokens_sum > 0
    )


def _factors(arm: Spent, *, retries: bool, tokens: bool) -> dict[str, float]:
    """Return the factors of a release's mean cost; those of no task are left out."""
    found = {_SHARE: arm.fallback.cost_n / arm.n}
    if arm.fallback.cost_n:
        found[_FALLBACK] = arm.fallback.cost_sum / arm.fallback.cost_n
    normal = arm.normal
    if not normal.cost_n:
        return found
    attempts = 1.0 + (normal.retries_sum / normal.retries_n if retries else 0.0)
    # Without tokens an attempt is the unit that has a price.
    per_input, per_output = 1.0, 0.0
    if tokens:
        per_input = normal.input_tokens_sum / normal.input_tokens_n / attempts
        per_output = normal.output_tokens_sum / normal.output_tokens_n / attempts
    amount = attempts * (per_input + OUTPUT_WEIGHT * per_output)
    return {
        **found,
        _ATTEMPTS: attempts,
        _INPUT: per_input,
        _OUTPUT: per_output,
        _PRICE: normal.cost_sum / normal.cost_n / amount,
    }


def _cost(factors: Mapping[str, float]) -> float:
    share = factors[_SHARE]
    normal = fallback = 0.0
    if _PRICE in factors:
        amount = factors[_ATTEMPTS] * (factors[_INPUT] + OUTPUT_WEIGHT * factors[_OUTPUT])
        normal = amount * factors[_PRICE]
    if _FALLBACK in factors:
        fallback = factors[_FALLBACK]
    return (1 - share) * normal + share * fallback


def _shapley(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    names = list(_PARTS)
    moved = [name for name in names if before.get(name) != after.get(name)]
    count = len(moved)
    values = dict.fromkeys(names, 0.0)
    for name in moved:
        others = [other for other in moved if other != name]
        for size in range(count):
            weight = factorial(size) * factorial(count - size - 1) / factorial(count)
            for chosen in combinations(others, size):
                without = {**before, **{other: after[other] for other in chosen}}
                with_it = {**without, name: after[name]}
                values[name] += weight * (_cost(with_it) - _cost(without))
    return values
