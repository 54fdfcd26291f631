"""A ripe rollout to expand, and what spoils it: what the tests of expansion share."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from approvals.expansions.models import ExpansionRequest
from approvals.expansions.services import expansion_break_glass, expansion_start
from rollout_console.catalog.models import Segment, WorkflowPath
from rollout_console.rollouts.models import PathMode, Rollout
from signals.alerts.models import Alert
from signals.buckets.models import ArrivalLedger
from signals.guards.models import Guard, GuardState, Verdict
from tests.factories import contain, principal
from tests.ledger import arrive


def start(request: ExpansionRequest, *, by: str = "owner", **fields: Any) -> ExpansionRequest:
    return expansion_start(
        **{
            "request_id": request.pk,
            "principal": principal(by),
            "now": timezone.now(),
            **fields,
        }
    )


def glass(rollout: Rollout, *, by: str = "owner", **fields: Any) -> ExpansionRequest:
    return expansion_break_glass(
        **{
            "slug": rollout.slug,
            "reason": "Stable is down for everybody.",
            "confirm": True,
            "principal": principal(by),
            "now": timezone.now(),
            **fields,
        }
    )


def exposed(rollout: Rollout) -> dict[str, Decimal]:
    return {row.segment.slug: row.share for row in rollout.exposed.select_related("segment")}


def alert_open(rollout: Rollout) -> Alert:
    return Alert.objects.create(
        workflow=rollout.workflow,
        rollout=rollout.slug,
        guard=Guard.objects.get(rollout=rollout.slug, slug="slow"),
        owner=rollout.workflow.owner,
        sentence="Too slow.",
        opened_at=timezone.now(),
    )


def slow_down(rollout: Rollout, *, after: timedelta = timedelta()) -> None:
    """Let runs arrive on which the trigger “slow” trips."""
    arrive(
        WorkflowPath.objects.get(workflow=rollout.workflow),
        timezone.now() + after,
        release_id=rollout.candidate_id,
        segment_id=Segment.objects.get(workflow=rollout.workflow, slug="internal-ops").pk,
        passed=4000,
        latencies=[20_000.0] * 4000,
        costs=[0.03, 0.033] * 2000,
    )


def paused(rollout: Rollout) -> None:
    contain(rollout, "pause")


def not_baked(rollout: Rollout) -> None:
    Rollout.objects.filter(pk=rollout.pk).update(bake_from=timezone.now())


def few_runs(rollout: Rollout) -> None:
    rollout.stages.filter(position=1).update(min_runs=100_000)


def undecided(rollout: Rollout) -> None:
    Guard.objects.filter(slug="cost-inside").update(min_n=5000)


def failing(rollout: Rollout) -> None:
    Guard.objects.filter(slug="cost-inside").update(limit=0.01)
    # A guard's definition never changes in place: what evidence said of the old one is no more.
    GuardState.objects.filter(guard__slug="cost-inside").delete()


def no_data(rollout: Rollout) -> None:
    ArrivalLedger.objects.all().delete()
    Verdict.objects.all().delete()
    Guard.objects.update(evidence_from=timezone.now() - timedelta(days=2))


def tripped(rollout: Rollout) -> None:
    slow_down(rollout, after=timedelta(milliseconds=-1))


def fallen_back(rollout: Rollout) -> None:
    PathMode.objects.create(
        rollout=rollout,
        path=WorkflowPath.objects.get(workflow=rollout.workflow),
        mode="human_review",
        since=timezone.now(),
    )


def on_last_stage(rollout: Rollout) -> None:
    rollout.stages.filter(position=2).delete()
