"""Run benchmarks and write `docs/benchmarks.md`: `python -m tests.benchmark [NAME …]`.

With names, only these are run, and only printed. Everything runs on embedded servers of its own,
durable as in a real stack, in a folder that is thrown away. Ends with a failure only where
something could not be measured.
"""

import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
REPORT: Final = ROOT / "docs" / "benchmarks.md"
NAMES: Final = ("ingest", "storage", "serving", "containment", "decisions")
TITLES: Final = {
    "ingest": "Ingest and roll-up",
    "storage": "Storage and chart data",
    "serving": "Decision serving",
    "containment": "Containment",
    "decisions": "Decisions",
}


def main() -> int:
    wanted = [name for name in sys.argv[1:] if not name.startswith("-")] or list(NAMES)
    with tempfile.TemporaryDirectory(prefix="bench-") as local, servers(Path(local)):
        os.environ["LOCAL_DIR"] = local
        found, failed = measured(wanted)
    text = report(found, failed)
    print(text)
    if set(wanted) == set(NAMES):
        REPORT.write_text(text)
    return 1 if failed else 0


@contextmanager
def servers(local: Path) -> Iterator[None]:
    """Start Postgres and Valkey, name them in the environment and set up Django and the tables."""
    local.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "rollout_console.services", str(local / "stack")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        os.environ.update(json.loads(line)["env"])
        os.environ["DJANGO_SETTINGS_MODULE"] = "rollout_console.settings.test"
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(timeout=60)


def measured(names: list[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """Return the rows by benchmark, and the names of those that could not be measured."""
    found: dict[str, list[Any]] = {}
    failed = []
    for name in names:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        try:
            found[name] = importlib.import_module(f"tests.benchmark.{name}").rows()
        except Exception:  # noqa: BLE001  # told and carried into the exit status
            # One benchmark that cannot run must not take the others' figures with it.
            traceback.print_exc()
            failed.append(name)
    return found, failed


def report(found: dict[str, list[Any]], failed: list[str]) -> str:
    now = datetime.now(UTC)
    names = ("granian", "django", "msgspec", "psycopg", "openfeature-flagd-core")
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Machines are shared and small, so a figure counts beside its",
        "ceiling, measured in the same run and alternating with it; floors and goals stand in",
        "`targets.md`. Noise is (max - min) / median over the rounds.",
        "",
        f"- {now:%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {_cpu()}, Linux {platform.release()}",
        f"- Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in names),
    ]
    for name, rows in found.items():
        lines += ["", f"## {TITLES[name]}", ""]
        lines += ["| row | ours | ceiling | ratio | noise | note |", "|---|---|---|---|---|---|"]
        lines += [_line(row) for row in rows]
    lines += [f"\n**{name} could not be measured.**" for name in failed]
    return "\n".join([*lines, ""])


def _line(row: Any) -> str:
    ceiling = "-" if row.ceiling is None else f"{_figure(row.ceiling)} {row.unit}"
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    spread = "-" if row.noise is None else f"{row.noise:.0%}"
    cells = (row.name, f"{_figure(row.ours)} {row.unit}", ceiling, ratio, spread, row.note)
    return f"| {' | '.join(cells)} |"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
