"""The readiness gate over what is stored: the plan in force, measured traffic, and people."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Value

from approvals.authority.models import Membership
from rollout_console.catalog.models import Person, Segment, Workflow, WorkflowPath
from rollout_console.rollouts.errors import GateNotPassed
from rollout_console.rollouts.findings import Finding, plan_findings
from rollout_console.rollouts.models import PlanVersion, Rollout
from rollout_console.rollouts.plan_schema import plan_read
from rollout_console.rollouts.readiness import (
    DAY_S,
    GateFacts,
    PathTraffic,
    ReadinessItem,
    readiness_items,
    unreadable_items,
)
from signals.buckets.selectors import segment_tasks

TRAFFIC_WINDOW: Final = timedelta(seconds=DAY_S)


@dataclass(frozen=True, slots=True)
class Gate:
    """The seven items of a rollout, and the plan that they were read against."""

    items: list[ReadinessItem]
    plan_number: int

    @property
    def passed(self) -> bool:
        return all(item.present for item in self.items)

    @property
    def missing(self) -> list[dict[str, str]]:
        """What is missing, as the API answers it."""
        return [
            {"item": item.item, "detail": each.detail, "fix": each.fix}
            for item in self.items
            for each in item.missing
        ]


def gate_read(rollout: Rollout, *, now: datetime) -> Gate:
    """Return a rollout's gate; `plan` and `workflow` are best selected with it."""
    return gates_read([rollout], now=now)[rollout.pk]


def gate_check(rollout: Rollout, *, now: datetime) -> None:
    """Raise GateNotPassed, listing what is missing, unless all seven items are there."""
    missing = gate_read(rollout, now=now).missing
    if not missing:
        return
    first = f"{missing[0]['detail']} {missing[0]['fix']}"
    more = f" And {len(missing) - 1} more." if len(missing) > 1 else ""
    raise GateNotPassed(
        f"{rollout.slug} is not ready to be exposed: {first}{more}", missing=missing
    )


def gates_read(rollouts: Sequence[Rollout], *, now: datetime) -> dict[int, Gate]:
    """Return the gates of rollouts by their id, in as many queries for one as for many.

    The workflow's part is that of its newest plan and the rollout's part that of its own: a plan
    applied since may have changed people, limits and sizes.
    """
    workflow_ids = {rollout.workflow_id for rollout in rollouts}
    newest = {
        plan.workflow_id: plan
        for plan in PlanVersion.objects.filter(workflow__in=workflow_ids)
        .order_by("workflow", "-number")
        .distinct("workflow")
    }
    traffic = _traffic(workflow_ids, now=now)
    active = frozenset(Person.objects.filter(is_active=True).values_list("username", flat=True))
    holders = _holders(workflow_ids)
    gates = {}
    for rollout in rollouts:
        plan = newest[rollout.workflow_id]
        facts = GateFacts(active, holders[rollout.workflow_id], traffic[rollout.workflow_id])
        items = _items({**plan.document, "rollout": rollout.plan.document.get("rollout")}, facts)
        gates[rollout.pk] = Gate(items, plan.number)
    return gates


def _items(document: dict[str, Any], facts: GateFacts) -> list[ReadinessItem]:
    plan, faults = plan_read(document)
    if plan is None:
        return unreadable_items(
            f"The stored plan no longer reads: {faults[0].pointer} {faults[0].detail}"
        )
    findings: list[Finding] = plan_findings(
        document,
        tasks_per_day={slug: seen.per_day for slug, seen in facts.traffic.items() if seen.measured},
    )
    return readiness_items(plan, facts=facts, findings=findings)


def _traffic(workflow_ids: set[int], *, now: datetime) -> dict[int, dict[str, PathTraffic]]:
    """Return each path's last day by workflow id and path slug."""
    found: dict[int, dict[str, PathTraffic]] = defaultdict(dict)
    slugs: dict[tuple[int, int], str] = {}
    paths: dict[int, tuple[int, str]] = {}
    segments, moved = (
        model.objects.filter(workflow__in=workflow_ids).values_list(
            Value(model is Segment), "pk", "workflow_id", "slug"
        )
        for model in (Segment, WorkflowPath)
    )
    for is_segment, pk, workflow_id, slug in segments.union(moved, all=True):
        if is_segment:
            slugs[pk, workflow_id] = slug
        else:
            paths[pk] = workflow_id, slug
    seen = segment_tasks(path_ids=paths, since=now - TRAFFIC_WINDOW, until=now)
    for path_id, tasks in seen.items():
        workflow_id, slug = paths[path_id]
        found[workflow_id][slug] = PathTraffic(
            tasks=sum(tasks.by_segment.values()),
            by_segment={
                slugs[segment_id, workflow_id]: n
                for segment_id, n in tasks.by_segment.items()
                if (segment_id, workflow_id) in slugs
            },
            span_s=(now - tasks.first_at).total_seconds(),
        )
    return found


def _holders(workflow_ids: set[int]) -> dict[int, dict[str, tuple[str, ...]]]:
    """Return the active people by workflow id and role; a plan's owner and deputy hold theirs."""
    held: dict[int, dict[str, list[str]]] = {pk: defaultdict(list) for pk in workflow_ids}
    members = Membership.objects.filter(person__is_active=True).select_related("person")
    for member in members.order_by("person__username", "pk"):
        for pk in workflow_ids:
            if member.workflow_id in (None, pk):
                held[pk][member.role].append(member.person.username)
    named = Workflow.objects.filter(pk__in=workflow_ids).values_list(
        *("pk", "owner__username", "owner__is_active"),
        *("deputy__username", "deputy__is_active"),
    )
    for pk, owner, owner_active, deputy, deputy_active in named:
        if owner_active:
            held[pk]["owner"].append(owner)
        if deputy_active:
            held[pk]["deputy"].append(deputy)
    return {
        pk: {role: tuple(dict.fromkeys(names)) for role, names in roles.items()}
        for pk, roles in held.items()
    }
