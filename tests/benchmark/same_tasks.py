"""Recorded tasks that several sides did, task beside task, and what that cannot tell."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from signals.buckets.measures import Measures
from signals.stats.compare import Side, compare
from tests.benchmark.compared import Comparison, Section, Task
from tests.benchmark.traces import Fields, items


def paired(
    signal: str,
    names: tuple[str, str],
    runs: Mapping[str, Mapping[str, Fields]],
    of: Callable[[Fields], float],
) -> Comparison:
    """Return a rate on the tasks that both sides did, task beside task; `of` is 1 where bad."""
    both = sorted(set(runs[names[0]]) & set(runs[names[1]]))
    sides = [
        [
            Task(n, of(runs[name][task]), runs[name][task].get("input_condition"))
            for n, task in enumerate(both)
        ]
        for name in names
    ]
    return Comparison(
        signal=signal,
        candidate=names[0],
        other=names[1],
        kind="rate",
        reference="concurrent",
        tasks=sides[0],
        others=sides[1],
    )


def by_task(runs: Iterable[Fields], name: Callable[[Fields], str]) -> dict[str, dict[str, Fields]]:
    found: dict[str, dict[str, Fields]] = defaultdict(dict)
    for run in runs:
        found[name(run)][run["attributes"]["task"]] = run
    return found


def failed(run: Fields) -> float:
    return float(not run["quality"]["passed"])


_SAME_TASKS: Final = (
    "What other tasks would show: both sides did the same few. They are laid side by side, so that"
    " a block holds the same tasks of both; the printed ranges take the sides as unrelated and are"
    " rather too wide."
)


def tau2(folder: Path) -> Section:
    runs, _ = items("tau2-support", folder, "*.json*")
    names = ("ft-gpt-4.1", "gpt-4.1")
    sheet = folder.parent / "prices" / "prices.json"
    prices = json.loads(sheet.read_text())["models"] if sheet.exists() else {}
    comparisons, more = [], []
    for path in sorted({r["path"] for r in runs}):
        held = by_task((r for r in runs if r["path"] == path), lambda r: str(r["release"]))
        comparisons.append(paired(f"{path} tasks failed", names, held, failed))
        took = paired(f"{path} time of a task", names, held, lambda r: float(r["latency_ms"]))
        comparisons.append(replace(took, kind="quantile", unit="s", scale=0.001))
        if all(_priced(run, prices) is not None for name in names for run in held[name].values()):
            spent = paired(
                f"{path} list price of a task", names, held, lambda r: _priced(r, prices) or 0.0
            )
            comparisons.append(replace(spent, kind="quantile", unit="cents", scale=100.0))
        sides = [_cost_side(held[name].values()) for name in names]
        told = compare("cost_per_task_usd", *sides)
        more.append(f"- Recorded cost per {path} task: {told.word.replace('_', ' ')}. {told.note}")
    return Section(
        "tau2: a fine-tuned model on support tasks",
        "The same simulated support tasks by gpt-4.1 (stable) and its fine-tuned version"
        " (candidate); a task fails below full reward.",
        comparisons,
        (
            _SAME_TASKS,
            "Whether a criterion on failures holds: so few tasks leave room for a gain and for a"
            " loss that would both matter.",
            "Time and price of the first tasks: nothing is known of the stable side before, so the"
            " engine learns its shape from the first 30 tasks, and with fewer evidence stays 1.",
            "Real users: users were simulated, one trial a task.",
            "Why tasks took longer: the sides ran one after the other, and the service may"
            " have been busier for one.",
            "What was paid: the candidate's recorded cost is 0 because nobody knew its price, and"
            " a zero is no saving. The list price is all tokens times a price sheet of a later day,"
            " for both sides alike, without any discount for cached tokens.",
        ),
        more,
    )


def _priced(run: Fields, prices: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return a task's tokens at list price in dollars; None where its model is not listed."""
    route = str(run.get("route"))
    listed = next((p for name, p in prices.items() if f"{route}:".startswith(f"{name}:")), None)
    if listed is None or not run.get("input_tokens"):
        return None
    tokens = (("input_tokens", "input"), ("output_tokens", "output"))
    return sum(float(run[count]) * listed[price] for count, price in tokens)


def _cost_side(runs: Iterable[Fields]) -> Side:
    costs = [r.get("cost_usd") for r in runs]
    known = [cost for cost in costs if cost is not None]
    return Side(
        Measures(
            n=len(costs),
            cost_n=len(known),
            cost_sum=sum(known),
            cost_sq=sum(cost * cost for cost in known),
        ),
        Measures(),
    )


def tau(folder: Path) -> Section:
    runs, _ = items("tau-airline-gpt-4o", folder, "*.json*")
    trials = by_task(runs, lambda r: f"trial {r['attributes']['trial']}")
    first, *later = sorted(trials)
    return Section(
        "tau-bench: four equal trials",
        f"One model, the same tasks, {len(trials)} times: each later trial against the first."
        " Nothing changed between them, so nothing may fire.",
        [paired("tasks failed", (name, first), trials, failed) for name in later],
        (_SAME_TASKS, "Time, latency and cost: the data has none; only the order counts."),
    )


def mtrag(folder: Path) -> Section:
    runs, reviews = items("mtrag-human", folder, "*.json*")
    told: dict[str, list[bool]] = defaultdict(list)
    for each in reviews:
        told[each["run_id"]].append(each["verdict"] == "rejected")
    for run in runs:
        # A turn that asks for nothing has no condition; it is a stratum as well.
        run.setdefault("input_condition", "nothing asked")
    held = by_task((r for r in runs if r["id"] in told), lambda r: str(r["release"]))

    def rejected(run: Fields) -> float:
        return float(2 * sum(told[run["id"]]) > len(told[run["id"]]))

    models = sorted(set(held) - {"reference"})
    pairs = [(name, "reference") for name in models]
    pairs += [(second, first) for first, second in pairwise(models)]
    return Section(
        "MTRAG: reviews of answers",
        "Answers to the same questions, by two models and by people (reference), from the same"
        " passages. An answer is rejected where most of its reviewers found it unfaithful (1 or 2"
        " of 4). Compared within strata: questions that the passages answer, in part, or not.",
        [paired("answers rejected", pair, held, rejected) for pair in pairs],
        (
            f"How sure single reviews are: {len(reviews):,} reviews are of {len(told):,} answers by"
            " the same few people and not independent, so an answer counts once.",
            _SAME_TASKS,
            "Retrieval: every answer was given the right passages, so no miss can occur and none"
            " is compared. No set here has real retrieval misses.",
        ),
    )
