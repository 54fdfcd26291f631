"""`manage.py judge` on the public scenarios, and on files that are not what they should be."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from signals.engine.judge import Unreadable, judge
from signals.engine.recorded import Verdict
from tests.scenarios import DETECTORS, scenarios_judge, scenarios_make, scenarios_score

# They are handed out beside a checkout and not ours to commit; CI has them, so there these run.
public = pytest.mark.skipif(
    not DETECTORS.exists(),
    reason="the public scenarios (../shared/benchmarks/detectors) do not lie beside this checkout",
)

SIGNAL = {"name": "fails", "kind": "rate", "worse": "up", "reference": "limit", "limit": 0.1}


@pytest.fixture(scope="module")
def public_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("scenarios")
    scenarios_make(folder, per_family=20)
    scenarios_judge(folder, folder / "verdicts.jsonl")
    return scenarios_score(folder, folder / "verdicts.jsonl")


@public
def test_no_verdict_knows_the_future_and_none_is_missing(public_report: dict[str, Any]) -> None:
    assert public_report["all"]["causality_checked"] == 34
    assert public_report["all"]["causality_broken"] == 0
    assert public_report["missing_verdicts"] == 0


@public
def test_quiet_rollouts_stay_quiet_and_bad_ones_are_found(public_report: dict[str, Any]) -> None:
    """Gross faults only: 170 quiet rollouts of 17 families; the benchmark has the figures."""
    whole = public_report["all"]
    assert whole["quiet"] == whole["degraded"] == 170
    # 5 % of 170 are 8.5; more than 12 would come by chance once in ten at the budget's very edge.
    assert whole["false_alarms"] <= 12
    for name, family in public_report["families"].items():
        assert family["false_alarms"] <= 3, name
        assert family["by_level"]["large"]["detection"] >= 0.9, name
    assert whole["harm_ratio"] <= 3.0


def write(folder: Path, *, metas: list[Any], records: list[Any]) -> Path:
    folder.joinpath("scenarios.jsonl").write_text("".join(f"{json.dumps(m)}\n" for m in metas))
    with gzip.open(folder / "buckets.jsonl.gz", "wt") as file:
        file.write("".join(f"{json.dumps(r)}\n" for r in records))
    return folder


def meta(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"scenario_id": name, "horizon": 60, "alpha": 0.05, "signals": [SIGNAL], **more}


def record(minute: int, n: int, bad: int, name: str = "a", **more: Any) -> dict[str, Any]:
    given = {"scenario_id": name, "signal": "fails", "minute": minute, "arm": "candidate"}
    return {**given, "n": n, "bad": bad, **more}


def test_every_rollout_gets_one_verdict_also_one_that_nobody_used(tmp_path: Path) -> None:
    bad = [record(minute, 10, 6) for minute in range(30)]
    write(tmp_path, metas=[meta(), meta("silent")], records=bad)
    fired, silent = judge(tmp_path)
    assert fired.fired
    assert fired.fired_minute is not None
    assert fired.fired_minute < 5
    assert fired.signals == ["fails"]
    assert silent == Verdict("silent", False, None, [], 1.0)


def test_a_late_record_counts_when_it_arrives(tmp_path: Path) -> None:
    late = [record(0, 40, 30, arrived=45)]
    write(tmp_path, metas=[meta()], records=late)
    assert next(judge(tmp_path)).fired_minute == 45


def test_as_many_processes_as_wanted_give_the_same_verdicts(tmp_path: Path) -> None:
    metas = [meta(f"s{k}") for k in range(45)]
    records = [
        record(minute, 6, (minute * (k + 3)) % 5 % 3, f"s{k}")
        for k in range(45)
        for minute in range(60)
    ]
    write(tmp_path, metas=metas, records=records)
    assert list(judge(tmp_path, jobs=2)) == list(judge(tmp_path))


@pytest.mark.parametrize(
    ("metas", "records", "said"),
    [
        ([meta(horizon=0)], [], "a horizon of at least 1 minute"),
        ([meta(alpha=1.5)], [], "alpha between 0 and 1"),
        ([meta(), meta()], [], "comes twice"),
        ([meta()], [record(0, 1, 0, "b")], "no rollout is called 'b'"),
        ([meta()], [record(0, 1, 0, signal="other")], "has no signal 'other'"),
        ([meta()], [{"scenario_id": "a"}], "missing required field"),
        ([meta()], [record(0, 3, 4)], "4 bad of 3"),
        ([meta()], [record(0, -1, 0)], "less than nothing"),
        (
            [meta(), meta("b")],
            [record(0, 1, 0), record(0, 1, 0, "b"), record(1, 1, 0)],
            "do not stand together",
        ),
    ],
)
def test_what_cannot_be_judged_is_said(
    tmp_path: Path, metas: list[Any], records: list[Any], said: str
) -> None:
    write(tmp_path, metas=metas, records=records)
    with pytest.raises(Unreadable, match=said):
        list(judge(tmp_path))


def test_a_missing_or_torn_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"no scenarios\.jsonl"):
        list(judge(tmp_path))
    write(tmp_path, metas=[meta()], records=[record(0, 1, 0)])
    whole = (tmp_path / "buckets.jsonl.gz").read_bytes()
    (tmp_path / "buckets.jsonl.gz").write_bytes(whole[:-12])
    with pytest.raises(Unreadable, match="cannot be read"):
        list(judge(tmp_path))
