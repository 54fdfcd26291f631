"""The ledger as evidence: what each guard's window holds, read once for all guards."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE
from signals.buckets.measures import Measures, total
from signals.buckets.selectors import (
    NewestArrival,
    Scope,
    Span,
    newest_arrivals,
    span_measures,
)
from signals.catalogue import signal_of
from signals.guards.decide import LEAST_SILENCE_S, Evidence
from signals.guards.models import Compare, Guard, Verdict
from signals.stats.estimate import Estimate, estimate, largest

# How far before the last look a silent scope is searched for newer arrivals.
_LOOKBACK: Final = timedelta(seconds=600)
_TICK: Final = timedelta(microseconds=1)


def verdict_of(guard: Guard) -> Verdict | None:
    """Return the stored verdict; select it with the guard."""
    return getattr(guard, "verdict", None)


def started_at(guard: Guard) -> datetime:
    """Return when a guard's evidence starts: earlier arrivals do not count."""
    return guard.evidence_from or guard.created_at


def evidence_of(guards: list[Guard], *, now: datetime) -> list[tuple[Guard, Evidence]]:
    """Read the ledger once for all guards: newest arrivals first, then the windows they end."""
    searched: dict[int, datetime] = {}
    for guard in guards:
        after = _search_after(guard)
        searched[guard.path_id] = min(after, searched.get(guard.path_id, after))
    arrivals = newest_arrivals(
        list(searched.items()), fields=[signal_of(guard.signal).n_of for guard in guards]
    )
    plans = [_Window.of(guard, arrivals, now=now) for guard in guards]
    drawn: set[Span] = set()
    wanted: list[Span] = []
    fields: set[str] = set()
    for guard, plan in zip(guards, plans, strict=True):
        signal = signal_of(guard.signal)
        fields |= signal.fields
        spans = [span for span in (plan.window, plan.recent) if span is not None]
        wanted += spans
        # A cap on a quantile reads the exact greatest value, which stands beside the histogram.
        if signal.reads_histogram and (
            guard.compare != Compare.HARD_CAP or signal.source != "quantile"
        ):
            drawn.update(spans)
    compared = any(guard.compare == Compare.STABLE for guard in guards)
    found = span_measures(
        wanted,
        histograms_of=drawn,
        fields=fields,
        arms=[ARM_CANDIDATE, ARM_STABLE] if compared else [ARM_CANDIDATE],
    )
    return [(guard, plan.evidence(guard, found)) for guard, plan in zip(guards, plans, strict=True)]


def _search_after(guard: Guard) -> datetime:
    """Return the time after which newer arrivals can lie, so that a look reads little."""
    start, held = started_at(guard), verdict_of(guard)
    if held is None:
        return start
    known = held.data_at - _TICK if held.data_at is not None else start
    return max(known, held.evaluated_at - _LOOKBACK, start)


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
        n_of = signal_of(guard.signal).n_of
        mine = [
            newest
            for (path_id, scope), newest in arrivals.items()
            if path_id == guard.path_id and _in_scope(scope, guard, arm=ARM_CANDIDATE)
        ]
        times = [at for newest in mine if (at := newest.by_field.get(n_of)) is not None]
        before = held.data_at if held is not None else None
        if before is not None and before > start:
            times.append(before)
        times = [at for at in times if at > start]
        data_at = max(times, default=None)
        end = max([*times, *(newest.any_at for newest in mine)], default=None)
        if end is None or end <= start:
            return cls(start, None, None, None)
        since = max(end - length, start)
        if guard.compare == Compare.HARD_CAP and before is not None:
            # No run slips through between two looks, however short the window is.
            since = max(min(since, before), start)
        recent = None
        silent = data_at is not None and (now - data_at).total_seconds() > LEAST_SILENCE_S
        if data_at is not None and silent and data_at != end:
            recent = Span(guard.path_id, max(data_at - length, start), data_at)
        return cls(start, data_at, Span(guard.path_id, since, end), recent)

    def evidence(self, guard: Guard, found: Mapping[Span, Mapping[Scope, Measures]]) -> Evidence:
        if self.window is None:
            return Evidence(started_at=self.started_at, since=self.started_at)
        scopes = found[self.window]
        segments = {s.segment_id for s in scopes if _in_scope(s, guard, arm=ARM_CANDIDATE)}
        candidate = _total(scopes, guard, arm=ARM_CANDIDATE)
        estimated = self._estimate(guard, candidate)
        n_of = signal_of(guard.signal).n_of
        recent = candidate
        if self.recent is not None:
            recent = _total(found[self.recent], guard, arm=ARM_CANDIDATE)
        stable = None
        if guard.compare == Compare.STABLE:
            # Only where the candidate ran too: other segments are other people's tasks.
            beside = {scope: m for scope, m in scopes.items() if scope.segment_id in segments}
            stable = self._estimate(guard, _total(beside, guard, arm=ARM_STABLE))
        cap = None
        if guard.compare == Compare.HARD_CAP:
            cap = largest(signal_of(guard.signal), candidate)
        return Evidence(
            started_at=self.started_at,
            since=self.window.since,
            data_at=self.data_at,
            recent_n=getattr(recent, n_of),
            candidate=estimated,
            stable=stable,
            largest=cap,
        )

    def _estimate(self, guard: Guard, measures: Measures) -> Estimate | None:
        assert self.window is not None
        slow_ms = guard.path.limits.get("slow_path_ms")
        span_s = (self.window.until - self.window.since).total_seconds()
        return estimate(
            signal_of(guard.signal),
            measures,
            span_s=span_s,
            slow_ms=None if slow_ms is None else float(slow_ms),
        )


def _in_scope(scope: Scope, guard: Guard, *, arm: int) -> bool:
    if scope.arm != arm or (guard.segment_id is not None and scope.segment_id != guard.segment_id):
        return False
    # The arm outlives a rollout: what an earlier candidate did is not this one's.
    return arm != ARM_CANDIDATE or scope.release_id == guard.candidate_id


def _total(scopes: Mapping[Scope, Measures], guard: Guard, *, arm: int) -> Measures:
    return total(m for scope, m in scopes.items() if _in_scope(scope, guard, arm=arm))
