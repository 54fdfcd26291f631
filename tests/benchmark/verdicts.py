"""What the engine says of real recorded data: `python -m tests.benchmark.verdicts [FOLDER]`.

Reads `../shared/data` (or FOLDER) in place through the built-in mappings, prints the comparisons
that the data sets bear and writes `docs/verdicts.md`. A set that is not there is left out.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from signals.engine.budget import ALPHA
from tests.benchmark import gauge_days, same_tasks, traces
from tests.benchmark.compared import HEAD, Judged, Section, judge_all, row

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = ROOT.parent / "shared" / "data"
REPORT: Final = ROOT / "docs" / "verdicts.md"
SETS: Final[Mapping[str, Callable[[Path], Section]]] = {
    "aider-telemetry": traces.aider,
    "arena-votes": traces.arena,
    "tau2-support": same_tasks.tau2,
    "tau-airline-gpt-4o": same_tasks.tau,
    "mtrag-human": same_tasks.mtrag,
    "azure-llm-2023": traces.azure,
    "nab-series": gauge_days.nab,
}


def document(data: Path) -> str:
    """Return the report on the sets that `data` has; empty where it has none."""
    found = [
        (section, judge_all(section.comparisons))
        for section in (read(data / name) for name, read in SETS.items() if (data / name).is_dir())
    ]
    if not found:
        return ""
    lines = list(_introduction([each for _, told in found for each in told]))
    for section, told in found:
        lines += ["", f"## {section.title}", "", section.what, ""]
        if told:
            lines += [*HEAD, *(row(each) for each in told), ""]
        if section.more:
            lines += [*section.more, ""]
        lines += ["What this cannot tell:", "", *(f"- {each}" for each in section.cannot)]
    return "\n".join([*lines, ""])


def _introduction(told: list[Judged]) -> Iterator[str]:
    fired = sum(
        each.worse.fired or (each.better is not None and each.better.fired) for each in told
    )
    asked = sum(1 if each.better is None else 2 for each in told)
    yield from (
        "# Verdicts on real data",
        "",
        "What the decision engine says of public recordings, which nobody on the team made: written"
        " by `python -m tests.benchmark.verdicts` from `../shared/data`, through the mappings of"
        " [replay](replay.md) and the panels of `manage.py judge`.",
        "",
        "- **Ranges** are 95 % ranges at one look, and take tasks as unrelated.",
        f"- **Evidence** holds at every look: {1 / ALPHA:.0f} is enough, and where nothing differs"
        f" it comes up in at most {100 * ALPHA:.0f} % of all comparisons. It is that of the moment"
        " when it was enough, else that of the end; worse and better are two questions.",
        "- **Worse** means more of what the signal names: cost, time, failures. It says that the"
        " sides differ, never why: nothing here was randomised by us.",
        "- **Undecided** is no “equal”: a criterion would not hold on it.",
        f"- {len(told)} comparisons put {asked} questions, each with its own budget; {fired}"
        f" {'was' if fired == 1 else 'were'} answered. If nothing differed anywhere, one would"
        f" expect fewer than {asked * ALPHA:.1f}.",
    )


def main() -> int:
    text = document(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
    if not text:
        print("No data set is there. Name the folder that holds them.", file=sys.stderr)
        return 1
    print(text)
    REPORT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
