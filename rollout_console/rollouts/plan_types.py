"""A plan as values, once it is known to be sound. Pure: no Django."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rollout_console.rollouts.plan_guards import GuardPlan
from signals.definition import Definition


@dataclass(frozen=True, slots=True)
class PathPlan:
    slug: str
    name: str
    sensitivity: str
    no_ai_mode: str
    unreachable_mode: str
    limits: dict[str, float]
    review: dict[str, Any]
    fallbacks: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    slug: str
    name: str
    kind: str
    rule: Any
    owner: str
    tasks_per_day: int | None
    people: int | None


@dataclass(frozen=True, slots=True)
class ActionRoutePlan:
    slug: str
    scope: dict[str, Any]
    effect: str
    risk: str
    reversibility: str
    undo_s: int | None
    role: str
    default: str


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """A release as told; `source` is None where the plan leaves it out."""

    version: str
    changes: list[dict[str, str]]
    source: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A rung; `segments` are (segment, share 0-1), in the plan's order."""

    slug: str
    segments: list[tuple[str, Decimal]]
    bake_s: int
    min_runs: int


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    slug: str
    paths: list[str]
    candidate: str
    stable: str | None
    stages: list[StagePlan]
    guards: list[GuardPlan]


@dataclass(frozen=True, slots=True)
class Plan:
    slug: str
    name: str
    owner: str
    deputy: str
    escalation: list[dict[str, Any]]
    discovery: bool
    hold_s: int
    paths: list[PathPlan]
    segments: list[SegmentPlan]
    action_routes: list[ActionRoutePlan]
    releases: list[ReleasePlan]
    rollout: RolloutPlan | None
    # What the team defines itself, by the catalogue's side.
    signals: list[Definition] = field(default_factory=list)
    # Who must exist: JSON pointer of the mention → user name.
    people: dict[str, str] = field(default_factory=dict)
