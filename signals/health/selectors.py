"""How far the signals can be trusted: open problems, feeds, and planned shares as seen."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE
from signals.health.models import AssignmentEpoch, Feed, Problem
from signals.health.rules import OF_THE_CONSOLE, Distrust
from signals.stats.assignment import Assignment, assignment


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """A problem as people and machines read it; `blinds` says whether guards go blind for it."""

    id: int
    kind: str
    workflow: str
    rollout: str
    path: str | None
    path_name: str
    segment: str | None
    source: str
    sentence: str
    example: str
    count: int
    since: datetime
    seen_at: datetime
    ended_at: datetime | None
    blinds: bool


@dataclass(frozen=True, slots=True)
class FeedRow:
    """What comes in on a path, from one source or ("") all of them; times in seconds.

    `lag_…` are of the last look that brought something; negative is ahead of our clock.
    """

    path_id: int
    path: str
    path_name: str
    source: str
    first_at: datetime
    newest_at: datetime
    age_s: float
    gap_s: float | None
    n: int
    label_at: datetime | None
    label_age_s: float | None
    n_unlabelled: int
    lag_p50_s: float
    lag_p95_s: float
    lag_n: int
    ahead_n: int


@dataclass(frozen=True, slots=True)
class EpochRow:
    """A planned share against what was seen; `seen` is None before the first person."""

    path: str
    segment: str
    segment_name: str
    rollout: str
    since: datetime
    planned: float
    seen: Assignment | None
    e_value: float
    n_tasks: int
    n_without_subject: int
    n_crossed: int
    n_wrong: int


def distrusts(path_ids: Iterable[int]) -> list[Distrust]:
    """Return the open problems of these paths that nobody set aside, the oldest first."""
    found = Problem.objects.filter(
        path__in=set(path_ids), ended_at=None, set_aside_at=None
    ).exclude(kind__in=OF_THE_CONSOLE)
    return [
        Distrust(*row)
        for row in found.order_by("pk").values_list("kind", "path_id", "segment_id", "sentence")
    ]


def problem_rows(
    *, workflow_id: int, rollout: str | None = None, open_only: bool = True, limit: int = 50
) -> list[ProblemRow]:
    """Return a workflow's problems, or one rollout's, the newest first."""
    found = Problem.objects.filter(workflow=workflow_id)
    if rollout is not None:
        found = found.filter(rollout=rollout)
    if open_only:
        found = found.filter(ended_at=None)
    return [
        ProblemRow(
            id=each.pk,
            kind=each.kind,
            workflow=each.workflow.slug,
            rollout=each.rollout,
            path=None if each.path is None else each.path.slug,
            path_name="" if each.path is None else each.path.name,
            segment=None if each.segment is None else each.segment.slug,
            source=each.source,
            sentence=each.sentence,
            example=each.example,
            count=each.count,
            since=each.since,
            seen_at=each.seen_at,
            ended_at=each.ended_at,
            blinds=each.ended_at is None
            and each.set_aside_at is None
            and each.kind not in OF_THE_CONSOLE,
        )
        for each in found.select_related("workflow", "path", "segment").order_by("-pk")[:limit]
    ]


def feed_rows(
    *,
    now: datetime,
    workflow_ids: Iterable[int] | None = None,
    source: str | None = None,
) -> list[FeedRow]:
    """Return the feeds of workflows (None: all) by path, the whole path before its sources.

    Args:
        source: only this token's; the name as it stands on the token.
    """
    found = Feed.objects.select_related("path")
    if workflow_ids is not None:
        found = found.filter(path__workflow__in=list(workflow_ids))
    if source is not None:
        found = found.filter(source=source)
    return [
        FeedRow(
            path_id=feed.path_id,
            path=feed.path.slug,
            path_name=feed.path.name,
            source=feed.source,
            first_at=feed.first_at,
            newest_at=feed.newest_at,
            age_s=max(0.0, (now - feed.newest_at).total_seconds()),
            gap_s=feed.gap_s,
            n=feed.n,
            label_at=feed.label_at,
            label_age_s=None
            if feed.label_at is None
            else max(0.0, (now - feed.label_at).total_seconds()),
            n_unlabelled=feed.n_unlabelled,
            lag_p50_s=feed.lag_p50_s,
            lag_p95_s=feed.lag_p95_s,
            lag_n=feed.lag_n,
            ahead_n=feed.ahead_n,
        )
        for feed in found.order_by("path__slug", "path_id", "source")
    ]


def epoch_rows(*, workflow_id: int) -> list[EpochRow]:
    """Return what is split now on a workflow's paths, by path and segment."""
    found = AssignmentEpoch.objects.filter(ended_at=None, path__workflow=workflow_id)
    return [
        EpochRow(
            path=epoch.path.slug,
            segment=epoch.segment.slug,
            segment_name=epoch.segment.name,
            rollout=epoch.rollout,
            since=epoch.started_at,
            planned=float(epoch.share),
            seen=(seen := _seen(epoch)),
            e_value=1.0 if seen is None else seen.e_value,
            n_tasks=epoch.n_tasks,
            n_without_subject=epoch.n_without_subject,
            n_crossed=epoch.n_crossed,
            n_wrong=epoch.n_wrong,
        )
        for epoch in found.select_related("path", "segment").order_by("path__slug", "segment__slug")
    ]


def assignments_now(path_ids: Iterable[int]) -> dict[tuple[int, int], Assignment]:
    """Return by path and segment id how what is split now compares with its plan."""
    epochs = AssignmentEpoch.objects.filter(path__in=set(path_ids), ended_at=None)
    seen = {(epoch.path_id, epoch.segment_id): _seen(epoch) for epoch in epochs.order_by("pk")}
    return {key: found for key, found in seen.items() if found is not None}


def worst(found: Iterable[Assignment]) -> Assignment | None:
    """Return the one that is the farthest from chance: segments do not make up for each other."""
    return max(found, key=lambda each: (each.log_e, each.value), default=None)


@dataclass(frozen=True, slots=True)
class AssignmentStep:
    """What stood at the end of a step, of the worst segment; `n` counts people."""

    at: datetime
    seen: Assignment


def assignment_series(
    *,
    path_id: int,
    segment_ids: list[int] | None,
    moments: list[datetime],
) -> list[AssignmentStep]:
    """Return how planned shares compared with what had been seen by each moment, in order.

    At each moment the epoch that was open then counts; a moment without one has no step.
    """
    epochs = AssignmentEpoch.objects.filter(path=path_id, started_at__lt=moments[-1]).filter(
        Q(ended_at=None) | Q(ended_at__gt=moments[0])
    )
    if segment_ids is not None:
        epochs = epochs.filter(segment__in=segment_ids)
    found: dict[datetime, list[Assignment]] = {}
    for epoch in epochs.order_by("pk"):
        people = iter(
            epoch.subjects.filter(seen_at__lt=moments[-1])
            .order_by("seen_at")
            .values_list("seen_at", "arm")
        )
        ahead = next(people, None)
        counts = {ARM_STABLE: 0, ARM_CANDIDATE: 0}
        for moment in moments:
            while ahead is not None and ahead[0] < moment:
                counts[ahead[1]] += 1
                ahead = next(people, None)
            if epoch.started_at < moment and (epoch.ended_at is None or moment <= epoch.ended_at):
                seen = assignment(counts[ARM_CANDIDATE], sum(counts.values()), float(epoch.share))
                if seen is not None:
                    found.setdefault(moment, []).append(seen)
    steps = []
    for moment in moments:
        seen = worst(found.get(moment, []))
        if seen is not None:
            steps.append(AssignmentStep(moment, seen))
    return steps


def _seen(epoch: AssignmentEpoch) -> Assignment | None:
    return assignment(epoch.n_candidate, epoch.n_candidate + epoch.n_stable, float(epoch.share))
