"""The seven things of the readiness gate, as far as a plan has them. Pure: no Django."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ReadinessItem:
    """One thing that must be there before the first exposure (requirement H1)."""

    item: str
    title: str
    present: bool
    detail: str


def readiness_items(document: dict[str, Any]) -> list[ReadinessItem]:
    """Return what a stored plan says to each item; whether it was rehearsed is not asked here."""
    workflow = document.get("workflow") or {}
    rollout = document.get("rollout") or {}
    chosen = rollout.get("paths")
    paths = [
        path for path in workflow.get("paths") or [] if not chosen or path.get("slug") in chosen
    ]
    first = (rollout.get("stages") or [{}])[0]
    segments = [item.get("segment", "") for item in first.get("segments") or []]
    criteria = len(rollout.get("criteria") or [])
    triggers = len(rollout.get("triggers") or [])
    fallbacks = _have(paths, lambda path: bool(path.get("fallbacks")))
    limits = _have(
        paths,
        lambda path: {"latency_p95_ms", "cost_per_task_usd"} <= set(path.get("limits") or {}),
    )
    review = _have(paths, lambda path: bool((path.get("review") or {}).get("points")))
    owner, deputy = workflow.get("owner", ""), workflow.get("deputy", "")
    return [
        ReadinessItem(
            "first_segment", "First segment or slice", bool(segments), ", ".join(segments)
        ),
        ReadinessItem("criteria", "Expansion criteria", criteria > 0, f"{criteria} in the plan"),
        ReadinessItem("fallbacks", "Fallback behaviour", *fallbacks),
        ReadinessItem("triggers", "Rollback conditions", triggers > 0, f"{triggers} in the plan"),
        ReadinessItem("limits", "Cost and latency thresholds", *limits),
        ReadinessItem("review", "Human review and approval points", *review),
        ReadinessItem(
            "owner",
            "Containment owner",
            bool(owner and workflow.get("escalation")),
            f"{owner}, deputy {deputy}; {len(workflow.get('escalation') or [])} escalation steps",
        ),
    ]


def _have(paths: list[dict[str, Any]], has: Any) -> tuple[bool, str]:
    """Return whether every path has it, and which lack it."""
    missing = [str(path.get("slug")) for path in paths if not has(path)]
    if missing:
        return False, f"missing on {', '.join(missing)}"
    return bool(paths), f"on {', '.join(str(path.get('slug')) for path in paths)}"
