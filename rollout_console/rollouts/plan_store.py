"""Writes a sound plan's catalogue: workflow, paths, segments, action routes. Checks no rights."""

from datetime import datetime
from typing import Any, TypeVar

from django.db.models import Model, ProtectedError, QuerySet

from rollout_console.catalog.models import Person, Segment, Workflow, WorkflowPath
from rollout_console.rollouts.errors import PlanConflict
from rollout_console.rollouts.models import RouteRestriction
from rollout_console.rollouts.plan_types import Plan
from signals.guards.services import guards_reworded
from signals.own.services import signals_define

M = TypeVar("M", bound=Model)


def workflow_store(plan: Plan, *, people: dict[str, Person], now: datetime) -> Workflow:
    """Create or update the workflow itself."""
    return _row_store(
        Workflow.objects.all(),
        plan.slug,
        {
            "name": plan.name,
            "owner": people[plan.owner],
            "deputy": people[plan.deputy],
            "escalation": plan.escalation,
            "discovery": plan.discovery,
            "hold_s": plan.hold_s,
        },
        created_at=now,
    )


def paths_store(workflow: Workflow, plan: Plan) -> dict[str, WorkflowPath]:
    """Create or update the paths; return them by slug."""
    return {
        path.slug: _row_store(
            workflow.paths.all(),
            path.slug,
            {
                "name": path.name,
                "sensitivity": path.sensitivity,
                "no_ai_mode": path.no_ai_mode,
                "unreachable_mode": path.unreachable_mode,
                "limits": path.limits,
                "review": path.review,
                "fallbacks": path.fallbacks,
            },
            workflow=workflow,
        )
        for path in plan.paths
    }


def segments_store(
    workflow: Workflow, plan: Plan, *, people: dict[str, Person]
) -> dict[str, Segment]:
    """Create or update the segments; return them by slug."""
    return {
        segment.slug: _row_store(
            workflow.segments.all(),
            segment.slug,
            {
                "name": segment.name,
                "kind": segment.kind,
                "rule": segment.rule,
                "owner": people[segment.owner],
                "tasks_per_day": segment.tasks_per_day,
                "people": segment.people,
            },
            workflow=workflow,
        )
        for segment in plan.segments
    }


def action_routes_store(workflow: Workflow, plan: Plan) -> None:
    """Create or update the action routes."""
    for route in plan.action_routes:
        _row_store(
            workflow.action_routes.all(),
            route.slug,
            {
                "scope": route.scope,
                "effect": route.effect,
                "risk": route.risk,
                "reversibility": route.reversibility,
                "undo_s": route.undo_s,
                "role": route.role,
                "default": route.default,
            },
            workflow=workflow,
        )


def signals_store(workflow: Workflow, plan: Plan, *, by: str, now: datetime) -> None:
    """Define the team's own signals; guards go on under the words that are new."""
    reworded = signals_define(workflow=workflow, definitions=plan.signals, by=by, now=now)
    for retired, definition in reworded.items():
        guards_reworded(retired=retired, definition=definition)


def _row_store(rows: QuerySet[M], slug: str, fields: dict[str, Any], **once: Any) -> M:
    """Create a row, `once` with it, or update it.

    `update_or_create` would lock it for update, and so wait for whoever only refers to it: the
    watch does, and holds the guards that the plan asks for next.
    """
    row, created = rows.get_or_create(slug=slug, defaults={**fields, **once})
    if created:
        return row
    row = rows.select_for_update(no_key=True).get(pk=row.pk)
    for name, value in fields.items():
        setattr(row, name, value)
    row.save(update_fields=list(fields))
    return row


def dropped_remove(workflow: Workflow, plan: Plan, before: dict[str, Any]) -> None:
    """Remove what the plan before named and this one does not.

    Discovered paths were in no plan and stay. Call it after the rollout is stored: a draft may
    have let go of a segment just now.

    Raises:
        PlanConflict: it holds data, a rollout used it, or containment restricts it.
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
    _restrictions_check(rows, key, noun, slug)
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


def _restrictions_check(rows: QuerySet[Model], key: str, noun: str, slug: str) -> None:
    """Refuse to drop what an action route is held tighter on: only enabling ends that."""
    held = RouteRestriction.objects.filter(**{f"{key.removesuffix('s')}__in": rows})
    first = held.select_related("action_route", "path", "segment").order_by("pk").first()
    if first is None:
        return
    sentence = f"The {noun} “{slug}” cannot leave the plan: {first.words}; enable it first."
    raise PlanConflict(sentence, errors=[{"pointer": f"/workflow/{key}", "detail": sentence}])
