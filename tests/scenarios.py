"""The public scenarios that the engine is judged by, made and scored by their own programs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

DETECTORS: Final = Path(__file__).parents[2] / "shared" / "benchmarks" / "detectors"
# The panels are many small steps: threads of a matrix product would only wait for each other.
_ENV: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def scenarios_make(
    out: Path, *, per_family: int, families: tuple[str, ...] = (), params: Path | None = None
) -> None:
    """Write `per_family` scenarios, a multiple of 20, of each family named, or of all."""
    chosen = [word for family in families for word in ("--family", family)]
    given = [] if params is None else ["--params", str(params)]
    sized = ["--out", str(out), "--per-family", str(per_family)]
    _run([str(DETECTORS / "make_scenarios.py"), *sized, *chosen, *given])


def scenarios_judge(folder: Path, verdicts: Path, *, jobs: int = 2) -> None:
    """Let `manage.py judge` write its verdicts."""
    manage = Path(__file__).parents[1] / "manage.py"
    _run([str(manage), "judge", str(folder), str(verdicts), "--jobs", str(jobs)])


def scenarios_score(folder: Path, verdicts: Path) -> dict[str, Any]:
    """Return the scorer's report."""
    out = verdicts.with_suffix(".score.json")
    words = [str(DETECTORS / "score.py"), "--data", str(folder), "--verdicts", str(verdicts)]
    _run([*words, "--json", str(out)])
    report: dict[str, Any] = json.loads(out.read_text())
    return report


def _run(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **_ENV},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
