"""What an exposed set cannot show of the rest: its mix against theirs. Pure: no Django.

A set that is too protected holds every criterion and says little about those who come next. Each
value of an attribute is compared as a share of the tasks that said the attribute.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final, Literal

from signals.buckets.keys import CONDITION, RISK
from signals.stats.intervals import Z, rate_interval

# A value is common elsewhere once at least this part (0-1) of the tasks there surely has it.
COMMON_FROM: Final = 0.01
# Surely less than half as common is rare.
RARE_BELOW: Final = 0.5
_MOST_NEEDED: Final = 10_000_000

# Whether the exposed set shows a value: `missing` and `rare` are sure, `unseen` may be chance,
# `untold` means that no exposed task said the attribute.
Standing = Literal["shown", "rare", "missing", "unseen", "untold"]

_HARD: Final = {(RISK, "high"): 0, (CONDITION, "ambiguous"): 1, (CONDITION, "messy"): 2}
_EASY: Final = {(RISK, "low"), (CONDITION, "clean")}
_SURE: Final = frozenset({"missing", "rare"})


@dataclass(frozen=True, slots=True)
class Part:
    """`n` of `of` tasks, with their share (0-1) and its 95 % range; None where `of` is 0."""

    n: int
    of: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ValueMix:
    """One value among the exposed tasks and among the others.

    `needs` is about how many more exposed tasks would tell chance from absence, for `unseen`.
    """

    attribute: str
    value: str
    exposed: Part
    others: Part
    standing: Standing
    needs: int | None = None


@dataclass(frozen=True, slots=True)
class AttributeMix:
    """An attribute's values, the commonest elsewhere first.

    `distance` is the part (0-1) of tasks that would have to change their value for both mixes to
    be equal, None where one side said nothing. The `_of` counts are all tasks, told or not.
    """

    attribute: str
    values: list[ValueMix]
    distance: float | None
    exposed_of: int
    others_of: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A value common elsewhere that the exposed set cannot show; `sure` unless it may be chance."""

    attribute: str
    value: str
    standing: Standing
    sure: bool
    sentence: str


def part_of(n: int, of: int) -> Part:
    found = rate_interval(n, of)
    if found is None:
        return Part(n, of, None, None, None)
    return Part(n, of, n / of, found.low, found.high)


def attribute_mix(
    attribute: str,
    *,
    exposed: Mapping[str, int],
    others: Mapping[str, int],
    exposed_of: int,
    others_of: int,
) -> AttributeMix:
    """Compare one attribute.

    Args:
        exposed: tasks by value among the exposed ones.
        others: likewise among all others.
        exposed_of: all exposed tasks, those that did not say the attribute included.
        others_of: all others.
    """
    told, told_elsewhere = sum(exposed.values()), sum(others.values())
    values = [
        _value(
            attribute,
            value,
            part_of(exposed.get(value, 0), told),
            part_of(others.get(value, 0), told_elsewhere),
        )
        for value in {**others, **exposed}
    ]
    return AttributeMix(
        attribute=attribute,
        values=sorted(values, key=lambda each: (-each.others.n, -each.exposed.n, each.value)),
        distance=_distance(values) if told and told_elsewhere else None,
        # A fold that lags behind the ledger never makes more tasks speak than there are.
        exposed_of=max(exposed_of, told),
        others_of=max(others_of, told_elsewhere),
    )


def gaps_of(mixes: Iterable[AttributeMix], *, kind: str = "exposed") -> list[Gap]:
    """Return what the exposed set cannot show, what matters most first.

    High-risk cases come first, then hard inputs, then other attributes and easy cases; what is
    sure before what may be chance, and the commonest elsewhere before rarer ones.

    Args:
        mixes: the attributes compared.
        kind: what the sentences call the exposed tasks.
    """
    found: list[tuple[tuple[int, bool, float, str, str], Gap]] = []
    for mix in mixes:
        untold = [each for each in mix.values if each.standing == "untold"]
        for each in untold[:1] or mix.values:
            if each.standing == "shown":
                continue
            sure = each.standing in _SURE
            weight = _weight(each.attribute, each.value)
            order = (weight, not sure, -(each.others.share or 0.0), each.attribute, each.value)
            gap = Gap(each.attribute, each.value, each.standing, sure, _sentence(each, mix, kind))
            found.append((order, gap))
    return [gap for _, gap in sorted(found, key=lambda each: each[0])]


def attribute_name(attribute: str) -> str:
    """Return an attribute as people read it: `Input condition`, `Account group`."""
    return attribute.replace("_", " ").capitalize()


def _value(attribute: str, value: str, exposed: Part, others: Part) -> ValueMix:
    common = others.low is not None and others.low >= COMMON_FROM
    if not common or others.low is None:
        return ValueMix(attribute, value, exposed, others, "shown")
    if exposed.high is None:
        return ValueMix(attribute, value, exposed, others, "untold")
    if exposed.n == 0:
        if exposed.high < others.low:
            return ValueMix(attribute, value, exposed, others, "missing")
        needs = _needed(others.low) - exposed.of
        return ValueMix(attribute, value, exposed, others, "unseen", max(1, needs))
    rare = exposed.high < others.low * RARE_BELOW
    return ValueMix(attribute, value, exposed, others, "rare" if rare else "shown")


def _needed(share: float) -> int:
    """Return after how many tasks without one a share this large is ruled out.

    The upper end of Wilson's range of 0 of n is z^2 / (n + z^2).
    """
    return min(_MOST_NEEDED, ceil(Z * Z * (1 - share) / share) + 1)


def _distance(values: Iterable[ValueMix]) -> float:
    """Return the total variation distance of two mixes: half the sum of the gaps of shares."""
    gaps = (abs((each.exposed.share or 0.0) - (each.others.share or 0.0)) for each in values)
    return min(1.0, sum(gaps) / 2)


def _weight(attribute: str, value: str) -> int:
    if (attribute, value) in _EASY:
        return 4
    return _HARD.get((attribute, value), 3)


def _sentence(each: ValueMix, mix: AttributeMix, kind: str) -> str:
    exposed, others = each.exposed, each.others
    elsewhere = f"{_percent(others.share)} of {_tasks(others.of, 'other')} are"
    if each.standing == "untold":
        name = each.attribute.replace("_", " ")
        said = f"None of {_tasks(mix.exposed_of, kind)} say their {name}"
        return f"{said}; {elsewhere} {_words(each)}."
    counted = f"{exposed.n:,} of {_tasks(exposed.of, kind)}"
    if each.standing == "rare":
        low, high = _percent(exposed.low), _percent(exposed.high)
        share = f"{_percent(exposed.share)}, 95 % range {low} to {high}"
        return f"{counted} were {_words(each)} ({share}); {elsewhere}."
    most = f"at most {_percent(exposed.high)} may be, 95 %"
    if each.standing == "unseen":
        return (
            f"{counted} were {_words(each)}, too few to tell ({most}); {elsewhere}. About"
            f" {each.needs:,} more {kind} tasks would tell."
        )
    return f"{counted} were {_words(each)} ({most}); {elsewhere}."


def _words(each: ValueMix) -> str:
    if each.attribute == RISK:
        return f"{each.value}-risk"
    if each.attribute == CONDITION:
        return each.value
    return f"of {each.attribute.replace('_', ' ')} “{each.value}”"


def _tasks(n: int, kind: str) -> str:
    return f"{n:,} {kind} task{'s' * (n != 1)}"


def _percent(share: float | None) -> str:
    """Return a share in percent: two figures, and never 0 or 100 for what is not."""
    if share is None:
        return "an unknown part"
    percent = share * 100
    if 0 < percent < 0.01:
        return "less than 0.01 %"
    if 99.95 <= percent < 100:
        return "more than 99.9 %"
    shown = f"{percent:.0f}" if percent >= 9.95 else f"{percent:.2g}"
    return f"{shown} %"
