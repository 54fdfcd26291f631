"""What is read of plans and rollouts, as frozen rows."""

from rollout_console.rollouts.models import PlanVersion
from rollout_console.rollouts.plan_yaml import yaml_dump


def plan_latest(*, workflow: str) -> PlanVersion | None:
    """Return the newest plan of a workflow."""
    return (
        PlanVersion.objects.filter(workflow__slug=workflow)
        .select_related("workflow")
        .order_by("-number")
        .first()
    )


def plan_text(*, workflow: str) -> str | None:
    """Return the newest plan as YAML, as it was written where it came as YAML."""
    plan = plan_latest(workflow=workflow)
    return None if plan is None else plan_yaml_of(plan)


def plan_yaml_of(plan: PlanVersion) -> str:
    return plan.text or yaml_dump(plan.document)
