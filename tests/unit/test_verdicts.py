"""Real data's comparisons on made-up data: what they may say, and what they must not."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark.compared import Comparison, Task, in_order, judge_all, row, verdict
from tests.benchmark.verdicts import document


def comparison(tasks: list[Task], others: list[Task], **more: Any) -> Comparison:
    given = {
        "signal": "tasks failed",
        "candidate": "new",
        "other": "old",
        "kind": "rate",
        "reference": "concurrent",
        "tasks": tasks,
        "others": others,
    }
    return Comparison(**{**given, **more})


def bad(count: int, of: int, seed: int = 1) -> list[Task]:
    values = [1.0] * count + [0.0] * (of - count)
    random.Random(seed).shuffle(values)
    return in_order(values)


def slow(times: float, n: int = 400, seed: int = 1) -> list[Task]:
    rng = random.Random(seed)
    return in_order([times * rng.lognormvariate(0.0, 0.8) for _ in range(n)])


@pytest.mark.parametrize("reference", ["concurrent", "history"])
def test_identical_sides_are_never_called_worse_or_better(reference: str) -> None:
    sides: list[dict[str, Any]] = [{"kind": "quantile", "quantile": q} for q in (0.5, 0.95)]
    told = [comparison(slow(1.0), slow(1.0), reference=reference, **side) for side in sides]
    if reference == "concurrent":
        told.append(comparison(bad(60, 400), bad(60, 400)))
    for found in judge_all(told):
        assert verdict(found).startswith("**Undecided**")
        assert found.gap == 0.0
        assert found.low is not None
        assert found.high is not None
        assert found.low < 0 < found.high


def test_a_clear_loss_is_worse_and_its_mirror_better() -> None:
    loss, gain = judge_all(
        [
            comparison(bad(150, 300), bad(60, 300, seed=2)),
            comparison(bad(60, 300, seed=2), bad(150, 300)),
        ]
    )
    assert verdict(loss).startswith("**Worse**")
    assert verdict(gain).startswith("**Better**")
    assert loss.better is not None
    assert gain.better is not None
    assert loss.worse.fired_minute == gain.better.fired_minute
    assert "new: 50.0 % (44.4 to 55.6 %), n 300 | old: 20.0 %" in row(loss)
    assert "| +30.0 points (" in row(loss)


@pytest.mark.parametrize("reference", ["concurrent", "history"])
def test_a_slower_candidate_is_worse_than_the_other_side_and_than_its_past(reference: str) -> None:
    more = {"kind": "quantile", "reference": reference, "quantile": 0.95, "unit": "s", "scale": 1.0}
    (found,) = judge_all([comparison(slow(2.0), slow(1.0, seed=2), **more)])
    assert verdict(found).startswith("**Worse**")
    assert (found.better is None) == (reference == "history")


def test_lower_than_the_past_is_no_better_where_nobody_asked() -> None:
    more = {"kind": "quantile", "reference": "history"}
    (found,) = judge_all([comparison(slow(0.5), slow(1.0, seed=2), **more)])
    assert "only whether it is worse was asked" in verdict(found)


def test_few_tasks_are_too_few_however_they_look() -> None:
    (found,) = judge_all([comparison(bad(4, 8), bad(1, 8))])
    assert verdict(found).startswith("**Undecided**: 8 on a side are too few")


def arena(folder: Path, ratings: list[str]) -> None:
    folder.mkdir()
    votes = [
        {
            "_id": f"v{n}",
            "leftSubcomponent": "fine-1",
            "rightSubcomponent": "poor-1",
            "rating": rating,
            "createdAt": f"2026-03-{1 + n // 24:02d}T{n % 24:02d}:00:00.5",
        }
        for n, rating in enumerate(ratings)
    ]
    (folder / "modelratings_V0.json").write_text(json.dumps(votes))


def test_votes_that_all_go_one_way_are_told_and_sets_that_are_not_there_left_out(
    tmp_path: Path,
) -> None:
    arena(tmp_path / "arena-votes", ["A is better"] * 50 + ["Tie"] * 10)
    text = document(tmp_path)
    # As many votes each, so the first by name stands as stable.
    (duel,) = [line for line in text.splitlines() if "decided votes lost to fine-1" in line]
    assert "poor-1: 100.0 %" in duel
    assert "n 50" in duel
    assert "**Worse**" in duel
    assert "there is no user in the data" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Agent Arena: votes on models"
    ]


def test_votes_that_go_both_ways_leave_it_open(tmp_path: Path) -> None:
    arena(tmp_path / "arena-votes", ["A is better", "B is better"] * 30)
    text = document(tmp_path)
    assert "**Worse**: " not in text
    assert text.count("**Undecided**: ") == 2
    assert "2 comparisons put 4 questions, each with its own budget; 0 were answered." in text


def support(folder: Path, model: str, *, passed: int, cost: float, n: int = 60) -> None:
    folder.mkdir(exist_ok=True)
    simulations = [
        {
            "id": f"{model}-{task}",
            "task_id": f"{task:03d}",
            "end_time": f"2026-03-01T10:{task:02d}:00",
            "duration": 20.0 + task % 7,
            "agent_cost": cost,
            "termination_reason": "user_stop",
            "reward_info": {"reward": float(task % n < passed)},
            "messages": [
                {"role": "assistant", "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
            ],
        }
        for task in range(n)
    ]
    info = {"environment_info": {"domain_name": "retail"}, "agent_info": {"llm": model}}
    text = json.dumps({"info": info, "simulations": simulations})
    (folder / f"{model.replace(':', '_')}.json").write_text(text)


def test_a_zero_for_an_unknown_price_is_no_saving_and_tokens_are_priced_alike(
    tmp_path: Path,
) -> None:
    support(tmp_path / "tau2-support", "gpt-4.1", passed=50, cost=0.02)
    support(tmp_path / "tau2-support", "ft:gpt-4.1-2025-04-14:team:x", passed=10, cost=0.0)
    unpriced = document(tmp_path)
    assert "Cost known for 0 of 60 candidate tasks." in unpriced
    assert "retail task: not known." in unpriced
    assert "list price of a task" not in unpriced
    rows = {line.split(" | ")[0]: line for line in unpriced.splitlines() if line.startswith("| ")}
    assert "**Worse**" in rows["| share of retail tasks failed"]
    assert "**Undecided**" in rows["| retail time of a task, median"]

    (tmp_path / "prices").mkdir()
    models = {
        "gpt-4.1": {"input": 2e-6, "output": 8e-6},
        "ft:gpt-4.1-2025-04-14": {"input": 3e-6, "output": 12e-6},
    }
    (tmp_path / "prices" / "prices.json").write_text(json.dumps({"models": models}))
    priced = document(tmp_path)
    (line,) = [each for each in priced.splitlines() if "retail list price of a task" in each]
    # 1,000 and 100 tokens: 0.28 cents against 0.42.
    assert "ft-gpt-4.1: 0.42 cents" in line
    assert "gpt-4.1: 0.28 cents" in line
    assert "+0.14 cents" in line
    assert "**Worse**" in line


def test_a_folder_without_any_set_gives_nothing(tmp_path: Path) -> None:
    assert document(tmp_path) == ""
