"""Writes a sound plan's catalogue: workflow, paths, segments, action routes. Checks no rights."""

from datetime import datetime
from typing import Any

from django.db.models import Model, ProtectedError, QuerySet

from rollout_console.catalog.models import ActionRoute, Person, Segment, Workflow, WorkflowPath
from rollout_console.rollouts.errors import PlanConflict
from rollout_console.rollouts.plan_types import Plan


def workflow_store(plan: Plan, *, people: dict[str, Person], now: datetime) -> Workflow:
    """Create or update the workflow itself."""
    workflow, _ = Workflow.objects.update_or_create(
        slug=plan.slug,
        defaults={
            "name": plan.name,
            "owner": people[plan.owner],
            "deputy": people[plan.deputy],
            "escalation": plan.escalation,
            "discovery": plan.discovery,
            "hold_s": plan.hold_s,
        },
        create_defaults={
            "name": plan.name,
            "owner": people[plan.owner],
            "deputy": people[plan.deputy],
            "escalation": plan.escalation,
            "discovery": plan.discovery,
            "hold_s": plan.hold_s,
            "created_at": now,
        },
    )
    return workflow


def paths_store(workflow: Workflow, plan: Plan) -> dict[str, WorkflowPath]:
    """Create or update the paths; return them by slug."""
    return {
        path.slug: WorkflowPath.objects.update_or_create(
            workflow=workflow,
            slug=path.slug,
            defaults={
                "name": path.name,
                "sensitivity": path.sensitivity,
                "no_ai_mode": path.no_ai_mode,
                "unreachable_mode": path.unreachable_mode,
                "limits": path.limits,
                "review": path.review,
                "fallbacks": path.fallbacks,
            },
        )[0]
        for path in plan.paths
    }


def segments_store(
    workflow: Workflow, plan: Plan, *, people: dict[str, Person]
) -> dict[str, Segment]:
    """Create or update the segments; return them by slug."""
    return {
        segment.slug: Segment.objects.update_or_create(
            workflow=workflow,
            slug=segment.slug,
            defaults={
                "name": segment.name,
                "kind": segment.kind,
                "rule": segment.rule,
                "owner": people[segment.owner],
                "tasks_per_day": segment.tasks_per_day,
                "people": segment.people,
            },
        )[0]
        for segment in plan.segments
    }


def action_routes_store(workflow: Workflow, plan: Plan) -> None:
    """Create or update the action routes."""
    for route in plan.action_routes:
        ActionRoute.objects.update_or_create(
            workflow=workflow,
            slug=route.slug,
            defaults={
                "scope": route.scope,
                "effect": route.effect,
                "risk": route.risk,
                "reversibility": route.reversibility,
                "undo_s": route.undo_s,
                "role": route.role,
                "default": route.default,
            },
        )


def dropped_remove(workflow: Workflow, plan: Plan, before: dict[str, Any]) -> None:
    """Remove what the plan before named and this one does not.

    Discovered paths were in no plan and stay. Call it after the rollout is stored: a draft may
    have let go of a segment just now.

    Raises:
        PlanConflict: it holds data, or a rollout used it.
    """
    stated = before.get("workflow", {})
    kept: dict[str, set[str]] = {
        "paths": {path.slug for path in plan.paths},
        "segments": {segment.slug for segment in plan.segments},
        "action_routes": {route.slug for route in plan.action_routes},
    }
    for key, noun in (
        ("paths", "path"),
        ("segments", "segment"),
        ("action_routes", "action route"),
    ):
        rows: QuerySet[Any] = getattr(workflow, key).all()
        listed = stated.get(key) or (before.get(key) if key == "action_routes" else None) or []
        for item in listed:
            if item["slug"] not in kept[key]:
                _remove(rows.filter(slug=item["slug"]), key, noun, item["slug"])


def _remove(rows: QuerySet[Model], key: str, noun: str, slug: str) -> None:
    sentence = (
        f"The {noun} “{slug}” was in use and cannot leave the plan: "
        "its history stays readable. Keep it in the file."
    )
    # Runs name their path by number and without a foreign key: nothing else would stop this.
    errors = [{"pointer": f"/workflow/{key}", "detail": sentence}]
    if noun == "path" and rows.exists():
        raise PlanConflict(sentence, errors=errors)
    try:
        rows.delete()
    except ProtectedError as error:
        raise PlanConflict(sentence, errors=errors) from error
