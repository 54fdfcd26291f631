"""Guards and their verdicts, as rows for pages and the API."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from rollout_console.catalog.models import WorkflowPath
from signals.buckets.keys import ARM_CANDIDATE
from signals.buckets.scopes import Span
from signals.buckets.selectors import span_measures
from signals.catalogue import shown_at
from signals.format import limit_text, range_text, value_text
from signals.guards.decide import (
    CellState,
    cell_state,
    least_n,
    runs_needed,
    used_share,
)
from signals.guards.evidence import (
    in_scope,
    limit_of,
    signal_of_guard,
    started_at,
    verdict_of,
)
from signals.guards.models import Compare, Guard, GuardKind, Verdict
from signals.guards.pace import Pace
from signals.guards.words import Word
from signals.stats.estimate import reported

# A verdict that nobody renewed for so long says nothing of now: the watch has stopped.
_UNWATCHED_S: Final = {GuardKind.TRIGGER.value: 60.0, GuardKind.CRITERION.value: 660.0}
# Today's traffic: what came in so long, told as tasks an hour.
RATE_WINDOW: Final = timedelta(hours=1)
_HOUR_S: Final = 3600.0
_LEAST_RATE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """A guard and what it says. Numbers in the signal's unit; None where nothing is known.

    `pace` says about how much more an open question needs, and how long that takes at today's
    traffic. `age_s` is the age of the newest task that reported the signal at the time of reading.
    `evidence` holds the figures the verdict stands on.
    """

    guard: str
    rollout: str
    kind: str
    path: str
    segment: str | None
    signal: str
    title: str
    compare: str
    severity: str
    response: dict[str, Any]
    armed: bool
    verdict: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    better: str
    reference: float | None
    value_text: str
    limit_text: str
    n: int
    min_n: int
    window_s: int
    age_s: float | None
    data_at: datetime | None
    since: datetime | None
    evidence: dict[str, Any]
    pace: Pace | None
    sentence: str
    ledger_block: int

    @property
    def needs_runs(self) -> int | None:
        return None if self.pace is None else self.pace.runs

    @property
    def needs(self) -> str:
        """What an open question waits for, as a sentence; empty where none is open."""
        if self.pace is not None:
            return f"Needs {self.pace.sentence}."
        if self.verdict == Word.UNDECIDED:
            return "How many more tasks that takes cannot be told yet."
        return ""


@dataclass(frozen=True, slots=True)
class SignalCell:
    """A watched signal on a path against its strictest limit.

    The `used` shares are of the limit: 1.0 lies at it. `low_used` is always the smaller end.
    """

    signal: str
    path_slug: str
    path_name: str
    name: str
    title: str
    value: float | None
    unit: str
    low: float | None
    high: float | None
    n: int
    window_s: int
    age_s: float | None
    data_at: datetime | None
    limit: float | None
    state: CellState
    used_share: float | None
    low_used: float | None
    high_used: float | None
    value_text: str
    range_text: str
    limit_text: str


def verdict_rows(rollout_slugs: Iterable[str], now: datetime) -> list[VerdictRow]:
    """Return every current guard of these rollouts, criteria first, in the plan's order."""
    return verdicts_of(guards_now(rollout_slugs), now)


def verdicts_of(guards: Sequence[Guard], now: datetime) -> list[VerdictRow]:
    """Return these guards, as read by `guards_now`, with what they say."""
    needs = {guard.pk: runs for guard in guards if (runs := runs_open(guard)) is not None}
    rates = _rates([guard for guard in guards if guard.pk in needs], now)
    rows = []
    for guard in guards:
        runs, pace = needs.get(guard.pk), None
        if runs is not None:
            pace = Pace(runs, rates.get(guard.pk), signal_of_guard(guard).counted)
        rows.append(_verdict_row(guard, pace, now))
    return rows


def limit_drawn(path: WorkflowPath, signal: str) -> float | None:
    """Return the limit that a chart draws: that of the newest guard on it, else the path's own."""
    guard = (
        Guard.objects.filter(
            path=path, signal=signal, retired_at=None, compare=Compare.LIMIT, limit__isnull=False
        )
        .order_by("-armed", "-kind", "-pk")
        .first()
    )
    if guard is not None:
        return guard.limit
    own = path.limits.get(signal)
    return None if own is None else float(own)


def signal_cells(rollout_slugs: Iterable[str], now: datetime) -> dict[str, list[SignalCell]]:
    """Return by rollout one cell per path and watched signal, in the catalogue's order.

    A signal with several guards is shown as its trigger sees it, which looks at the latest
    minutes; among equals the strictest limit counts. A rollout without guards has no entry.
    """
    return cells_of(guards_now(rollout_slugs), now)


def cells_of(guards: Sequence[Guard], now: datetime) -> dict[str, list[SignalCell]]:
    """Return the `signal_cells` of these guards, as read by `guards_now`."""
    best: dict[tuple[str, int, str], Guard] = {}
    for guard in guards:
        key = (guard.rollout, guard.path_id, guard.signal)
        held = best.get(key)
        if held is None or _shown_before(guard, held):
            best[key] = guard
    cells: dict[str, list[SignalCell]] = {}
    for guard in sorted(best.values(), key=lambda g: (g.path_id, shown_at(g.signal), g.signal)):
        cells.setdefault(guard.rollout, []).append(_cell(guard, now))
    return cells


def guard_is_tripped(*, guard_id: int) -> bool:
    """Whether an armed guard says `tripped` now."""
    return Verdict.objects.filter(
        guard=guard_id, guard__armed=True, verdict=Word.TRIPPED.value
    ).exists()


def guard_recovered(*, guard_id: int) -> bool:
    """Whether an armed trigger has evidence now that does not trip it; blind is no recovery."""
    return Verdict.objects.filter(
        guard=guard_id, guard__armed=True, verdict__in=[Word.QUIET.value, Word.WATCHING.value]
    ).exists()


def triggers_blind(*, now: datetime, since: timedelta) -> list[tuple[Guard, datetime]]:
    """Return the armed triggers that have been blind for `since` and their window, with when from.

    A window without a task is blindness too, so a long one takes its time to say so.
    """
    found = Verdict.objects.filter(
        verdict=Word.BLIND.value,
        guard__armed=True,
        guard__retired_at=None,
        guard__kind=GuardKind.TRIGGER,
        since__lte=now - since,
    )
    return [
        (verdict.guard, verdict.since)
        for verdict in found.select_related("guard").order_by("guard")
        if verdict.since <= now - timedelta(seconds=verdict.guard.window_s)
    ]


def guards_now(rollout_slugs: Iterable[str]) -> list[Guard]:
    """Return the current guards of these rollouts with all that their rows are made of."""
    return list(
        Guard.objects.filter(rollout__in=list(rollout_slugs), retired_at=None)
        .select_related("path", "segment", "verdict", "definition")
        .order_by("rollout", "kind", "pk")
    )


def _verdict_row(guard: Guard, pace: Pace | None, now: datetime) -> VerdictRow:
    held, signal = verdict_of(guard), signal_of_guard(guard)
    value, low, high = (held.value, held.low, held.high) if held else (None, None, None)
    n = held.n if held else 0
    word, sentence = _said(guard, held)
    return VerdictRow(
        guard=guard.slug,
        rollout=guard.rollout,
        kind=guard.kind,
        path=guard.path.slug,
        segment=guard.segment.slug if guard.segment is not None else None,
        signal=guard.signal,
        title=signal.title,
        compare=guard.compare,
        severity=guard.severity,
        response=guard.response,
        armed=guard.armed,
        verdict=word,
        value=value,
        low=low,
        high=high,
        unit=signal.unit,
        better=signal.better,
        reference=limit_of(guard),
        value_text=value_text(signal, value),
        limit_text=limit_text(signal, limit_of(guard)),
        n=n,
        min_n=guard.min_n,
        window_s=guard.window_s,
        age_s=_age_s(held, now),
        data_at=held.data_at if held else None,
        since=held.since if held else None,
        evidence={
            "from": guard.evidence_from.isoformat() if guard.evidence_from else None,
            "newest": held.data_at.isoformat() if held and held.data_at else None,
            "evaluated_at": held.evaluated_at.isoformat() if held else None,
            "min_n": guard.min_n,
            "margin": guard.margin,
            **(held.evidence if held else {}),
        },
        pace=pace,
        sentence=sentence,
        ledger_block=held.ledger_block if held else 0,
    )


def _said(guard: Guard, held: Verdict | None) -> tuple[str, str]:
    if held is not None:
        return held.verdict, held.sentence
    open_word = Word.WATCHING if guard.kind == GuardKind.TRIGGER else Word.UNDECIDED
    if guard.armed:
        return open_word.value, "Not looked at yet."
    return open_word.value, "Starts to watch when the rollout goes live."


def runs_open(guard: Guard) -> int | None:
    """Return about how many more tasks an open question needs, None where none is open."""
    held, signal = verdict_of(guard), signal_of_guard(guard)
    if _said(guard, held)[0] not in {Word.UNDECIDED, Word.WATCHING}:
        return None
    is_criterion = guard.kind == GuardKind.CRITERION
    if held is not None and "needs_runs" in held.evidence:
        needs: int | None = held.evidence["needs_runs"]
        return needs if needs is not None or held.n >= guard.min_n else guard.min_n - held.n
    return runs_needed(
        limit=guard.limit if guard.compare == Compare.LIMIT else None,
        value=held.value if held else None,
        low=held.low if held else None,
        high=held.high if held else None,
        n=held.n if held else 0,
        min_n=least_n(signal, guard.min_n) if is_criterion else guard.min_n,
    )


def _rates(guards: Sequence[Guard], now: datetime) -> dict[int, float]:
    """Return how many tasks an hour count for each armed guard, in one query for them all.

    Of the last hour, or since its evidence starts where that is later.
    """
    armed = [guard for guard in guards if guard.armed]
    signals = {guard.pk: signal_of_guard(guard) for guard in armed}
    spans = {
        guard.pk: Span(guard.path_id, min(max(now - RATE_WINDOW, started_at(guard)), now), now)
        for guard in armed
    }
    found = span_measures(
        list(spans.values()),
        normal_only=False,
        histograms_of=(),
        fields={signals[guard.pk].n_of for guard in armed} - {""},
        arms=[ARM_CANDIDATE],
        own=signals.values(),
    )
    rates = {}
    for guard in armed:
        span = spans[guard.pk]
        n = sum(
            reported(signals[guard.pk], measures)
            for scope, measures in found[span].items()
            if in_scope(scope, guard, arm=ARM_CANDIDATE)
        )
        span_s = max(_LEAST_RATE_S, (span.until - span.since).total_seconds())
        rates[guard.pk] = n * _HOUR_S / span_s
    return rates


def _age_s(held: Verdict | None, now: datetime) -> float | None:
    if held is None or held.data_at is None:
        return None
    return max(0.0, (now - held.data_at).total_seconds())


def _shown_before(guard: Guard, other: Guard) -> bool:
    """Whether `guard` rather than `other` stands for their signal in a cell."""

    def rank(each: Guard) -> tuple[bool, bool, float]:
        higher = signal_of_guard(each).better == "higher"
        limit = each.limit if each.limit is not None else 0.0
        return (
            each.compare == Compare.HARD_CAP or each.limit is None,
            each.kind != GuardKind.TRIGGER,
            -limit if higher else limit,
        )

    return rank(guard) < rank(other)


def _cell(guard: Guard, now: datetime) -> SignalCell:
    held, signal = verdict_of(guard), signal_of_guard(guard)
    value, low, high = (held.value, held.low, held.high) if held else (None, None, None)
    n = held.n if held else 0
    limit = limit_of(guard) if guard.compare in {Compare.LIMIT, Compare.HARD_CAP} else None
    state = cell_state(
        word=_said(guard, held)[0],
        signal=signal,
        limit=limit,
        value=value,
        low=low,
        high=high,
        n=n,
        min_n=guard.min_n,
    )
    if held is not None and (now - held.evaluated_at).total_seconds() > _UNWATCHED_S[guard.kind]:
        state = "stale"
    ends = [used_share(signal, low, limit), used_share(signal, high, limit)]
    low_used, high_used = reversed(ends) if signal.better == "higher" else ends
    largest = guard.compare == Compare.HARD_CAP and signal.source in {"quantile", "mean"}
    extreme = "least" if signal.own and signal.better == "higher" else "largest"
    return SignalCell(
        signal=guard.signal,
        path_slug=guard.path.slug,
        path_name=guard.path.name,
        name=f"{signal.name}, {extreme}" if largest else signal.name,
        title=signal.title,
        value=value,
        unit=signal.unit,
        low=low,
        high=high,
        n=n,
        window_s=guard.window_s,
        age_s=_age_s(held, now),
        data_at=held.data_at if held else None,
        limit=limit,
        state=state,
        used_share=used_share(signal, value, limit),
        low_used=low_used,
        high_used=high_used,
        value_text=value_text(signal, value),
        range_text=range_text(signal, low, high),
        limit_text=limit_text(signal, limit),
    )
