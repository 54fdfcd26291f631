"""The workflows and paths that reports may name, remembered for a moment by each process."""

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from rollout_console.catalog.models import Workflow, WorkflowPath
from signals.ingest.runs import Place

FRESH_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Places:
    """Paths by (workflow slug, path slug); workflow ids by slug; who allows discovery."""

    paths: dict[tuple[str, str], Place] = field(default_factory=dict)
    workflows: dict[str, int] = field(default_factory=dict)
    discovering: frozenset[str] = frozenset()
    read_at: float = float("-inf")  # time.monotonic()


_lock = threading.Lock()
_places = Places()


def places(*, not_before: float = float("-inf")) -> Places:
    """Return the places as read within the last two seconds, and not before `not_before`.

    Args:
        not_before: a time.monotonic() reading; pass the present one to look again.
    """
    global _places
    known = _places
    if known.read_at >= not_before and time.monotonic() - known.read_at < FRESH_S:
        return known
    with _lock:
        if _places.read_at < not_before or time.monotonic() - _places.read_at >= FRESH_S:
            _places = _read()
        return _places


def forget() -> None:
    """Drop what this process remembers."""
    global _places
    with _lock:
        _places = Places()


def _read() -> Places:
    read_at = time.monotonic()
    workflows = list(Workflow.objects.values_list("slug", "pk", "discovery"))
    paths = WorkflowPath.objects.values_list("workflow__slug", "slug", "workflow_id", "pk")
    return Places(
        paths={
            (workflow, path): Place(workflow_id=workflow_id, path_id=path_id)
            for workflow, path, workflow_id, path_id in paths
        },
        workflows={slug: pk for slug, pk, _ in workflows},
        discovering=frozenset(slug for slug, _, discovery in workflows if discovery),
        read_at=read_at,
    )
