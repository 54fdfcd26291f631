"""The decision engine on public scenarios beside the peers, and how fast it judges many guards."""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.benchmark.rows import Row, bound
from tests.scenarios import DETECTORS, scenarios_judge, scenarios_make, scenarios_score

PER_FAMILY: Final = 200
OTHER_PER_FAMILY: Final = 100
OTHER_SEED: Final = 90210
PEERS: Final = {
    "GrowthBook style": "GrowthBook-style safe rollout",
    "Statsig style": "Statsig-style mSPRT",
    "Kayenta style": "Kayenta-style Mann-Whitney, hourly",
    "reference A": "Reference A: mixture e-process at 1/alpha",
}
GUARDS: Final = 10_000
WEEK_MIN: Final = 7 * 24 * 60
# How many of the guards' blocks of a week are measured; the rest is more of the same.
MEASURED_MIN: Final = 720


def rows() -> list[Row]:
    """Return the scorer's figures for 200 scenarios a family, others' beside, and the speed."""
    with tempfile.TemporaryDirectory(prefix="bench-decisions-") as folder:
        ours, took_s = _judged(Path(folder) / "public", per_family=PER_FAMILY)
        others, _ = _judged(
            Path(folder) / "other",
            per_family=OTHER_PER_FAMILY,
            params=_other_params(Path(folder) / "params.json"),
        )
    peers = json.loads((DETECTORS / "peers_public.json").read_text())["detectors"]
    whole = ours["all"]
    low, high = whole["false_alarm_ci"]
    return [
        bound(
            f"false alarms, pooled, of {whole['quiet']:,} quiet rollouts",
            100 * whole["false_alarm"],
            unit="%",
            note=f"95 % interval {100 * low:.1f} to {100 * high:.1f} %; "
            + _peers(peers, "false_alarm", 100, "%")
            + f"; the {ours['all']['quiet'] * 2:,} scenarios judged in {took_s:.0f} s by two"
            " processes. Floor 3 %, upper bound 5 %",
        ),
        bound(
            "families with more false alarms than the budget",
            sum(f["false_alarm_ci"][0] > 0.05 for f in ours["families"].values()),
            unit="of 17",
            note="lower end of the interval above 5 %; floor 0. Worst: "
            + " ".join(str(part) for part in reversed(whole["worst_false_alarm"])),
        ),
        bound(
            "wrong blame in outages of both arms",
            100 * whole["wrong_blame"],
            unit="%",
            note=_peers(peers, "wrong_blame", 100, "%") + ". Floor 3 %, goal 1 %",
        ),
        bound(
            "harm ratio, geometric mean of the families",
            whole["harm_ratio"],
            unit="x",
            note="bad outcomes until the fire, against an oracle; "
            + _peers(peers, "harm_ratio", 1, "")
            + ". Floor 3.0, goal 2.3",
        ),
        *_by_level(ours),
        bound(
            "cut copies that disagree, and verdicts missing",
            whole["causality_broken"] + ours["missing_verdicts"],
            unit="",
            note=f"of {whole['causality_checked']} copies; floor 0",
        ),
        bound(
            "harm ratio on other scenarios of the same families",
            others["all"]["harm_ratio"],
            unit="x",
            note=f"another seed, ranges of traffic and rates moved, {OTHER_PER_FAMILY} a family:"
            f" {others['all']['harm_ratio'] / whole['harm_ratio'] - 1:+.0%} of the public ones;"
            f" false alarms {100 * others['all']['false_alarm']:.1f} %, wrong blame"
            f" {100 * others['all']['wrong_blame']:.1f} %. Floor within 15 %, goal 5 %",
        ),
        *_families(ours, peers),
        *_speed(),
    ]


def _judged(
    folder: Path, *, per_family: int, params: Path | None = None
) -> tuple[dict[str, Any], float]:
    scenarios_make(folder, per_family=per_family, params=params)
    began = time.monotonic()
    scenarios_judge(folder, folder / "verdicts.jsonl")
    took_s = time.monotonic() - began
    return scenarios_score(folder, folder / "verdicts.jsonl"), took_s


def _other_params(path: Path) -> Path:
    """Write the families' parameters with another seed, traffic and rates somewhat elsewhere."""
    params = json.loads((DETECTORS / "params_public.json").read_text())
    params["seed"] = OTHER_SEED
    rng = random.Random(OTHER_SEED)
    for family in params["families"].values():
        for name in ("lam", "p0", "delay", "users"):
            if name in family:
                by = rng.uniform(0.8, 1.3)
                family[name] = [value * by for value in family[name]]
    path.write_text(json.dumps(params))
    return path


def _peers(peers: dict[str, Any], name: str, scale: float, unit: str) -> str:
    told = [
        f"{short} {scale * peers[long]['all'][name]:.3g}{f' {unit}' if unit else ''}"
        for short, long in PEERS.items()
    ]
    return ", ".join(told)


def _by_level(report: dict[str, Any]) -> list[Row]:
    floors = {"large": (99, 99.9), "medium": (95, 98), "small": (70, 80)}
    families = report["families"].values()
    return [
        bound(
            f"{level} degradations found by the end",
            100 * sum(f["by_level"][level]["detection"] for f in families) / len(families),
            unit="%",
            note=f"mean of the families. Floor {floor} %, goal {goal} %",
        )
        for level, (floor, goal) in floors.items()
    ]


def _families(report: dict[str, Any], peers: dict[str, Any]) -> list[Row]:
    found = []
    for family, ours in sorted(report["families"].items()):
        best = _best_peer(peers, family)
        note = (
            f"false alarms {100 * ours['false_alarm']:.1f} %, found {100 * ours['detection']:.0f} %"
        )
        if best is None:
            found.append(bound(f"harm ratio, {family}", ours["harm_ratio"], unit="x", note=note))
            continue
        name, theirs = best
        found.append(
            Row(
                name=f"harm ratio, {family}",
                ours=ours["harm_ratio"],
                ceiling=theirs,
                ratio=ours["harm_ratio"] / theirs,
                unit="x",
                noise=None,
                note=f"{note}; beside it the best peer that keeps the budget: {name}",
            )
        )
    return found


def _best_peer(peers: dict[str, Any], family: str) -> tuple[str, float] | None:
    """Return the peer with the least harm of those inside the budget that find half."""
    valid = [
        (name, each["families"][family]["harm_ratio"])
        for name, each in peers.items()
        if not name.startswith("Reference")
        and each["families"][family]["false_alarm_ci"][0] <= 0.05
        and each["families"][family].get("detection", 0) >= 0.5
    ]
    return min(valid, key=lambda each: each[1], default=None)


def _speed() -> list[Row]:
    """Measure the panels in a process of its own, whose memory is theirs alone."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmark.decisions"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).resolve().parents[2],
    )
    told = json.loads(done.stdout.splitlines()[-1])
    return [
        bound(
            "10,000 guards, one incremental sweep of the engine",
            told["sweep_s"],
            unit="s",
            note="a block of data for every guard: half rates beside a baseline, a quarter"
            " distributions, a quarter limits; numpy on one core, without reading the ledger."
            " Floor 2 s, goal 0.5 s",
        ),
        bound(
            "10,000 guards, recomputed over a week of minutes by the engine",
            told["week_s"],
            unit="s",
            note=f"{MEASURED_MIN} minutes measured, the rest extrapolated: a guard has data each"
            " ten minutes. Floor 60 s, goal 20 s",
        ),
        bound(
            "memory of it, largest",
            told["peak_mb"],
            unit="MB",
            note="all 10,000 guards' state at once. Floor 500 MB",
        ),
    ]


def _measure() -> dict[str, float]:
    import numpy as np

    from signals.engine.rates import ConcurrentRates, LimitRates
    from signals.engine.shapes import TwoArmShapes

    rng = np.random.default_rng(1)
    rates, shapes, limits = GUARDS // 2, GUARDS // 4, GUARDS // 4
    expected = np.full(GUARDS, WEEK_MIN * 60.0)
    usual = np.full(rates, -2.5)
    two_arms = ConcurrentRates(expected[:rates], followed=np.ones(rates, dtype=bool))
    whole = TwoArmShapes(expected[:shapes], past=rng.poisson(20.0, (shapes, 64)).astype(float))
    one_arm = LimitRates(expected[:limits], limit=np.full(limits, 0.1))

    # What arrives is made beforehand: it is the engine that is measured.
    n = rng.poisson([2.0, 4.0], (GUARDS, 2))
    x = rng.binomial(n, 0.08)
    arms = np.stack([n[:, 0], x[:, 0], n[:, 1], x[:, 1]], axis=1)
    bins = rng.multinomial(6, np.full(64, 1 / 64), (shapes, 2))

    def sweep(has: Any, minute: float) -> None:
        at = np.full(GUARDS, 60.0 * minute)
        these = np.flatnonzero(has[:rates])
        two_arms.step(these, arms[these], usual[these], elapsed_s=at[: len(these)])
        these = np.flatnonzero(has[rates : rates + shapes])
        whole.step(these, bins[these], elapsed_s=at[: len(these)])
        these = np.flatnonzero(has[rates + shapes :])
        one_arm.step(these, arms[rates + shapes + these, :2], elapsed_s=at[: len(these)])

    everybody = np.ones(GUARDS, dtype=bool)
    sweep(everybody, 0.0)
    took = []
    for minute in range(1, 6):
        began = time.process_time()
        sweep(everybody, float(minute))
        for panel in (two_arms, whole, one_arm):
            panel.log_evidence()
        took.append(time.process_time() - began)
    began = time.process_time()
    for minute in range(10, 10 + MEASURED_MIN):
        sweep((np.arange(GUARDS) + minute) % 10 == 0, float(minute))
    week_s = (time.process_time() - began) * WEEK_MIN / MEASURED_MIN
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"sweep_s": sorted(took)[2], "week_s": week_s, "peak_mb": peak_mb}


if __name__ == "__main__":
    print(json.dumps(_measure()))
