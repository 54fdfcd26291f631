"""The ledger as evidence: what each guard's window holds, read once for all guards."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from rollout_console.catalog.models import Sensitivity
from signals.buckets.beside import Backlog, open_reviews, span_failures
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE
from signals.buckets.measures import Measures, total
from signals.buckets.scopes import Scope, Span
from signals.buckets.selectors import NewestArrival, newest_arrivals, span_measures
from signals.catalogue import STATES, Signal, signal_of
from signals.guards.decide import LEAST_SILENCE_S
from signals.guards.models import Compare, Guard, GuardKind, Verdict
from signals.guards.pace import in_reach
from signals.guards.words import Evidence
from signals.health.rules import Distrust, distrust_of
from signals.health.selectors import assignments_now, distrusts, worst
from signals.outside.selectors import OutsideFact
from signals.stats.assignment import Assignment
from signals.stats.estimate import Estimate, estimate, largest, repeats, reported

# How far before the last look a silent scope is searched for newer arrivals.
_LOOKBACK: Final = timedelta(seconds=600)
CRITICAL: Final = "critical_failures"
_TICK: Final = timedelta(microseconds=1)


def verdict_of(guard: Guard) -> Verdict | None:
    """Return the stored verdict; select it with the guard."""
    return getattr(guard, "verdict", None)


def signal_of_guard(guard: Guard) -> Signal:
    """Return the signal that a guard watches; select `definition` with it."""
    return signal_of(guard.signal) if guard.definition is None else guard.definition.signal


def started_at(guard: Guard) -> datetime:
    """Return when a guard's evidence starts: earlier arrivals do not count."""
    return guard.evidence_from or guard.created_at


def is_cap(guard: Guard) -> bool:
    """Whether a single value decides at once, as one critical failure does on a sensitive path."""
    return guard.compare == Compare.HARD_CAP or is_critical(guard)


def is_critical(guard: Guard) -> bool:
    """Whether a guard watches critical failures where none is allowed."""
    sensitive = guard.path.sensitivity == Sensitivity.SENSITIVE
    return guard.signal == CRITICAL and sensitive


def limit_of(guard: Guard) -> float | None:
    """Return the limit that holds, whatever a plan says of critical failures."""
    return 0.0 if is_critical(guard) else guard.limit


def evidence_of(
    guards: list[Guard], *, outside: Sequence[OutsideFact], now: datetime
) -> list[tuple[Guard, Evidence]]:
    """Read the ledger once for all guards: newest arrivals first, then the windows they end.

    `outside` is what other systems say of their paths.
    """
    searched: dict[int, datetime] = {}
    for guard in guards:
        after = _search_after(guard)
        searched[guard.path_id] = min(after, searched.get(guard.path_id, after))
    signals = [signal_of_guard(guard) for guard in guards]
    arrivals = newest_arrivals(
        list(searched.items()),
        fields=sorted({field for signal in signals for field in signal.arrival_fields}),
        own=signals,
    )
    plans = [_Window.of(guard, arrivals, now=now) for guard in guards]
    drawn: set[Span] = set()
    wanted: list[Span] = []
    fields: set[str] = set()
    for guard, plan in zip(guards, plans, strict=True):
        signal = signal_of_guard(guard)
        fields |= signal.fields
        spans = [span for span in (plan.window, plan.recent) if span is not None]
        wanted += spans
        # A cap on a quantile reads the exact greatest value, which stands beside the histogram.
        if signal.reads_histogram and (not is_cap(guard) or signal.source != "quantile"):
            drawn.update(spans)
    compared = any(guard.compare == Compare.STABLE for guard in guards)
    arms = [ARM_CANDIDATE, ARM_STABLE] if compared else [ARM_CANDIDATE]
    repeated = [
        plan.window
        for signal, plan in zip(signals, plans, strict=True)
        if signal.source == "repeats" and plan.window is not None
    ]
    reviewed = {
        (guard.path_id, _asked_after(guard))
        for guard, signal in zip(guards, signals, strict=True)
        if signal.source in STATES
    }
    paths = {guard.path_id for guard in guards}
    compared_with_plan = any(signal.source == "assignment" for signal in signals)
    read = _Read(
        measures=span_measures(
            wanted,
            normal_only=all(signal.reach == "normal" for signal in signals),
            histograms_of=drawn,
            fields=fields,
            arms=arms,
            own=signals,
        ),
        failures=span_failures(repeated, arms=arms) if repeated else {},
        reviews=open_reviews(reviewed),
        assignments=assignments_now(paths) if compared_with_plan else {},
        now=now,
    )
    distrusted = distrusts(paths)
    return [
        (
            guard,
            replace(
                plan.evidence(guard, read),
                distrusted=_distrusted(guard, distrusted),
                outside=_outside(guard, outside),
                marked=_marked(guard, outside),
            ),
        )
        for guard, plan in zip(guards, plans, strict=True)
    ]


def _outside(guard: Guard, facts: Iterable[OutsideFact]) -> str:
    """Return what another system's alert says that trips this trigger, "" for nothing."""
    if guard.kind != GuardKind.TRIGGER:
        return ""
    held = verdict_of(guard)
    looked_at = None if held is None else held.evaluated_at
    for fact in facts:
        if fact.workflow_id == guard.workflow_id and fact.trips(
            guard.slug, since=started_at(guard), looked_at=looked_at
        ):
            return fact.sentence
    return ""


def _marked(guard: Guard, facts: Iterable[OutsideFact]) -> str:
    """Return what another system says of this criterion's path now, "" for nothing."""
    if guard.kind != GuardKind.CRITERION:
        return ""
    firing = (fact for fact in facts if fact.path_id == guard.path_id and fact.ended_at is None)
    return next((fact.sentence for fact in firing), "")


def _distrusted(guard: Guard, distrusted: Iterable[Distrust]) -> str:
    return distrust_of(
        signal_of_guard(guard),
        path_id=guard.path_id,
        segment_id=guard.segment_id,
        distrusts=distrusted,
    )


def _asked_after(guard: Guard) -> datetime | None:
    """Return the time after which a review was asked for that counts, None where all do.

    A trigger alerts on new evidence only: what waited when its last alert was resolved would
    otherwise open the next one at once. A criterion is about all that waits.
    """
    return started_at(guard) if guard.kind == GuardKind.TRIGGER else None


def _search_after(guard: Guard) -> datetime:
    """Return the time after which newer arrivals can lie, so that a look reads little."""
    start, held = started_at(guard), verdict_of(guard)
    if held is None:
        return start
    known = held.data_at - _TICK if held.data_at is not None else start
    return max(known, held.evaluated_at - _LOOKBACK, start)


@dataclass(frozen=True, slots=True)
class _Read:
    """Everything that a look read, for all guards."""

    measures: Mapping[Span, Mapping[Scope, Measures]]
    failures: Mapping[Span, Mapping[Scope, Counter[str]]]
    reviews: Mapping[tuple[int, datetime | None], Mapping[Scope, Backlog]]
    assignments: Mapping[tuple[int, int], Assignment]
    now: datetime


@dataclass(frozen=True, slots=True)
class _Window:
    """What to read for a guard: its window, and the one before it went silent if that differs."""

    started_at: datetime
    data_at: datetime | None
    window: Span | None
    recent: Span | None

    @classmethod
    def of(
        cls,
        guard: Guard,
        arrivals: Mapping[tuple[int, Scope], NewestArrival],
        *,
        now: datetime,
    ) -> "_Window":
        start, held = started_at(guard), verdict_of(guard)
        length = timedelta(seconds=guard.window_s)
        signal = signal_of_guard(guard)
        mine = [
            newest
            for (path_id, scope), newest in arrivals.items()
            if path_id == guard.path_id and in_scope(scope, guard, arm=ARM_CANDIDATE)
        ]
        times = [
            at
            for newest in mine
            for field in signal.arrival_fields
            if (at := newest.by_field.get(field)) is not None
        ]
        before = held.data_at if held is not None else None
        if before is not None and before > start:
            times.append(before)
        times = [at for at in times if at > start]
        data_at = max(times, default=None)
        # A label moves on what it tells of, and leaves the others' numbers where tasks left them.
        ends = [newest.any_at if signal.reads_labels else newest.run_at for newest in mine]
        end = max([*times, *(at for at in ends if at is not None)], default=None)
        if end is None or end <= start:
            return cls(start, None, None, None)
        since = max(end - length, start)
        if is_cap(guard) and before is not None:
            # No run slips through between two looks, however short the window is.
            since = max(min(since, before), start)
        recent = None
        silent = data_at is not None and (now - data_at).total_seconds() > LEAST_SILENCE_S
        if data_at is not None and silent and data_at != end:
            recent = Span(guard.path_id, max(data_at - length, start), data_at)
        return cls(start, data_at, Span(guard.path_id, since, end), recent)

    def evidence(self, guard: Guard, read: _Read) -> Evidence:
        signal = signal_of_guard(guard)
        waiting = None
        if signal.source in STATES:
            waiting = _waiting(guard, read)
        if self.window is None:
            return Evidence(started_at=self.started_at, since=self.started_at, candidate=waiting)
        scopes = read.measures[self.window]
        segments = {s.segment_id for s in scopes if in_scope(s, guard, arm=ARM_CANDIDATE)}
        candidate = _total(scopes, guard, arm=ARM_CANDIDATE)
        estimated, what = self._estimate(guard, candidate), ""
        if signal.source == "repeats":
            categories = _failures(read.failures[self.window], guard, arm=ARM_CANDIDATE)
            estimated = repeats(categories, n=candidate.n)
            # Of equally common ones always the same is named.
            what = max(sorted(categories), key=categories.__getitem__, default="")
        elif waiting is not None:
            estimated = replace(waiting, n=candidate.n)
        elif signal.source == "assignment":
            estimated = _assigned(guard, read.assignments)
        recent = candidate
        if self.recent is not None:
            recent = _total(read.measures[self.recent], guard, arm=ARM_CANDIDATE)
        stable = None
        if guard.compare == Compare.STABLE:
            # Only where the candidate ran too: other segments are other people's tasks.
            beside = {scope: m for scope, m in scopes.items() if scope.segment_id in segments}
            theirs = _total(beside, guard, arm=ARM_STABLE)
            stable = self._estimate(guard, theirs)
            if signal.source == "repeats":
                failed = {
                    scope: found
                    for scope, found in read.failures[self.window].items()
                    if scope.segment_id in segments
                }
                stable = repeats(_failures(failed, guard, arm=ARM_STABLE), n=theirs.n)
        return Evidence(
            started_at=self.started_at,
            since=self.window.since,
            data_at=self.data_at,
            recent_n=reported(signal, recent),
            candidate=estimated,
            stable=stable,
            largest=largest(signal, candidate) if is_cap(guard) else None,
            what=what,
        )

    def _estimate(self, guard: Guard, measures: Measures) -> Estimate | None:
        assert self.window is not None
        slow_ms = guard.path.limits.get("slow_path_ms")
        span_s = (self.window.until - self.window.since).total_seconds()
        return estimate(
            signal_of_guard(guard),
            measures,
            span_s=span_s,
            slow_ms=None if slow_ms is None else float(slow_ms),
            always=True,
        )


def in_scope(scope: Scope, guard: Guard, *, arm: int) -> bool:
    """Whether tasks of this scope are what a guard is about, on this arm."""
    if scope.arm != arm or (guard.segment_id is not None and scope.segment_id != guard.segment_id):
        return False
    reach = signal_of_guard(guard).reach
    if not in_reach(moved=scope.moved, reach=reach):
        return False
    # The arm outlives a rollout: what an earlier candidate did is not this one's.
    if arm != ARM_CANDIDATE or scope.release_id == guard.candidate_id:
        return True
    # A fallback may serve stable's release, or none, to the candidate's people.
    return scope.moved and reach in {"arm", "fallback"}


def _total(scopes: Mapping[Scope, Measures], guard: Guard, *, arm: int) -> Measures:
    return total(m for scope, m in scopes.items() if in_scope(scope, guard, arm=arm))


def _failures(scopes: Mapping[Scope, Counter[str]], guard: Guard, *, arm: int) -> Counter[str]:
    categories: Counter[str] = Counter()
    for scope, found in scopes.items():
        if in_scope(scope, guard, arm=arm):
            categories.update(found)
    return categories


def _waiting(guard: Guard, read: _Read) -> Estimate:
    """Return what waits for reviewers now, on the candidate's arm."""
    found = Backlog()
    for scope, backlog in read.reviews[guard.path_id, _asked_after(guard)].items():
        if in_scope(scope, guard, arm=ARM_CANDIDATE):
            found = found + backlog
    value = found.value(signal_of_guard(guard).source, at=read.now)
    return Estimate(value, value, value, 0)


def _assigned(guard: Guard, found: Mapping[tuple[int, int], Assignment]) -> Estimate | None:
    """Return how the planned share compares, in the guard's segment or the worst of its path."""
    seen = worst(
        each
        for (path_id, segment_id), each in found.items()
        if path_id == guard.path_id and guard.segment_id in (None, segment_id)
    )
    return None if seen is None else Estimate(seen.value, seen.low, seen.high, seen.n)
