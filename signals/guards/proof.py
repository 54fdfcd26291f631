"""What evidence says of a guard, beside the numbers of its window. Pure: no Django, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import exp, floor, log, log10
from typing import Any, Final

from signals.engine.budget import ALPHA

# Log of what evidence must come to.
PASSES: Final = -log(ALPHA)
# Evidence from here on is worth a look: less than 1 in 4 by chance.
WATCHED: Final = log(4.0)
_MOST_TOLD: Final = 6
# What mixing over sizes and starts of a degradation costs, beside what is known of it.
MIXING: Final = log(14.0) + log(2.0)
METHODS: Final = {
    "exact": "concurrent",
    "limit": "limit",
    "past": "history",
    "shape": "distribution",
    "exceedances": "exceedances",
    "bets": "betting",
    "hourly": "betting",
    "normal": "asymptotic",
    "categories": "categories",
}


@dataclass(frozen=True, slots=True)
class Totals:
    """An arm since evidence began: tasks that count, bad ones, and the sum of values."""

    n: int = 0
    bad: int = 0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Proof:
    """A guard's e-values and what they stand on.

    Attributes:
        method: in one word, a key of `METHODS`.
        log_worse: log e against "not worse".
        log_fine: log e against "worse by the margin, or beyond the limit"; None for triggers.
        named: whether the rollout's budget is spent and this guard is among the guilty.
        held: whether it said tripped and its evidence is not back to nothing yet.
        shared_by: how many triggers share the rollout's budget, 0 for a criterion.
        log_mean: log of the mean of their e-values.
        blocks: the first and the last evidence block with something of it, 0 for none.
        told: the failure category that most speaks against the candidate.
    """

    method: str
    started_at: datetime
    log_worse: float
    log_fine: float | None
    candidate: Totals
    stable: Totals
    named: bool = False
    held: bool = False
    shared_by: int = 0
    log_mean: float | None = None
    blocks: tuple[int, int] = (0, 0)
    told: str = ""

    def document(self, *, reference: str, needs: int | None) -> dict[str, Any]:
        """Return it as verdicts keep it."""
        return {
            "method": METHODS[self.method],
            "reference": reference,
            "e_value": _shown(self.log_worse),
            "e_value_fine": None if self.log_fine is None else _shown(self.log_fine),
            "budget": ALPHA,
            "threshold": 1 / ALPHA,
            "shared_by": self.shared_by,
            "e_value_mean": None if self.log_mean is None else _shown(self.log_mean),
            "since": self.started_at.isoformat(),
            "first_block": self.blocks[0],
            "last_block": self.blocks[1],
            "candidate": _told(self.candidate),
            "stable": _told(self.stable),
            "needs_runs": needs,
        }


def chance_text(log_e: float) -> str:
    """Return how likely chance alone makes evidence like this: `less than 1 in 400`.

    The chance that an e-value ever comes to x is at most 1 / x (Ville 1939), so x is rounded
    down, to two digits, and no more than a million is told.
    """
    if log_e >= _MOST_TOLD * log(10):
        return f"less than 1 in {10**_MOST_TOLD:,}"
    times = exp(max(log_e, 0.0))
    if times < 2:
        return "likely"
    unit = 10 ** max(0, floor(log10(times)) - 1)
    return f"less than 1 in {int(times * (1 + 1e-12)) // unit * unit:,}"


def proof_text(evidence: Mapping[str, Any]) -> str:
    """Return what a verdict kept of its proof in a line for a statistician; "" without one."""
    if "e_value" not in evidence:
        return ""
    parts = [f"e-value {evidence['e_value']:,.4g} against “not worse” ({evidence['method']})"]
    if evidence["e_value_fine"] is not None:
        parts.append(f"{evidence['e_value_fine']:,.4g} against “worse than allowed”")
    if evidence["shared_by"]:
        many = f"mean of the rollout's {evidence['shared_by']:,} triggers"
        parts.append(f"{many} {evidence['e_value_mean']:,.4g}")
    parts.append(f"decides at {evidence['threshold']:,.0f} (budget {evidence['budget'] * 100:g} %)")
    arms = ((name, evidence[name]) for name in ("candidate", "stable"))
    told = [f"{name} n {arm['n']:,}, bad {arm['bad']:,}" for name, arm in arms if arm["n"]]
    if evidence["last_block"]:
        told.append(f"evidence blocks {evidence['first_block']} to {evidence['last_block']}")
    return "; ".join([*parts, *told])


def _shown(log_e: float) -> float:
    """Return an e-value with four digits, as far as a number can hold it."""
    return float(f"{exp(min(max(log_e, -700.0), 700.0)):.4g}")


def _told(totals: Totals) -> dict[str, float]:
    return {"n": totals.n, "bad": totals.bad, "sum": totals.total}
