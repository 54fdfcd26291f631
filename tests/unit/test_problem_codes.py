"""Every problem code that the API may answer is explained in the docs."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import approvals
import rollout_console
import signals
from rollout_console.api.problems import TITLES
from rollout_console.core.errors import DomainError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "problems.md"


def refusals() -> Iterator[type[DomainError]]:
    for package in (approvals, rollout_console, signals):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not any(
                part in module.name for part in ("migrations", "__main__", "settings", "wsgi")
            ):
                importlib.import_module(module.name)
    waiting = [DomainError]
    while waiting:
        found = waiting.pop()
        yield found
        waiting.extend(found.__subclasses__())


def test_every_problem_code_is_in_the_docs() -> None:
    # Other tests define refusals of their own.
    ours = (refusal for refusal in refusals() if not refusal.__module__.startswith("tests"))
    codes = {refusal.code for refusal in ours} - {DomainError.code}
    codes |= {code for code, _ in TITLES.values()} | {"internal", "unavailable"}

    told = DOCS.read_text()

    assert sorted(code for code in codes if f"`{code}`" not in told) == []
