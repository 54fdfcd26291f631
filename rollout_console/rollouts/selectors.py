"""What is read of plans and rollouts, as frozen rows."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rollout_console.catalog.models import Workflow
from rollout_console.rollouts.findings import Finding, plan_findings
from rollout_console.rollouts.models import ChangeState, PlanChange, PlanVersion, Rollout
from rollout_console.rollouts.plan_diff import plan_diff
from rollout_console.rollouts.plan_yaml import yaml_dump
from rollout_console.rollouts.states import FINAL, RolloutState
from signals.buckets.selectors import traffic

MINUTES_A_DAY = 24 * 60
SLUG_MAX = 80


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of a plan, with what it changed from the one before."""

    number: int
    at: datetime
    by: str
    approved_by: str | None
    digest: str
    diff: list[str]


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A plan change that waits or waited; `state` is expired as soon as its time is over."""

    id: int
    workflow: str
    state: str
    digest: str
    base: int
    requested_at: datetime
    requested_by: str
    requester_id: int | None
    expires_at: datetime
    effects: list[dict[str, str]]
    diff: list[str]
    decided_at: datetime | None
    decided_by: str | None
    reason: str
    applied_as: int | None


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an abandoned rollout taught."""

    slug: str
    candidate: str
    findings: str


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


def version_rows(*, workflow_id: int, before: int | None = None, limit: int) -> list[VersionRow]:
    """Return versions of a plan, the newest first, those under `before` only."""
    query = PlanVersion.objects.filter(workflow=workflow_id).select_related("approved_change")
    if before is not None:
        query = query.filter(number__lt=before)
    # One more than is told: the last one's diff is against it.
    found = list(query.order_by("-number")[: limit + 1])
    earlier: list[PlanVersion | None] = [*found[1:], None]
    return [
        version_row(version, previous) for version, previous in zip(found, earlier, strict=True)
    ][:limit]


def version_get(*, workflow_id: int, number: int) -> tuple[PlanVersion, VersionRow] | None:
    """Return one version with its row."""
    found = list(
        PlanVersion.objects.filter(workflow=workflow_id, number__lte=number)
        .select_related("approved_change")
        .order_by("-number")[:2]
    )
    if not found or found[0].number != number:
        return None
    return found[0], version_row(found[0], found[1] if len(found) > 1 else None)


def version_row(version: PlanVersion, previous: PlanVersion | None) -> VersionRow:
    change: PlanChange | None = getattr(version, "approved_change", None)
    return VersionRow(
        number=version.number,
        at=version.applied_at,
        by=version.applied_by,
        approved_by=None if change is None else change.decided_by,
        digest=version.digest,
        diff=plan_diff({} if previous is None else previous.document, version.document),
    )


def change_rows(
    *, workflow_ids: Sequence[int], now: datetime, before: int | None = None, limit: int
) -> list[ChangeRow]:
    """Return plan changes, the newest first, those under id `before` only."""
    query = PlanChange.objects.filter(workflow__in=workflow_ids)
    if before is not None:
        query = query.filter(pk__lt=before)
    found = query.select_related("workflow", "base", "applied_as").order_by("-pk")[:limit]
    return [change_row(change, now=now) for change in found]


def change_waiting(*, workflow_id: int, now: datetime) -> ChangeRow | None:
    """Return the change of a workflow's plan that waits for a decision."""
    change = (
        PlanChange.objects.filter(workflow=workflow_id, state=ChangeState.PENDING)
        .filter(expires_at__gt=now)
        .select_related("workflow", "base", "applied_as")
        .first()
    )
    return None if change is None else change_row(change, now=now)


def change_row(change: PlanChange, *, now: datetime) -> ChangeRow:
    over = change.state == ChangeState.PENDING and change.expires_at <= now
    return ChangeRow(
        id=change.pk,
        workflow=change.workflow.slug,
        state=ChangeState.EXPIRED.value if over else str(change.state),
        digest=change.digest,
        base=change.base.number,
        requested_at=change.requested_at,
        requested_by=change.requested_by,
        requester_id=change.requester_id,
        expires_at=change.expires_at,
        effects=change.effects,
        diff=change.diff,
        decided_at=change.decided_at,
        decided_by=change.decided_by or None,
        reason=change.reason,
        applied_as=None if change.applied_as is None else change.applied_as.number,
    )


def lesson_before(*, workflow_id: int, before: int | None = None) -> Lesson | None:
    """Return what the newest abandoned rollout taught, of those older than the one `before`."""
    query = Rollout.objects.filter(workflow=workflow_id, state=RolloutState.ABANDONED)
    if before is not None:
        query = query.filter(pk__lt=before)
    found = query.exclude(findings="").select_related("candidate").order_by("-pk").first()
    return None if found is None else Lesson(found.slug, found.candidate.version, found.findings)


def lesson_of(document: Any, *, workflow: Workflow | None) -> Lesson | None:
    """Return what a plan carries of the rollout that was abandoned before its own."""
    if workflow is None:
        return None
    told = document.get("rollout") if isinstance(document, dict) else None
    slug = told.get("slug") if isinstance(told, dict) else None
    # One that has ended is no longer the rollout that is being planned.
    going = Rollout.objects.filter(workflow=workflow, slug=str(slug).replace("\x00", ""))
    own = going.exclude(state__in=[state.value for state in FINAL]).first()
    return lesson_before(workflow_id=workflow.pk, before=own.pk if own else None)


def rollout_slug_free(rollout: Rollout) -> str:
    """Return a slug for another rollout like this one: its own with the next free number."""
    stem, _, number = rollout.slug.rpartition("-")
    if not number.isdecimal() or not Rollout.objects.filter(slug=stem).exists():
        stem = rollout.slug
    for count in itertools.count(2):
        ending = f"-{count}"
        slug = stem[: SLUG_MAX - len(ending)] + ending
        if not Rollout.objects.filter(slug=slug).exists():
            return slug
    raise AssertionError


def tasks_per_day(*, workflow: Workflow | None, now: datetime) -> dict[str, float]:
    """Return the tasks a day that each path has at its traffic of now, 0 without any."""
    if workflow is None:
        return {}
    flows = traffic(workflow_ids=[workflow.pk], now=now)
    return {
        path.slug: flows[path.pk].tasks_per_min * MINUTES_A_DAY
        for path in workflow.paths.order_by("pk")
    }


def findings_of(document: Any, *, workflow: Workflow | None, now: datetime) -> list[Finding]:
    """Return what a document leaves open, judged by the workflow's measured traffic."""
    return plan_findings(document, tasks_per_day=tasks_per_day(workflow=workflow, now=now))
