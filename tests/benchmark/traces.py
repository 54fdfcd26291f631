"""Recorded traffic as comparisons: what is held against what, and what that cannot tell."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rollout_console.replay.items import OBSERVATION, Item
from rollout_console.replay.library import mapping_load
from rollout_console.replay.sources import TraceFile
from rollout_console.replay.trace import Trace
from signals.engine.recorded import judged
from signals.engine.subjects import USUAL_ICC, Subjects
from signals.stats.intervals import rate_interval
from tests.benchmark.compared import Comparison, Section, Task, evidence, in_order, together

OLD: Final = "claude-3-5-sonnet-20241022"
NEW: Final = "claude-3-7-sonnet-20250219"
# How many models are held against the one with most votes.
ARENA_MODELS: Final = 4

Fields = dict[str, Any]


def items(name: str, folder: Path, pattern: str) -> tuple[list[Fields], list[Fields]]:
    """Return runs (or gauges), and observations, as the built-in mapping reads them."""
    mapping = mapping_load(name)
    files = [
        TraceFile(path, mapping.source, names=mapping.names)
        for path in sorted(folder.glob(pattern))
    ]
    found = [
        item
        for item in Trace(files, mapping, mapping.workflow["slug"]).items()
        if isinstance(item, Item)
    ]
    told = [item.fields for item in found if item.kind != OBSERVATION]
    return told, [item.fields for item in found if item.kind == OBSERVATION]


def aider(folder: Path) -> Section:
    runs, undone = items("aider-telemetry", folder, "events.jsonl*")
    undos = {each["run_id"] for each in undone}
    calls = [r for r in runs if r["path"] == "diff" and r["outcome"] == "ok"]
    new = [r for r in calls if r["release"] == NEW]
    began = min(r["occurred_at"] for r in new)
    old = [r for r in calls if r["release"] == OLD and r["occurred_at"] < began]

    def measured(
        signal: str, of: str, quantile: float, unit: str, scale: float = 1.0
    ) -> Comparison:
        sides = [in_order(r[of] for r in side if r.get(of)) for side in (new, old)]
        return Comparison(
            signal=signal,
            candidate=NEW,
            other=OLD,
            kind="quantile",
            reference="history",
            tasks=sides[0],
            others=sides[1],
            quantile=quantile,
            unit=unit,
            scale=scale,
        )

    gone = [[float(r["id"] in undos) for r in side] for side in (new, old)]
    most = rate_interval(sum(gone[1]), len(gone[1]))
    assert most is not None
    comparisons = [
        measured("cost of a call", "cost_usd", 0.5, "cents", 100.0),
        measured("latency", "latency_ms", 0.95, "s", 0.001),
        measured("output of a call", "output_tokens", 0.5, "tokens"),
        Comparison(
            signal="calls undone",
            candidate=NEW,
            other=f"limit {100 * most.high:.1f} %: upper end of {OLD}, which had"
            f" {100 * sum(gone[1]) / len(old):.1f} % of {len(old):,}",
            kind="rate",
            reference="limit",
            tasks=in_order(gone[0]),
            limit=most.high,
        ),
    ]
    whole = next(judged([together("aider", comparisons)]))
    users = Counter(r.get("subject") for r in new)
    subject, most_calls = users.most_common(1)[0]
    worth, _ = Subjects().weighted(0, [(str(subject), most_calls, 0)])
    wide = rate_interval(sum(gone[0]) / len(new) * worth, round(worth))
    assert wide is not None
    unknown = sum("cost_usd" not in r for r in runs if r["outcome"] == "ok")
    return Section(
        "aider: one model after another",
        f"Path `diff` of a coding assistant: {NEW} since {began:%Y-%m-%d} against what {OLD} did on"
        " the same path before. Cost, latency and output are held against the other model's own"
        " past, undone calls against a limit.",
        comparisons,
        (
            "Why: the user chose the model, nobody drew lots, and the work of March is not that of"
            " November. A difference is observed, not caused.",
            f"Anything about people: one user made {most_calls:,} of {len(new):,} calls. Weighed as"
            f" one person's (correlation {USUAL_ICC}) they are worth {worth:.0f} unrelated ones,"
            f" and the share undone lies anywhere from {100 * wide.low:.0f} to"
            f" {100 * wide.high:.0f} %.",
            f"Cost of calls without a known price: {unknown:,} calls of all models say 0, which is"
            " unknown here and left out.",
            "Latency before 2024-11-30, when it was not recorded yet.",
            "The limits from the past are taken as exact, though they are estimates themselves.",
        ),
        (
            "All four as the signals of one rollout, under one budget:"
            f" evidence {evidence(whole)} when it passes, "
            + (f"named: {', '.join(whole.signals)}." if whole.fired else "nothing fires."),
        ),
    )


def arena(folder: Path) -> Section:
    runs, votes = items("arena-votes", folder, "modelratings*")
    down = {each["run_id"]: float(each["value"] == "down") for each in votes}
    began = min(r["occurred_at"] for r in runs)
    pairs: dict[str, list[Fields]] = defaultdict(list)
    for run in runs:
        pairs[run["id"].rpartition(":")[0]].append(run)
    sides: dict[str, list[Task]] = defaultdict(list)
    right: list[float] = []
    duels: dict[frozenset[str], list[dict[str, float]]] = defaultdict(list)
    for left, other in pairs.values():
        lost = (down[left["id"]], down[other["id"]])
        if left["release"] == other["release"]:
            if lost[0] != lost[1]:
                right.append(lost[1])
            continue
        for run, bad in ((left, lost[0]), (other, lost[1])):
            minute = int((run["occurred_at"] - began).total_seconds() // 60)
            sides[run["release"]].append(Task(minute, bad))
        if lost[0] != lost[1]:
            duels[frozenset((left["release"], other["release"]))].append(
                {left["release"]: lost[0], other["release"]: lost[1]}
            )
    first, *rest = sorted(sides, key=lambda name: (-len(sides[name]), name))[: ARENA_MODELS + 1]
    half = "limit 50 %: even odds"
    comparisons = [
        Comparison("votes against it", n, first, "rate", "concurrent", sides[n], sides[first])
        for n in rest
    ]
    for name in rest:
        lost_duels = [duel[name] for duel in duels[frozenset((name, first))]]
        if lost_duels:
            told = f"decided votes lost to {first}"
            duel = in_order(lost_duels)
            comparisons.append(Comparison(told, name, half, "rate", "limit", duel, limit=0.5))
    if right:
        told, side = "decided votes lost, the same model on both sides", "right side"
        comparisons.append(
            Comparison(told, side, half, "rate", "limit", in_order(right), limit=0.5)
        )
    return Section(
        "Agent Arena: votes on models",
        f"People saw two agents and voted. The model with most votes, {first}, stands as the"
        f" stable one; the next {len(rest)} are held against it, minute by minute, over all votes"
        " between two models, then in the votes where the two met. Last, votes where both sides"
        " had the same model: nothing about the model can differ there.",
        comparisons,
        (
            "A rating: opponents differ, so a share of votes against a model says as much of whom"
            " it met; only the votes where two met compare them, and those are few.",
            "Who voted: there is no user in the data, so one person's many votes cannot be weighed"
            " as one person's. Evidence is too strong where few people voted often.",
            "Which part did it: tool and framework differ along with the model. What shows in the"
            " last row cannot be a model's: it is the place on the screen, the tools, or few people"
            " who voted often, and any comparison of models here may hold as much of those.",
            "The two sides of a vote are not independent of each other; where both models compared"
            " meet, one's loss is the other's win.",
        ),
    )


def azure(folder: Path) -> Section:
    runs, _ = items("azure-llm-2023", folder, "*.csv*")
    began = min(r["occurred_at"] for r in runs)
    comparisons: list[Comparison] = []
    for path in sorted({r["path"] for r in runs}):
        tasks = [
            Task(int((r["occurred_at"] - began).total_seconds() // 60), r["output_tokens"])
            for r in runs
            if r["path"] == path
        ]
        middle = len(tasks) // 2
        beside = Comparison(
            signal=f"{path} output",
            candidate="every other request",
            other="the others",
            kind="quantile",
            reference="concurrent",
            tasks=tasks[::2],
            others=tasks[1::2],
            quantile=0.95,
            unit="tokens",
            scale=1.0,
        )
        before = replace(
            beside,
            candidate="second half",
            other="first half",
            reference="history",
            tasks=tasks[middle:],
            others=tasks[:middle],
        )
        comparisons += [beside, before]
    return Section(
        "Azure: an hour of requests",
        "One hour of two production services. Every other request against the rest, where nothing"
        " differs and nothing may fire; and the second half of the requests against the first.",
        comparisons,
        (
            "Day against day: there is one hour. What moves within it is the mix of requests.",
            "Latency, errors, quality, users and cost: none is in the trace, and no model is named"
            " whose price could be taken. They are absent, not good.",
        ),
    )
