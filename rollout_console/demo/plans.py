"""The demo's plan files, and what a later round or a quick test makes of them. Pure."""

import re
from pathlib import Path
from typing import Final

PLANS: Final = Path(__file__).parent / "plans"

# What a fast demo uses, so that a whole story fits into seconds.
_FAST: Final = {"window_s": 4, "min_n": 12, "bake_s": 5, "min_runs": 30}


def plan_text(workflow: str, *, attempt: int = 1, fast: bool = False) -> str:
    """Return the plan of a demo workflow as YAML.

    Attempt 1 is the file as it stands; a later one rolls out the next release after it, since a
    rolled-back release does not return. `fast` shortens windows and samples.
    """
    text = (PLANS / f"{workflow}.yaml").read_text()
    candidate = _candidate(text)
    text = text.replace(candidate, later_version(candidate, attempt - 1))
    if fast:
        for key, value in _FAST.items():
            text = re.sub(rf"\b{key}: \d+", f"{key}: {value}", text)
    return text


def rollout_slug(workflow: str, *, attempt: int = 1) -> str:
    """Return the slug of the rollout that `plan_text` plans."""
    candidate = _candidate((PLANS / f"{workflow}.yaml").read_text())
    return f"{workflow}-{later_version(candidate, attempt - 1)}"


def later_version(version: str, steps: int) -> str:
    """Return the version `steps` after one that ends in a number."""
    head, _, last = version.rpartition(".")
    return f"{head}.{int(last) + steps}"


def _candidate(text: str) -> str:
    found = re.search(r'^  candidate: "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError("A demo plan names its candidate on a line of its own, quoted.")
    return found[1]
