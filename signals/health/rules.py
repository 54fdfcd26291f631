"""When a feed is no longer to be trusted, and the sentence that says so. Pure: no Django."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import log
from typing import Final

from signals.catalogue import Signal
from signals.format import span_text
from signals.stats.assignment import BUDGET, Assignment

# Silence is ten times the usual gap between reports, within these bounds; after a day the source
# has retired, and no longer makes anything blind.
GAPS_OF_SILENCE: Final = 10
LEAST_SILENCE_S: Final = 60.0
MOST_SILENCE_S: Final = 3600.0
RETIRED: Final = timedelta(days=1)
# Labels come in their own time: people work by day, and judges in batches.
LEAST_LABEL_SILENCE_S: Final = 900.0
MOST_LABEL_SILENCE_S: Final = 86_400.0
# So many tasks without a label say that none comes.
UNLABELLED_RUNS: Final = 50
# A clock that is ahead by more cannot be the network; a task told so late is no news to a trigger.
AHEAD_S: Final = 5.0
AHEAD_SHARE: Final = 0.05
LATE_S: Final = 3600.0
# Reused ids: so many in one look, and such a part of its tasks.
REUSED_LEAST: Final = 3
REUSED_SHARE: Final = 0.01
# What happens is over when it has not happened for this time; others when they are not so any
# more.
HAPPENING: Final = frozenset({"ids_reused", "watch_paused", "delivery_failing"})
QUIET: Final = timedelta(seconds=900)
# What the console alerts on itself for. The reports are as good as before, so no guard goes blind
# for it; where one is blind already, that is a reason of its own.
OF_THE_CONSOLE: Final = frozenset(
    {"guard_blind", "queue_behind", "watch_paused", "delivery_failing"}
)
# Nobody watched, where no round ended for so long; a guard is blind for long after this.
PAUSED_AFTER_S: Final = 60.0
BLIND_LONG: Final = timedelta(minutes=10)

_QUALITY: Final = frozenset({"quality_n", "score_n"})


@dataclass(frozen=True, slots=True)
class FeedState:
    """What is known of a feed; None for what never came."""

    source: str
    newest_at: datetime
    gap_s: float | None
    label_at: datetime | None
    label_gap_s: float | None
    n_unlabelled: int
    lag_n: int
    lag_low_s: float
    lag_p50_s: float
    ahead_n: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem seen at a look. `count` is how much of it came since the look before.

    One of a whole rollout has no path, and names the rollout.
    """

    kind: str
    path_id: int | None
    sentence: str
    segment_id: int | None = None
    source: str = ""
    example: str = ""
    count: int = 0
    rollout: str = ""


@dataclass(frozen=True, slots=True)
class Distrust:
    """An open problem, as far as guards need it."""

    kind: str
    path_id: int
    segment_id: int | None
    sentence: str


def smoothed(before: float | None, gap_s: float) -> float:
    """Return the usual gap after one more: recent ones count most."""
    return gap_s if before is None else 0.7 * before + 0.3 * gap_s


def feed_findings(
    path_id: int, path: str, feeds: Iterable[FeedState], *, reads_labels: bool, now: datetime
) -> list[Finding]:
    """Return what is wrong with the feeds of one path at `now`.

    Args:
        feeds: that of all sources ("") and each source's own.
        reads_labels: whether a guard of the path stands on quality labels.
    """
    by_source = {feed.source: feed for feed in feeds}
    whole = by_source.pop("", None)
    if whole is None:
        return []
    found = []
    silent = _silent(whole.newest_at, whole.gap_s, now)
    if silent:
        found.append(
            Finding(
                "path_silent",
                path_id,
                f"No task of “{path}” has come since {_clock(whole.newest_at)}, and"
                f" {_usual(whole.gap_s)} is usual.",
            )
        )
    if reads_labels and not silent and _unlabelled(whole, now):
        since = f"since {_clock(whole.label_at)}" if whole.label_at is not None else "at all"
        found.append(
            Finding(
                "labels_missing",
                path_id,
                f"No quality label of “{path}” has come {since}, while"
                f" {whole.n_unlabelled:,} tasks did.",
            )
        )
    for source, feed in sorted(by_source.items()):
        if not silent and _silent(feed.newest_at, feed.gap_s, now):
            found.append(
                Finding(
                    "source_silent",
                    path_id,
                    f"The source “{source}” has told nothing of “{path}” since"
                    f" {_clock(feed.newest_at)}, and {_usual(feed.gap_s)} is usual.",
                    source=source,
                )
            )
        if skew := _skew(feed):
            found.append(
                Finding(
                    "clock_skew",
                    path_id,
                    f"The source “{source}” {skew} of “{path}”.",
                    source=source,
                )
            )
    return found


def reuse_finding(
    path_id: int, path: str, *, source: str, reused: int, n: int, example: str
) -> Finding | None:
    """Return the problem of ids that came again with another time, None where they are too few.

    Args:
        reused: ids of this look that another task had within the time looked at.
        n: tasks of the look, from this source on this path.
    """
    if reused < max(REUSED_LEAST, REUSED_SHARE * n):
        return None
    return Finding(
        "ids_reused",
        path_id,
        f"The source “{source}” uses ids again: {reused:,} of its last {n:,} tasks of “{path}” had"
        " the id of another one, so tasks are counted twice.",
        source=source,
        example=example,
        count=reused,
    )


def mismatch_finding(
    path_id: int,
    *,
    segment_id: int,
    segment: str,
    seen: Assignment,
    peak_log_e: float,
) -> Finding | None:
    """Return the problem of a share that is not the planned one, None without an alarm."""
    if peak_log_e < log(1 / BUDGET):
        return None
    return Finding(
        "assignment_mismatch",
        path_id,
        f"{seen.observed * 100:.1f} % of the people of “{segment}” are on the candidate, where"
        f" {seen.planned * 100:.3g} % was planned (n {seen.n:,}): the arms do not hold the same"
        " people.",
        segment_id=segment_id,
        example=f"e-value {seen.e_value:.3g}",
    )


def blind_finding(
    path_id: int, path: str, *, rollout: str, blind: Iterable[tuple[str, datetime]]
) -> Finding | None:
    """Return the problem of guards (slug, blind since) that have been blind for BLIND_LONG."""
    found = sorted(blind, key=lambda each: each[1])
    if not found:
        return None
    names = ", ".join(slug for slug, _ in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    have = "A guard" if len(found) == 1 else f"{len(found)} guards"
    return Finding(
        "guard_blind",
        path_id,
        f"{have} of “{path}” cannot see: {names}{more} blind since {_clock(found[0][1])}. What it"
        " watches goes unwatched.",
        rollout=rollout,
        count=0,
    )


def queue_finding(*, rollout: str, age_s: float, limit_s: float) -> Finding | None:
    """Return the problem of reports that wait to be taken in for longer than `limit_s`."""
    if age_s <= limit_s:
        return None
    return Finding(
        "queue_behind",
        None,
        f"Reports wait {span_text(round(age_s))} to be taken in, and {span_text(round(limit_s))} is"
        " the limit: verdicts are about what was before.",
        rollout=rollout,
    )


def pause_finding(*, rollout: str, since: datetime, until: datetime) -> Finding:
    """Return the problem that nobody watched from `since` to `until`."""
    length = span_text(round((until - since).total_seconds()))
    return Finding(
        "watch_paused",
        None,
        f"Nobody watched from {_clock(since)} to {_clock(until)} ({length}): neither the workers"
        " nor the keeper looked, and no clock ran. What came in meanwhile is judged now.",
        rollout=rollout,
        count=1,
    )


def distrust_of(
    signal: Signal, *, path_id: int, segment_id: int | None, distrusts: Iterable[Distrust]
) -> str:
    """Return why a guard on `signal` is not to be believed, "" where nothing says so.

    A guard of the whole path reads every segment, so a problem of one is its too.
    """
    for distrust in distrusts:
        if distrust.path_id != path_id:
            continue
        if None not in (distrust.segment_id, segment_id) and distrust.segment_id != segment_id:
            continue
        if distrust.kind == signal.slug:
            # It is what the guard measures.
            continue
        if distrust.kind == "labels_missing" and _QUALITY.isdisjoint(signal.fields):
            continue
        return distrust.sentence
    return ""


def reads_quality(signal: Signal) -> bool:
    """Whether a signal stands on quality labels."""
    return not _QUALITY.isdisjoint(signal.fields)


def _silent(newest_at: datetime, gap_s: float | None, now: datetime) -> bool:
    silence = now - newest_at
    return timedelta(seconds=_allowed(gap_s)) < silence < RETIRED


def _allowed(gap_s: float | None) -> float:
    if gap_s is None:
        return MOST_SILENCE_S
    return min(max(GAPS_OF_SILENCE * gap_s, LEAST_SILENCE_S), MOST_SILENCE_S)


def _usual(gap_s: float | None) -> str:
    return f"one each {span_text(max(1, round(gap_s)))}" if gap_s else "more"


def _unlabelled(feed: FeedState, now: datetime) -> bool:
    if feed.n_unlabelled < UNLABELLED_RUNS:
        return False
    if feed.label_at is None or feed.label_gap_s is None:
        return feed.label_at is None
    allowed = min(
        max(GAPS_OF_SILENCE * feed.label_gap_s, LEAST_LABEL_SILENCE_S), MOST_LABEL_SILENCE_S
    )
    return (now - feed.label_at).total_seconds() > allowed


def _skew(feed: FeedState) -> str:
    if feed.lag_n == 0:
        return ""
    if feed.ahead_n >= max(1, AHEAD_SHARE * feed.lag_n):
        return (
            f"is ahead of our clock, by up to {span_text(round(-feed.lag_low_s))}, in"
            f" {feed.ahead_n:,} of its last {feed.lag_n:,} tasks"
        )
    if feed.lag_p50_s > LATE_S:
        return f"reports half of its tasks {span_text(round(feed.lag_p50_s))} late or later,"
    return ""


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S} UTC"
