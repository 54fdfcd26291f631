"""Set up pulls, try them, and pull what is due."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import F, Q

from approvals.authority.principals import Principal
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Person, Release, Segment, Workflow, WorkflowPath
from rollout_console.core.errors import InvalidInput
from signals.points.kinds import Distribution, MetricPoint, Series
from signals.points.services import points_store
from signals.pulls.client import PullFailed, Window, address_fault, credential_fault, query_range
from signals.pulls.models import PullSource
from signals.pulls.prometheus import AnsweredSeries, labels_missing

log = structlog.get_logger()

# Below the 11,000 steps that a server takes.
CHUNK_STEPS: Final = 10_000
# How long a claim holds: longer than both attempts of a chunk take.
CLAIM: Final = timedelta(seconds=60)
# The newest step asked for is this old, so that a scrape or a remote write has come in.
SETTLE: Final = timedelta(seconds=5)
RETRY_MAX_S: Final = 300
# What is pulled later than this is history: charts read it, guards do not.
LATE: Final = timedelta(minutes=15)
# One run gives way to the next after so long, however much there is to fill.
RUN_S: Final = 20.0
FIELDS: Final = (
    "base_url",
    "query",
    "step_s",
    "unit",
    "better",
    "labels",
    "credential",
    "enabled",
)


@dataclass(frozen=True, slots=True)
class PullTrial:
    """What a query shows over the last steps; `error` says why it would not do."""

    series: list[AnsweredSeries]
    error: str | None


def pull_put(
    *,
    workflow: Workflow,
    name: str,
    told: Mapping[str, Any],
    principal: Principal,
    now: datetime,
) -> tuple[PullSource, bool]:
    """Set up a pull or change it; the same again changes nothing. Returns it and if it is new.

    Args:
        told: `path` and `owner` by name, `backfill_s` (how far back the first pull asks), and
            FIELDS as they are to be.

    Raises:
        InvalidInput: a name is unknown or the address not allowed.
    """
    path, owner = pull_check(workflow=workflow, told=told)
    wanted = {name: told[name] for name in FIELDS} | {"path": path, "owner": owner}
    with transaction.atomic():
        since = now - timedelta(seconds=told.get("backfill_s", 0))
        source, created = PullSource.objects.select_for_update(of=("self",)).get_or_create(
            workflow=workflow,
            name=name,
            defaults={
                **wanted,
                "created_at": now,
                "next_at": now,
                # The first step asked for lies after this.
                "pulled_to": floor(since, told["step_s"]) - timedelta(seconds=told["step_s"]),
            },
        )
        changed = [key for key, value in wanted.items() if getattr(source, key) != value]
        if not created and not changed:
            return source, False
        if not created:
            for key in changed:
                setattr(source, key, wanted[key])
            # A new definition is tried at once, whatever the old one ran into.
            source.next_at, source.failures, source.error = now, 0, ""
            # Whoever is asking for the old one finds the claim gone and stores nothing.
            source.claim = source.claimed_until = None
            source.pulled_to = floor(source.pulled_to, source.step_s)
            source.save(
                update_fields=[
                    *changed,
                    *("next_at", "failures", "error", "pulled_to", "claim", "claimed_until"),
                ]
            )
        audit.append(
            "pull.created" if created else "pull.changed",
            actor=principal,
            at=now,
            workflow=workflow.slug,
            subject_type="pull",
            subject=name,
            data={
                **{key: told[key] for key in FIELDS},
                "path": path.slug,
                "owner": owner.username,
                "changed": sorted(changed),
            },
        )
    return source, created


@transaction.atomic
def pull_delete(*, workflow: Workflow, name: str, principal: Principal, now: datetime) -> bool:
    """End a pull; the points that it brought stay. Return whether there was one."""
    deleted, _ = PullSource.objects.filter(workflow=workflow, name=name).delete()
    if deleted:
        audit.append(
            "pull.deleted",
            actor=principal,
            at=now,
            workflow=workflow.slug,
            subject_type="pull",
            subject=name,
        )
    return bool(deleted)


def pull_check(*, workflow: Workflow, told: Mapping[str, Any]) -> tuple[WorkflowPath, Person]:
    """Return the path and the owner that a pull names.

    Raises:
        InvalidInput
    """
    errors = []
    path = workflow.paths.filter(slug=told["path"]).first()
    if path is None:
        slugs = ", ".join(workflow.paths.order_by("slug").values_list("slug", flat=True)[:20])
        errors.append({"pointer": "/path", "detail": f"Name a path of this workflow: {slugs}."})
    owner: Person | None = workflow.owner
    if told.get("owner"):
        owner = Person.objects.filter(username=told["owner"], is_active=True).first()
        if owner is None:
            errors.append({"pointer": "/owner", "detail": "There is no such person."})
    if fault := address_fault(told["base_url"]):
        errors.append({"pointer": "/base_url", "detail": fault})
    elif fault := credential_fault(told["base_url"], credential=told["credential"]):
        errors.append({"pointer": "/credential", "detail": fault})
    if errors or path is None or owner is None:
        raise InvalidInput(f"The pull does not fit: {errors[0]['detail']}", errors=errors)
    return path, owner


def pull_try(*, told: Mapping[str, Any], now: datetime) -> PullTrial:
    """Ask for the last ten steps and store nothing. Never call it inside a transaction."""
    step = timedelta(seconds=told["step_s"])
    end = floor(now - SETTLE, told["step_s"])
    window = Window(end - 9 * step, end, told["step_s"])
    try:
        answered = query_range(
            base_url=told["base_url"],
            query=told["query"],
            window=window,
            credential=told["credential"],
        )
    except PullFailed as failure:
        return PullTrial([], str(failure))
    return PullTrial(answered, labels_missing(answered, told["labels"]))


def pulls_run(*, now: datetime, overdue: timedelta = timedelta(0)) -> int:
    """Pull what is due, chunk after chunk; return how many points that stored.

    Args:
        overdue: leave alone what is due for less than this.
    """
    stored = 0
    began_s = time.monotonic()
    while time.monotonic() - began_s < RUN_S:
        source = _claim(now=now, overdue=overdue)
        if source is None:
            break
        stored += pull_once(source, now=now)
    return stored


def _claim(*, now: datetime, overdue: timedelta) -> PullSource | None:
    """Take one source that is due, so that no other worker pulls its window too."""
    free = Q(claimed_until=None) | Q(claimed_until__lte=now)
    due = PullSource.objects.filter(free, enabled=True, next_at__lte=now - overdue)
    for source in due.select_related("workflow").order_by("next_at", "pk")[:20]:
        claim = uuid.uuid4()
        if due.filter(pk=source.pk).update(claim=claim, claimed_until=now + CLAIM):
            # What it is now: it may have been pulled or changed since it was listed.
            return PullSource.objects.select_related("workflow").filter(claim=claim).first()
    return None


def pull_once(source: PullSource, *, now: datetime) -> int:
    """Pull a claimed source's next chunk and let go of it; return how many points are new."""
    step = timedelta(seconds=source.step_s)
    newest = floor(now - SETTLE, source.step_s)
    start = source.pulled_to + step
    end = min(newest, start + (CHUNK_STEPS - 1) * step)
    mine = PullSource.objects.filter(pk=source.pk, claim=source.claim)
    if end < start:
        mine.update(claim=None, claimed_until=None, next_at=start + SETTLE)
        return 0
    try:
        answered = query_range(
            base_url=source.base_url,
            query=source.query,
            window=Window(start, end, source.step_s),
            credential=source.credential,
        )
        if fault := labels_missing(answered, source.labels):
            raise PullFailed(fault)
        points = points_of(source, answered)
    except PullFailed as failure:
        log.warning("pull.failed", pull=source.name, error=str(failure))
        wait_s = min(RETRY_MAX_S, 5 * 2 ** min(source.failures, 10))
        mine.update(
            claim=None,
            claimed_until=None,
            next_at=now + timedelta(seconds=wait_s),
            failures=F("failures") + 1,
            failed_at=now,
            error=str(failure),
        )
        return 0
    stored = 0
    with transaction.atomic():
        done = mine.update(
            claim=None,
            claimed_until=None,
            pulled_to=end,
            next_at=now if end < newest else end + step + SETTLE,
            succeeded_at=now,
            failures=0,
            error="",
        )
        if not done:
            # Another worker took over, or the pull was changed or ended while we asked.
            return 0
        for late in (False, True):
            some = [point for point in points if (point.at < now - LATE) == late]
            receipt = points_store(points=some, now=now, backfill=late, any_age=True)
            stored += receipt.stored
            for refused in receipt.refused[:1]:
                log.warning("pull.point_refused", pull=source.name, detail=refused.detail)
    return stored


def points_of(source: PullSource, answered: list[AnsweredSeries]) -> list[MetricPoint]:
    """Return an answer as points of this source's workflow.

    Raises:
        PullFailed: a label names a segment or release that the workflow does not have.
    """
    known: dict[str, dict[str, int]] = {
        "segment": dict(Segment.objects.filter(workflow=source.workflow).values_list("slug", "pk")),
        "release": dict(
            Release.objects.filter(workflow=source.workflow).values_list("version", "pk")
        ),
    }
    points = []
    for series in answered:
        ids = {"segment": 0, "release": 0}
        for dimension, label in source.labels.items():
            value = series.labels.get(label, "")
            if value and value not in known[dimension]:
                raise PullFailed(
                    f"The label {label} says {value[:80]!r}, which is no {dimension} of this "
                    "workflow: select those that are, as with {" + label + '=~"…"}.'
                )
            ids[dimension] = known[dimension].get(value, 0)
        for sample in series.samples:
            points.append(
                MetricPoint(
                    Series(
                        workflow_id=source.workflow_id,
                        path_id=source.path_id,
                        name=source.name,
                        kind="histogram" if isinstance(sample.value, Distribution) else "gauge",
                        source=f"pull:{source.name}",
                        unit=source.unit,
                        segment_id=ids["segment"],
                        release_id=ids["release"],
                    ),
                    sample.at,
                    sample.value,
                )
            )
    return points


def floor(moment: datetime, step_s: int) -> datetime:
    """Return the start of the step that holds `moment`; steps are multiples since 1970."""
    return datetime.fromtimestamp(int(moment.timestamp()) // step_s * step_s, tz=UTC)
