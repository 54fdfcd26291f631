"""Look at what was drained, and keep what is wrong with it as problems."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from django.db import connection, transaction

from signals.health import look_sql
from signals.health.models import AssignmentEpoch, Feed, Problem
from signals.health.rules import (
    AHEAD_S,
    HAPPENING,
    QUIET,
    FeedState,
    Finding,
    feed_findings,
    mismatch_finding,
    reuse_finding,
    smoothed,
)
from signals.stats.assignment import assignment, log_e_value

# One look at a time: what it finds is added to what is known.
LOCK_KEY: Final = 0x6865616C
BATCHES_AT_ONCE: Final = 500
REPORTS_AT_ONCE: Final = 100_000
# How far around a task another one with its id is looked for, and how many tasks that may read.
REUSE_SPAN_S: Final = 600.0
REUSE_READS: Final = 200_000
# How long after an epoch it is still known who was seen in it; charts read them.
SUBJECTS_KEPT: Final = timedelta(days=31)
SUBJECTS_AT_ONCE: Final = 5_000


@dataclass(frozen=True, slots=True)
class Split:
    """A segment on a path of which only a share (0-1) is exposed, and to which releases.

    `exposure_version` is the one in force: answers of an older one had another share.
    """

    rollout: str
    path_id: int
    segment_id: int
    share: Decimal
    candidate_id: int
    stable_id: int
    exposure_version: int

    @property
    def key(self) -> tuple[int, int]:
        return self.path_id, self.segment_id


@dataclass(frozen=True, slots=True)
class Watched:
    """A path that guards watch; `reads_labels` says that one stands on quality labels."""

    workflow_id: int
    path_id: int
    name: str
    rollout: str
    reads_labels: bool


@transaction.atomic
def health_look(
    *,
    watched: Collection[Watched],
    splits: Collection[Split],
    now: datetime,
    found: Iterable[Finding] = (),
) -> int | None:
    """Take what was drained since the last look, and bring problems up to date.

    Args:
        watched: the paths whose problems matter now.
        splits: the planned shares as they are exposed now; another share is a new epoch.
        found: what else is wrong as things stand, as the caller sees it.

    Returns:
        How many problems were opened; None where another look is under way.
    """
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [LOCK_KEY])
        if not cursor.fetchone()[0]:
            return None
    _epochs_set(splits, now=now)
    names = {path.path_id: path.name for path in watched}
    findings = _drained_take(names)
    findings += _states(watched, now=now)
    findings += found
    return _problems_keep(findings, watched={path.path_id: path for path in watched}, now=now)


def subjects_prune(*, now: datetime) -> int:
    """Forget some of the people of epochs that are long over; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(look_sql.FORGET, [now - SUBJECTS_KEPT, SUBJECTS_AT_ONCE])
        return int(cursor.rowcount)


def problem_set_aside(*, problem_id: int, now: datetime) -> None:
    """Note that the owner says it is none: it makes no guard blind while it lasts."""
    Problem.objects.filter(pk=problem_id, ended_at=None, set_aside_at=None).update(set_aside_at=now)


def _epochs_set(splits: Collection[Split], *, now: datetime) -> None:
    """End the epochs whose share is not the planned one any more, and begin those that lack."""
    wanted = {split.key: split for split in splits}
    gone = []
    for epoch in AssignmentEpoch.objects.filter(ended_at=None).order_by("pk"):
        split = wanted.get((epoch.path_id, epoch.segment_id))
        if split is not None and (split.rollout, split.share) == (epoch.rollout, epoch.share):
            del wanted[split.key]
        else:
            gone.append(epoch.pk)
    if gone:
        AssignmentEpoch.objects.filter(pk__in=gone).update(ended_at=now)
    if wanted:
        AssignmentEpoch.objects.bulk_create(
            AssignmentEpoch(
                rollout=split.rollout,
                path_id=split.path_id,
                segment_id=split.segment_id,
                candidate_id=split.candidate_id,
                stable_id=split.stable_id,
                share=split.share,
                exposure_version=split.exposure_version,
                started_at=now,
            )
            for split in wanted.values()
        )


class _Fed(NamedTuple):
    """What one look has of a source on a path; source None for all of them."""

    path_id: int
    source: str | None
    n: int
    first_at: datetime
    newest_at: datetime
    low: float
    middle: float
    high: float
    ahead: int


def _drained_take(names: Mapping[int, str]) -> list[Finding]:
    """Count what the oldest batches not looked at tell; return the ids that came again."""
    with connection.cursor() as cursor:
        cursor.execute(look_sql.DUE, [BATCHES_AT_ONCE, REPORTS_AT_ONCE])
        drains = [seq for (seq,) in cursor.fetchall()]
        if not drains:
            return []
        cursor.execute(look_sql.STAGING)
        cursor.execute(look_sql.STAGE, {"drains": drains})
        cursor.execute("analyze health_staging")
        cursor.execute(look_sql.ASSIGN)
        cursor.execute(look_sql.FEEDS, [-AHEAD_S])
        fed = [_Fed(*row) for row in cursor.fetchall()]
        cursor.execute(look_sql.LABELS, [drains])
        labels = dict(cursor.fetchall())
        reused = _reused(cursor)
        cursor.execute(look_sql.DONE, [drains])
    _feeds_keep(fed, labels)
    found = []
    for row in fed:
        if row.source is None or row.path_id not in names:
            continue
        ids, example = reused.get((row.path_id, row.source), (0, ""))
        found.append(
            reuse_finding(
                row.path_id,
                names[row.path_id],
                source=row.source,
                reused=ids,
                n=row.n,
                example=example,
            )
        )
    return [finding for finding in found if finding is not None]


def _reused(cursor: Any) -> dict[tuple[int, str], tuple[int, str]]:
    """Return by path and source how many ids another task had too, and one of them.

    It looks ten minutes around the tasks, less where that would read too many.
    """
    cursor.execute(look_sql.SPAN)
    n, first, last = cursor.fetchone()
    if not n:
        return {}
    # Late reports may reach days back: only the newest hour of a look is searched.
    first = max(first, last - timedelta(hours=1))
    rate = n / max(1.0, (last - first).total_seconds())
    around = timedelta(seconds=min(REUSE_SPAN_S, REUSE_READS / rate))
    cursor.execute(look_sql.REUSED, [first - around, last + around])
    return {(row[0], row[1]): (row[2], row[3]) for row in cursor.fetchall()}


def _feeds_keep(fed: Iterable[_Fed], labels: Mapping[int, datetime]) -> None:
    rows = {(row.path_id, "" if row.source is None else row.source): row for row in fed}
    paths = {path_id for path_id, _ in rows} | set(labels)
    held = {
        (feed.path_id, feed.source): feed
        for feed in Feed.objects.select_for_update().filter(path__in=paths).order_by("pk")
    }
    fresh, changed = [], []
    for key, row in rows.items():
        feed = held.get(key)
        if feed is None:
            feed = Feed(
                path_id=key[0],
                source=key[1],
                first_at=row.first_at,
                newest_at=row.newest_at,
            )
            fresh.append(feed)
        else:
            changed.append(feed)
            gap_s = (row.newest_at - feed.newest_at).total_seconds()
            if gap_s > 0:
                feed.gap_s, feed.newest_at = smoothed(feed.gap_s, gap_s), row.newest_at
        feed.n += row.n
        feed.n_unlabelled += row.n
        feed.lag_n, feed.ahead_n = row.n, row.ahead
        feed.lag_low_s, feed.lag_p50_s, feed.lag_p95_s = row.low, row.middle, row.high
        held[key] = feed
    for path_id, label_at in labels.items():
        whole = held.get((path_id, ""))
        if whole is None or (whole.label_at is not None and whole.label_at >= label_at):
            continue
        if whole.label_at is not None:
            gap_s = (label_at - whole.label_at).total_seconds()
            whole.label_gap_s = smoothed(whole.label_gap_s, gap_s)
        whole.label_at, whole.n_unlabelled = label_at, 0
        if whole not in fresh and whole not in changed:
            changed.append(whole)
    Feed.objects.bulk_create(fresh)
    Feed.objects.bulk_update(changed, _FEED_FIELDS)


_FEED_FIELDS: Final = [
    field.name
    for field in Feed._meta.concrete_fields
    if field.name not in {"id", "path", "source", "first_at"}
]


def _states(watched: Collection[Watched], *, now: datetime) -> list[Finding]:
    """Return what is wrong as things stand, with feeds and with planned shares."""
    feeds: dict[int, list[FeedState]] = {path.path_id: [] for path in watched}
    for feed in Feed.objects.filter(path__in=feeds):
        feeds[feed.path_id].append(feed_state(feed))
    found = [
        finding
        for path in watched
        for finding in feed_findings(
            path.path_id,
            path.name,
            feeds[path.path_id],
            reads_labels=path.reads_labels,
            now=now,
        )
    ]
    epochs = AssignmentEpoch.objects.filter(ended_at=None, path__in=feeds)
    for epoch in epochs.select_related("segment").order_by("pk"):
        n = epoch.n_candidate + epoch.n_stable
        seen = assignment(epoch.n_candidate, n, float(epoch.share))
        if seen is None:
            continue
        log_e = log_e_value(epoch.n_candidate, n, float(epoch.share))
        if log_e > epoch.peak_log_e:
            epoch.peak_log_e = log_e
            epoch.save(update_fields=["peak_log_e"])
        mismatch = mismatch_finding(
            epoch.path_id,
            segment_id=epoch.segment_id,
            segment=epoch.segment.name,
            seen=seen,
            peak_log_e=epoch.peak_log_e,
        )
        if mismatch is not None:
            found.append(mismatch)
    return found


def feed_state(feed: Feed) -> FeedState:
    return FeedState(
        source=feed.source,
        newest_at=feed.newest_at,
        gap_s=feed.gap_s,
        label_at=feed.label_at,
        label_gap_s=feed.label_gap_s,
        n_unlabelled=feed.n_unlabelled,
        lag_n=feed.lag_n,
        lag_low_s=feed.lag_low_s,
        lag_p50_s=feed.lag_p50_s,
        ahead_n=feed.ahead_n,
    )


def problem_open(finding: Finding, *, workflow_id: int, now: datetime) -> None:
    """Open a problem of a whole rollout, or renew the one that is open already.

    For what happens: it is over when it was not renewed for QUIET.
    """
    Problem.objects.bulk_create(
        [_problem(finding, workflow_id, finding.rollout, now)], ignore_conflicts=True
    )
    Problem.objects.filter(
        kind=finding.kind,
        rollout=finding.rollout,
        path=None,
        source=finding.source,
        ended_at=None,
    ).update(sentence=finding.sentence, seen_at=now)


def _problems_keep(
    findings: Iterable[Finding], *, watched: Mapping[int, Watched], now: datetime
) -> int:
    """Open, renew and end problems; return how many were opened."""
    rollouts = {path.rollout: path.workflow_id for path in watched.values()}
    seen: dict[tuple[str, str, int | None, int | None, str], Finding] = {}
    for finding in findings:
        path = None if finding.path_id is None else watched.get(finding.path_id)
        rollout = finding.rollout if path is None else path.rollout
        if rollout not in rollouts:
            continue
        key = (finding.kind, rollout, finding.path_id, finding.segment_id, finding.source)
        before = seen.get(key)
        count = finding.count + (before.count if before else 0)
        seen[key] = replace(finding, count=count)
    for problem in Problem.objects.select_for_update().filter(ended_at=None).order_by("pk"):
        found = seen.pop(
            (
                problem.kind,
                problem.rollout,
                problem.path_id,
                problem.segment_id,
                problem.source,
            ),
            None,
        )
        if found is not None:
            problem.sentence, problem.seen_at = found.sentence, now
            problem.count += found.count
            problem.example = found.example or problem.example
            problem.save(update_fields=["sentence", "seen_at", "count", "example"])
        elif (
            problem.rollout not in rollouts
            or (problem.path_id is not None and problem.path_id not in watched)
            or problem.kind not in HAPPENING
            or now - problem.seen_at >= QUIET
        ):
            problem.ended_at = now
            problem.save(update_fields=["ended_at"])
    Problem.objects.bulk_create(
        _problem(finding, rollouts[key[1]], key[1], now) for key, finding in seen.items()
    )
    return len(seen)


def _problem(finding: Finding, workflow_id: int, rollout: str, now: datetime) -> Problem:
    return Problem(
        kind=finding.kind,
        workflow_id=workflow_id,
        rollout=rollout,
        path_id=finding.path_id,
        segment_id=finding.segment_id,
        source=finding.source,
        sentence=finding.sentence,
        example=finding.example,
        count=finding.count,
        since=now,
        seen_at=now,
    )
