"""Every signal of a workflow: what it is made of, and its newest value on each path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, who_can
from rollout_console.catalog.models import Workflow, WorkflowPath
from rollout_console.core.errors import NotFound
from rollout_console.web.selectors.shell import readable_workflows
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE, ARM_UNKNOWN
from signals.buckets.measures import Measures, total
from signals.buckets.scopes import Scope, Span
from signals.buckets.selectors import NewestArrival, newest_arrivals, span_measures
from signals.catalogue import RARE, STATES, Signal, shown_at
from signals.explain import fed_by, too_little
from signals.format import range_text, value_text
from signals.own.selectors import own_rows, signals_in
from signals.stats.estimate import estimate

WINDOW_S: Final = 3600
_EVERY_ARM: Final = (ARM_UNKNOWN, ARM_STABLE, ARM_CANDIDATE)


@dataclass(frozen=True, slots=True)
class PathValue:
    """A signal on a path over the last hour; `value` is empty where nobody reported it."""

    path: str
    name: str
    value: str
    range: str
    n: int
    counted: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class CatalogueRow:
    signal: Signal
    fed_by: str
    too_little: str
    version: int | None
    by: str
    values: list[PathValue]


@dataclass(frozen=True, slots=True)
class CatalogueView:
    """`own` stand apart, since they are a team's; `whose` says by path which runs are read."""

    workflow: Workflow
    workflows: list[Workflow]
    own: list[CatalogueRow]
    known: list[CatalogueRow]
    whose: dict[str, str]
    may: bool
    who: list[str]
    read_at: datetime


def catalogue_view(*, workflow: str, principal: Principal, now: datetime) -> CatalogueView:
    """Return the signals of a workflow, of the first by name unless one is asked for.

    Raises:
        NotFound: there is none that `principal` may read.
    """
    workflows = sorted(readable_workflows(principal).values(), key=lambda w: (w.name, w.slug))
    chosen = next((w for w in workflows if w.slug == workflow), None)
    if chosen is None and (workflow or not workflows):
        raise NotFound(
            f"There is no workflow “{workflow}” in yours."
            if workflow
            else "No workflow of yours reports yet, so there is no signal either."
        )
    found = chosen or workflows[0]
    own = own_rows([found.pk])[found.pk]
    signals = sorted(signals_in(found.pk).values(), key=lambda each: shown_at(each.slug))
    paths = list(found.paths.order_by("slug"))
    values = _values(signals, paths, now=now)
    rows = [
        CatalogueRow(
            signal=signal,
            fed_by=fed_by(signal, own[signal.slug].definition if signal.slug in own else None),
            too_little=too_little(signal),
            version=own[signal.slug].version if signal.slug in own else None,
            by=own[signal.slug].by if signal.slug in own else "",
            values=values[signal.slug],
        )
        for signal in signals
    ]
    may = principal.may(Verb.PLAN_EDIT, found.pk)
    return CatalogueView(
        workflow=found,
        workflows=workflows,
        own=[row for row in rows if row.signal.own],
        known=[row for row in rows if not row.signal.own],
        whose={
            path.name: "the candidate's" if path.candidate_id else "everybody's" for path in paths
        },
        may=may,
        who=[] if may else who_can(Verb.PLAN_EDIT, found),
        read_at=now,
    )


def _values(
    signals: Sequence[Signal], paths: Sequence[WorkflowPath], *, now: datetime
) -> dict[str, list[PathValue]]:
    since = now - timedelta(seconds=WINDOW_S)
    spans = {path.pk: Span(path.pk, since, now) for path in paths}
    read = [
        signal
        for signal in signals
        if signal.collected and signal.source not in {*STATES, "age", "repeats"}
    ]
    measures = span_measures(
        list(spans.values()),
        normal_only=False,
        fields={field for signal in read for field in signal.fields},
        own=read,
    )
    newest = newest_arrivals(
        [(path.pk, since) for path in paths],
        fields=sorted({field for signal in read for field in signal.arrival_fields}),
        own=read,
        arms=_EVERY_ARM,
    )
    return {
        signal.slug: [
            _value(signal, path, measures[spans[path.pk]], newest)
            for path in paths
            if signal in read
        ]
        for signal in signals
    }


def _value(
    signal: Signal,
    path: WorkflowPath,
    scopes: Mapping[Scope, Measures],
    newest: Mapping[tuple[int, Scope], NewestArrival],
) -> PathValue:
    mine = {scope for scope in scopes if _counts(scope, path, signal)}
    slow = path.limits.get("slow_path_ms")
    seen = estimate(
        signal,
        total(scopes[scope] for scope in mine),
        span_s=WINDOW_S,
        slow_ms=None if slow is None else float(slow),
    )
    times = [
        at
        for (path_id, scope), found in newest.items()
        if path_id == path.pk and _counts(scope, path, signal)
        for field in signal.arrival_fields
        if (at := found.by_field.get(field)) is not None
    ]
    return PathValue(
        path=path.slug,
        name=path.name,
        value="" if seen is None else value_text(signal, seen.value),
        # What is counted has no range.
        range=""
        if seen is None or signal.source in RARE
        else range_text(signal, seen.low, seen.high),
        n=0 if seen is None else seen.n,
        counted=signal.counted,
        at=max(times, default=None),
    )


def _counts(scope: Scope, path: WorkflowPath, signal: Signal) -> bool:
    """Whether a scope's runs are read: the candidate's, or all where the path has none."""
    if path.candidate_id is not None and scope.arm != ARM_CANDIDATE:
        return False
    if signal.reach == "fallback":
        return scope.moved
    return signal.reach != "normal" or not scope.moved
